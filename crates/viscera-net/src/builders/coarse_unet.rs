//! The localising U-Net of EfficientSegNet's authors (FLARE21; Zhang et al. 2022).
//!
//! Encoder: at each level two residual blocks of two 3×3×3 units, max pooling (kernel 3, stride 2, padding 1) between.
//! Decoder: trilinear enlargement (align-corners), concatenation [skip, up], residual blocks. Head: 1×1×1, no bias.

use super::GraphBuilder;
use crate::{Graph, NodeId, PoolKind};
use serde::{Deserialize, Serialize};

const K3: [[usize; 3]; 2] = [[3; 3]; 2];

/// Settings of the coarse U-Net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoarseUnet {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the finest level, doubled at each of the four levels below; 8 in the paper.
    pub base_features: usize,
    /// Channels of the logits.
    pub out_channels: usize,
    /// Residual blocks per level of the decoder; 1, or 2 in the "BaseUNet" that the authors compare with.
    pub decoder_blocks: usize,
    /// Channel dropout; 0.2 in the authors' code.
    pub dropout: f32,
}

impl CoarseUnet {
    /// The graph. The input's extents must be at least 16.
    #[must_use]
    pub fn build(&self) -> Graph {
        let mut g = GraphBuilder::new("coarse_unet");
        let mut x = g.input(self.in_channels);
        let mut skips: Vec<NodeId> = Vec::new();
        for level in 0..5 {
            if level > 0 {
                skips.push(x);
                x = g.pool(
                    &format!("encoder.{level}.pool"),
                    x,
                    PoolKind::Max,
                    [3; 3],
                    [2; 3],
                    [1; 3],
                );
            }
            let out = self.base_features << level;
            x = g.residual(&format!("encoder.{level}.block0"), x, out, K3, 1, true, self.dropout);
            x = g.residual(&format!("encoder.{level}.block1"), x, out, K3, 1, false, self.dropout);
        }
        for (level, &skip) in skips.iter().enumerate().rev() {
            let up = g.resize_like(&format!("decoder.{level}.up"), x, skip, true);
            let joined = g.concat(&format!("decoder.{level}.concat"), &[skip, up]);
            let out = self.base_features << level;
            x = joined;
            for block in 0..self.decoder_blocks {
                let name = format!("decoder.{level}.block{block}");
                x = g.residual(&name, x, out, K3, 1, block == 0, self.dropout);
            }
        }
        let logits = g.conv("head", x, self.out_channels, [1; 3], [1; 3], false, 0.0);
        g.finish(vec![logits])
    }
}
