//! Pooling in three dimensions: over (y, x), then over z. Maximum and mean both separate.
//!
//! Where several values of a window are the largest, the gradient goes to the first in (z, y, x) order, as in PyTorch:
//! each of the two steps takes the first, hence so does their chain.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use viscera_net::PoolKind;

/// Pooling with floor rounding; `kernel`, `stride` and `padding` are `[z, y, x]`.
pub(crate) fn pool<B: Backend>(
    x: Tensor<B, 5>,
    kind: PoolKind,
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
) -> Tensor<B, 5> {
    let [n, c, z, y, x_len] = x.dims();
    let planes = x.reshape([n * c, z, y, x_len]);
    let planes = pool_2d(
        planes,
        kind,
        [kernel[1], kernel[2]],
        [stride[1], stride[2]],
        [padding[1], padding[2]],
    );
    let [_, _, y, x_len] = planes.dims();
    let columns = planes.reshape([n * c, 1, z, y * x_len]);
    let columns = pool_2d(columns, kind, [kernel[0], 1], [stride[0], 1], [padding[0], 0]);
    let z = columns.dims()[2];
    columns.reshape([n, c, z, y, x_len])
}

fn pool_2d<B: Backend>(
    x: Tensor<B, 4>,
    kind: PoolKind,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<B, 4> {
    if kernel == [1, 1] && stride == [1, 1] {
        return x;
    }
    match kind {
        PoolKind::Max => max_pool2d(x, kernel, stride, padding, [1, 1], false),
        PoolKind::Average => avg_pool2d(x, kernel, stride, padding, true, false),
    }
}

/// Mean over whole axes of `[z, y, x]`, which become 1 long.
pub(crate) fn axis_mean<B: Backend>(mut x: Tensor<B, 5>, axes: [bool; 3]) -> Tensor<B, 5> {
    for axis in (0..3).rev().filter(|&a| axes[a]) {
        x = x.mean_dim(axis + 2);
    }
    x
}
