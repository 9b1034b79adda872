//! The units that the networks of FLARE21's winner share: EfficientSegNet and the coarse U-Net.

use super::parts::{GraphBuilder, NORM_EPS, Norm};
use crate::NodeId;

impl GraphBuilder {
    /// CN of EfficientSegNet: convolution without bias → instance norm without affine.
    pub fn conv_norm(&mut self, name: &str, x: NodeId, out: usize, kernel: [usize; 3], stride: usize) -> NodeId {
        let x = self.conv(name, x, out, kernel, [stride; 3], false, 0.0);
        let norm = Norm::Instance {
            eps: NORM_EPS,
            affine: false,
        };
        self.norm(&format!("{name}.norm"), x, norm)
    }

    /// CNR of EfficientSegNet: CN → channel dropout → ReLU.
    pub fn conv_norm_relu(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        kernel: [usize; 3],
        stride: usize,
        dropout: f32,
    ) -> NodeId {
        let x = self.conv_norm(name, x, out, kernel, stride);
        let x = self.dropout(&format!("{name}.dropout"), x, dropout);
        self.relu(&format!("{name}.relu"), x)
    }

    /// Residual block of two units: `relu(CN(CNR(x)) + shortcut)`, the shortcut a 1×1×1 CN where `project`, else `x`.
    pub fn residual(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        kernels: [[usize; 3]; 2],
        stride: usize,
        project: bool,
        dropout: f32,
    ) -> NodeId {
        let y = self.conv_norm_relu(&format!("{name}.conv1"), x, out, kernels[0], stride, dropout);
        let y = self.conv_norm(&format!("{name}.conv2"), y, out, kernels[1], 1);
        let skip = if project {
            self.conv_norm(&format!("{name}.shortcut"), x, out, [1; 3], stride)
        } else {
            x
        };
        let y = self.add(&format!("{name}.add"), &[y, skip]);
        self.relu(&format!("{name}.relu"), y)
    }
}
