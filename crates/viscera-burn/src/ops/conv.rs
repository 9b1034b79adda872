//! Convolution, and transposed convolution whose blocks do not overlap.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::module::conv3d;
use burn::tensor::ops::ConvOptions;
use viscera_net::Conv;

/// Cross-correlation; `weight` and `bias` come flat.
pub(crate) fn conv<B: Backend>(
    x: Tensor<B, 5>,
    conv: &Conv,
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 5> {
    let [kz, ky, kx] = conv.kernel;
    let per_group = x.dims()[1] / conv.groups;
    let weight = weight.reshape([conv.out_channels, per_group, kz, ky, kx]);
    let options = ConvOptions::new(conv.stride, conv.padding, conv.dilation, conv.groups);
    conv3d(x, weight, bias, options)
}

/// Transposed convolution with kernel = stride, as one matrix product and a change of layout: every output voxel has
/// exactly one input voxel.
pub(crate) fn conv_transpose<B: Backend>(
    x: Tensor<B, 5>,
    out: usize,
    kernel: [usize; 3],
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 5> {
    let [n, c, z, y, x_len] = x.dims();
    let [kz, ky, kx] = kernel;
    let weight = weight.reshape([1, c, out * kz * ky * kx]).swap_dims(1, 2);
    let blocks = weight.matmul(x.reshape([n, c, z * y * x_len]));
    let spread = blocks
        .reshape([n, out, kz, ky, kx, z, y, x_len])
        .permute([0, 1, 5, 2, 6, 3, 7, 4])
        .reshape([n, out, z * kz, y * ky, x_len * kx]);
    match bias {
        Some(bias) => spread + bias.reshape([1, out, 1, 1, 1]),
        None => spread,
    }
}
