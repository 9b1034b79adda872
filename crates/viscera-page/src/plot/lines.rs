//! Curves over time, or over another quantity that begins at 0.

use super::{Frame, Scale, WIDTH, left_axis, lower_axis, open};
use crate::{Text, rgb};
use std::fmt::Write as _;

/// One curve: places and values in order, and what to say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// In rising order of their places.
    pub points: Vec<(f64, f64)>,
    /// Plain text.
    pub what: String,
    /// How it is drawn.
    pub look: Look,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// In the page's own colour.
    Plain,
    /// The same, behind others.
    Faint,
    /// In a colour, which is moved a little towards the page's ink so that light ones stay visible.
    Coloured([u8; 3]),
    /// The same, and each value is a dot that says what it is.
    Dotted([u8; 3]),
}

impl Look {
    /// Attributes of the curve.
    fn markup(self) -> String {
        match self {
            Self::Plain => "class=\"curve\"".to_owned(),
            Self::Faint => "class=\"curve faint\"".to_owned(),
            Self::Coloured(colour) | Self::Dotted(colour) => {
                format!("class=\"curve own\" style=\"--own:{}\"", rgb(colour))
            }
        }
    }
}

const HEIGHT: f64 = 220.0;

/// Most points of a drawn curve; of more, the largest of each part is kept, so that peaks stay.
const MOST_POINTS: usize = 600;

/// Draws curves over axes that begin at 0, or below it where values do; with `equal`, a dashed line where both coordinates are equal.
#[must_use]
pub fn line_plot(lines: &[Line], titles: [&str; 2], equal: bool) -> String {
    let frame = Frame {
        left: 62.0,
        right: WIDTH - 14.0,
        top: 10.0,
        bottom: HEIGHT - 42.0,
    };
    let all = || lines.iter().flat_map(|l| &l.points);
    let last = all().map(|p| p.0).fold(0.0, f64::max);
    let most = all().map(|p| p.1).fold(0.0, f64::max);
    let x = Scale::linear([0.0, last], f64::INFINITY, [frame.left, frame.right]);
    let least = all().map(|p| p.1).fold(0.0, f64::min);
    let y = Scale::linear([least, most], f64::INFINITY, [frame.bottom, frame.top]);
    let mut svg = open(HEIGHT, &format!("{} over {}", titles[1], titles[0]));
    lower_axis(&mut svg, &x, frame, titles[0]);
    left_axis(&mut svg, &y, frame, titles[1]);
    if equal {
        let end = x.domain()[1].min(y.domain()[1]);
        let _ = write!(
            svg,
            "<path class=\"guide\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            x.at(0.0),
            y.at(0.0),
            x.at(end),
            y.at(end)
        );
    }
    for line in lines {
        let points = thinned(&line.points);
        let look = line.look.markup();
        let mut d = String::new();
        for (i, (at, value)) in points.iter().enumerate() {
            let letter = if i == 0 { 'M' } else { 'L' };
            let _ = write!(d, "{letter}{:.1} {:.1}", x.at(*at), y.at(*value));
        }
        let what = Text(&line.what);
        let _ = write!(svg, "<path {look} d=\"{d}\"><title>{what}</title></path>");
        if matches!(line.look, Look::Dotted(_)) {
            let _ = write!(svg, "<g {look}>");
            for (at, value) in points {
                let _ = write!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"><title>{what}, {at}: {value:.4}</title></circle>",
                    x.at(at),
                    y.at(value)
                );
            }
            svg.push_str("</g>");
        }
    }
    svg.push_str("</svg>");
    svg
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let part = points.len().div_ceil(MOST_POINTS).max(1);
    let largest = |part: &[(f64, f64)]| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(part).filter_map(largest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_below_zero_lie_inside_and_names_are_text() {
        let line = Line {
            points: vec![(10.0, -0.8), (20.0, 0.2)],
            what: "<b>".to_owned(),
            look: Look::Dotted([1, 2, 3]),
        };
        let svg = line_plot(&[line], ["step", "loss"], false);
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;, 10: -0.8000"), "{svg}");
        let height = |at: usize| -> f64 {
            let text = svg.split("cy=\"").nth(at).unwrap().split('"').next().unwrap();
            text.parse().unwrap()
        };
        assert!(height(1) > height(2) + 100.0 && height(1) <= HEIGHT - 42.0, "{svg}");
    }

    #[test]
    fn thinning_keeps_the_peak() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        points[7777].1 = 9.0;
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin.contains(&(7777.0, 9.0)));
    }
}
