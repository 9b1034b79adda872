//! From values to places in a picture.

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    /// For positive values.
    Log,
}

/// An axis: the values at its two ends, and where these lie in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    kind: Kind,
    domain: [f64; 2],
    range: [f64; 2],
}

/// About so many ticks are drawn.
const TICKS: f64 = 5.0;

impl Scale {
    /// A linear axis that reaches from a round value below `min` to a round value above `max`, not beyond `most`.
    #[must_use]
    pub fn linear([min, max]: [f64; 2], most: f64, range: [f64; 2]) -> Self {
        let step = nice_step(max - min);
        let from = ((min / step + 1e-9).floor() * step).max(-most);
        let to = ((max / step - 1e-9).ceil() * step).min(most);
        let domain = if to > from { [from, to] } else { [from, from + step] };
        Self {
            kind: Kind::Linear,
            domain,
            range,
        }
    }

    /// A logarithmic axis around positive values: from half a third below to as much above.
    #[must_use]
    pub fn log([min, max]: [f64; 2], range: [f64; 2]) -> Self {
        Self {
            kind: Kind::Log,
            domain: [min / 1.5, max * 1.5],
            range,
        }
    }

    /// The values at the two ends.
    #[must_use]
    pub fn domain(&self) -> [f64; 2] {
        self.domain
    }

    /// The place of a value in pixels; values outside lie at the ends.
    #[must_use]
    pub fn at(&self, value: f64) -> f64 {
        let [from, to] = self.domain;
        let share = match self.kind {
            Kind::Linear => (value - from) / (to - from),
            Kind::Log => (value / from).ln() / (to / from).ln(),
        };
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.range[0] + share * (self.range[1] - self.range[0])
    }

    /// Round values along the axis, with their labels.
    #[must_use]
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let [from, to] = self.domain;
        match self.kind {
            Kind::Linear => {
                let step = nice_step(to - from);
                let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
                let first = (from / step - 1e-9).ceil();
                let count = ((to / step + 1e-9).floor() - first).clamp(0.0, 50.0) as usize;
                let tick = |i: usize| {
                    let value = (first + i as f64) * step;
                    (value, crate::number(Some(value), digits))
                };
                (0..=count).map(tick).collect()
            }
            Kind::Log => {
                let (low, high) = (from.log10().floor() as i32, to.log10().ceil() as i32);
                let parts: &[f64] = if high - low <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                (low..=high)
                    .flat_map(|decade| parts.iter().map(move |part| (decade, part * 10f64.powi(decade))))
                    .filter(|(_, value)| (from..=to).contains(value))
                    .map(|(decade, value)| (value, format!("{value:.*}", usize::try_from(-decade).unwrap_or(0))))
                    .collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that about [`TICKS`] steps cover an extent.
fn nice_step(extent: f64) -> f64 {
    let rough = if extent.is_finite() && extent > 0.0 {
        extent / TICKS
    } else {
        0.2
    };
    let power = 10f64.powf(rough.log10().floor());
    let part = rough / power;
    let nice = [1.0, 2.0, 5.0].into_iter().find(|n| part <= n * 1.0001).unwrap_or(10.0);
    nice * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ends_are_round_and_never_beyond_the_possible() {
        let dice = Scale::linear([0.713, 0.996], 1.0, [0.0, 100.0]);
        assert_eq!(dice.domain()[1], 1.0);
        assert_eq!(labels(&dice), ["0.7", "0.8", "0.9", "1.0"]);
        assert_eq!((dice.at(0.7).round(), dice.at(1.0)), (0.0, 100.0));
        // One value only, and all values alike.
        for range in [[1.0, 1.0], [0.0, 0.0]] {
            let scale = Scale::linear(range, 1.0, [0.0, 10.0]);
            assert!(scale.domain()[0] < scale.domain()[1], "{:?}", scale.domain());
            assert!(scale.at(range[0]).is_finite());
        }
    }

    #[test]
    fn axes_may_run_upwards() {
        let up = Scale::linear([-8.0, 12.0], f64::INFINITY, [200.0, 0.0]);
        assert_eq!(labels(&up), ["\u{2212}10", "\u{2212}5", "0", "5", "10", "15"]);
        assert!(up.at(12.0) < up.at(0.0) && up.at(0.0) < up.at(-8.0));
    }

    #[test]
    fn decades_are_ticked_and_nothing_leaves_the_picture() {
        let ml = Scale::log([2.0, 1800.0], [0.0, 300.0]);
        assert_eq!(labels(&ml), ["10", "100", "1000"].map(str::to_owned));
        let distance = ml.at(100.0) - ml.at(10.0);
        assert!((ml.at(1000.0) - ml.at(100.0) - distance).abs() < 1e-9);
        assert_eq!((ml.at(0.0), ml.at(1e9)), (0.0, 300.0));
    }
}
