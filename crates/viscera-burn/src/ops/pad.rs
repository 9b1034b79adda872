//! Zeros around the voxels, or voxels taken away; voxels rolled around.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Output voxel `o` is input voxel `o − before`, zero where there is none.
pub(crate) fn pad<B: Backend>(mut x: Tensor<B, 5>, before: [isize; 3], after: [isize; 3]) -> Tensor<B, 5> {
    for axis in 0..3 {
        let dim = axis + 2;
        let removed = |n: isize| n.min(0).unsigned_abs();
        let (first, last) = (removed(before[axis]), removed(after[axis]));
        if first + last > 0 {
            let left = x.dims()[dim] - first - last;
            x = x.narrow(dim, first, left);
        }
        let zeros = |x: &Tensor<B, 5>, n: isize| {
            let mut shape = x.dims();
            shape[dim] = n.max(0).unsigned_abs();
            (shape[dim] > 0).then(|| Tensor::zeros(shape, &x.device()))
        };
        let parts = [zeros(&x, before[axis]), Some(x.clone()), zeros(&x, after[axis])];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.len() > 1 {
            x = Tensor::cat(parts, dim);
        }
    }
    x
}

/// Voxel `o` is voxel `(o + shift) mod n` of the input; each shift is less than n.
pub(crate) fn roll_back<B: Backend>(mut x: Tensor<B, 5>, shift: [usize; 3]) -> Tensor<B, 5> {
    for (axis, &shift) in shift.iter().enumerate().filter(|(_, shift)| **shift > 0) {
        let dim = axis + 2;
        let n = x.dims()[dim];
        x = Tensor::cat(
            vec![x.clone().narrow(dim, shift, n - shift), x.narrow(dim, 0, shift)],
            dim,
        );
    }
    x
}
