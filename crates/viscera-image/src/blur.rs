//! Gaussian blur along one axis.

use rayon::prelude::*;

/// Blurs `data` (in (z, y, x) order) along one axis with a Gaussian of `sigma` voxels, cut at 2.6 of it; the border repeats.
/// Less than 0.15 voxels changes nothing. The same bits on any number of threads.
pub(crate) fn blur(data: &mut [f32], shape: [usize; 3], axis: usize, sigma: f32) {
    if sigma < 0.15 || shape[axis] < 2 {
        return;
    }
    let reach = (2.6 * sigma).ceil() as usize;
    let weights: Vec<f32> = (0..=2 * reach)
        .map(|k| (-0.5 * ((k as f32 - reach as f32) / sigma).powi(2)).exp())
        .collect();
    let total: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|w| w / total).collect();
    let [nz, ny, nx] = shape;
    // Every output is the weighted sum of inputs in rising order, a row of outputs at a time.
    let add = |out: &mut [f32], source: &[f32], weight: f32| {
        out.iter_mut().zip(source).for_each(|(o, s)| *o += weight * s);
    };
    let across = |out: &mut [f32], source: &[f32], stride: usize, count: usize, at: usize, offset: usize| {
        out.fill(0.0);
        for (k, &weight) in weights.iter().enumerate() {
            let from = (at + k).saturating_sub(reach).min(count - 1) * stride + offset;
            add(out, &source[from..from + nx], weight);
        }
    };
    match axis {
        2 => data.par_chunks_mut(nx).for_each_init(
            || vec![0f32; nx + 2 * reach],
            |padded, row| {
                padded[..reach].fill(row[0]);
                padded[reach..reach + nx].copy_from_slice(row);
                padded[reach + nx..].fill(row[nx - 1]);
                row.fill(0.0);
                for (k, &weight) in weights.iter().enumerate() {
                    add(row, &padded[k..k + nx], weight);
                }
            },
        ),
        1 => data.par_chunks_mut(ny * nx).for_each_init(
            || vec![0f32; ny * nx],
            |source, slice| {
                source.copy_from_slice(slice);
                let rows = slice.chunks_exact_mut(nx).enumerate();
                rows.for_each(|(y, row)| across(row, source, nx, ny, y, 0));
            },
        ),
        _ => {
            let source = data.to_vec();
            let rows = data.par_chunks_mut(nx).enumerate();
            rows.for_each(|(at, row)| across(row, &source, ny * nx, nz, at / ny, at % ny * nx));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_sum_and_is_alike_on_all_axes() {
        let shape = [9, 9, 9];
        let mut results = Vec::new();
        for axis in 0..3 {
            let mut data = vec![0f32; 729];
            data[364] = 1.0;
            blur(&mut data, shape, axis, 1.0);
            assert!((data.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            let stride = [81, 9, 1][axis];
            results.push(
                (-3..=3)
                    .map(|k: isize| data[(364 + k * stride) as usize])
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(results[0], results[1]);
        assert_eq!(results[1], results[2]);
    }

    /// Against the definition, on lines shorter than the Gaussian reaches and on longer ones.
    #[test]
    fn the_border_repeats() {
        for shape in [[2, 3, 11], [7, 1, 2], [3, 8, 1], [1, 2, 5]] {
            let [_, ny, nx] = shape;
            let source: Vec<f32> = (0..shape.iter().product())
                .map(|i: usize| (i * 37 % 11) as f32)
                .collect();
            for axis in 0..3 {
                let mut data = source.clone();
                blur(&mut data, shape, axis, 1.3);
                let weight = |k: isize| (-0.5 * (k as f64 / 1.3).powi(2)).exp();
                let total: f64 = (-4..=4).map(weight).sum();
                let (stride, last) = ([ny * nx, nx, 1][axis], shape[axis] as isize - 1);
                for (i, found) in data.iter().enumerate() {
                    let at = i / stride % shape[axis];
                    let tap = |k: isize| {
                        let from = (at as isize + k).clamp(0, last) as usize;
                        weight(k) / total * f64::from(source[i + from * stride - at * stride])
                    };
                    let wanted: f64 = (-4..=4).map(tap).sum();
                    assert!(
                        (f64::from(*found) - wanted).abs() < 1e-5 || last == 0,
                        "{shape:?} {axis} {i}"
                    );
                }
            }
        }
    }
}
