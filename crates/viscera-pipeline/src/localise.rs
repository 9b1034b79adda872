//! Where the organs are: from a coarse network's logits to a box of the scan.

use crate::decide::Decision;
use crate::postprocess::{Removed, clean};
use crate::predict::Logits;
use crate::recipe::Stage;
use crate::{PipelineError, Warning, Warnings};
use serde::Serialize;
use viscera_image::{Box3, Convention, Geometry, LabelMap, LabelTable, Volume, bounding_box};

/// Fraction of a voxel to which places are rounded before they become whole voxels, so that rounding errors of the
/// arithmetic cannot move a box by a voxel.
const GRAIN: f64 = 1e-6;

/// A part of a scan in RAS+, in voxels.
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
}

impl Localised {
    /// Reads and cleans a stage's logits.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when memory is short.
    pub fn new(logits: &Logits, stage: &Stage, table: &LabelTable) -> Result<Self, PipelineError> {
        let decision = Decision::new(&stage.inference, table);
        let mut labels = Volume::new(logits.trace.current().clone(), decision.labels(&logits.tensor))?;
        let removed = clean(&mut labels, stage, table)?;
        Ok(Self { labels, removed })
    }

    /// The box of what was found, grown by a margin; the whole scan with a warning when nothing was.
    ///
    /// `scan` is the grid of the scan in RAS+, which the whole network grid covers.
    ///
    /// # Errors
    /// [`PipelineError::Unsupported`] for a stage without fixed size.
    pub fn roi(
        &self,
        stage: &Stage,
        scan: &Geometry,
        margin_mm: [f64; 3],
        warnings: &mut Warnings,
    ) -> Result<Roi, PipelineError> {
        let convention = stage.fixed_size()?.convention;
        let Some(found) = bounding_box(&self.labels, |label| label != 0) else {
            warnings.push(Warning::NothingLocalised {
                stage: stage.id.clone(),
            });
            return Ok(Roi {
                region: Box3::whole(scan.shape),
                fallback: true,
            });
        };
        Ok(Roi {
            region: enlarged(&found, self.labels.shape(), scan, convention, margin_mm),
            fallback: false,
        })
    }
}

/// The voxels of `scan` that a box of a coarser grid over the same extent covers, and a margin in mm.
///
/// Uses extents and spacings only, no world points: these are equal bit for bit however the file's axes lay.
fn enlarged(found: &Box3, coarse: [usize; 3], scan: &Geometry, convention: Convention, margin_mm: [f64; 3]) -> Box3 {
    let mut region = Box3::whole(scan.shape);
    for a in 0..3 {
        let (n, m) = (scan.shape[a] as f64, coarse[a] as f64);
        // Place of a face of a coarse voxel, counted in voxels of the scan from its own outer face.
        let face = |index: usize| match convention {
            Convention::AlignCorners if coarse[a] > 1 => (index as f64 - 0.5) * (n - 1.0) / (m - 1.0) + 0.5,
            _ => index as f64 * n / m,
        };
        let margin = margin_mm[a] / scan.spacing[a];
        let first = ((face(found.start[a]) - margin) / GRAIN).round() * GRAIN;
        let last = ((face(found.end[a]) + margin) / GRAIN).round() * GRAIN;
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
            let all = enlarged(&Box3::whole([64, 64, 1]), [64, 64, 1], &scan, convention, [0.0; 3]);
            assert_eq!(all, Box3::whole(scan.shape));
        }
    }

    #[test]
    fn faces_and_margins_are_in_millimetres() {
        // Half-pixel, 4 coarse voxels over 16: coarse voxel 1 covers voxels 4..8.
        let scan = Geometry::ras([16, 16, 16], [2.0, 1.0, 3.0]);
        let found = Box3 {
            start: [1, 1, 1],
            end: [2, 2, 2],
        };
        let plain = enlarged(&found, [4; 3], &scan, Convention::HalfPixel, [0.0; 3]);
        assert_eq!((plain.start, plain.end), ([4; 3], [8; 3]));
        let grown = enlarged(&found, [4; 3], &scan, Convention::HalfPixel, [4.0, 4.0, 4.0]);
        assert_eq!((grown.start, grown.end), ([2, 0, 2], [10, 12, 10]));
        // Align-corners: coarse centres at 0, 5, 10, 15, so faces of voxel 1 lie at 2.5 and 7.5.
        let plain = enlarged(&found, [4; 3], &scan, Convention::AlignCorners, [0.0; 3]);
        assert_eq!((plain.start, plain.end), ([3; 3], [8; 3]));
    }
}
