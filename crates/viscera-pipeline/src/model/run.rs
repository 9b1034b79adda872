//! The bare network of a model.

use super::{Model, Network};
use crate::PipelineError;
use crate::prepare::network_error;
use viscera_engine::{Engine, Precision};
use viscera_net::Tensor;

impl Model {
    /// The network of a stage; of the only stage without a name.
    ///
    /// # Errors
    /// [`PipelineError::Model`] when there is no such stage, or there are several and none is named.
    pub fn network(&self, stage: Option<&str>) -> Result<Network<'_>, PipelineError> {
        let found = match stage {
            Some(id) => self.networks().find(|n| n.stage.id == id),
            None => self.networks().next().filter(|_| self.networks.len() == 1),
        };
        found.ok_or_else(|| {
            let ids: Vec<&str> = self.recipe.stages.iter().map(|s| s.id.as_str()).collect();
            PipelineError::Model {
                model: self.name.clone(),
                reason: format!("name one of its stages: {}", ids.join(", ")),
            }
        })
    }
}

impl Network<'_> {
    /// Runs the network on `[n, c, z, y, x]` values as they are: nothing is resampled or normalised. Gives one tensor per
    /// head, finest first; with several folds their mean, summed in the folds' order.
    ///
    /// # Errors
    /// [`PipelineError::Network`] when the input does not fit, or the engine cannot run it.
    pub fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, PipelineError> {
        self.run_with_precision(input, Precision::F32)
    }

    /// As [`Self::run`], with values stored as asked on the way.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_with_precision(&self, input: &Tensor, precision: Precision) -> Result<Vec<Tensor>, PipelineError> {
        let failed = |source| network_error(self.stage, source);
        let mut sum: Option<Vec<Tensor>> = None;
        for weights in self.folds {
            let engine = Engine::with_options(self.graph, weights, precision.into()).map_err(failed)?;
            let outputs = engine.run(input).map_err(failed)?;
            match &mut sum {
                None => sum = Some(outputs),
                Some(sum) => {
                    for (sum, output) in sum.iter_mut().zip(&outputs) {
                        for (a, b) in sum.data_mut().iter_mut().zip(output.data()) {
                            *a += b;
                        }
                    }
                }
            }
        }
        let mut sum = sum.unwrap_or_default();
        let share = 1.0 / self.folds.len() as f32;
        if self.folds.len() > 1 {
            for value in sum.iter_mut().flat_map(Tensor::data_mut) {
                *value *= share;
            }
        }
        Ok(sum)
    }
}
