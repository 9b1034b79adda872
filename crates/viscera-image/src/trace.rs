//! The record of what was done to a grid, so that a label map can be brought back exactly.
//!
//! A [`Trace`] starts at the source's grid. Each step that changes the grid goes through it and is recorded together with
//! the grid it led to. Walking back uses the recorded grids, so a restored label map has the source's geometry bit for
//! bit. Orientation and cropping are undone exactly; resampling of label maps is undone by nearest neighbour (a pipeline
//! that still has logits [pops](Trace::pop) that step and interpolates them instead).

use crate::{
    AxisMap, Box3, Convention, Geometry, ImageError, Intensity, Volume, Voxel, crop, cropped_geometry, paste,
    resample_linear, resample_nearest, resampled_geometry,
};
use serde::Serialize;

/// One change of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Axes permuted and flipped.
    Orient(AxisMap),
    /// Cut to a box.
    Crop(Box3),
    /// Resampled over the same extent.
    Resample {
        /// Shape before.
        from: [usize; 3],
        /// Shape after.
        to: [usize; 3],
        /// How the two grids correspond.
        convention: Convention,
    },
}

/// The steps from a source grid to the current one, with every grid on the way.
///
/// ```
/// use viscera_image::{AxisMap, Box3, Geometry, Trace, Volume};
/// let mut geometry = Geometry::ras([4, 4, 4], [2.0, 1.0, 1.0]);
/// geometry.direction[0] = [0.0, 0.0, -1.0]; // feet first
/// let ct = Volume::filled(geometry, 0i16)?;
///
/// let mut trace = Trace::new(ct.geometry().clone());
/// let ct = trace.orient(ct, AxisMap::to_ras(trace.source()))?;
/// let roi = trace.crop(&ct, &Box3 { start: [3, 0, 0], end: [4, 4, 4] })?;
///
/// let labels = roi.map(|_| 1u8); // stands for a network
/// let labels = trace.restore(labels)?;
/// assert_eq!(labels.get([0, 0, 0]), Some(1)); // the top slice of the patient is the first of the source
/// assert_eq!(labels.get([1, 0, 0]), Some(0));
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    source: Geometry,
    /// Each step with the grid it led to.
    steps: Vec<(Step, Geometry)>,
}

impl Trace {
    /// A trace without steps.
    #[must_use]
    pub fn new(source: Geometry) -> Self {
        Self {
            source,
            steps: Vec::new(),
        }
    }

    /// The grid it began with.
    #[must_use]
    pub fn source(&self) -> &Geometry {
        &self.source
    }

    /// The grid after the last step.
    #[must_use]
    pub fn current(&self) -> &Geometry {
        self.steps.last().map_or(&self.source, |(_, geometry)| geometry)
    }

    /// The steps, first to last.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.iter().map(|(step, _)| step)
    }

    /// Records a step that the caller carries out itself, and gives the grid it leads to.
    ///
    /// # Errors
    /// [`ImageError::BadBox`] or [`ImageError::BadGeometry`] when the step does not fit the current grid;
    /// [`ImageError::GridMismatch`] when a resampling does not start from its shape.
    pub fn push(&mut self, step: Step) -> Result<&Geometry, ImageError> {
        let current = self.current();
        let next = match step {
            Step::Orient(map) => map.geometry(current),
            Step::Crop(region) => cropped_geometry(current, &region)?,
            Step::Resample { from, to, convention } => {
                if from != current.shape {
                    return Err(ImageError::GridMismatch {
                        left: from,
                        right: current.shape,
                    });
                }
                resampled_geometry(current, to, convention)?
            }
        };
        self.steps.push((step, next));
        Ok(self.current())
    }

    /// Takes the last step away and gives it, or `None` at the source. [`Self::current`] is then the grid before it.
    pub fn pop(&mut self) -> Option<Step> {
        self.steps.pop().map(|(step, _)| step)
    }

    /// Reorients a volume on the current grid. The identity moves the volume through untouched.
    ///
    /// # Errors
    /// [`ImageError::GridMismatch`] when the volume is not on the current grid.
    pub fn orient<T: Voxel>(&mut self, volume: Volume<T>, map: AxisMap) -> Result<Volume<T>, ImageError> {
        volume.geometry().require_same_grid(self.current())?;
        self.push(Step::Orient(map))?;
        Ok(if map == AxisMap::IDENTITY {
            volume
        } else {
            map.apply(&volume)
        })
    }

    /// Cuts a box out of a volume on the current grid.
    ///
    /// # Errors
    /// [`ImageError::GridMismatch`] when the volume is not on the current grid; [`ImageError::BadBox`].
    pub fn crop<T: Voxel>(&mut self, volume: &Volume<T>, region: &Box3) -> Result<Volume<T>, ImageError> {
        volume.geometry().require_same_grid(self.current())?;
        self.push(Step::Crop(*region))?;
        crop(volume, region)
    }

    /// Resamples the intensities of a volume on the current grid, linearly.
    ///
    /// # Errors
    /// [`ImageError::GridMismatch`] when the volume is not on the current grid; the errors of [`resample_linear`].
    pub fn resample_linear<T: Intensity>(
        &mut self,
        volume: &Volume<T>,
        shape: [usize; 3],
        convention: Convention,
    ) -> Result<Volume<f32>, ImageError> {
        volume.geometry().require_same_grid(self.current())?;
        let out = resample_linear(volume, shape, convention)?;
        self.push(Step::Resample {
            from: volume.shape(),
            to: shape,
            convention,
        })?;
        Ok(out)
    }

    /// Undoes the last step on a label map (or anything that must not be mixed) on the current grid, and takes that step
    /// away. Outside a cropped box the result is background (the default value). Without a step it changes nothing.
    ///
    /// # Errors
    /// [`ImageError::GridMismatch`] when `labels` are not on the current grid; [`ImageError::OutOfMemory`].
    pub fn undo<T: Voxel>(&mut self, labels: Volume<T>) -> Result<Volume<T>, ImageError> {
        labels.geometry().require_same_grid(self.current())?;
        let Some(step) = self.pop() else {
            return Ok(labels);
        };
        let before = self.current();
        let data = match step {
            Step::Orient(AxisMap::IDENTITY) => labels.into_parts().1,
            Step::Orient(map) => map.inverse().apply(&labels).into_parts().1,
            Step::Crop(region) => {
                let mut whole = Volume::filled(before.clone(), T::default())?;
                paste(&labels, &mut whole, &region)?;
                whole.into_parts().1
            }
            Step::Resample { from, convention, .. } => resample_nearest(&labels, from, convention)?.into_parts().1,
        };
        Ok(Volume::from_valid(before.clone(), data))
    }

    /// Undoes all steps: brings a label map on the current grid back to the source's.
    ///
    /// # Errors
    /// As [`Self::undo`].
    pub fn restore<T: Voxel>(mut self, mut labels: Volume<T>) -> Result<Volume<T>, ImageError> {
        while !self.steps.is_empty() {
            labels = self.undo(labels)?;
        }
        // Without any step the grid still has to fit.
        labels.geometry().require_same_grid(&self.source)?;
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LabelMap;
    use proptest::prelude::*;

    fn labels(geometry: Geometry, seed: usize) -> LabelMap {
        let data = (0..geometry.len())
            .map(|i| (((i + seed) * 2_654_435_761) >> 7) as u8 % 14)
            .collect();
        Volume::new(geometry, data).unwrap()
    }

    fn oblique(shape: [usize; 3]) -> Geometry {
        let (s, c) = 0.2f64.sin_cos();
        Geometry {
            shape,
            spacing: [5.0, 0.7, 0.8],
            origin: [11.1, -22.2, 33.3],
            direction: [[0.0, s, -c], [0.0, c, s], [-1.0, 0.0, 0.0]],
        }
    }

    proptest! {
        /// Labels that lie inside the box come back voxel for voxel, on the source's own geometry.
        #[test]
        fn orient_crop_and_back_is_the_identity(
            shape in [1usize..8, 1usize..8, 1usize..8],
            which in 0usize..48,
            fraction in [0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0],
            seed in 0usize..1000,
        ) {
            let source = labels(oblique(shape), seed);
            let map = AxisMap::all().nth(which).unwrap();
            let mut trace = Trace::new(source.geometry().clone());
            let oriented = trace.orient(source.clone(), map).unwrap();
            let start: [usize; 3] = std::array::from_fn(|a| (fraction[a] * oriented.shape()[a] as f64) as usize);
            let region = Box3 { start, end: oriented.shape() };
            let cropped = trace.crop(&oriented, &region).unwrap();
            // A second crop and turn on top, so that order matters.
            let inner = Box3 { start: [0; 3], end: cropped.shape().map(|n| n.div_ceil(2)) };
            let cropped = trace.crop(&cropped, &inner).unwrap();
            let turned = trace.orient(cropped, map).unwrap();
            prop_assert_eq!(turned.geometry(), trace.current());

            let restored = trace.restore(turned.clone()).unwrap();
            prop_assert_eq!(restored.geometry(), source.geometry());
            let mut kept = 0;
            for (found, original) in restored.data().iter().zip(source.data()) {
                prop_assert!(*found == 0 || found == original);
                kept += usize::from(*found != 0);
            }
            prop_assert_eq!(kept, turned.data().iter().filter(|&&v| v != 0).count());
        }

        #[test]
        fn whole_box_restores_everything(shape in [1usize..8, 1usize..8, 1usize..8], which in 0usize..48) {
            let source = labels(oblique(shape), 5);
            let mut trace = Trace::new(source.geometry().clone());
            let turned = trace.orient(source.clone(), AxisMap::all().nth(which).unwrap()).unwrap();
            let whole = Box3::whole(turned.shape());
            let cropped = trace.crop(&turned, &whole).unwrap();
            prop_assert_eq!(trace.restore(cropped).unwrap(), source);
        }
    }

    #[test]
    fn resampling_is_undone_by_nearest_on_the_recorded_grid() {
        let ct = labels(oblique([4, 6, 6]), 1).map(f32::from);
        for convention in [Convention::HalfPixel, Convention::AlignCorners] {
            let mut trace = Trace::new(ct.geometry().clone());
            let small = trace.resample_linear(&ct, [8, 3, 12], convention).unwrap();
            assert_eq!(small.geometry(), trace.current());
            let found = labels(small.geometry().clone(), 3);
            let expected = resample_nearest(&found, ct.shape(), convention).unwrap();
            let restored = trace.restore(found).unwrap();
            assert_eq!(restored.data(), expected.data());
            assert_eq!(restored.geometry(), ct.geometry());
        }
    }

    #[test]
    fn a_caller_may_take_steps_of_its_own() {
        let ct = labels(oblique([4, 6, 6]), 1).map(f32::from);
        let mut trace = Trace::new(ct.geometry().clone());
        let region = Box3 {
            start: [1, 0, 2],
            end: [4, 6, 5],
        };
        let roi = trace.crop(&ct, &region).unwrap();
        let step = Step::Resample {
            from: roi.shape(),
            to: [6, 6, 6],
            convention: Convention::AlignCorners,
        };
        assert_eq!(trace.push(step).unwrap().shape, [6, 6, 6]);
        assert_eq!(trace.steps().len(), 2);
        assert_eq!(trace.pop(), Some(step));
        assert_eq!(trace.current(), roi.geometry());
        // Stop one step before the source.
        let parent = trace.undo(roi.map(|_| 1u8)).unwrap();
        assert_eq!(parent.geometry(), ct.geometry());
        assert_eq!(parent.data().iter().filter(|&&v| v == 1).count(), roi.data().len());
        assert_eq!(trace.pop(), None);
    }

    #[test]
    fn volumes_of_another_grid_are_refused() {
        let ct = labels(oblique([4, 6, 6]), 1);
        let mut elsewhere = ct.geometry().clone();
        elsewhere.origin[2] += 0.1;
        let mut trace = Trace::new(elsewhere);
        let refused = |r: Result<LabelMap, ImageError>| matches!(r, Err(ImageError::GridMismatch { .. }));
        assert!(refused(trace.crop(&ct, &Box3::whole(ct.shape()))));
        assert!(refused(trace.orient(ct.clone(), AxisMap::IDENTITY)));
        assert!(refused(trace.undo(ct.clone())));
        assert_eq!(trace.steps().len(), 0, "a refused step is not recorded");
        assert!(refused(trace.restore(ct.clone())));
        let mut trace = Trace::new(ct.geometry().clone());
        let from = [4, 6, 7];
        let convention = Convention::HalfPixel;
        assert!(
            trace
                .push(Step::Resample {
                    from,
                    to: [1; 3],
                    convention
                })
                .is_err()
        );
    }
}
