//! Adam, AdamW and SGD as PyTorch defines them, and gradient clipping.

use rayon::prelude::*;
use viscera_pipeline::recipe::{AdamSettings, OptimizerSettings};

/// An optimiser with its state: for each parameter up to two arrays of its length.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    settings: OptimizerSettings,
    /// Steps made.
    pub(crate) steps: u64,
    /// First moment (Adam) or momentum (SGD).
    pub(crate) first: Vec<Vec<f32>>,
    /// Second moment (Adam); empty arrays for SGD.
    pub(crate) second: Vec<Vec<f32>>,
}

impl Optimizer {
    /// A fresh optimiser for parameters of these lengths.
    #[must_use]
    pub fn new(settings: OptimizerSettings, lengths: &[usize]) -> Self {
        let zeros = |lengths: &[usize]| lengths.iter().map(|&n| vec![0.0; n]).collect();
        let mut optimizer = Self {
            settings,
            steps: 0,
            first: zeros(lengths),
            second: vec![Vec::new(); lengths.len()],
        };
        if optimizer.has_second() {
            optimizer.second = zeros(lengths);
        }
        optimizer
    }

    /// Whether it keeps second moments.
    pub(crate) fn has_second(&self) -> bool {
        matches!(self.settings, OptimizerSettings::Adam(_) | OptimizerSettings::Adamw(_))
    }

    /// One step: changes `weights` by `gradients` at `rate` times the base learning rate.
    pub fn step(&mut self, weights: &mut [Vec<f32>], gradients: &[Vec<f32>], rate: f64) {
        self.steps += 1;
        let settings = &self.settings;
        let steps = self.steps;
        weights
            .par_iter_mut()
            .zip(gradients)
            .zip(self.first.par_iter_mut().zip(&mut self.second))
            .for_each(|((w, g), (m, v))| match settings {
                OptimizerSettings::Adam(adam) => adam_step(adam, false, steps, rate, w, g, m, v),
                OptimizerSettings::Adamw(adam) => adam_step(adam, true, steps, rate, w, g, m, v),
                &OptimizerSettings::Sgd {
                    lr,
                    momentum,
                    nesterov,
                    weight_decay,
                } => {
                    let (lr, mu, decay) = ((lr * rate) as f32, momentum as f32, weight_decay as f32);
                    for ((w, &g), m) in w.iter_mut().zip(g).zip(m) {
                        let g = g + decay * *w;
                        // From zero momentum this is PyTorch's first step, which copies the gradient.
                        *m = mu * *m + g;
                        *w -= lr * if nesterov { g + mu * *m } else { *m };
                    }
                }
            });
    }
}

/// One array of Adam; `apart` keeps weight decay out of the moments (AdamW).
fn adam_step(
    adam: &AdamSettings,
    apart: bool,
    steps: u64,
    rate: f64,
    weights: &mut [f32],
    gradients: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let lr = adam.lr * rate;
    let [b1, b2] = adam.betas;
    let t = steps.min(i32::MAX as u64) as i32;
    let step_size = (lr / (1.0 - b1.powi(t))) as f32;
    let root = ((1.0 - b2.powi(t)).sqrt()) as f32;
    let (shrink, l2) = if apart {
        ((1.0 - lr * adam.weight_decay) as f32, 0.0)
    } else {
        (1.0, adam.weight_decay as f32)
    };
    let (b1, b2, eps) = (b1 as f32, b2 as f32, adam.eps as f32);
    for (((w, &g), m), v) in weights.iter_mut().zip(gradients).zip(first).zip(second) {
        let g = g + l2 * *w;
        *m += (1.0 - b1) * (g - *m);
        *v = b2 * *v + (1.0 - b2) * g * g;
        *w = shrink * *w - step_size * *m / (v.sqrt() / root + eps);
    }
}

/// The 2-norm over all arrays; where `limit` is given and smaller, the arrays are shortened to it, as
/// `torch.nn.utils.clip_grad_norm_` does. NaN or infinite when an element is.
pub fn clip_norm(gradients: &mut [Vec<f32>], limit: Option<f32>) -> f64 {
    // One sum per array, added in order: the same for any number of threads.
    let sums: Vec<f64> = gradients
        .par_iter()
        .map(|g| g.iter().map(|&v| f64::from(v) * f64::from(v)).sum())
        .collect();
    let norm = sums.iter().sum::<f64>().sqrt();
    if let Some(limit) = limit {
        let factor = f64::from(limit) / (norm + 1e-6);
        if factor < 1.0 {
            gradients
                .par_iter_mut()
                .for_each(|g| g.iter_mut().for_each(|v| *v *= factor as f32));
        }
    }
    norm
}

/// Moves each average towards the weights: `a ← decay · a + (1 − decay) · w`.
pub fn average(averages: &mut [Vec<f32>], weights: &[Vec<f32>], decay: f32) {
    averages.par_iter_mut().zip(weights).for_each(|(a, w)| {
        for (a, &w) in a.iter_mut().zip(w) {
            *a += (1.0 - decay) * (w - *a);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Expected {
        start: Vec<f32>,
        gradients: Vec<Vec<f32>>,
        rates: Vec<f64>,
        cases: Vec<Case>,
        clipped: Clipped,
    }
    #[derive(Deserialize)]
    struct Case {
        optimizer: OptimizerSettings,
        values: Vec<Vec<f32>>,
    }
    #[derive(Deserialize)]
    struct Clipped {
        limit: f32,
        norm: f64,
        gradients: Vec<Vec<f32>>,
    }

    fn expected() -> Expected {
        serde_json::from_str(include_str!("../../../fixtures/train-optimizers/expected.json")).unwrap()
    }

    /// Eight steps with a changing rate against PyTorch.
    #[test]
    fn steps_equal_pytorch() {
        let expected = expected();
        for case in expected.cases {
            let mut weights = vec![expected.start.clone()];
            let mut optimizer = Optimizer::new(case.optimizer.clone(), &[6]);
            for ((gradient, &rate), want) in expected.gradients.iter().zip(&expected.rates).zip(&case.values) {
                optimizer.step(&mut weights, std::slice::from_ref(gradient), rate);
                for (got, want) in weights[0].iter().zip(want) {
                    assert!((got - want).abs() < 2e-6, "{:?}: {got} against {want}", case.optimizer);
                }
            }
        }
    }

    #[test]
    fn clipping_equals_pytorch() {
        let expected = expected();
        let mut gradients = expected.gradients[..2].to_vec();
        assert!((clip_norm(&mut gradients, None) - expected.clipped.norm).abs() < 1e-6);
        assert_eq!(gradients, expected.gradients[..2]);
        clip_norm(&mut gradients, Some(expected.clipped.limit));
        for (got, want) in gradients
            .iter()
            .flatten()
            .zip(expected.clipped.gradients.iter().flatten())
        {
            assert!((got - want).abs() < 1e-6);
        }
        assert!(!clip_norm(&mut [vec![1.0, f32::NAN]], Some(1.0)).is_finite());
    }

    #[test]
    fn averages_follow_the_weights() {
        let mut averages = vec![vec![0.0f32; 2]];
        for _ in 0..3 {
            average(&mut averages, &[vec![1.0, -2.0]], 0.5);
        }
        assert_eq!(averages, [vec![0.875, -1.75]]);
    }
}
