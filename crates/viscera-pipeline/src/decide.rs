//! From logits to labels.

use crate::recipe::{Activation, Inference};
use crate::slab::Slab;
use rayon::prelude::*;
use viscera_image::LabelTable;
use viscera_net::Tensor;

/// The rule that makes a label of the logits of one voxel: the greatest, if it reaches the threshold, else background.
///
/// With a sigmoid, probability ≥ t is the same as logit ≥ ln(t / (1 − t)), so no probability is ever computed. With a
/// softmax the first channel is the background's, and there is no threshold. Of equal logits the first channel wins. A NaN
/// never wins.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    threshold: f32,
    /// Label id per channel.
    ids: Vec<u8>,
}

impl Decision {
    /// The rule of a stage; channels stand for the classes of its table in their order.
    #[must_use]
    pub fn new(inference: &Inference, classes: &LabelTable) -> Self {
        let background = match inference.activation {
            Activation::Sigmoid => None,
            Activation::Softmax => Some(0),
        };
        Self {
            threshold: inference.logit_threshold(),
            ids: background
                .into_iter()
                .chain(classes.entries().iter().map(|e| e.id))
                .collect(),
        }
    }

    /// The logit from which a voxel belongs to a class.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.ids.len()
    }

    /// Label id of a channel; 0 for one that there is not.
    #[must_use]
    pub fn id(&self, channel: usize) -> u8 {
        self.ids.get(channel).copied().unwrap_or(0)
    }

    /// The label of one voxel from its logits, in channel order.
    #[must_use]
    pub fn label(&self, logits: impl IntoIterator<Item = f32>) -> u8 {
        let mut best = f32::NEG_INFINITY;
        let mut winner = None;
        for (channel, logit) in logits.into_iter().enumerate() {
            if logit > best {
                best = logit;
                winner = Some(channel);
            }
        }
        match winner {
            Some(channel) if best >= self.threshold => self.id(channel),
            _ => 0,
        }
    }

    /// The labels of the first sample of a tensor, on its own grid, in (z, y, x) order.
    #[must_use]
    pub fn labels(&self, logits: &Tensor) -> Vec<u8> {
        self.slab_labels(&Slab::of(logits))
    }

    /// The labels of some slices, on their own grid, in (z, y, x) order.
    #[must_use]
    pub fn slab_labels(&self, slab: &Slab<'_>) -> Vec<u8> {
        let [y, x] = slab.plane_shape();
        let mut out = vec![0; slab.slices() * y * x];
        out.par_chunks_mut((y * x).max(1)).enumerate().for_each(|(slice, out)| {
            for (i, label) in out.iter_mut().enumerate() {
                *label = self.label((0..slab.channels()).map(|c| slab.plane(c, slice)[i]));
            }
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    fn rule(threshold: f64) -> Decision {
        let mut inference = Recipe::builtin("efficientsegnet-small").unwrap().stages[0]
            .inference
            .clone();
        inference.threshold = Some(threshold);
        Decision::new(&inference, &LabelTable::flare13())
    }

    #[test]
    fn the_greatest_above_the_threshold_wins() {
        let half = rule(0.5);
        assert_eq!(half.threshold(), 0.0);
        assert_eq!(half.label([-1.0, -0.5]), 0);
        assert_eq!(half.label([0.5, 2.0, 1.0]), 2);
        assert_eq!(half.label([0.0, -1.0]), 1);
        assert_eq!(half.label([1.0, 1.0]), 1);
        assert_eq!(half.label([f32::NAN, 1.0]), 2);
        assert_eq!(half.label([f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn a_softmax_has_a_background() {
        let mut inference = Recipe::builtin("efficientsegnet-small").unwrap().stages[0]
            .inference
            .clone();
        (inference.activation, inference.threshold) = (Activation::Softmax, None);
        let table = crate::recipe::subset(&LabelTable::flare14(), &["tumour".into(), "liver".into()]).unwrap();
        let rule = Decision::new(&inference, &table);
        assert_eq!(rule.channels(), 3);
        assert_eq!(rule.label([-9.0, -10.0, -8.0]), 14);
        assert_eq!(rule.label([-9.0, -7.0, -8.0]), 1);
        assert_eq!(rule.label([1.0, 1.0, 1.0]), 0);
    }

    #[test]
    fn other_thresholds_are_those_of_the_probability() {
        let high = rule(0.9);
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        for logit in [2.1f32, 2.19, 2.2, 2.3] {
            assert_eq!(high.label([logit]) == 1, sigmoid(logit) >= 0.9, "{logit}");
        }
    }
}
