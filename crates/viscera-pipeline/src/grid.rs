//! The network's grid over a part of a scan, and the ways there and back.

use crate::PipelineError;
use crate::recipe::{Interpolation, Method, Resample, SeparateZ, SpacingGrid, Stage};
use viscera_image::{
    AxisTable, Box3, Convention, Geometry, ImageError, Intensity, Interpolator, Resampling, Volume, cropped_geometry,
    nearest_positions, resample_linear_part, separate_axis, shape_for_spacing,
};

/// Most voxels of a network's grid per voxel of the part. Thick slices at 1 mm need ten or so; more is a header whose
/// spacing is wrong, which must not ask for more memory than the file is worth.
const MOST_FINER: usize = 64;
/// So many are always fine.
const ALWAYS_FINE: usize = 1 << 24;

/// The grid that a stage's network sees of a part of a scan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    /// Its voxels.
    pub(crate) shape: [usize; 3],
    /// How it corresponds to the part.
    pub(crate) convention: Convention,
    /// Spacings in mm of the part and of the grid.
    spacings: [[f64; 3]; 2],
}

impl Grid {
    /// The grid for a part of that geometry.
    ///
    /// # Errors
    /// [`PipelineError::GridTooFine`] for a spacing that makes far more voxels than the part has; [`PipelineError::Image`]
    /// for one that makes no grid.
    pub(crate) fn new(stage: &Stage, part: &Geometry) -> Result<Self, PipelineError> {
        let (shape, convention) = match &stage.resample {
            Resample::Size(fixed) => (fixed.size, fixed.convention),
            Resample::Spacing(grid) => {
                let convention = match grid.image.method {
                    Method::AlignCorners => Convention::AlignCorners,
                    Method::Spline | Method::Torch => Convention::HalfPixel,
                };
                let shape = limited(shape_for_spacing(part, grid.spacing_mm)?, grid);
                let most = part.len().saturating_mul(MOST_FINER).max(ALWAYS_FINE);
                let voxels = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
                if voxels.is_none_or(|n| n > most) {
                    return Err(PipelineError::GridTooFine {
                        stage: stage.id.clone(),
                        shape,
                        spacing_mm: part.spacing,
                    });
                }
                (shape, convention)
            }
        };
        let target = match &stage.resample {
            // nnU-Net's rules speak of the spacing that was asked for.
            Resample::Spacing(grid) => grid.spacing_mm,
            Resample::Size(_) => std::array::from_fn(|a| part.spacing[a] * part.shape[a] as f64 / shape[a] as f64),
        };
        Ok(Self {
            shape,
            convention,
            spacings: [part.spacing, target],
        })
    }

    /// A part of a scan on this grid, each voxel changed by `value` before it is interpolated.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when the part does not fit, or memory is short.
    pub(crate) fn image<T: Intensity>(
        &self,
        stage: &Stage,
        scan: &Volume<T>,
        part: &Box3,
        value: impl Fn(f32) -> f32 + Sync,
    ) -> Result<Volume<f32>, PipelineError> {
        let way = match &stage.resample {
            Resample::Spacing(SpacingGrid { image, .. }) => self.way(image, self.spacings),
            Resample::Size(_) => None,
        };
        let Some(way) = way else {
            return Ok(resample_linear_part(scan, part, self.shape, self.convention, value)?);
        };
        // An unchanged shape takes no interpolation: it cuts and changes.
        let part = resample_linear_part(scan, part, part.shape(), Convention::HalfPixel, value)?;
        Ok(way.resample(&part, self.shape)?)
    }

    /// For each axis the taps that bring logits from this grid to `to` voxels of the part.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when memory is short.
    pub(crate) fn back(&self, stage: &Stage, to: [usize; 3]) -> Result<[AxisTable; 3], PipelineError> {
        let axis = |a: usize| -> Result<AxisTable, ImageError> {
            let (from, to) = (self.shape[a], to[a]);
            if let Resample::Spacing(SpacingGrid { logits, .. }) = &stage.resample
                && let Some(way) = self.way(logits, [self.spacings[1], self.spacings[0]])
                && let Some(table) = way.axis_table(a, from, to)?
            {
                return Ok(table);
            }
            AxisTable::linear(from, to, self.convention)
        };
        Ok([axis(0)?, axis(1)?, axis(2)?])
    }

    /// For each axis the positions on this grid that are nearest to the `to` voxels of the part.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when memory is short.
    pub(crate) fn nearest(&self, to: [usize; 3]) -> Result<[Vec<usize>; 3], PipelineError> {
        let axis = |a: usize| nearest_positions(self.shape[a], to[a], self.convention);
        Ok([axis(0)?, axis(1)?, axis(2)?])
    }

    /// nnU-Net's interpolation between two spacings; none where it is linear with this grid's convention.
    fn way(&self, settings: &Interpolation, [before, after]: [[f64; 3]; 2]) -> Option<Resampling> {
        let interpolator = match settings.method {
            Method::AlignCorners => return None,
            Method::Spline => Interpolator::Spline {
                order: settings.order,
                order_separate: settings.order_z,
            },
            Method::Torch => Interpolator::Torch,
        };
        let always = match settings.separate_z {
            SeparateZ::Auto => None,
            SeparateZ::Always => Some(true),
            SeparateZ::Never => Some(false),
        };
        Some(Resampling {
            interpolator,
            separate: separate_axis(always, settings.anisotropy, before, after),
        })
    }
}

/// A shape that is no larger in the plane than the recipe allows.
fn limited(shape: [usize; 3], grid: &SpacingGrid) -> [usize; 3] {
    let widest = shape[1].max(shape[2]);
    match grid.max_in_plane {
        Some(most) if widest > most => shape.map(|n| (n * most / widest).max(1)),
        _ => shape,
    }
}

/// The geometry of a part of a grid.
///
/// # Errors
/// [`PipelineError::Image`] when it does not fit.
pub(crate) fn part_geometry(grid: &Geometry, part: &Box3) -> Result<Geometry, PipelineError> {
    Ok(cropped_geometry(grid, part)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    #[test]
    fn a_spacing_that_no_scan_has_asks_for_no_memory() {
        let stage = Recipe::builtin("flare22-coarse-to-fine").unwrap().stages.remove(1);
        // 10 mm slices at 2 mm, and 40 mm voxels at 2 × 1.5 × 1.5 mm.
        let thick = Grid::new(&stage, &Geometry::ras([40, 300, 300], [10.0, 0.75, 0.75])).unwrap();
        assert_eq!(thick.shape, [200, 150, 150]);
        let error = Grid::new(&stage, &Geometry::ras([64; 3], [40.0, 10.0, 10.0])).unwrap_err();
        assert!(error.to_string().contains("40 × 10 × 10 mm"), "{error}");
    }
}
