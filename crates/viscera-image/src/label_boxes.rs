//! Where each label lies.

use crate::{Box3, LabelMap};
use rayon::prelude::*;

/// The smallest box around each id of a label map, by id; `None` for ids that do not occur. Background (0) has none.
///
/// ```
/// use viscera_image::{label_boxes, Box3, Geometry, Volume};
/// let map = Volume::new(Geometry::ras([1, 2, 3], [1.0; 3]), vec![0u8, 5, 0, 0, 5, 7])?;
/// let boxes = label_boxes(&map);
/// assert_eq!(boxes[5], Some(Box3 { start: [0, 0, 1], end: [1, 2, 2] }));
/// assert_eq!((boxes[0], boxes[1]), (None, None));
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
#[must_use]
pub fn label_boxes(map: &LabelMap) -> Vec<Option<Box3>> {
    let [_, ny, nx] = map.shape();
    let slices: Vec<Vec<Option<Box3>>> = map
        .data()
        .par_chunks(ny * nx)
        .enumerate()
        .map(|(z, slice)| {
            let mut boxes = vec![None; 256];
            for (y, row) in slice.chunks_exact(nx).enumerate() {
                let mut x = 0;
                // Labels come in runs.
                for run in row.chunk_by(|a, b| a == b) {
                    let end = x + run.len();
                    if let Some(&id @ 1..) = run.first() {
                        grow(
                            &mut boxes[usize::from(id)],
                            &Box3 {
                                start: [z, y, x],
                                end: [z + 1, y + 1, end],
                            },
                        );
                    }
                    x = end;
                }
            }
            boxes
        })
        .collect();
    let mut total = vec![None; 256];
    for slice in &slices {
        for (whole, part) in total.iter_mut().zip(slice) {
            if let Some(part) = part {
                grow(whole, part);
            }
        }
    }
    total
}

fn grow(whole: &mut Option<Box3>, part: &Box3) {
    *whole = Some(whole.map_or(*part, |w| w.union(part)));
}
