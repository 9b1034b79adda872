//! Instance norm and channel dropout.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use viscera_net::dropout_keeps;

/// (x − mean) / sqrt(biased variance + eps) per sample and channel, then · weight + bias.
pub(crate) fn instance_norm<B: Backend>(
    x: Tensor<B, 5>,
    eps: f32,
    affine: Option<(Tensor<B, 1>, Tensor<B, 1>)>,
) -> Tensor<B, 5> {
    let shape = x.dims();
    let [n, c, z, y, x_len] = shape;
    let flat = x.reshape([n, c, z * y * x_len]);
    let mean = flat.clone().mean_dim(2);
    let centred = flat - mean;
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let mut scale = (variance + eps).sqrt().recip();
    let Some((weight, bias)) = affine else {
        return (centred * scale).reshape(shape);
    };
    scale = scale * weight.reshape([1, c, 1]);
    (centred * scale + bias.reshape([1, c, 1])).reshape(shape)
}

/// Zeroes the channels that [`dropout_keeps`] does not keep and scales the others by 1 / (1 − p).
pub(crate) fn dropout<B: Backend>(x: Tensor<B, 5>, p: f32, seed: u64, node: usize) -> Tensor<B, 5> {
    let [n, c, ..] = x.dims();
    let kept = 1.0 / (1.0 - p);
    let mask: Vec<f32> = (0..n * c)
        .map(|i| {
            if dropout_keeps(seed, node, i / c, i % c, p) {
                kept
            } else {
                0.0
            }
        })
        .collect();
    let mask = Tensor::from_data(TensorData::new(mask, [n, c, 1, 1, 1]), &x.device());
    x * mask
}
