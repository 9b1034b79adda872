//! Description of one column of numbers.

use super::{Bootstrap, percentile};
use serde::{Deserialize, Serialize};

/// What a set of numbers looks like. All in the unit of the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// How many numbers.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Standard deviation of the sample (divisor n − 1); `None` for a single number.
    pub std: Option<f64>,
    /// Lower quartile, see [`percentile`].
    pub q1: f64,
    /// Upper quartile.
    pub q3: f64,
    /// Smallest number.
    pub min: f64,
    /// Largest number.
    pub max: f64,
    /// Bootstrap percentile interval of the mean.
    pub ci: [f64; 2],
    /// Bootstrap percentile interval of the median, from the same resamples.
    pub ci_median: [f64; 2],
}

/// Describes `values`, with bootstrap intervals as `bootstrap` says.
///
/// `None` when there are no values or one is NaN or infinite: what a missing value means is for the caller to decide,
/// and to drop it here would flatter.
#[must_use]
pub fn describe(values: &[f64], bootstrap: &Bootstrap) -> Option<Described> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let n = values.len();
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mean = mean(&sorted);
    let squares: f64 = sorted.iter().map(|v| (v - mean).powi(2)).sum();
    let resampled = bootstrap.map(n, |drawn| {
        // As often as each value was drawn; sorted without sorting.
        let mut times = vec![0usize; n];
        drawn.iter().for_each(|&i| times[i] += 1);
        let repeat = |(&value, &times)| std::iter::repeat_n(value, times);
        let sample: Vec<f64> = sorted.iter().zip(&times).flat_map(repeat).collect();
        (self::mean(&sample), percentile(&sample, 0.5))
    });
    let mut means: Vec<f64> = resampled.iter().map(|r| r.0).collect();
    let mut medians: Vec<f64> = resampled.iter().filter_map(|r| r.1).collect();
    Some(Described {
        n,
        mean,
        median: percentile(&sorted, 0.5)?,
        std: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
        q1: percentile(&sorted, 0.25)?,
        q3: percentile(&sorted, 0.75)?,
        min: *sorted.first()?,
        max: *sorted.last()?,
        ci: bootstrap.interval(&mut means)?,
        ci_median: bootstrap.interval(&mut medians)?,
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_to_describe() {
        let bootstrap = Bootstrap::default();
        assert_eq!(describe(&[], &bootstrap), None);
        assert_eq!(describe(&[1.0, f64::NAN], &bootstrap), None);
        assert_eq!(describe(&[1.0, f64::INFINITY], &bootstrap), None);
    }

    #[test]
    fn a_single_number() {
        let found = describe(&[2.5], &Bootstrap::default()).unwrap();
        assert_eq!((found.n, found.mean, found.median, found.std), (1, 2.5, 2.5, None));
        assert_eq!((found.ci, found.ci_median), ([2.5; 2], [2.5; 2]));
    }

    #[test]
    fn two_numbers_have_the_binomial_interval() {
        // The mean of a resample is 0, ½ or 1 with chances ¼, ½, ¼: 25 % and 75 % lie inside the outer steps' edges.
        let values = [0.0, 1.0];
        let wide = describe(
            &values,
            &Bootstrap {
                level: 0.8,
                ..Bootstrap::default()
            },
        )
        .unwrap();
        assert_eq!(wide.ci, [0.0, 1.0]);
        let narrow = describe(
            &values,
            &Bootstrap {
                level: 0.3,
                ..Bootstrap::default()
            },
        )
        .unwrap();
        assert_eq!(narrow.ci, [0.5, 0.5]);
    }

    proptest! {
        #[test]
        fn intervals_and_quartiles_are_ordered(values in prop::collection::vec(-1e3..1e3f64, 1..30), seed: u64) {
            let bootstrap = Bootstrap { resamples: 100, seed, ..Bootstrap::default() };
            let found = describe(&values, &bootstrap).unwrap();
            let ordered = [
                vec![found.min, found.q1, found.median, found.q3, found.max],
                vec![found.min - 1e-9, found.ci[0], found.ci[1], found.max + 1e-9],
                vec![found.min, found.ci_median[0], found.ci_median[1], found.max],
            ];
            for values in ordered {
                prop_assert!(values.is_sorted(), "{:?}", values);
            }
            let reversed: Vec<f64> = values.into_iter().rev().collect();
            prop_assert_eq!(describe(&reversed, &bootstrap), Some(found));
        }
    }
}
