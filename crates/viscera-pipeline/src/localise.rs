//! Where the organs are: from a coarse network's logits to a box of the scan.

use crate::postprocess::{Removed, clean};
use crate::prepare::NetworkInput;
use crate::recipe::Stage;
use crate::{PipelineError, Warning, Warnings};
use serde::Serialize;
use viscera_image::{Box3, Convention, Geometry, LabelMap, LabelTable, Volume, bounding_box, resampled_geometry};

/// Fraction of a voxel to which places are rounded before they become whole voxels, so that rounding errors of the
/// arithmetic cannot move a box by a voxel.
const GRAIN: f64 = 1e-6;

/// A part of a turned scan, in voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Roi {
    /// The box, without margin: the outer faces of the coarse voxels that were found, in whole voxels of the scan.
    pub region: Box3,
    /// Whether nothing was found, so that this is the whole scan.
    pub fallback: bool,
}

/// What a localising stage gives.
#[derive(Debug, Clone)]
pub struct Localised {
    /// Its label map on the network's grid, cleaned.
    pub labels: LabelMap,
    /// What cleaning removed.
    pub removed: Vec<Removed>,
    stage: String,
    /// The part of the scan that the network saw, and how the grids correspond.
    part: Box3,
    convention: Convention,
}

impl Localised {
    /// Takes and cleans a stage's labels on its network's grid, in (z, y, x) order.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when memory is short, or their number is wrong.
    pub fn new(
        labels: Vec<u8>,
        input: &NetworkInput,
        stage: &Stage,
        classes: &LabelTable,
    ) -> Result<Self, PipelineError> {
        let grid = resampled_geometry(&input.geometry, input.grid.shape, input.grid.convention)?;
        let mut labels = Volume::new(grid, labels)?;
        let removed = clean(&mut labels, None, stage, classes)?;
        Ok(Self {
            labels,
            removed,
            stage: stage.id.clone(),
            part: input.part,
            convention: input.grid.convention,
        })
    }

    /// The box of what was found, grown by a margin; where nothing was, all that the stage saw, with a warning.
    ///
    /// `scan` is the grid of the turned scan.
    pub fn roi(&self, scan: &Geometry, margin_mm: [f64; 3], warnings: &mut Warnings) -> Roi {
        let Some(found) = bounding_box(&self.labels, |label| label != 0) else {
            warnings.push(Warning::NothingLocalised {
                stage: self.stage.clone(),
            });
            return Roi {
                region: self.part,
                fallback: true,
            };
        };
        Roi {
            region: enlarged(
                &found,
                self.labels.shape(),
                &self.part,
                scan,
                self.convention,
                margin_mm,
            ),
            fallback: false,
        }
    }
}

/// The voxels of `scan` that a box of a coarser grid over a part of it covers, and a margin in mm.
///
/// Uses extents and spacings only, no world points: these are equal bit for bit however the file's axes lay.
fn enlarged(
    found: &Box3,
    coarse: [usize; 3],
    part: &Box3,
    scan: &Geometry,
    convention: Convention,
    margin_mm: [f64; 3],
) -> Box3 {
    let mut region = Box3::whole(scan.shape);
    for a in 0..3 {
        let (n, m) = (part.shape()[a] as f64, coarse[a] as f64);
        // Place of a face of a coarse voxel, counted in voxels of the scan from the part's outer face.
        let face = |index: usize| match convention {
            Convention::AlignCorners if coarse[a] > 1 => (index as f64 - 0.5) * (n - 1.0) / (m - 1.0) + 0.5,
            _ => index as f64 * n / m,
        };
        let margin = margin_mm[a] / scan.spacing[a];
        let whole = |place: f64| part.start[a] as f64 + (place / GRAIN).round() * GRAIN;
        let (first, last) = (whole(face(found.start[a]) - margin), whole(face(found.end[a]) + margin));
        // Both stay inside the grid, and a box of at least one voxel is left.
        region.start[a] = (first.floor().max(0.0) as usize).min(scan.shape[a] - 1);
        region.end[a] = (last.ceil().max(0.0) as usize).clamp(region.start[a] + 1, scan.shape[a]);
    }
    region
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_coarse_grid_is_the_whole_scan() {
        for convention in [Convention::AlignCorners, Convention::HalfPixel] {
            let scan = Geometry::ras([37, 101, 230], [5.0, 0.8, 0.8]);
            let whole = Box3::whole(scan.shape);
            let all = enlarged(
                &Box3::whole([64, 64, 1]),
                [64, 64, 1],
                &whole,
                &scan,
                convention,
                [0.0; 3],
            );
            assert_eq!(all, Box3::whole(scan.shape));
        }
    }

    #[test]
    fn faces_and_margins_are_in_millimetres() {
        // Half-pixel, 4 coarse voxels over 16: coarse voxel 1 covers voxels 4..8.
        let scan = Geometry::ras([16, 16, 16], [2.0, 1.0, 3.0]);
        let whole = Box3::whole(scan.shape);
        let found = Box3 {
            start: [1, 1, 1],
            end: [2, 2, 2],
        };
        let plain = enlarged(&found, [4; 3], &whole, &scan, Convention::HalfPixel, [0.0; 3]);
        assert_eq!((plain.start, plain.end), ([4; 3], [8; 3]));
        let grown = enlarged(&found, [4; 3], &whole, &scan, Convention::HalfPixel, [4.0, 4.0, 4.0]);
        assert_eq!((grown.start, grown.end), ([2, 0, 2], [10, 12, 10]));
        // Align-corners: coarse centres at 0, 5, 10, 15, so faces of voxel 1 lie at 2.5 and 7.5.
        let plain = enlarged(&found, [4; 3], &whole, &scan, Convention::AlignCorners, [0.0; 3]);
        assert_eq!((plain.start, plain.end), ([3; 3], [8; 3]));
        // Half-pixel over voxels 8..16: coarse voxel 1 covers voxels 10..12; a margin may leave the part, not the scan.
        let part = Box3 {
            start: [8; 3],
            end: [16; 3],
        };
        let inner = enlarged(&found, [4; 3], &part, &scan, Convention::HalfPixel, [0.0, 3.0, 15.0]);
        assert_eq!((inner.start, inner.end), ([10, 7, 5], [12, 15, 16]));
    }
}
