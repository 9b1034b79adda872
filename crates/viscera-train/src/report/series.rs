//! Curves of any length in little memory.

/// Most points of a curve.
const MOST: usize = 500;

/// Values over steps, in rising order; of many, neighbours are joined to their means.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Series {
    points: Vec<(f64, f64)>,
    /// Joins made so far: a point is the mean of 2 to this power of values.
    halvings: u32,
    /// Values that are no point yet: their number and the sums of steps and values.
    open: (u64, f64, f64),
}

impl Series {
    pub(super) fn push(&mut self, step: u64, value: f64) {
        let (n, steps, values) = self.open;
        self.open = (n + 1, steps + step as f64, values + value);
        if self.open.0 < 1 << self.halvings {
            return;
        }
        self.points.extend(self.last());
        self.open = (0, 0.0, 0.0);
        if self.points.len() >= MOST {
            let joined = self.points.chunks(2).map(mean);
            self.points = joined.collect();
            self.halvings += 1;
        }
    }

    /// The values that are no point yet as one.
    fn last(&self) -> Option<(f64, f64)> {
        let (n, steps, values) = self.open;
        (n > 0).then(|| (steps / n as f64, values / n as f64))
    }

    /// At most [`MOST`] points.
    pub(super) fn points(&self) -> Vec<(f64, f64)> {
        self.points.iter().copied().chain(self.last()).collect()
    }

    /// The same, each the mean over its surroundings.
    pub(super) fn smooth(&self) -> Vec<(f64, f64)> {
        let points = self.points();
        let reach = points.len() / 25;
        let around = |at: usize| {
            // As far to both sides, so that the ends lean neither way.
            let reach = reach.min(at).min(points.len() - 1 - at);
            (points[at].0, mean(&points[at - reach..=at + reach]).1)
        };
        (0..points.len()).map(around).collect()
    }
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len().max(1) as f64;
    let sum = points.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    (sum.0 / n, sum.1 / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ones_are_exact_and_long_ones_keep_their_course() {
        let mut series = Series::default();
        (1..=100).for_each(|step| series.push(step, step as f64));
        assert_eq!(series.points()[41], (42.0, 42.0));
        assert_eq!(series.points().len(), 100);
        (101..=100_000).for_each(|step| series.push(step, step as f64));
        let points = series.points();
        assert!((MOST / 2..=MOST).contains(&points.len()), "{}", points.len());
        // A straight line stays one, to its end.
        assert!(points.windows(2).all(|w| w[0].0 < w[1].0));
        assert!(points.iter().all(|(x, y)| (x - y).abs() < 1e-6));
        assert!(points[points.len() - 1].0 > 99_000.0);
        let smooth = series.smooth();
        assert!(smooth.iter().zip(&points).all(|(a, b)| (a.1 - b.1).abs() < 1e3));
    }

    #[test]
    fn smoothing_takes_noise_away() {
        let mut series = Series::default();
        (0..400).for_each(|step| series.push(step, 1.0 + if step % 2 == 0 { 0.5 } else { -0.5 }));
        assert!(series.smooth()[50..350].iter().all(|(_, y)| (y - 1.0).abs() < 0.03));
    }
}
