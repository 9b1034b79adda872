//! A slice of a validation case with the outlines of reference and prediction.

use crate::TrainError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use viscera_image::{AxisMap, LabelEntry, Volume};
use viscera_io::{Pixels, png_bytes};
use viscera_page::{Text, base64, contours, number, organ};
use viscera_pipeline::preview::{Cut, Plane};

/// Width of the picture in its own units.
const WIDTH: f64 = 640.0;

/// An axial slice, seen from the feet: the patient's right is on the left, the front at the top.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Name of the case.
    pub(crate) case: String,
    /// World coordinate of the slice in mm, upwards.
    place_mm: f64,
    /// Rows and columns.
    shape: [usize; 2],
    /// Of rows and columns.
    spacing_mm: [f64; 2],
    /// Grey values, centre 40 and width 400 HU.
    grey: Vec<u8>,
    /// Labels of the reference.
    reference: Vec<u8>,
    /// Labels that the network found.
    found: Vec<u8>,
}

impl Slice {
    /// The slice with most classes in the reference, of such the one with most labelled voxels. All on one grid, whose axes
    /// may lie in any way; `None` without voxels.
    pub(crate) fn new(case: &str, image: &Volume<i16>, reference: &Volume<u8>, found: &Volume<u8>) -> Option<Self> {
        let source = image.geometry();
        let turn = AxisMap::to_ras(source);
        let grid = turn.geometry(source);
        let [nz, ny, nx] = grid.shape;
        let strides = [source.shape[1] * source.shape[2], source.shape[2], 1];
        // Rows and columns of the picture run against their axes.
        let slice = |labels: &Volume<u8>, z: usize| -> Vec<u8> {
            let step = |a: usize, index: usize| {
                let index = if turn.flip()[a] {
                    grid.shape[a] - 1 - index
                } else {
                    index
                };
                index * strides[turn.perm()[a]]
            };
            let row = |y: usize| (0..nx).rev().map(move |x| step(0, z) + step(1, y) + step(2, x));
            let places = (0..ny).rev().flat_map(row);
            places.map(|at| labels.data().get(at).copied().unwrap_or(0)).collect()
        };
        let shows = |z: &usize| {
            let mut counts = [0usize; 256];
            slice(reference, *z).iter().for_each(|&l| counts[usize::from(l)] += 1);
            let classes = counts[1..].iter().filter(|&&n| n > 0).count();
            (classes, counts[1..].iter().sum::<usize>())
        };
        let z = (0..nz).max_by_key(shows)?;
        let cut = Cut {
            plane: Plane::Axial,
            position: z,
            rows: [0.0, ny as f64],
            columns: [0.0, nx as f64],
            height: ny,
            width: nx,
        };
        Some(Self {
            case: case.to_owned(),
            place_mm: grid.world_of([z as f64, 0.0, 0.0])[2],
            shape: [ny, nx],
            spacing_mm: [grid.spacing[1], grid.spacing[2]],
            grey: cut.grey(image),
            reference: slice(reference, z),
            found: slice(found, z),
        })
    }

    /// Whether it can be drawn; one from a file need not.
    pub(super) fn is_whole(&self) -> bool {
        let pixels = self.shape[0].checked_mul(self.shape[1]).filter(|&n| n > 0);
        let planes = [&self.grey, &self.reference, &self.found];
        planes.iter().all(|plane| Some(plane.len()) == pixels)
            && self.spacing_mm.iter().all(|&mm| mm.is_finite() && mm > 0.0)
    }

    /// The picture as markup.
    pub(super) fn markup(&self, classes: &[LabelEntry]) -> Result<String, TrainError> {
        let [rows, columns] = self.shape;
        let scale = WIDTH / (columns as f64 * self.spacing_mm[1]);
        let pixel = self.spacing_mm.map(|mm| mm * scale);
        let height = rows as f64 * pixel[0];
        let png = base64(&png_bytes(columns, rows, Pixels::Grey(&self.grey))?);
        let mut svg = format!(
            "<div class=\"slices\" style=\"grid-template-columns:minmax(0,560px)\"><figure>\
             <svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"axial slice with the outlines of reference and prediction\">\
             <image width=\"{WIDTH:.0}\" height=\"{height:.1}\" preserveAspectRatio=\"none\" href=\"data:image/png;base64,{png}\"/>"
        );
        for (labels, style) in [(&self.reference, "reference"), (&self.found, "prediction")] {
            let ids: BTreeSet<u8> = labels.iter().copied().filter(|&id| id > 0).collect();
            for id in ids {
                let mask: Vec<bool> = labels.iter().map(|&label| label == id).collect();
                let mut path = String::new();
                for outline in contours(&mask, rows, columns) {
                    for (i, [row, column]) in outline.into_iter().enumerate() {
                        let letter = if i == 0 { 'M' } else { 'L' };
                        let _ = write!(path, "{letter}{:.1} {:.1}", column * pixel[1], row * pixel[0]);
                    }
                    path.push('Z');
                }
                let name = classes.iter().find(|c| c.id == id).map_or("", |c| c.name.as_str());
                let _ = write!(
                    svg,
                    "<path class=\"halo\" d=\"{path}\"/><path class=\"{style}\" d=\"{path}\"><title>{}, {style}</title></path>",
                    Text(&organ(name))
                );
            }
        }
        let [left, right, top, bottom] = Plane::Axial.letters();
        let (middle, low) = (WIDTH / 2.0, height / 2.0 + 8.0);
        for (letter, x, y) in [
            (left, 20.0, low),
            (right, WIDTH - 20.0, low),
            (top, middle, 32.0),
            (bottom, middle, height - 14.0),
        ] {
            let _ = write!(
                svg,
                "<text class=\"side\" style=\"font-size:24px;stroke-width:4px\" x=\"{x:.0}\" y=\"{y:.0}\">{letter}</text>"
            );
        }
        let _ = write!(
            svg,
            "</svg><figcaption style=\"text-transform:none\"><bdi>{}</bdi> <span>S {} mm</span></figcaption></figure></div>",
            Text(&self.case),
            number(Some(self.place_mm), 0)
        );
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::Geometry;

    #[test]
    fn the_fullest_slice_lies_as_a_radiologist_sees_it_whatever_the_axes() {
        // Two classes at z = 3, the second at the patient's right and front; only one, but larger, at z = 1.
        let geometry = Geometry::ras([5, 4, 6], [2.0, 1.0, 1.5]);
        let mut labels = vec![0u8; 5 * 4 * 6];
        let at = |z: usize, y: usize, x: usize| (z * 4 + y) * 6 + x;
        labels[at(1, 0, 0)..at(1, 3, 5)].fill(1);
        labels[at(3, 0, 0)] = 1;
        labels[at(3, 3, 5)] = 2;
        let reference = Volume::new(geometry.clone(), labels).unwrap();
        let hu = reference.map(|l| if l == 2 { 1000i16 } else { -1000 });
        let found = Volume::filled(geometry, 0u8).unwrap();
        let straight = Slice::new("a", &hu, &reference, &found).unwrap();
        assert_eq!(
            (straight.shape, straight.spacing_mm, straight.place_mm),
            ([4, 6], [1.0, 1.5], 6.0)
        );
        let mut expected = vec![0u8; 24];
        expected[0] = 2;
        expected[23] = 1;
        assert_eq!(straight.reference, expected);
        assert_eq!(straight.grey.iter().position(|&g| g == 255), Some(0));
        assert!(straight.is_whole());
        for turn in AxisMap::all().step_by(7) {
            let turned = Slice::new("a", &turn.apply(&hu), &turn.apply(&reference), &turn.apply(&found)).unwrap();
            assert_eq!(turned, straight, "{turn:?}");
        }
        let entry = LabelEntry {
            id: 2,
            name: "<b>".to_owned(),
            rgb: [0; 3],
        };
        let markup = straight.markup(&[entry]).unwrap();
        assert!(markup.contains("<title>&lt;b&gt;, reference</title>") && !markup.contains("<b>"));
        let short = Slice {
            grey: vec![0],
            ..straight
        };
        assert!(!short.is_whole());
    }
}
