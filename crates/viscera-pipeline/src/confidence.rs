//! How sure a network is of each class: mean probability and entropy over the voxels that it gives to the class.
//!
//! Measured on the network's grid, before anything is enlarged or removed.

use crate::decide::Decision;
use crate::recipe::{Activation, Average, Inference};
use crate::slab::Slab;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// How sure a network is of a class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Confidence {
    /// Mean probability of the class over the voxels that it won, 0 to 1.
    pub probability: f64,
    /// Mean entropy there, 0 for certainty to 1 for no idea: of all channels with a softmax, of the class against the rest
    /// with a sigmoid.
    pub entropy: f64,
}

/// Sums over the voxels of a class: how many, probabilities, entropies.
type Sums = (u64, f64, f64);

/// Gathers the confidence of a stage's classes, slab after slab.
#[derive(Debug)]
pub struct ConfidenceMeter<'a> {
    decision: &'a Decision,
    kind: Kind,
    sums: BTreeMap<u8, Sums>,
}

/// What the values of a slab are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Sigmoid,
    Softmax,
    Probabilities,
}

impl<'a> ConfidenceMeter<'a> {
    /// Nothing gathered yet.
    #[must_use]
    pub fn new(inference: &Inference, decision: &'a Decision) -> Self {
        let kind = match (inference.activation, inference.average) {
            (Activation::Sigmoid, _) => Kind::Sigmoid,
            (Activation::Softmax, Average::Logits) => Kind::Softmax,
            (Activation::Softmax, Average::Probabilities) => Kind::Probabilities,
        };
        Self {
            decision,
            kind,
            sums: BTreeMap::new(),
        }
    }

    /// Takes the next slab.
    pub fn push(&mut self, slab: &Slab<'_>) {
        // Slice by slice, joined in order: the same sums for any number of threads.
        let slices: Vec<BTreeMap<u8, Sums>> = (0..slab.slices())
            .into_par_iter()
            .map(|z| self.slice(slab, z))
            .collect();
        for slice in slices {
            for (id, (count, probability, entropy)) in slice {
                let sum = self.sums.entry(id).or_default();
                *sum = (sum.0 + count, sum.1 + probability, sum.2 + entropy);
            }
        }
    }

    fn slice(&self, slab: &Slab<'_>, z: usize) -> BTreeMap<u8, Sums> {
        let planes: Vec<&[f32]> = (0..slab.channels()).map(|c| slab.plane(c, z)).collect();
        let [y, x] = slab.plane_shape();
        let mut sums: BTreeMap<u8, Sums> = BTreeMap::new();
        let mut values = vec![0.0f32; planes.len()];
        for i in 0..y * x {
            for (value, plane) in values.iter_mut().zip(&planes) {
                *value = plane[i];
            }
            let label = self.decision.label(values.iter().copied());
            if label == 0 {
                continue;
            }
            let (probability, entropy) = self.kind.measure(&mut values);
            let sum = sums.entry(label).or_default();
            *sum = (sum.0 + 1, sum.1 + f64::from(probability), sum.2 + f64::from(entropy));
        }
        sums
    }

    /// The confidence of each class that won a voxel, by its id.
    #[must_use]
    pub fn finish(self) -> BTreeMap<u8, Confidence> {
        let mean = |(count, probability, entropy): Sums| Confidence {
            probability: probability / count as f64,
            entropy: entropy / count as f64,
        };
        self.sums.into_iter().map(|(id, sums)| (id, mean(sums))).collect()
    }
}

impl Kind {
    /// Probability of the greatest value, and entropy as a share of the greatest possible. Changes the values.
    fn measure(self, values: &mut [f32]) -> (f32, f32) {
        let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        match self {
            Self::Sigmoid => {
                let p = 1.0 / (1.0 + (-greatest).exp());
                (p, (surprise(p) + surprise(1.0 - p)) / 2f32.ln())
            }
            Self::Softmax | Self::Probabilities => {
                if self == Self::Softmax {
                    values.iter_mut().for_each(|v| *v = (*v - greatest).exp());
                }
                let sum: f32 = values.iter().sum();
                let top = values.iter().copied().fold(0.0, f32::max) / sum;
                let entropy: f32 = values.iter().map(|v| surprise(v / sum)).sum();
                (top, entropy / (values.len() as f32).ln())
            }
        }
    }
}

/// −p ln p.
fn surprise(p: f32) -> f32 {
    if p > 0.0 { -p * p.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use viscera_image::LabelTable;

    fn measured(activation: Activation, average: Average, values: &[f32]) -> BTreeMap<u8, Confidence> {
        let mut inference = Recipe::builtin("efficientsegnet-small").unwrap().stages[0]
            .inference
            .clone();
        (inference.activation, inference.average) = (activation, average);
        if activation == Activation::Softmax {
            inference.threshold = None;
        }
        let decision = Decision::new(&inference, &LabelTable::flare13());
        let mut meter = ConfidenceMeter::new(&inference, &decision);
        meter.push(&Slab::new(values, 1, 1, [1, 2], 0).unwrap());
        meter.finish()
    }

    #[test]
    fn the_winners_probability_and_entropy_are_averaged() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        // Two classes; the first wins both voxels, with logits 0 and 2.
        let found = measured(Activation::Sigmoid, Average::Logits, &[0.0, 2.0, -1.0, -1.0]);
        let p = sigmoid(2.0);
        let entropy = -(p * p.log2() + (1.0 - p) * (1.0 - p).log2());
        assert_eq!(found.len(), 1);
        assert!((found[&1].probability - (0.5 + p) / 2.0).abs() < 1e-6);
        assert!((found[&1].entropy - (1.0 + entropy) / 2.0).abs() < 1e-6);
        // Background wins the first voxel; in the second the class has probability 2/3, as logits or as such.
        let ln2 = 2f32.ln();
        let entropy = -(2.0 / 3.0 * (2.0f64 / 3.0).log2() + (1.0f64 / 3.0).log2() / 3.0);
        for (average, values) in [
            (Average::Logits, [1.0, 0.0, 0.0, ln2]),
            (Average::Probabilities, [0.9, 1.0 / 3.0, 0.1, 2.0 / 3.0]),
        ] {
            let found = measured(Activation::Softmax, average, &values);
            assert_eq!(found.len(), 1);
            assert!((found[&1].probability - 2.0 / 3.0).abs() < 1e-6);
            assert!((found[&1].entropy - entropy).abs() < 1e-6, "{found:?}");
        }
    }
}
