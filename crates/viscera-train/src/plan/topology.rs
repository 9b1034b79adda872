//! How often each axis is halved, and which kernels a level has.

/// Least extent of the coarsest level.
const LEAST_EDGE: f64 = 4.0;

/// Levels of a network, and the patch that suits them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Topology {
    /// The size that was asked for, rounded up to a multiple of `divisor`.
    pub(super) patch: [usize; 3],
    /// Step from the level above; the finest level's is 1.
    pub(super) strides: Vec<[usize; 3]>,
    pub(super) kernels: Vec<[usize; 3]>,
    /// Product of the strides.
    pub(super) divisor: [usize; 3],
}

/// nnU-Net's rule: halve, level by level, the axes whose spacing is within a factor of two of the finest, while they have
/// room; a kernel is 1 along axes that are still much coarser.
pub(super) fn topology(spacing: [f64; 3], size: [f64; 3]) -> Topology {
    let (mut now, mut left) = (spacing, size);
    let mut kernel = [1; 3];
    let mut divisor = [1usize; 3];
    let (mut strides, mut kernels) = (vec![[1; 3]], Vec::new());
    loop {
        let mut axes: Vec<usize> = (0..3).filter(|&a| left[a] >= 2.0 * LEAST_EDGE).collect();
        let finest = axes.iter().map(|&a| now[a]).fold(f64::INFINITY, f64::min);
        axes.retain(|&a| now[a] / finest < 2.0);
        // A single axis is halved only where it has some more room.
        if axes.is_empty() || matches!(axes[..], [a] if left[a] < 3.0 * LEAST_EDGE) {
            break;
        }
        let finest = now.iter().copied().fold(f64::INFINITY, f64::min);
        for a in 0..3 {
            if now[a] / finest < 2.0 {
                kernel[a] = 3;
            }
        }
        let mut stride = [1; 3];
        for a in axes {
            stride[a] = 2;
            divisor[a] *= 2;
            now[a] *= 2.0;
            left[a] = (left[a] / 2.0).ceil();
        }
        strides.push(stride);
        kernels.push(kernel);
    }
    kernels.push([3; 3]);
    let patch = std::array::from_fn(|a| {
        let step = divisor[a] as f64;
        ((size[a] / step).ceil() * step) as usize
    });
    Topology {
        patch,
        strides,
        kernels,
        divisor,
    }
}
