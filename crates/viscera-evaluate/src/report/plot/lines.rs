//! Curves over time, or over another quantity that begins at 0.

use super::super::text::Text;
use super::scale::Scale;
use super::{Frame, WIDTH, left_axis, lower_axis, open};
use std::fmt::Write as _;

/// One curve: places and values in order, and what to say of it.
pub(in crate::report) struct Line {
    pub(in crate::report) points: Vec<(f64, f64)>,
    pub(in crate::report) what: String,
}

const HEIGHT: f64 = 220.0;

/// Most points of a drawn curve; of more, the largest of each part is kept, so that peaks stay.
const MOST_POINTS: usize = 600;

/// Draws curves over axes that begin at 0; with `equal`, a dashed line where both coordinates are equal.
pub(in crate::report) fn line_plot(lines: &[Line], titles: [&str; 2], equal: bool) -> String {
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
    let y = Scale::linear([0.0, most], f64::INFINITY, [frame.bottom, frame.top]);
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
        let mut d = String::new();
        for (i, (at, value)) in thinned(&line.points).into_iter().enumerate() {
            let _ = write!(
                d,
                "{}{:.1} {:.1}",
                if i == 0 { 'M' } else { 'L' },
                x.at(at),
                y.at(value)
            );
        }
        let _ = write!(
            svg,
            "<path class=\"curve\" d=\"{d}\"><title>{}</title></path>",
            Text(&line.what)
        );
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
    fn thinning_keeps_the_peak() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        points[7777].1 = 9.0;
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS && thin.contains(&(7777.0, 9.0)));
    }
}
