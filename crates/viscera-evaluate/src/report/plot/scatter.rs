//! Points in a plane.

use super::super::text::{Text, rgb};
use std::fmt::Write as _;
use viscera_page::{Frame, Scale, WIDTH, left_axis, lower_axis, open};

/// One point.
pub(in crate::report) struct Dot {
    pub(in crate::report) x: f64,
    pub(in crate::report) y: f64,
    pub(in crate::report) rgb: [u8; 3],
    /// What to say of it.
    pub(in crate::report) what: String,
}

/// A line to compare the points with.
pub(in crate::report) enum Guide {
    /// Where both coordinates are equal; both axes are logarithmic.
    Equal,
    /// Some values of y with labels; y is linear.
    Levels(Vec<(f64, String)>),
}

const HEIGHT: f64 = 350.0;

/// Draws points over a logarithmic lower axis. Both coordinates must be positive for [`Guide::Equal`], x for the other.
pub(in crate::report) fn scatter(dots: &[Dot], guide: &Guide, titles: [&str; 2]) -> String {
    let frame = Frame {
        left: 58.0,
        right: WIDTH - 14.0,
        top: 12.0,
        bottom: HEIGHT - 42.0,
    };
    let extent = |of: fn(&Dot) -> f64| {
        let values = || dots.iter().map(of);
        [
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        ]
    };
    let (xs, ys) = (extent(|d| d.x), extent(|d| d.y));
    let (across, upwards) = ([frame.left, frame.right], [frame.bottom, frame.top]);
    let (x, y) = match guide {
        Guide::Equal => {
            let both = [xs[0].min(ys[0]), xs[1].max(ys[1])];
            (Scale::log(both, across), Scale::log(both, upwards))
        }
        Guide::Levels(levels) => {
            let low = levels.iter().map(|l| l.0).fold(ys[0], f64::min);
            let high = levels.iter().map(|l| l.0).fold(ys[1], f64::max);
            (
                Scale::log(xs, across),
                Scale::linear([low, high], f64::INFINITY, upwards),
            )
        }
    };
    let mut svg = open(HEIGHT, &format!("{} against {}", titles[1], titles[0]));
    lower_axis(&mut svg, &x, frame, titles[0]);
    left_axis(&mut svg, &y, frame, titles[1]);
    match guide {
        Guide::Equal => {
            let [from, to] = x.domain();
            let _ = write!(
                svg,
                "<path class=\"guide\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
                x.at(from),
                y.at(from),
                x.at(to),
                y.at(to)
            );
        }
        Guide::Levels(levels) => {
            for (value, _) in levels {
                let _ = write!(
                    svg,
                    "<path class=\"guide\" d=\"M{:.1} {:.1}H{:.1}\"/>",
                    frame.left,
                    y.at(*value),
                    frame.right
                );
            }
        }
    }
    svg.push_str("<g class=\"dots\">");
    let radius = if dots.len() > 400 { 2.0 } else { 3.2 };
    for dot in dots {
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\" fill=\"{}\"><title>{}</title></circle>",
            x.at(dot.x),
            y.at(dot.y),
            rgb(dot.rgb),
            Text(&dot.what)
        );
    }
    svg.push_str("</g>");
    if let Guide::Levels(levels) = guide {
        for (value, label) in levels {
            let _ = write!(
                svg,
                "<text class=\"note\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                frame.right - 3.0,
                y.at(*value) - 5.0,
                Text(label)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_volumes_lie_on_the_line() {
        let dot = |x, y| Dot {
            x,
            y,
            rgb: [0; 3],
            what: String::new(),
        };
        let svg = scatter(&[dot(5.0, 5.0), dot(1500.0, 1400.0)], &Guide::Equal, ["a", "b"]);
        let numbers = |after: &str| -> Vec<f64> {
            let text = svg.split(after).nth(1).unwrap().split('"').next().unwrap();
            let parts = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
            parts.filter_map(|n| n.parse().ok()).collect()
        };
        let line = numbers("class=\"guide\" d=\"");
        let (x, y) = (numbers("cx=\"")[0], numbers("cy=\"")[0]);
        let on_line = line[1] + (x - line[0]) / (line[2] - line[0]) * (line[3] - line[1]);
        assert!((on_line - y).abs() < 0.2, "{on_line} {y}");
    }
}
