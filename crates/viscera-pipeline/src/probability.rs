//! Probabilities at the scan's resolution, in steps of 1/255.

use crate::PipelineError;
use crate::prepare::Frame;
use serde::Serialize;
use viscera_image::{Box3, Geometry, Volume, paste};

/// Which probabilities are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbabilityKind {
    /// Of the class (or background) that won each voxel.
    Winner,
    /// Of every class.
    All,
}

/// A map of probabilities on the scan's grid: 255 is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbabilityMap {
    /// The class; none for that of the winner.
    pub class: Option<String>,
    /// The values.
    pub values: Volume<u8>,
}

/// The nearest of 256 steps.
pub(crate) fn quantised(p: f32) -> u8 {
    (p * 255.0).round() as u8
}

/// Maps on the grid that networks see, gathered from stage to stage.
#[derive(Debug)]
pub(crate) struct Gathered {
    grid: Geometry,
    maps: Vec<(Option<String>, Volume<u8>)>,
}

impl Gathered {
    pub(crate) fn new(grid: &Geometry) -> Self {
        Self {
            grid: grid.clone(),
            maps: Vec::new(),
        }
    }

    /// Takes a class's map over a part. What no network looked at has probability 0 for every class.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when memory is short or the part does not fit.
    pub(crate) fn class(&mut self, name: &str, values: &Volume<u8>, part: &Box3) -> Result<(), PipelineError> {
        let mut whole = Volume::filled(self.grid.clone(), 0u8)?;
        paste(values, &mut whole, part)?;
        self.maps.push((Some(name.to_owned()), whole));
        Ok(())
    }

    /// Takes a winner's map over a part: over all of it for the first stage, and for later ones where they found
    /// something. What no network looked at is background for certain.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when memory is short or the part does not fit.
    pub(crate) fn winner(
        &mut self,
        values: &Volume<u8>,
        labels: &Volume<u8>,
        part: &Box3,
    ) -> Result<(), PipelineError> {
        match self.maps.iter_mut().find(|(class, _)| class.is_none()) {
            None => {
                let mut whole = Volume::filled(self.grid.clone(), u8::MAX)?;
                paste(values, &mut whole, part)?;
                self.maps.push((None, whole));
            }
            Some((_, whole)) => {
                let mut here = viscera_image::crop(whole, part)?;
                for ((here, new), label) in here.data_mut().iter_mut().zip(values.data()).zip(labels.data()) {
                    if *label != 0 {
                        *here = *new;
                    }
                }
                paste(&here, whole, part)?;
            }
        }
        Ok(())
    }

    /// The maps on the scan's own grid.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when memory is short.
    pub(crate) fn finish(self, frame: &Frame) -> Result<Vec<ProbabilityMap>, PipelineError> {
        let back = |(class, values): (Option<String>, Volume<u8>)| {
            Ok(ProbabilityMap {
                class,
                values: frame.back(values)?,
            })
        };
        self.maps.into_iter().map(back).collect()
    }
}
