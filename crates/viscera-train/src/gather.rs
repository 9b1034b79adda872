//! The one resampling between cache and network: trilinear for HU, nearest for labels, at the same points.

use crate::StageCase;
use crate::augment::Placement;
use rayon::prelude::*;

/// Rounding that still counts as inside, in voxels.
const SLACK: f64 = 1e-3;

/// Samples a case's HU, clipped to `clip` before they are interpolated, and its stage's labels on a grid of `size` voxels.
///
/// Points outside what is visible become `outside` without label.
pub(crate) fn gather(
    case: &StageCase,
    place: &Placement,
    size: [usize; 3],
    [low_hu, high_hu]: [f32; 2],
    outside: f32,
) -> (Vec<f32>, Vec<u8>) {
    let [_, ny, nx] = size;
    let shape = case.case.geometry().shape;
    let top = shape.map(|n| (n - 1) as f32);
    let low: [f32; 3] = std::array::from_fn(|a| (place.visible[a][0] - SLACK) as f32);
    let high: [f32; 3] = std::array::from_fn(|a| (place.visible[a][1] + SLACK) as f32);
    // Where a step to the next voxel leads in the data; none beyond an axis of one voxel.
    let strides = [shape[1] * shape[2], shape[2], 1];
    let most: [usize; 3] = shape.map(|n| n.saturating_sub(2));
    let next: [usize; 3] = std::array::from_fn(|a| if shape[a] > 1 { strides[a] } else { 0 });
    let (hu, labels) = (case.case.hu(), case.case.labels(case.organs));
    let value = |i: usize| f32::from(hu[i]).clamp(low_hu, high_hu);
    let step: [f32; 3] = place.steps[2].map(|s| s as f32);

    let mut out = vec![outside; size.iter().product()];
    let mut out_labels = vec![0u8; out.len()];
    out.par_chunks_mut(nx)
        .zip(out_labels.par_chunks_mut(nx))
        .enumerate()
        .with_min_len(16)
        .for_each_init(Vec::new, |shifts, (row, (out, out_labels))| {
            let (z, y) = (row / ny, row % ny);
            let start: [f32; 3] = std::array::from_fn(|b| {
                (place.origin[b] + z as f64 * place.steps[0][b] + y as f64 * place.steps[1][b]) as f32
            });
            match &place.lattice {
                Some(lattice) => lattice.row(z, y, shifts),
                None => shifts.resize(nx, [0.0; 3]),
            }
            for (x, ((out, label), shift)) in out.iter_mut().zip(out_labels).zip(&*shifts).enumerate() {
                let mut at = [0usize; 3];
                let mut weight = [0.0f32; 3];
                let mut nearest = 0;
                let mut inside = true;
                for a in 0..3 {
                    let c = start[a] + x as f32 * step[a] + shift[a];
                    inside &= c >= low[a] && c <= high[a];
                    let c = c.clamp(0.0, top[a]);
                    at[a] = (c as usize).min(most[a]);
                    weight[a] = c - at[a] as f32;
                    nearest += (c + 0.5) as usize * strides[a];
                }
                if !inside {
                    continue;
                }
                let corner = at[0] * strides[0] + at[1] * strides[1] + at[2];
                let pair = |i: usize| {
                    let (a, b) = (value(i), value(i + next[2]));
                    a + weight[2] * (b - a)
                };
                let plane = |i: usize| {
                    let (a, b) = (pair(i), pair(i + next[1]));
                    a + weight[1] * (b - a)
                };
                let (a, b) = (plane(corner), plane(corner + next[0]));
                *out = a + weight[0] * (b - a);
                *label = case.ids[usize::from(labels[nearest])];
            }
        });
    (out, out_labels)
}
