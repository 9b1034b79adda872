//! Small pictures of numbers as SVG. Lengths are pixels of a picture that is shown at most at its own size; colours
//! come from CSS classes of the page, so that they follow its light and dark scheme.

mod lines;
mod scale;

pub use lines::{Line, Look, line_plot};
pub use scale::Scale;

use crate::Text;
use std::fmt::Write as _;

/// Width of every picture.
pub const WIDTH: f64 = 460.0;

/// The part of a picture inside its axes.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Its left edge.
    pub left: f64,
    /// Its right edge.
    pub right: f64,
    /// Its upper edge.
    pub top: f64,
    /// Its lower edge.
    pub bottom: f64,
}

/// Opens a picture, which `</svg>` ends; `what` tells it to those who do not see it.
#[must_use]
pub fn open(height: f64, what: &str) -> String {
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height:.0}\" style=\"max-width:{WIDTH}px\" role=\"img\" aria-label=\"{}\">",
        Text(what)
    )
}

/// Lines across the frame at the ticks of the lower axis, their labels, and the axis's title.
pub fn lower_axis(svg: &mut String, scale: &Scale, frame: Frame, title: &str) {
    let Frame {
        left,
        right,
        top,
        bottom,
    } = frame;
    for (value, label) in scale.ticks() {
        let x = scale.at(value);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 15.0
        );
    }
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/><text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (left + right) / 2.0,
        bottom + 33.0,
        Text(title)
    );
}

/// As [`lower_axis`], for the axis at the left.
pub fn left_axis(svg: &mut String, scale: &Scale, frame: Frame, title: &str) {
    let Frame {
        left,
        right,
        top,
        bottom,
    } = frame;
    for (value, label) in scale.ticks() {
        let y = scale.at(value);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            y + 3.5
        );
    }
    let middle = (top + bottom) / 2.0;
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{left:.1} {top:.1}V{bottom:.1}\"/><text class=\"label\" transform=\"translate(13 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        Text(title)
    );
}
