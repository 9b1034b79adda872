//! Norms, scale and shift, dropout.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use viscera_net::dropout_keeps;

/// Weight and bias, each optional, of as many values as channels or one.
pub(crate) type Affine<B> = [Option<Tensor<B, 1>>; 2];

/// x · weight + bias per channel.
pub(crate) fn affine<B: Backend>(x: Tensor<B, 5>, [weight, bias]: Affine<B>) -> Tensor<B, 5> {
    let x = match weight {
        Some(weight) => x * per_channel(weight),
        None => x,
    };
    match bias {
        Some(bias) => x + per_channel(bias),
        None => x,
    }
}

/// A vector along the channels.
pub(crate) fn per_channel<B: Backend>(values: Tensor<B, 1>) -> Tensor<B, 5> {
    let n = values.dims()[0];
    values.reshape([1, n, 1, 1, 1])
}

/// (x − mean) / sqrt(biased variance + eps) per sample and group of channels, then · weight + bias per channel. As many groups
/// as channels are instance norm.
pub(crate) fn group_norm<B: Backend>(x: Tensor<B, 5>, groups: usize, eps: f32, pair: Affine<B>) -> Tensor<B, 5> {
    let shape = x.dims();
    let [n, c, z, y, x_len] = shape;
    let flat = x.reshape([n, groups, c / groups * z * y * x_len]);
    let normalised = normalise(flat, 2, eps).0.reshape(shape);
    affine(normalised, pair)
}

/// The same per voxel, over the channels.
pub(crate) fn layer_norm<B: Backend>(x: Tensor<B, 5>, eps: f32, pair: Affine<B>) -> Tensor<B, 5> {
    affine(normalise(x, 1, eps).0, pair)
}

/// Per channel over the batch; also gives the batch's mean and unbiased variance.
pub(crate) fn batch_norm<B: Backend>(x: Tensor<B, 5>, eps: f32, pair: Affine<B>) -> (Tensor<B, 5>, [Tensor<B, 1>; 2]) {
    let [n, c, z, y, x_len] = x.dims();
    let count = n * z * y * x_len;
    let flat = x.swap_dims(0, 1).reshape([c, count]);
    let (normalised, [mean, variance]) = normalise(flat, 1, eps);
    let unbiased = count as f32 / (count as f32 - 1.0).max(1.0);
    let back = normalised.reshape([c, n, z, y, x_len]).swap_dims(0, 1);
    (
        affine(back, pair),
        [mean.reshape([c]), (variance * unbiased).reshape([c])],
    )
}

/// The same with given statistics.
pub(crate) fn batch_norm_fixed<B: Backend>(
    x: Tensor<B, 5>,
    eps: f32,
    [mean, variance]: [Tensor<B, 1>; 2],
    pair: Affine<B>,
) -> Tensor<B, 5> {
    let scale = (variance + eps).sqrt().recip();
    affine((x - per_channel(mean)) * per_channel(scale), pair)
}

/// (x − mean) / sqrt(biased variance + eps) along one axis, with mean and variance.
fn normalise<B: Backend, const D: usize>(x: Tensor<B, D>, axis: usize, eps: f32) -> (Tensor<B, D>, [Tensor<B, D>; 2]) {
    let mean = x.clone().mean_dim(axis);
    let centred = x - mean.clone();
    let variance = (centred.clone() * centred.clone()).mean_dim(axis);
    let scale = (variance.clone() + eps).sqrt().recip();
    (centred * scale, [mean, variance])
}

/// Zeroes the channels that [`dropout_keeps`] does not keep and scales the others by 1 / (1 − p); with `samples`, whole
/// samples, by the draw of their first channel.
pub(crate) fn dropout<B: Backend>(x: Tensor<B, 5>, p: f32, seed: u64, node: usize, samples: bool) -> Tensor<B, 5> {
    let [n, c, ..] = x.dims();
    let c = if samples { 1 } else { c };
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
