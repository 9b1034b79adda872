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
