//! Box plots, one row per class, with every point.

use super::super::text::{Text, rgb};
use super::swarm::swarm;
use std::fmt::Write as _;
use viscera_metrics::stats::Described;
use viscera_page::{Frame, Scale, WIDTH, lower_axis, open};

/// One box.
pub(in crate::report) struct BoxRow {
    /// At its left.
    pub(in crate::report) label: String,
    /// Colour of its points.
    pub(in crate::report) rgb: [u8; 3],
    /// Value, and what to say of it.
    pub(in crate::report) points: Vec<(f64, String)>,
    /// Quartiles and mean of the values.
    pub(in crate::report) described: Described,
}

const ROW: f64 = 27.0;
const LEFT: f64 = 128.0;
const LABEL_CHARS: usize = 20;

/// Draws the rows over one axis. Boxes reach over the middle half, whiskers to the outermost points within one and a
/// half of the box's length (Tukey); the line is the median, the diamond the mean. `most` is the largest value
/// possible.
pub(in crate::report) fn box_plot(rows: &[BoxRow], title: &str, most: f64) -> String {
    let frame = Frame {
        left: LEFT,
        right: WIDTH - 14.0,
        top: 6.0,
        bottom: 10.0 + ROW * rows.len() as f64,
    };
    let min = rows.iter().map(|r| r.described.min).fold(f64::INFINITY, f64::min);
    let max = rows.iter().map(|r| r.described.max).fold(f64::NEG_INFINITY, f64::max);
    let scale = Scale::linear([min, max], most, [frame.left, frame.right]);
    let mut svg = open(frame.bottom + 42.0, &format!("Box plot of {title} per class"));
    lower_axis(&mut svg, &scale, frame, title);
    for (i, row) in rows.iter().enumerate() {
        draw(&mut svg, row, &scale, frame.top + ROW * (i as f64 + 0.5) + 2.0);
    }
    svg.push_str("</svg>");
    svg
}

fn draw(svg: &mut String, row: &BoxRow, scale: &Scale, y: f64) {
    let d = &row.described;
    let label: String = if row.label.chars().count() > LABEL_CHARS {
        row.label.chars().take(LABEL_CHARS - 1).chain(['…']).collect()
    } else {
        row.label.clone()
    };
    let _ = write!(
        svg,
        "<text class=\"row\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}<title>{}</title></text>",
        LEFT - 9.0,
        y + 4.0,
        Text(&label),
        Text(&row.label)
    );
    if d.n > 1 {
        let reach = 1.5 * (d.q3 - d.q1);
        let values = || row.points.iter().map(|(v, _)| *v);
        let low = values().filter(|v| *v >= d.q1 - reach).fold(d.q1, f64::min);
        let high = values().filter(|v| *v <= d.q3 + reach).fold(d.q3, f64::max);
        let [low, q1, median, q3, high] = [low, d.q1, d.median, d.q3, high].map(|v| scale.at(v));
        let (top, bottom) = (y - 8.0, y + 8.0);
        let _ = write!(
            svg,
            "<path class=\"whisker\" d=\"M{low:.1} {y:.1}H{q1:.1}M{q3:.1} {y:.1}H{high:.1}M{low:.1} {:.1}v8M{high:.1} {:.1}v8\"/>\
             <rect class=\"box\" x=\"{q1:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"16\" rx=\"1.5\"/>\
             <path class=\"median\" d=\"M{median:.1} {top:.1}V{bottom:.1}\"/>",
            y - 4.0,
            y - 4.0,
            (q3 - q1).max(0.5),
        );
    }
    let radius = if row.points.len() > 80 { 1.7 } else { 2.6 };
    let places: Vec<f64> = row.points.iter().map(|(v, _)| scale.at(*v)).collect();
    let aside = swarm(&places, radius, ROW / 2.0 - radius - 1.0);
    let _ = write!(svg, "<g class=\"dots\" fill=\"{}\">", rgb(row.rgb));
    for ((x, aside), (_, what)) in places.iter().zip(aside).zip(&row.points) {
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{}</title></circle>",
            y + aside,
            Text(what)
        );
    }
    svg.push_str("</g>");
    if d.n > 1 {
        let x = scale.at(d.mean);
        let _ = write!(
            svg,
            "<path class=\"mean\" d=\"M{x:.1} {:.1}l3.4 4l-3.4 4l-3.4 -4z\"/>",
            y - 4.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_metrics::stats::{Bootstrap, describe};

    #[test]
    fn every_value_is_a_point_inside_the_picture_and_names_are_text() {
        let values = [0.2, 0.9, 0.92, 0.95, 0.95];
        let row = BoxRow {
            label: "<b>&".to_owned(),
            rgb: [1, 2, 3],
            points: values.iter().map(|&v| (v, format!("<i> {v}"))).collect(),
            described: describe(&values, &Bootstrap::default()).unwrap(),
        };
        let svg = box_plot(&[row], "Dice", 1.0);
        assert_eq!(svg.matches("<circle").count(), 5);
        assert!(svg.contains("&lt;b&gt;&amp;") && !svg.contains("<b>") && !svg.contains("<i>"));
        for part in svg.split("cx=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((LEFT..=WIDTH).contains(&x), "{x}");
        }
        // The outlier at 0.2 is not reached by the whisker: its left end is the next value.
        let scale = Scale::linear([0.2, 0.95], 1.0, [LEFT, WIDTH - 14.0]);
        assert!(
            svg.contains(&format!("class=\"whisker\" d=\"M{:.1} ", scale.at(0.9))),
            "{svg}"
        );
    }
}
