//! Order statistics: percentiles, ranks, rank correlation.

use std::cmp::Ordering;

/// The quantile `q` (0 to 1, clamped) of values that are already sorted upwards; `None` when there are none or `q` is
/// NaN.
///
/// Linear between the two nearest values, as `numpy.percentile` by default (type 7 of Hyndman and Fan, *The American
/// Statistician* 50(4), 1996).
#[must_use]
pub fn percentile(sorted: &[f64], q: f64) -> Option<f64> {
    if q.is_nan() {
        return None;
    }
    let at = q.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (low, t) = (at.floor(), at.fract());
    let a = *sorted.get(low as usize)?;
    let b = sorted.get(low as usize + 1).copied().unwrap_or(a);
    // Two forms, as in NumPy, so that the result is exact at both ends.
    Some(if t < 0.5 {
        a + (b - a) * t
    } else {
        b - (b - a) * (1.0 - t)
    })
}

/// The rank of each value, 1 for the smallest; equal values share the mean of their places
/// (`scipy.stats.rankdata(method="average")`). NaN comes after all numbers.
#[must_use]
pub fn mean_ranks(values: &[f64]) -> Vec<f64> {
    // Adding zero turns -0 to 0, which `total_cmp` would set apart.
    mean_ranks_by(values, |a, b| (a + 0.0).total_cmp(&(b + 0.0)))
}

/// The rank of each item by an order, 1 for the first; equal items share the mean of their places.
pub(super) fn mean_ranks_by<T>(items: &[T], order: impl Fn(&T, &T) -> Ordering) -> Vec<f64> {
    let mut by_size: Vec<usize> = (0..items.len()).collect();
    by_size.sort_by(|&a, &b| order(&items[a], &items[b]));
    let mut ranks = vec![0.0; items.len()];
    let mut before = 0;
    for equal in by_size.chunk_by(|&a, &b| order(&items[a], &items[b]).is_eq()) {
        let rank = before as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&i| ranks[i] = rank);
        before += equal.len();
    }
    ranks
}

/// Kendall's rank correlation τ-b, −1 to 1, corrected for ties (Kendall, *Biometrika* 33(3), 1945), as
/// `scipy.stats.kendalltau`.
///
/// `None` when the lengths differ, a value is NaN, or all values of one side are equal. Takes quadratic time.
#[must_use]
pub fn kendall_tau_b(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let (mut score, mut pairs_a, mut pairs_b) = (0i64, 0u64, 0u64);
    for i in 0..a.len() {
        for j in 0..i {
            let (in_a, in_b) = (a[i].partial_cmp(&a[j])? as i64, b[i].partial_cmp(&b[j])? as i64);
            score += in_a * in_b;
            pairs_a += in_a.unsigned_abs();
            pairs_b += in_b.unsigned_abs();
        }
    }
    (pairs_a > 0 && pairs_b > 0).then(|| score as f64 / (pairs_a as f64 * pairs_b as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_by_hand() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[1.0], f64::NAN), None);
        assert_eq!(percentile(&[3.0], 0.9), Some(3.0));
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(percentile(&[1.0, 2.0], -1.0), Some(1.0));
        assert_eq!(percentile(&[1.0, 2.0], 2.0), Some(2.0));
    }

    #[test]
    fn ranks_by_hand() {
        assert_eq!(mean_ranks(&[3.0, 1.0, 3.0, 0.0, -0.0]), [4.5, 3.0, 4.5, 1.5, 1.5]);
        assert_eq!(mean_ranks(&[f64::NAN, f64::INFINITY, 5.0]), [3.0, 2.0, 1.0]);
    }

    #[test]
    fn tau_without_meaning_is_none() {
        assert_eq!(kendall_tau_b(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(kendall_tau_b(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(kendall_tau_b(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(kendall_tau_b(&[], &[]), None);
        assert_eq!(kendall_tau_b(&[1.0, 2.0, 3.0], &[6.0, 5.0, 4.0]), Some(-1.0));
    }

    proptest! {
        #[test]
        fn ranks_sum_up_and_keep_the_order(values in prop::collection::vec(-3i8..3, 0..20)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let ranks = mean_ranks(&values);
            let n = values.len() as f64;
            prop_assert_eq!(ranks.iter().sum::<f64>(), n * (n + 1.0) / 2.0);
            for i in 0..values.len() {
                for j in 0..values.len() {
                    prop_assert_eq!(values[i].partial_cmp(&values[j]), ranks[i].partial_cmp(&ranks[j]));
                }
            }
        }
    }
}
