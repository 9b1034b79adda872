//! Pooling over windows and over whole axes, forward and backward. Backward gathers, so that its order is fixed.

use super::conv::Window;
use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, LANES, Lane};
use viscera_net::PoolKind;

/// The range of outputs whose window covers input index `i` along one axis.
fn covering(i: usize, kernel: usize, stride: usize, padding: usize, outputs: usize) -> std::ops::Range<usize> {
    let first = (i + padding + 1).saturating_sub(kernel).div_ceil(stride);
    first..((i + padding) / stride + 1).min(outputs)
}

/// The taps of output `o` along one axis that fall inside the input.
fn inside(o: usize, kernel: usize, stride: usize, padding: usize, extent: usize) -> std::ops::Range<usize> {
    let start = o * stride;
    padding.saturating_sub(start)..kernel.min((extent + padding).saturating_sub(start))
}

/// y = maximum or mean over each window. Padding never wins a maximum; the mean divides by the whole window.
pub(crate) fn forward<E: Element>(isa: Isa, kind: PoolKind, window: &Window, x: &Blocked<E>, y: &mut Blocked<E>) {
    let extent = x.dims.extent;
    let Window {
        kernel,
        stride,
        padding,
        ..
    } = *window;
    let share = 1.0 / kernel.iter().product::<usize>() as f32;
    y.fill_lanes(isa, |sample, block, oz, oy, row| {
        let start = match kind {
            PoolKind::Max => Lane([f32::NEG_INFINITY; LANES]),
            PoolKind::Average => Lane::ZERO,
        };
        row.fill(start);
        for kz in inside(oz, kernel[0], stride[0], padding[0], extent[0]) {
            for ky in inside(oy, kernel[1], stride[1], padding[1], extent[1]) {
                let source = x.lanes(
                    isa,
                    sample,
                    block,
                    oz * stride[0] + kz - padding[0],
                    oy * stride[1] + ky - padding[1],
                );
                for (ox, y) in row.iter_mut().enumerate() {
                    for kx in inside(ox, kernel[2], stride[2], padding[2], extent[2]) {
                        let x = &source[ox * stride[2] + kx - padding[2]];
                        match kind {
                            PoolKind::Max => {
                                for i in 0..LANES {
                                    y.0[i] = if x.0[i] > y.0[i] { x.0[i] } else { y.0[i] };
                                }
                            }
                            PoolKind::Average => y.add_scaled(share, x),
                        }
                    }
                }
            }
        }
    });
}

/// Gradient of the input. The maximum's goes to the first voxel of a window, in (z, y, x) order, that holds it.
pub(crate) fn backward(kind: PoolKind, window: &Window, x: &Blocked, y: &Blocked, dy: &Blocked, dx: &mut Blocked) {
    let Window {
        kernel,
        stride,
        padding,
        ..
    } = *window;
    let extent = x.dims.extent;
    let outputs = y.dims.extent;
    let share = 1.0 / kernel.iter().product::<usize>() as f32;
    dx.fill_rows(|sample, block, iz, iy, row| {
        row.fill(Lane::ZERO);
        let values = x.row(sample, block, iz, iy);
        for oz in covering(iz, kernel[0], stride[0], padding[0], outputs[0]) {
            for oy in covering(iy, kernel[1], stride[1], padding[1], outputs[1]) {
                let (best, gradient) = (y.row(sample, block, oz, oy), dy.row(sample, block, oz, oy));
                for (ix, dx) in row.iter_mut().enumerate() {
                    for ox in covering(ix, kernel[2], stride[2], padding[2], outputs[2]) {
                        match kind {
                            PoolKind::Average => dx.add_scaled(share, &gradient[ox]),
                            PoolKind::Max => {
                                let ties: [bool; LANES] = std::array::from_fn(|i| values[ix].0[i] == best[ox].0[i]);
                                if !ties.contains(&true) {
                                    continue;
                                }
                                let earlier = earlier_ties(
                                    window,
                                    x,
                                    [sample, block],
                                    [oz, oy, ox],
                                    [iz, iy, ix],
                                    &best[ox],
                                    extent,
                                );
                                for i in 0..LANES {
                                    if ties[i] && !earlier[i] {
                                        dx.0[i] += gradient[ox].0[i];
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    });
}

/// Which lanes hold the window's maximum at a voxel before `voxel`.
fn earlier_ties(
    window: &Window,
    x: &Blocked,
    [sample, block]: [usize; 2],
    output: [usize; 3],
    voxel: [usize; 3],
    best: &Lane,
    extent: [usize; 3],
) -> [bool; LANES] {
    let mut earlier = [false; LANES];
    let taps = |a: usize| {
        inside(
            output[a],
            window.kernel[a],
            window.stride[a],
            window.padding[a],
            extent[a],
        )
    };
    let place = |a: usize, k: usize| output[a] * window.stride[a] + k - window.padding[a];
    for z in taps(0).map(|k| place(0, k)).take_while(|&z| z <= voxel[0]) {
        for y in taps(1)
            .map(|k| place(1, k))
            .take_while(|&y| (z, y) <= (voxel[0], voxel[1]))
        {
            let row = x.row(sample, block, z, y);
            for v in taps(2)
                .map(|k| place(2, k))
                .take_while(|&v| (z, y, v) < (voxel[0], voxel[1], voxel[2]))
            {
                for i in 0..LANES {
                    earlier[i] |= row[v].0[i] == best.0[i];
                }
            }
        }
    }
    earlier
}

/// y = mean over the whole extent of the chosen axes.
pub(crate) fn axis_mean<E: Element>(isa: Isa, axes: [bool; 3], x: &Blocked<E>, y: &mut Blocked<E>) {
    let extent = x.dims.extent;
    let count: usize = (0..3).filter(|&a| axes[a]).map(|a| extent[a]).product();
    let range = |a: usize, o: usize| if axes[a] { 0..extent[a] } else { o..o + 1 };
    y.fill_lanes(isa, |sample, block, oz, oy, row| {
        let mut sums = vec![[0.0f64; LANES]; row.len()];
        for z in range(0, oz) {
            for yy in range(1, oy) {
                let source = x.lanes(isa, sample, block, z, yy);
                for (ox, sum) in sums.iter_mut().enumerate() {
                    for lane in &source[range(2, ox)] {
                        for i in 0..LANES {
                            sum[i] += f64::from(lane.0[i]);
                        }
                    }
                }
            }
        }
        for (y, sum) in row.iter_mut().zip(sums) {
            *y = Lane(sum.map(|s| (s / count as f64) as f32));
        }
    });
}

/// Gradient of the input of [`axis_mean`]: each voxel gets its share.
pub(crate) fn axis_mean_backward(axes: [bool; 3], dy: &Blocked, dx: &mut Blocked) {
    let extent = dx.dims.extent;
    let share = 1.0 / (0..3).filter(|&a| axes[a]).map(|a| extent[a]).product::<usize>() as f32;
    let place = |a: usize, i: usize| if axes[a] { 0 } else { i };
    dx.fill_rows(|sample, block, z, y, row| {
        let source = dy.row(sample, block, place(0, z), place(1, y));
        for (x, dx) in row.iter_mut().enumerate() {
            *dx = Lane(source[place(2, x)].0.map(|v| v * share));
        }
    });
}
