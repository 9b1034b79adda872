//! Squared distances along a line: the lower envelope of parabolas (Felzenszwalb and Huttenlocher, "Distance transforms
//! of sampled functions", Theory of Computing 8, 2012).

/// How far rounding may move the place where two parabolas meet, in steps. Parabolas that meet within it of a place are
/// compared there, so that among nearly equal distances the smallest wins: a tolerance may lie between them.
const SLACK: f64 = 1e-6;

/// The lower envelope of the parabolas `f(i) + ((x - i) step)²` over whole numbers `i`.
#[derive(Default)]
pub(super) struct Envelope {
    /// Parabolas that are lowest somewhere: where each takes over, its place, its height; ascending.
    parts: Vec<Part>,
}

struct Part {
    from: f64,
    at: f64,
    height: f64,
}

impl Envelope {
    /// Builds the envelope of the given heights; an infinite height is no parabola.
    pub(super) fn build(&mut self, heights: impl Iterator<Item = f64>, step: f64) {
        self.parts.clear();
        let scale = 0.5 / (step * step);
        for (at, height) in heights.enumerate().filter(|(_, height)| height.is_finite()) {
            let at = at as f64;
            let from = loop {
                let Some(last) = self.parts.last() else {
                    break f64::NEG_INFINITY;
                };
                let meet = 0.5 * (at + last.at) + (height - last.height) * scale / (at - last.at);
                if meet > last.from - SLACK {
                    break meet;
                }
                self.parts.pop();
            };
            self.parts.push(Part { from, at, height });
        }
    }

    /// Calls `put` with each place of an ascending list and the envelope's value there; infinity if there is none.
    pub(super) fn values(&self, step: f64, places: impl Iterator<Item = usize>, mut put: impl FnMut(usize, f64)) {
        let mut part = 0;
        for place in places {
            let x = place as f64;
            while self.parts.get(part + 1).is_some_and(|next| next.from <= x - SLACK) {
                part += 1;
            }
            let mut value = f64::INFINITY;
            for (at, part) in self.parts[part.min(self.parts.len())..].iter().enumerate() {
                if at > 0 && part.from > x + SLACK {
                    break;
                }
                let along = (x - part.at) * step;
                value = value.min(part.height + along * along);
            }
            put(place, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nearly_equal_parabolas_give_the_lower_one() {
        // At 3 both are 9, but for the last bit: whichever comes first, the value is exactly 9.
        let (step, above) = (f64::from(0.8_f32), f64::from(0.9_f32) * 2.0);
        let mut heights = [f64::INFINITY; 7];
        (heights[0], heights[3]) = (above * above, 9.0);
        for reversed in [false, true] {
            let mut envelope = Envelope::default();
            if reversed {
                heights.reverse();
            }
            envelope.build(heights.iter().copied(), step);
            envelope.values(step, [3].into_iter(), |_, value| assert_eq!(value, 9.0));
        }
    }

    proptest! {
        #[test]
        fn is_the_smallest_of_all_parabolas(
            heights in prop::collection::vec(prop::option::of(0u32..400), 1..40),
            step in 0.2f64..6.0,
        ) {
            let heights: Vec<f64> = heights.iter().map(|h| h.map_or(f64::INFINITY, f64::from)).collect();
            let mut envelope = Envelope::default();
            envelope.build([1.0, 2.0].into_iter(), 1.0); // what a use before left behind must not matter
            envelope.build(heights.iter().copied(), step);
            let mut places = Vec::new();
            envelope.values(step, 0..heights.len(), |place, value| {
                let lowest = heights
                    .iter()
                    .enumerate()
                    .map(|(at, h)| h + ((place as f64 - at as f64) * step).powi(2))
                    .fold(f64::INFINITY, f64::min);
                assert!(value == lowest || (value - lowest).abs() < 1e-9 * lowest, "{value} for {lowest}");
                places.push(place);
            });
            prop_assert_eq!(places, (0..heights.len()).collect::<Vec<_>>());
        }
    }
}
