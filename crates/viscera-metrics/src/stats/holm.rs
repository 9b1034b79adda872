//! Correction for many tests.

/// P values adjusted by Holm's step-down method (*Scandinavian Journal of Statistics* 6(2), 1979), in the order given.
///
/// Controls the chance of even one false finding among all tests, whatever their dependence; never above 1. A NaN
/// stands for a test that could not be made: it stays NaN and does not count as a test.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut by_size: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    by_size.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![f64::NAN; p.len()];
    let mut largest = 0.0f64;
    for (place, &i) in by_size.iter().enumerate() {
        largest = largest.max(p[i] * (by_size.len() - place) as f64).min(1.0);
        adjusted[i] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::holm;

    #[test]
    fn by_hand() {
        // Sorted: 0.01 × 4, 0.02 × 3, 0.03 × 2 (stays at 0.06), 0.9 × 1.
        assert_eq!(holm(&[0.03, 0.01, 0.9, 0.02]), [0.06, 0.04, 0.9, 0.06]);
        assert_eq!(holm(&[0.5, 0.6]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn a_test_not_made_does_not_count() {
        let adjusted = holm(&[f64::NAN, 0.02, 0.03]);
        assert!(adjusted[0].is_nan());
        assert_eq!(adjusted[1..], [0.04, 0.04]);
    }
}
