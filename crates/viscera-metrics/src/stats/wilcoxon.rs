//! Wilcoxon's signed-rank test.

use super::{mean_ranks, percentile};
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, SQRT_2};

/// Up to this many pairs the exact distribution is used when there are neither ties nor zeros.
const EXACT_WITHOUT_TIES: usize = 50;
/// Up to this many pairs it is used in any case.
const EXACT_WITH_TIES: usize = 13;

/// What happens to pairs with equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroMethod {
    /// They are dropped before ranking, as Wilcoxon did.
    #[default]
    Wilcox,
    /// They are ranked and then dropped (Pratt, *JASA* 54, 1959).
    Pratt,
}

/// Result of [`wilcoxon_signed_rank`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wilcoxon {
    /// Number of pairs, equal ones included.
    pub n: usize,
    /// Number of pairs with equal values.
    pub zeros: usize,
    /// The smaller one of the rank sums of positive and of negative differences.
    pub statistic: f64,
    /// Two-sided p value.
    pub p: f64,
    /// Whether `p` comes from the exact distribution, not from the normal approximation.
    pub exact: bool,
    /// Median of the differences `a − b`, zeros included.
    pub median_difference: f64,
}

/// Two-sided signed-rank test that the differences `a[i] − b[i]` are symmetric about zero (Wilcoxon, *Biometrics
/// Bulletin* 1(6), 1945).
///
/// As `scipy.stats.wilcoxon(a, b, zero_method, correction=False, method="auto")` of SciPy 1.17: the exact
/// distribution for up to 50 pairs without ties and zeros, and for up to 13 with them; else the normal approximation
/// with correction for ties, without one for continuity. One thing differs: where all differences are 0, SciPy gives
/// NaN above 13 pairs, this function p = 1 always.
///
/// `None` when the lengths differ, there are no pairs, or a difference is NaN or infinite.
#[must_use]
pub fn wilcoxon_signed_rank(a: &[f64], b: &[f64], zero: ZeroMethod) -> Option<Wilcoxon> {
    if a.len() != b.len() || a.is_empty() {
        return None;
    }
    let mut differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    if differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    differences.sort_by(f64::total_cmp);
    let n = differences.len();
    let zeros = differences.iter().filter(|&&d| d == 0.0).count();
    let median_difference = percentile(&differences, 0.5)?;
    if zero == ZeroMethod::Wilcox {
        differences.retain(|&d| d != 0.0);
    }
    let sizes: Vec<f64> = differences.iter().map(|d| d.abs()).collect();
    let ranks = mean_ranks(&sizes);
    let rank_sum = |sign: f64| -> f64 {
        let signed = differences.iter().zip(&ranks).filter(|(d, _)| **d * sign > 0.0);
        signed.map(|(_, rank)| rank).sum()
    };
    let (positive, negative) = (rank_sum(1.0), rank_sum(-1.0));
    let statistic = positive.min(negative);
    let nonzero: Vec<f64> = differences
        .iter()
        .zip(&ranks)
        .filter(|(d, _)| **d != 0.0)
        .map(|(_, &rank)| rank)
        .collect();
    let ties = tie_sizes(&nonzero);
    let clean = zeros == 0 && ties.iter().all(|&t| t == 1);
    let exact = n <= EXACT_WITH_TIES || (clean && n <= EXACT_WITHOUT_TIES) || nonzero.is_empty();
    let p = if exact {
        exact_p(&nonzero, statistic)
    } else {
        // The variance of the rank sum is the sum of the squared ranks over 4, which is Cureton's formula (JASA 62,
        // 1967) with the corrections for ties and for Pratt's zeros in it.
        let expected = nonzero.iter().sum::<f64>() / 2.0;
        let variance = nonzero.iter().map(|rank| rank * rank).sum::<f64>() / 4.0;
        erfc((expected - statistic) / variance.sqrt() / SQRT_2)
    };
    Some(Wilcoxon {
        n,
        zeros,
        statistic,
        p,
        exact,
        median_difference,
    })
}

/// How many ranks are equal, for each distinct rank.
fn tie_sizes(ranks: &[f64]) -> Vec<usize> {
    let mut sorted = ranks.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).map(<[f64]>::len).collect()
}

/// Twice the chance that the ranks with random signs have a positive sum of at most `statistic`; at most 1.
///
/// Counts all 2ⁿ choices of signs by dynamic programming over the doubled rank sum, which is whole even with ties.
fn exact_p(ranks: &[f64], statistic: f64) -> f64 {
    let doubled: Vec<usize> = ranks.iter().map(|rank| (2.0 * rank) as usize).collect();
    let mut chances = vec![0.0; doubled.iter().sum::<usize>() + 1];
    chances[0] = 1.0;
    let mut reached = 0;
    for rank in doubled {
        reached += rank;
        for sum in (0..=reached).rev() {
            let without = chances[sum];
            let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
            chances[sum] = (without + with) / 2.0;
        }
    }
    let tail: f64 = chances.iter().take((2.0 * statistic) as usize + 1).sum();
    (2.0 * tail).min(1.0)
}

/// The complementary error function for `x` ≥ 0, to about 13 digits also far out (Abramowitz and Stegun, 7.1.6 and
/// 7.1.14).
fn erfc(x: f64) -> f64 {
    let scale = (-x * x).exp() / PI.sqrt();
    if x < 2.5 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > sum * 1e-17 {
            odd += 2.0;
            term *= 2.0 * x * x / odd;
            sum += term;
        }
        1.0 - 2.0 * scale * sum
    } else {
        let fraction = (1..=80).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
        scale / fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn test(differences: &[f64], zero: ZeroMethod) -> Wilcoxon {
        wilcoxon_signed_rank(differences, &vec![0.0; differences.len()], zero).unwrap()
    }

    #[test]
    fn all_of_one_sign() {
        let found = test(&[1.0, 2.0, 3.0, 4.0, 5.0], ZeroMethod::Wilcox);
        // Only one of 32 choices of signs has a rank sum of 0.
        assert_eq!((found.statistic, found.p, found.exact), (0.0, 2.0 / 32.0, true));
        assert_eq!(found.median_difference, 3.0);
    }

    #[test]
    fn no_difference_at_all() {
        for n in [1, 13, 60] {
            for zero in [ZeroMethod::Wilcox, ZeroMethod::Pratt] {
                let found = test(&vec![0.0; n], zero);
                assert_eq!((found.n, found.zeros, found.p, found.statistic), (n, n, 1.0, 0.0));
            }
        }
    }

    #[test]
    fn nothing_to_test() {
        for (a, b) in [(vec![], vec![]), (vec![1.0], vec![]), (vec![f64::NAN], vec![1.0])] {
            assert_eq!(wilcoxon_signed_rank(&a, &b, ZeroMethod::Wilcox), None);
        }
    }

    #[test]
    fn error_function_against_tables() {
        // Values of mpmath with 20 digits.
        let table = [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.4, 6.885_138_966_450_786e-4),
            (2.6, 2.360_344_165_293_492e-4),
            (6.0, 2.151_973_671_249_891_3e-17),
        ];
        for (x, expected) in table {
            assert!(
                (erfc(x) / expected - 1.0).abs() < 1e-12,
                "{x}: {} for {expected}",
                erfc(x)
            );
        }
    }

    proptest! {
        #[test]
        fn exact_equals_trying_all_signs(differences in prop::collection::vec(-4i8..5, 1..10)) {
            let differences: Vec<f64> = differences.into_iter().map(f64::from).collect();
            for zero in [ZeroMethod::Wilcox, ZeroMethod::Pratt] {
                let found = test(&differences, zero);
                let kept: Vec<f64> = differences
                    .iter()
                    .map(|d| d.abs())
                    .filter(|&d| d > 0.0 || zero == ZeroMethod::Pratt)
                    .collect();
                let ranks = mean_ranks(&kept);
                let signs = 0..1u32 << kept.len();
                let total = signs.len() as f64;
                let as_small = signs.filter(|signs| {
                    let positive = |i: &usize| signs >> i & 1 == 1 && kept[*i] > 0.0;
                    let sum: f64 = (0..kept.len()).filter(positive).map(|i| ranks[i]).sum();
                    sum <= found.statistic
                });
                let p = (2.0 * as_small.count() as f64 / total).min(1.0);
                prop_assert!((found.p - p).abs() < 1e-14, "{} for {}", found.p, p);
            }
        }

        #[test]
        fn swapping_the_sides_changes_the_sign_only(
            pairs in prop::collection::vec((-5i8..6, -5i8..6), 1..70),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().map(|(a, b)| (f64::from(a), f64::from(b))).unzip();
            let forth = wilcoxon_signed_rank(&a, &b, ZeroMethod::Pratt).unwrap();
            let back = wilcoxon_signed_rank(&b, &a, ZeroMethod::Pratt).unwrap();
            prop_assert_eq!((forth.p, forth.statistic), (back.p, back.statistic));
            prop_assert_eq!(forth.median_difference, -back.median_difference);
            prop_assert!(forth.p > 0.0 && forth.p <= 1.0);
        }
    }
}
