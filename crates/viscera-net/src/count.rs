//! Counts that follow from a graph.

use crate::{Graph, NetError, Op, ParamKind};

/// Size and work of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Learnt values: convolutions, norms, biases. Running statistics of batch norm are not counted.
    pub params: usize,
    /// Multiply-accumulates of all convolutions, and of the two matrix products of attention, for one sample. Bias, norm,
    /// activation, gates and resizing are not counted.
    pub macs: u64,
}

impl Graph {
    /// Parameters and multiply-accumulates for one sample of `spatial` voxels.
    ///
    /// # Errors
    /// Those of [`Self::shapes`].
    pub fn counts(&self, spatial: [usize; 3]) -> Result<Counts, NetError> {
        let macs = self.node_macs(spatial)?;
        let learnt = self.params.iter().filter(|param| param.kind == ParamKind::Learnt);
        Ok(Counts {
            params: learnt.map(crate::Param::len).fold(0, usize::saturating_add),
            macs: macs.into_iter().fold(0, u64::saturating_add),
        })
    }

    /// Multiply-accumulates of each node for one sample of `spatial` voxels, counted as in [`Counts::macs`].
    ///
    /// # Errors
    /// Those of [`Self::shapes`].
    pub fn node_macs(&self, spatial: [usize; 3]) -> Result<Vec<u64>, NetError> {
        let shapes = self.shapes(spatial)?;
        let volume = |extent: [usize; 3]| extent.iter().map(|&e| e as u64).product::<u64>();
        Ok(self
            .nodes
            .iter()
            .zip(&shapes.nodes)
            .map(|(node, &(channels, extent))| match &node.op {
                Op::Conv(conv) => volume(extent).saturating_mul(self.params[conv.weight.0].len() as u64),
                // Every input voxel meets every weight once.
                Op::ConvTranspose { weight, .. } => {
                    volume(shapes.nodes[node.inputs[0].0].1).saturating_mul(self.params[weight.0].len() as u64)
                }
                // Queries with keys, and weights with values: each token with every token of its window, twice.
                Op::WindowAttention(attention) => {
                    let pairs = volume(extent).saturating_mul(volume(attention.window));
                    pairs.saturating_mul(2 * channels as u64)
                }
                _ => 0,
            })
            .collect())
    }
}
