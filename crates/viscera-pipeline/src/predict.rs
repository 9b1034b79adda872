//! Running a stage's network.

use crate::PipelineError;
use crate::prepare::{NetworkInput, network_error};
use crate::recipe::Stage;
use viscera_engine::Engine;
use viscera_image::Trace;
use viscera_net::{NetError, Tensor};

/// What a network says of its input, on the network's grid.
#[derive(Debug, Clone)]
pub struct Logits {
    /// One sample, one channel per class.
    pub tensor: Tensor,
    /// From the scan's grid to the tensor's.
    pub trace: Trace,
}

impl Logits {
    /// Runs a network on an input; of several outputs, the first (finest) counts.
    ///
    /// # Errors
    /// [`PipelineError::Network`] when the engine fails or its output does not have the input's grid.
    pub fn new(engine: &Engine, input: NetworkInput, stage: &Stage) -> Result<Self, PipelineError> {
        let outputs = engine.run(&input.tensor).map_err(|e| network_error(stage, e))?;
        let grid = input.tensor.spatial();
        let tensor = outputs
            .into_iter()
            .next()
            .filter(|t| t.spatial() == grid)
            .ok_or_else(|| {
                let reason = format!("the network gives no logits on its input's grid of {grid:?}");
                let node = "output".to_owned();
                network_error(stage, NetError::Shape { node, reason })
            })?;
        Ok(Self {
            tensor,
            trace: input.trace,
        })
    }
}
