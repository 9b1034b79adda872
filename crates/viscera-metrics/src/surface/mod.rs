//! Distances between the surfaces of two masks, by the method of DeepMind's `surface-distance`.
//!
//! A surface consists of pieces ("surfels"), one at each corner between voxels around which some voxels are inside the
//! mask and some outside. The area of a piece comes from marching cubes, its distance is the exact Euclidean distance
//! from the nearest such corner of the other mask, in mm along the axes of the grid (for a sheared or rotated grid too).
//! Voxels outside the image count as background, so a mask that touches the border has a surface there.

mod area;
mod bounds;
mod corners;
mod envelope;
mod nearest;
mod pair;
mod score;
mod search;

pub use score::SurfaceScore;

pub(crate) use pair::Pair;

use crate::{MetricsError, check_same_grid};
use corners::Mask;
use nearest::{MAX_SLICES, SEARCHED, Surfel, surfels};
use rayon::prelude::*;
use viscera_image::{Box3, LabelMap};

/// The pieces of the surfaces of one class in a reference and a prediction, with their distances from each other.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    /// Sorted by distance, then area.
    reference: Vec<Surfel>,
    prediction: Vec<Surfel>,
}

/// Measures the distances between the surfaces of `class` in two label maps.
///
/// `None` when the class is empty in both. When it is empty in one, that surface has no pieces, and the pieces of the
/// other are infinitely far away, as in `surface-distance`. Work and memory go with the bounding box of both masks
/// (two bytes per voxel), and with the surfaces (16 bytes per piece). The result is the same for any number of threads.
///
/// # Errors
/// [`MetricsError::ShapeMismatch`] or [`MetricsError::PlaceMismatch`] from [`check_same_grid`],
/// [`MetricsError::TooManySlices`] for a class that spans more than 65 534 slices.
pub fn surface_distances(
    reference: &LabelMap,
    prediction: &LabelMap,
    class: u8,
) -> Result<Option<SurfaceDistances>, MetricsError> {
    check_same_grid(reference.geometry(), prediction.geometry())?;
    Pair::of(reference, prediction).distances(class)
}

impl SurfaceDistances {
    /// As [`surface_distances`], for the voxels inside `bounds` alone: those outside count as background.
    pub(crate) fn within(
        reference: &LabelMap,
        prediction: &LabelMap,
        class: u8,
        bounds: Box3,
        spacing: [f64; 3],
    ) -> Result<Self, MetricsError> {
        let slices = bounds.shape()[0];
        if slices > MAX_SLICES {
            return Err(MetricsError::TooManySlices {
                class,
                slices,
                limit: MAX_SLICES,
            });
        }
        let areas = area::areas(spacing);
        let mask = |labels| Mask { labels, class, bounds };
        let (r, p) = (mask(reference), mask(prediction));
        let sorted = |from: &Mask, to: &Mask| {
            let mut found = surfels(from, to, spacing, &areas, SEARCHED);
            let order = |a: &Surfel, b: &Surfel| a.distance.total_cmp(&b.distance).then(a.area.total_cmp(&b.area));
            found.par_sort_unstable_by(order);
            found
        };
        Ok(Self {
            reference: sorted(&r, &p),
            prediction: sorted(&p, &r),
        })
    }

    /// Surface Dice: the area of both surfaces that lies at most `tolerance_mm` from the other, over the area of both.
    ///
    /// 0 to 1; 0 when one mask is empty. The tolerance is compared with the distance as it is, without slack.
    #[must_use]
    pub fn surface_dice(&self, tolerance_mm: f64) -> f64 {
        let near = |surfels: &[Surfel]| -> f64 {
            let end = surfels.partition_point(|s| s.distance <= tolerance_mm);
            area(&surfels[..end])
        };
        let [r, p] = self.areas();
        (near(&self.reference) + near(&self.prediction)) / (r + p)
    }

    /// Hausdorff distance in mm: the largest distance of a piece of either surface; infinite when one mask is empty.
    #[must_use]
    pub fn hausdorff(&self) -> f64 {
        let largest = |surfels: &[Surfel]| surfels.last().map_or(f64::INFINITY, |s| s.distance);
        largest(&self.reference).max(largest(&self.prediction))
    }

    /// Robust Hausdorff distance in mm: per direction the smallest distance within which at least `percent` (0 to 100)
    /// of the area lies, and the larger of the two. Infinite when one mask is empty.
    #[must_use]
    pub fn robust_hausdorff(&self, percent: f64) -> f64 {
        let percentile = |surfels: &[Surfel]| {
            let total = area(surfels);
            let mut sum = 0.0;
            surfels
                .iter()
                .find(|s| {
                    sum += s.area;
                    sum / total >= percent / 100.0
                })
                .or(surfels.last())
                .map_or(f64::INFINITY, |s| s.distance)
        };
        percentile(&self.reference).max(percentile(&self.prediction))
    }

    /// Average distances in mm, weighted by area: of the reference's surface from the prediction's, and the other way.
    ///
    /// When one mask is empty, its own average is NaN and the other is infinite.
    #[must_use]
    pub fn average(&self) -> [f64; 2] {
        [&self.reference, &self.prediction].map(|surfels| moment(surfels) / area(surfels))
    }

    /// Average symmetric surface distance in mm: the average over the area of both surfaces together.
    ///
    /// Infinite when one mask is empty. It differs from the mean of [`Self::average`] when the areas do.
    #[must_use]
    pub fn assd(&self) -> f64 {
        let [r, p] = self.areas();
        (moment(&self.reference) + moment(&self.prediction)) / (r + p)
    }

    /// Areas in mm² of the surfaces of reference and prediction; 0 for an empty mask.
    #[must_use]
    pub fn areas(&self) -> [f64; 2] {
        [area(&self.reference), area(&self.prediction)]
    }
}

fn area(surfels: &[Surfel]) -> f64 {
    surfels.iter().map(|s| s.area).sum()
}

/// Sum of distance times area.
fn moment(surfels: &[Surfel]) -> f64 {
    surfels.iter().map(|s| s.distance * s.area).sum()
}

#[cfg(test)]
mod tests;
