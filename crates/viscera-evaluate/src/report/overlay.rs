//! Pictures of a case at its worst organ: three slices with the outlines of reference and prediction.

use super::text::Text;
use crate::EvaluateError;
use std::fmt::Write as _;
use viscera_image::{AxisMap, Box3, Geometry, LabelMap, bounding_box};
use viscera_io::{Image, Pixels, png_bytes};
use viscera_page::base64;
use viscera_page::contours;
use viscera_pipeline::preview::{Cut, Plane};

/// Width and height of a slice's picture in pixels.
const SIDE: usize = 320;
/// What is shown around the organ on each side, in mm.
const MARGIN_MM: f64 = 22.0;
/// Least width of a slice in mm, so that small organs are seen in their place.
const LEAST_MM: f64 = 110.0;
/// Largest width of a slice in mm. Where stray voxels lie farther apart, the picture shows the place of the worst slices.
const MOST_MM: f64 = 320.0;

/// The three slices in which reference and prediction of a class differ most, as one row of pictures; `None` where both
/// are empty. `image` is the CT on the same grid; without it the ground is plain.
pub(super) fn overlay(
    reference: &LabelMap,
    prediction: &LabelMap,
    class: u8,
    image: Option<&Image>,
) -> Result<Option<String>, EvaluateError> {
    let turn = AxisMap::to_ras(reference.geometry());
    let (reference, prediction) = (turn.apply(reference), turn.apply(prediction));
    let boxes = [&reference, &prediction].map(|map| bounding_box(map, |label| label == class));
    let Some(region) = boxes.into_iter().flatten().reduce(|a, b| Box3 {
        start: std::array::from_fn(|i| a.start[i].min(b.start[i])),
        end: std::array::from_fn(|i| a.end[i].max(b.end[i])),
    }) else {
        return Ok(None);
    };
    let slices = worst_slices(&reference, &prediction, class, &region);
    let grid = reference.geometry();
    // One scale for all three.
    let longest = (0..3)
        .map(|a| region.shape()[a] as f64 * grid.spacing[a])
        .fold(0.0, f64::max);
    let side_mm = (longest + 2.0 * MARGIN_MM).clamp(LEAST_MM, MOST_MM);
    let mut row = String::from("<div class=\"slices\">");
    for plane in Plane::ALL {
        row.push_str(&slice(
            &reference,
            &prediction,
            class,
            image,
            plane,
            slices,
            &region,
            side_mm,
        )?);
    }
    row.push_str("</div>");
    Ok(Some(row))
}

/// Along each axis the slice with most voxels that only one of the two has; without any, the one with most of the class.
fn worst_slices(reference: &LabelMap, prediction: &LabelMap, class: u8, region: &Box3) -> [usize; 3] {
    let mut counts: [Vec<[u64; 2]>; 3] = region.shape().map(|n| vec![[0; 2]; n]);
    for z in region.start[0]..region.end[0] {
        for y in region.start[1]..region.end[1] {
            let row = reference.offset([z, y, 0]);
            let span = row + region.start[2]..row + region.end[2];
            let (r, p) = (&reference.data()[span.clone()], &prediction.data()[span]);
            for (x, (&r, &p)) in r.iter().zip(p).enumerate() {
                let (r, p) = (r == class, p == class);
                if r || p {
                    for (axis, at) in [z - region.start[0], y - region.start[1], x].into_iter().enumerate() {
                        counts[axis][at][0] += u64::from(r != p);
                        counts[axis][at][1] += 1;
                    }
                }
            }
        }
    }
    std::array::from_fn(|axis| {
        let best = counts[axis]
            .iter()
            .enumerate()
            .max_by_key(|(at, count)| (**count, std::cmp::Reverse(*at)));
        region.start[axis] + best.map_or(0, |(at, _)| at)
    })
}

fn slice(
    reference: &LabelMap,
    prediction: &LabelMap,
    class: u8,
    image: Option<&Image>,
    plane: Plane,
    slices: [usize; 3],
    region: &Box3,
    side_mm: f64,
) -> Result<String, EvaluateError> {
    let grid = reference.geometry();
    let [across, down, along] = plane.axes();
    // Pictures run against their axes, so their edges are counted from the far end.
    let edges = |axis: usize| {
        let middle = if region.shape()[axis] as f64 * grid.spacing[axis] < side_mm {
            (region.start[axis] + region.end[axis]) as f64 / 2.0
        } else {
            slices[axis] as f64 + 0.5
        };
        let middle = grid.shape[axis] as f64 - middle;
        let half = side_mm / grid.spacing[axis] / 2.0;
        [middle - half, middle + half]
    };
    let cut = Cut {
        plane,
        position: slices[across],
        rows: edges(down),
        columns: edges(along),
        height: SIDE,
        width: SIDE,
    };
    let what = format!("{} slice with the outlines of reference and prediction", plane.name());
    let mut svg = format!(
        "<figure><svg viewBox=\"0 0 {SIDE} {SIDE}\" role=\"img\" aria-label=\"{what}\"><rect width=\"{SIDE}\" height=\"{SIDE}\" fill=\"#15171a\"/>"
    );
    if let Some(image) = image {
        let grey = match image {
            Image::I16(volume) => cut.grey(volume),
            Image::F32(volume) => cut.grey(volume),
        };
        let png = base64(&png_bytes(SIDE, SIDE, Pixels::Grey(&grey))?);
        let _ = write!(
            svg,
            "<image width=\"{SIDE}\" height=\"{SIDE}\" href=\"data:image/png;base64,{png}\"/>"
        );
    }
    for (labels, style) in [(reference, "reference"), (prediction, "prediction")] {
        let path = outline(labels, class, &cut);
        let _ = write!(
            svg,
            "<path class=\"halo\" d=\"{path}\"/><path class=\"{style}\" d=\"{path}\"/>"
        );
    }
    marks(&mut svg, plane, side_mm);
    let (axis, place) = place(grid, plane, slices);
    let _ = write!(
        svg,
        "</svg><figcaption>{} <span>{axis} {}{:.0} mm</span></figcaption></figure>",
        Text(plane.name()),
        if place < 0.0 { "\u{2212}" } else { "+" },
        place.abs()
    );
    Ok(svg)
}

/// World coordinate across a slice, and the letter of its positive side.
fn place(grid: &Geometry, plane: Plane, slices: [usize; 3]) -> (&'static str, f64) {
    let across = plane.axes()[0];
    let world = grid.world_of(slices.map(|s| s as f64));
    (["S", "A", "R"][across], world[2 - across])
}

/// The outline of a class in a cut, as the data of an SVG path.
fn outline(labels: &LabelMap, class: u8, cut: &Cut) -> String {
    let [across, down, along] = cut.plane.axes();
    let shape = labels.shape();
    let (rows, columns) = (shape[down], shape[along]);
    let mut mask = vec![false; rows * columns];
    for row in 0..rows {
        for column in 0..columns {
            let mut index = [0; 3];
            index[across] = cut.position;
            index[down] = rows - 1 - row;
            index[along] = columns - 1 - column;
            mask[row * columns + column] = labels.get(index) == Some(class);
        }
    }
    let pixel = |at: f64, [from, to]: [f64; 2], pixels: usize| (at - from) / (to - from) * pixels as f64;
    let mut path = String::new();
    for contour in contours(&mask, rows, columns) {
        for (i, [row, column]) in contour.into_iter().enumerate() {
            let (x, y) = (pixel(column, cut.columns, cut.width), pixel(row, cut.rows, cut.height));
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        path.push('Z');
    }
    path
}

/// Letters of the sides and, in the axial slice, a bar of 20 mm.
fn marks(svg: &mut String, plane: Plane, side_mm: f64) {
    let [left, right, top, bottom] = plane.letters();
    let side = SIDE as f64;
    let middle = side / 2.0;
    for (letter, x, y) in [
        (left, 12.0, middle + 5.0),
        (right, side - 12.0, middle + 5.0),
        (top, middle, 18.0),
        (bottom, middle, side - 8.0),
    ] {
        let _ = write!(svg, "<text class=\"side\" x=\"{x}\" y=\"{y}\">{letter}</text>");
    }
    if plane == Plane::Axial {
        let length = 20.0 / side_mm * side;
        let _ = write!(
            svg,
            "<path class=\"bar\" d=\"M12 {y:.1}h{length:.1}\"/><text class=\"side\" x=\"{:.1}\" y=\"{:.1}\">2 cm</text>",
            12.0 + length / 2.0,
            side - 18.0,
            y = side - 10.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_lies_over_the_organ_whatever_the_file() {
        // A block at the patient's right, front and top; 4 mm voxels.
        let mut truth = LabelMap::filled(Geometry::ras([20, 20, 20], [4.0; 3]), 0).unwrap();
        for z in 12..16 {
            for y in 12..16 {
                for x in 12..16 {
                    let at = truth.offset([z, y, x]);
                    truth.data_mut()[at] = 7;
                }
            }
        }
        let empty = LabelMap::filled(truth.geometry().clone(), 0).unwrap();
        let straight = overlay(&truth, &empty, 7, None).unwrap().unwrap();
        for map in AxisMap::all().step_by(5) {
            let turned = overlay(&map.apply(&truth), &map.apply(&empty), 7, None)
                .unwrap()
                .unwrap();
            assert!(turned == straight, "{map:?}");
        }
        // 16 mm of 110 mm, in the middle of 320 pixels.
        let (low, high) = (160.0 - 8.0 / 110.0 * 320.0, 160.0 + 8.0 / 110.0 * 320.0);
        let path = straight
            .split("class=\"reference\" d=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let numbers: Vec<f64> = path
            .split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .filter_map(|n| n.parse().ok())
            .collect();
        let (min, max) = numbers
            .iter()
            .fold((f64::MAX, f64::MIN), |(a, b), &n| (a.min(n), b.max(n)));
        assert!((min - low).abs() < 0.1 && (max - high).abs() < 0.1, "{min} {max}");
        assert!(overlay(&truth, &empty, 3, None).unwrap().is_none());
    }
}
