//! Resize as one matrix product per axis.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use viscera_net::Interpolation;

/// Resizes to `[z, y, x]` voxels, as PyTorch's `interpolate` does.
pub(crate) fn resize<B: Backend>(x: Tensor<B, 5>, size: [usize; 3], mode: Interpolation) -> Tensor<B, 5> {
    let device = x.device();
    let [n, c, z, y, x_len] = x.dims();
    let [to_z, to_y, to_x] = size;
    let matrix = |from, to| (from != to).then(|| weights::<B>(from, to, mode, &device));

    let mut x = x;
    if let Some(m) = matrix(x_len, to_x) {
        x = x
            .reshape([1, n * c * z * y, x_len])
            .matmul(m.swap_dims(1, 2))
            .reshape([n, c, z, y, to_x]);
    }
    if let Some(m) = matrix(y, to_y) {
        x = m.matmul(x.reshape([n * c * z, y, to_x])).reshape([n, c, z, to_y, to_x]);
    }
    if let Some(m) = matrix(z, to_z) {
        x = m
            .matmul(x.reshape([n * c, z, to_y * to_x]))
            .reshape([n, c, to_z, to_y, to_x]);
    }
    x
}

/// The matrix `[1, to, from]` that resizes one axis.
fn weights<B: Backend>(from: usize, to: usize, mode: Interpolation, device: &B::Device) -> Tensor<B, 3> {
    let mut matrix = vec![0.0; to * from];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let at = source(i, from, to, mode);
        let low = (at as usize).min(from - 1);
        let part = (at - low as f64) as f32;
        row[low] += 1.0 - part;
        row[(low + 1).min(from - 1)] += part;
    }
    Tensor::from_data(TensorData::new(matrix, [1, to, from]), device)
}

/// Where voxel `i` of the result lies between the voxels of the source.
fn source(i: usize, from: usize, to: usize, mode: Interpolation) -> f64 {
    let ratio = |i: usize, from: usize, to: usize| i as f64 * from as f64 / to as f64;
    match mode {
        Interpolation::Nearest => (i * from / to) as f64,
        Interpolation::Trilinear { align_corners: false } => {
            (from as f64 / to as f64 * (i as f64 + 0.5) - 0.5).max(0.0)
        }
        Interpolation::Trilinear { align_corners: true } if to > 1 => ratio(i, from - 1, to - 1),
        Interpolation::Trilinear { align_corners: true } => 0.0,
    }
}
