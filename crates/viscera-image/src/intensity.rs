//! Intensity statistics and normalisation.
//!
//! Voxels that are not finite (NaN from broken rescaling) are left out of every statistic. Sums are taken in `f64` over
//! chunks of fixed size that are joined in order, so the same voxels give the same bits for any number of threads.

use crate::{ImageError, Intensity, Volume};
use rayon::prelude::*;
use serde::Serialize;

/// Voxels per partial sum.
const CHUNK: usize = 1 << 16;

/// Clips all voxels to `low..=high` (HU for CT). NaN stays NaN.
///
/// # Errors
/// [`ImageError::BadParameter`] when a bound is NaN or `low > high`.
pub fn window(volume: &mut Volume<f32>, low: f32, high: f32) -> Result<(), ImageError> {
    // `clamp` would panic on these.
    if low.is_nan() || high.is_nan() || low > high {
        return Err(ImageError::BadParameter {
            what: "width of the intensity window",
            value: f64::from(high) - f64::from(low),
        });
    }
    volume
        .data_mut()
        .par_chunks_mut(CHUNK)
        .for_each(|chunk| chunk.iter_mut().for_each(|v| *v = v.clamp(low, high)));
    Ok(())
}

/// Number, mean and spread of voxels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Moments {
    /// Finite voxels.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their population standard deviation (divided by the count, as NumPy's default).
    pub std: f64,
}

/// Mean and standard deviation of the finite voxels; `None` when there are none.
pub fn moments<T: Intensity>(voxels: &[T]) -> Option<Moments> {
    /// Count, mean, and sum of squared distances from that mean.
    type Partial = (usize, f64, f64);
    let partials: Vec<Partial> = voxels
        .par_chunks(CHUNK)
        .map(|chunk| {
            let values = || {
                chunk
                    .iter()
                    .map(|v| v.to_f32())
                    .filter(|v| v.is_finite())
                    .map(f64::from)
            };
            let (count, sum) = values().fold((0usize, 0.0), |(n, s), v| (n + 1, s + v));
            let mean = sum / count.max(1) as f64;
            (count, mean, values().map(|v| (v - mean) * (v - mean)).sum())
        })
        .collect();
    // Chan, Golub and LeVeque's rule for joining partial variances.
    let (count, mean, squares) = partials.into_iter().fold((0, 0.0, 0.0), |a: Partial, b| {
        if b.0 == 0 {
            return a;
        }
        let count = a.0 + b.0;
        let delta = b.1 - a.1;
        let share = b.0 as f64 / count as f64;
        (
            count,
            a.1 + delta * share,
            a.2 + b.2 + delta * delta * a.0 as f64 * share,
        )
    });
    (count > 0).then(|| Moments {
        count,
        mean,
        std: (squares / count as f64).sqrt(),
    })
}

/// Subtracts `mean` and divides by `std + epsilon`; nnU-Net and EfficientSegNet differ only in where these come from
/// (the data set, or [`moments`] of this volume) and in `epsilon`.
///
/// # Errors
/// [`ImageError::BadParameter`] when `mean` is not finite or `std + epsilon` is not positive and finite.
pub fn z_score(volume: &mut Volume<f32>, mean: f64, std: f64, epsilon: f64) -> Result<(), ImageError> {
    let divisor = std + epsilon;
    if !mean.is_finite() {
        return Err(ImageError::BadParameter {
            what: "mean",
            value: mean,
        });
    }
    if !(divisor.is_finite() && divisor > 0.0) {
        return Err(ImageError::BadParameter {
            what: "standard deviation",
            value: divisor,
        });
    }
    volume.data_mut().par_chunks_mut(CHUNK).for_each(|chunk| {
        for v in chunk {
            *v = ((f64::from(*v) - mean) / divisor) as f32;
        }
    });
    Ok(())
}

/// Percentiles (each 0 to 100) of the finite voxels, with linear interpolation between the two nearest ranks: NumPy's
/// `percentile` with its default method.
///
/// The wanted ranks are found exactly by counting, first the upper and then the lower half of each value's bits; no copy
/// of the voxels is made.
///
/// ```
/// assert_eq!(viscera_image::percentiles(&[30i16, 10, 20, 40], &[50.0, 100.0])?, [25.0, 40.0]);
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
///
/// # Errors
/// [`ImageError::BadParameter`] for a percentile outside 0 to 100; [`ImageError::NoVoxels`].
pub fn percentiles<T: Intensity>(voxels: &[T], percentiles: &[f64]) -> Result<Vec<f64>, ImageError> {
    if let Some(&value) = percentiles.iter().find(|p| !(0.0..=100.0).contains(*p)) {
        return Err(ImageError::BadParameter {
            what: "percentile",
            value,
        });
    }
    let upper = count_halves(voxels, |key| Some(((key >> 16) as usize, 0)), 1);
    let total: u64 = upper.iter().sum();
    if total == 0 {
        return Err(ImageError::NoVoxels { what: "percentiles" });
    }
    let positions: Vec<f64> = percentiles.iter().map(|p| p / 100.0 * (total - 1) as f64).collect();
    let mut ranks: Vec<u64> = positions
        .iter()
        .flat_map(|p| [p.floor() as u64, (p.floor() as u64 + 1).min(total - 1)])
        .collect();
    ranks.sort_unstable();
    ranks.dedup();

    // The upper half of each rank's key, and how many voxels lie below all keys with that half.
    let mut places: Vec<(usize, u64)> = Vec::with_capacity(ranks.len());
    let (mut half, mut below) = (0usize, 0u64);
    for &rank in &ranks {
        while below + upper[half] <= rank {
            below += upper[half];
            half += 1;
        }
        places.push((half, rank - below));
    }
    let mut halves: Vec<usize> = places.iter().map(|p| p.0).collect();
    halves.dedup();
    let mut group = vec![u32::MAX; 1 << 16];
    for (i, &h) in halves.iter().enumerate() {
        group[h] = i as u32;
    }
    let lower = count_halves(
        voxels,
        |key| {
            let g = group[(key >> 16) as usize];
            (g != u32::MAX).then_some(((key & 0xffff) as usize, g as usize))
        },
        halves.len(),
    );
    let values: Vec<f64> = places
        .iter()
        .map(|&(half, mut left)| {
            let g = group[half] as usize;
            let counts = &lower[g << 16..(g + 1) << 16];
            let mut low = 0;
            while counts[low] <= left {
                left -= counts[low];
                low += 1;
            }
            f64::from(value_of((half as u32) << 16 | low as u32))
        })
        .collect();

    let value_at = |rank: u64| values[ranks.partition_point(|&r| r < rank)];
    Ok(positions
        .iter()
        .map(|p| {
            let rank = p.floor() as u64;
            let (a, b) = (value_at(rank), value_at((rank + 1).min(total - 1)));
            let t = p - p.floor();
            // NumPy's form, exact at both ends.
            if t < 0.5 {
                a + (b - a) * t
            } else {
                b - (b - a) * (1.0 - t)
            }
        })
        .collect())
}

/// Counts finite voxels in `groups` tables of 2^16 by `(entry, table)` of their key.
fn count_halves<T: Intensity>(
    voxels: &[T],
    place: impl Fn(u32) -> Option<(usize, usize)> + Sync,
    groups: usize,
) -> Vec<u64> {
    let per_thread = voxels.len().div_ceil(rayon::current_num_threads()).max(CHUNK);
    voxels
        .par_chunks(per_thread)
        .map(|chunk| {
            let mut counts = vec![0u64; groups << 16];
            for v in chunk.iter().map(|v| v.to_f32()).filter(|v| v.is_finite()) {
                if let Some((entry, group)) = place(key_of(v)) {
                    counts[group << 16 | entry] += 1;
                }
            }
            counts
        })
        .reduce_with(|mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        })
        .unwrap_or_else(|| vec![0; groups << 16])
}

/// Maps floats to integers in the same order.
fn key_of(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The inverse of [`key_of`].
fn value_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// Counts of voxels in bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Lower edge of the first bin (HU for CT).
    pub low: f64,
    /// Upper edge of the last bin.
    pub high: f64,
    /// Voxels per bin. A bin holds its lower edge, the last bin also its upper one (as NumPy's `histogram`).
    pub counts: Vec<u64>,
    /// Voxels below `low`.
    pub below: u64,
    /// Voxels above `high`.
    pub above: u64,
    /// Voxels that are NaN or infinite.
    pub not_finite: u64,
}

/// Counts voxels in `bins` bins of equal width from `low` to `high`.
///
/// # Errors
/// [`ImageError::BadParameter`] when there is no bin, or `low < high` does not hold between finite numbers.
pub fn histogram<T: Intensity>(voxels: &[T], low: f64, high: f64, bins: usize) -> Result<Histogram, ImageError> {
    let bad = |what, value| Err(ImageError::BadParameter { what, value });
    if bins == 0 {
        return bad("number of histogram bins", 0.0);
    }
    if !((high - low).is_finite() && high > low) {
        return bad("width of the histogram", high - low);
    }
    let empty = || Histogram {
        low,
        high,
        counts: vec![0; bins],
        below: 0,
        above: 0,
        not_finite: 0,
    };
    let scale = bins as f64 / (high - low);
    let per_thread = voxels.len().div_ceil(rayon::current_num_threads()).max(CHUNK);
    let whole = voxels.par_chunks(per_thread).map(|chunk| {
        let mut part = empty();
        for v in chunk.iter().map(|v| f64::from(v.to_f32())) {
            if !v.is_finite() {
                part.not_finite += 1;
            } else if v < low {
                part.below += 1;
            } else if v > high {
                part.above += 1;
            } else {
                part.counts[(((v - low) * scale) as usize).min(bins - 1)] += 1;
            }
        }
        part
    });
    Ok(whole
        .reduce_with(|mut a, b| {
            a.counts.iter_mut().zip(b.counts).for_each(|(a, b)| *a += b);
            a.below += b.below;
            a.above += b.above;
            a.not_finite += b.not_finite;
            a
        })
        .unwrap_or_else(empty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;
    use proptest::prelude::*;

    fn row(data: Vec<f32>) -> Volume<f32> {
        Volume::new(Geometry::ras([1, 1, data.len()], [1.0; 3]), data).unwrap()
    }

    #[test]
    fn window_clips() {
        let mut v = row(vec![-2000.0, -325.0, 3.5, 400.0, f32::NAN]);
        window(&mut v, -325.0, 325.0).unwrap();
        assert_eq!(v.data()[..4], [-325.0, -325.0, 3.5, 325.0]);
        assert!(v.data()[4].is_nan());
        assert!(window(&mut v, 1.0, 0.0).is_err());
        assert!(window(&mut v, f32::NAN, 0.0).is_err());
    }

    #[test]
    fn z_score_gives_mean_0_and_std_1() {
        let mut v = row((0..100_000).map(|i| ((i * 37) % 211) as f32 + 3000.0).collect());
        let m = moments(v.data()).unwrap();
        z_score(&mut v, m.mean, m.std, 0.0).unwrap();
        let m = moments(v.data()).unwrap();
        assert!(m.mean.abs() < 1e-6 && (m.std - 1.0).abs() < 1e-6, "{m:?}");
        let mut flat = row(vec![5.0; 3]);
        assert!(z_score(&mut flat, 5.0, 0.0, 0.0).is_err());
        z_score(&mut flat, 5.0, 0.0, 1e-5).unwrap();
        assert_eq!(flat.data(), [0.0; 3]);
    }

    #[test]
    fn moments_have_the_same_bits_for_any_number_of_threads() {
        let data: Vec<f32> = (0..300_001)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-3)
            .collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let m = moments(&data).unwrap();
                (
                    m.mean.to_bits(),
                    m.std.to_bits(),
                    percentiles(&data, &[1.0, 50.0]).unwrap(),
                )
            })
        };
        assert_eq!(with(1), with(2));
        assert_eq!(with(1), with(7));
    }

    #[test]
    fn voxels_that_are_not_finite_are_left_out() {
        let data = [f32::NAN, 1.0, f32::INFINITY, 3.0, f32::NEG_INFINITY];
        let m = moments(&data).unwrap();
        assert_eq!((m.count, m.mean, m.std), (2, 2.0, 1.0));
        assert_eq!(percentiles(&data, &[0.0, 50.0, 100.0]).unwrap(), [1.0, 2.0, 3.0]);
        let h = histogram(&data, 0.0, 2.0, 2).unwrap();
        assert_eq!((h.counts, h.above, h.not_finite), (vec![0, 1], 1, 3));
        assert!(moments(&data[..1]).is_none());
        assert!(matches!(
            percentiles(&data[..1], &[50.0]),
            Err(ImageError::NoVoxels { .. })
        ));
        assert!(percentiles::<i16>(&[], &[50.0]).is_err());
    }

    #[test]
    fn impossible_requests_are_errors() {
        for p in [-0.1, 100.1, f64::NAN] {
            assert!(percentiles(&[1i16], &[p]).is_err(), "{p}");
        }
        assert!(histogram(&[1i16], 0.0, 1.0, 0).is_err());
        assert!(histogram(&[1i16], 1.0, 1.0, 3).is_err());
        assert!(histogram(&[1i16], 0.0, f64::NAN, 3).is_err());
    }

    proptest! {
        /// Ranks found by counting equal those of a sorted copy, over the whole range of floats.
        #[test]
        fn percentiles_equal_sorting(
            data in prop::collection::vec(prop_oneof![-1e30f32..1e30, -2.0f32..2.0, Just(0.0)], 1..60),
        ) {
            let mut sorted = data.clone();
            sorted.sort_by(f32::total_cmp);
            for (rank, value) in sorted.iter().enumerate() {
                let p = 100.0 * rank as f64 / (sorted.len() - 1).max(1) as f64;
                let found = percentiles(&data, &[p]).unwrap()[0];
                // The percentage itself is rounded, so the rank may be off by a few 1e-15.
                let reach = f64::from(*sorted.last().unwrap()) - f64::from(sorted[0]);
                prop_assert!((found - f64::from(*value)).abs() <= 1e-12 * reach, "{found} for {value}");
            }
        }
    }
}
