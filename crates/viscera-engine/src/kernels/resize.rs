//! Resize to the nearest voxel or trilinearly by either convention, forward and backward.

use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, Lane};
use viscera_net::Interpolation;

/// For each output index along one axis, its two source indices and the weight of the second.
type Axis = Vec<(usize, usize, f32)>;

/// PyTorch's `interpolate`: corner voxels coincide, or half-pixel centres clamped at the edge, or the voxel below.
fn axis(from: usize, to: usize, mode: Interpolation) -> Axis {
    (0..to)
        .map(|o| {
            let place = match mode {
                Interpolation::Nearest => (o * from / to) as f64,
                Interpolation::Trilinear { align_corners: true } if to > 1 => {
                    o as f64 * (from - 1) as f64 / (to - 1) as f64
                }
                Interpolation::Trilinear { align_corners: true } => 0.0,
                Interpolation::Trilinear { align_corners: false } => {
                    ((o as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0)
                }
            };
            let first = (place as usize).min(from - 1);
            (first, (first + 1).min(from - 1), (place - first as f64) as f32)
        })
        .collect()
}

/// For each source index, the outputs that read it and their weights.
fn transposed(axis: &Axis, from: usize) -> Vec<Vec<(usize, f32)>> {
    let mut readers = vec![Vec::new(); from];
    for (o, &(first, second, weight)) in axis.iter().enumerate() {
        readers[first].push((o, 1.0 - weight));
        readers[second].push((o, weight));
    }
    for readers in &mut readers {
        readers.retain(|r| r.1 != 0.0);
    }
    readers
}

fn axes(from: [usize; 3], to: [usize; 3], mode: Interpolation) -> [Axis; 3] {
    std::array::from_fn(|a| axis(from[a], to[a], mode))
}

/// y = x resized to the extent of `y`.
pub(crate) fn forward<E: Element>(isa: Isa, mode: Interpolation, x: &Blocked<E>, y: &mut Blocked<E>) {
    let [az, ay, ax] = axes(x.dims.extent, y.dims.extent, mode);
    let width = x.dims.extent[2];
    y.fill_lanes(isa, |sample, block, oz, oy, row| {
        let (z0, z1, wz) = az[oz];
        let (y0, y1, wy) = ay[oy];
        let mut blend = vec![Lane::ZERO; width];
        for (z, y, weight) in [
            (z0, y0, (1.0 - wz) * (1.0 - wy)),
            (z0, y1, (1.0 - wz) * wy),
            (z1, y0, wz * (1.0 - wy)),
            (z1, y1, wz * wy),
        ] {
            if weight != 0.0 {
                for (sum, value) in blend.iter_mut().zip(x.lanes(isa, sample, block, z, y).iter()) {
                    sum.add_scaled(weight, value);
                }
            }
        }
        for (y, &(first, second, weight)) in row.iter_mut().zip(&ax) {
            let mut value = Lane::ZERO;
            value.add_scaled(1.0 - weight, &blend[first]);
            value.add_scaled(weight, &blend[second]);
            *y = value;
        }
    });
}

/// Gradient of the input.
pub(crate) fn backward(mode: Interpolation, dy: &Blocked, dx: &mut Blocked) {
    let from = dx.dims.extent;
    let axes = axes(from, dy.dims.extent, mode);
    let [tz, ty, tx]: [Vec<Vec<(usize, f32)>>; 3] = std::array::from_fn(|a| transposed(&axes[a], from[a]));
    let width = dy.dims.extent[2];
    dx.fill_rows(|sample, block, z, y, row| {
        let mut blend = vec![Lane::ZERO; width];
        for &(oz, wz) in &tz[z] {
            for &(oy, wy) in &ty[y] {
                for (sum, value) in blend.iter_mut().zip(dy.row(sample, block, oz, oy)) {
                    sum.add_scaled(wz * wy, value);
                }
            }
        }
        for (dx, readers) in row.iter_mut().zip(&tx) {
            let mut sum = Lane::ZERO;
            for &(o, weight) in readers {
                sum.add_scaled(weight, &blend[o]);
            }
            *dx = sum;
        }
    });
}
