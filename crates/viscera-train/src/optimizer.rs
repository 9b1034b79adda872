//! Adam, AdamW and SGD as PyTorch defines them, and gradient clipping.

use rayon::prelude::*;
use viscera_net::{Param, ParamKind, Values};
use viscera_pipeline::recipe::{AdamSettings, OptimizerSettings};

/// How far running statistics go towards a batch's: PyTorch's default momentum.
const STATISTIC_RATE: f32 = 0.1;

/// An optimiser with its state: for each parameter up to three arrays of its length.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    settings: OptimizerSettings,
    kinds: Vec<ParamKind>,
    /// Steps made.
    pub(crate) steps: u64,
    /// First moment (Adam) or momentum (SGD).
    pub(crate) first: Vec<Vec<f32>>,
    /// Second moment (Adam); empty arrays for SGD.
    pub(crate) second: Vec<Vec<f32>>,
    /// The greatest second moment so far (AMSGrad); empty arrays for others.
    pub(crate) greatest: Vec<Vec<f32>>,
}

impl Optimizer {
    /// A fresh optimiser for these parameters.
    #[must_use]
    pub fn new(settings: OptimizerSettings, params: &[Param]) -> Self {
        let zeros = || params.iter().map(|p| vec![0.0; p.len()]).collect();
        let mut optimizer = Self {
            settings,
            kinds: params.iter().map(|p| p.kind).collect(),
            steps: 0,
            first: zeros(),
            second: vec![Vec::new(); params.len()],
            greatest: vec![Vec::new(); params.len()],
        };
        if optimizer.has_second() {
            optimizer.second = zeros();
        }
        if optimizer.has_greatest() {
            optimizer.greatest = zeros();
        }
        optimizer
    }

    /// Whether it keeps second moments.
    pub(crate) fn has_second(&self) -> bool {
        matches!(self.settings, OptimizerSettings::Adam(_) | OptimizerSettings::Adamw(_))
    }

    /// Whether it keeps the greatest second moments.
    pub(crate) fn has_greatest(&self) -> bool {
        match &self.settings {
            OptimizerSettings::Adam(adam) | OptimizerSettings::Adamw(adam) => adam.amsgrad,
            OptimizerSettings::Sgd { .. } => false,
        }
    }

    /// Moves running statistics a tenth of the way to the batch's, as PyTorch's batch norm does, and takes what
    /// [`viscera_net::Executor::backward`] gave for them out of `gradients`: their arrays are left empty, so that they
    /// are in no norm and no optimiser step changes them.
    pub fn take_statistics(&self, weights: &mut [Values], gradients: &mut [Vec<f32>]) {
        let statistics = self.kinds.iter().zip(weights.iter_mut().zip(gradients));
        for (_, (values, off)) in statistics.filter(|(kind, _)| **kind == ParamKind::Statistic) {
            for (value, off) in values.iter_mut().zip(std::mem::take(off)) {
                *value -= STATISTIC_RATE * off;
            }
        }
    }

    /// One step: changes `weights` by `gradients` at `rate` times the base learning rate. A parameter whose gradient is
    /// empty stays as it is.
    pub fn step(&mut self, weights: &mut [Values], gradients: &[Vec<f32>], rate: f64) {
        self.steps += 1;
        let settings = &self.settings;
        let steps = self.steps;
        weights
            .par_iter_mut()
            .zip(gradients)
            .zip(self.first.par_iter_mut().zip(&mut self.second).zip(&mut self.greatest))
            .filter(|((_, g), _)| !g.is_empty())
            .for_each(|((w, g), ((m, v), greatest))| match settings {
                OptimizerSettings::Adam(adam) => adam_step(adam, false, steps, rate, w, g, [m, v, greatest]),
                OptimizerSettings::Adamw(adam) => adam_step(adam, true, steps, rate, w, g, [m, v, greatest]),
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
    [first, second, greatest]: [&mut Vec<f32>; 3],
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
    for (i, (((w, &g), m), v)) in weights.iter_mut().zip(gradients).zip(first).zip(second).enumerate() {
        let g = g + l2 * *w;
        *m += (1.0 - b1) * (g - *m);
        *v = b2 * *v + (1.0 - b2) * g * g;
        let scale = match greatest.get_mut(i) {
            Some(greatest) => {
                *greatest = greatest.max(*v);
                *greatest
            }
            None => *v,
        };
        *w = shrink * *w - step_size * *m / (scale.sqrt() / root + eps);
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
pub fn average(averages: &mut [Values], weights: &[Values], decay: f32) {
    averages.par_iter_mut().zip(weights).for_each(|(a, w)| {
        for (a, &w) in a.iter_mut().zip(w.iter()) {
            *a += (1.0 - decay) * (w - *a);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;
    use viscera_engine::Engine;
    use viscera_net::builders::{GraphBuilder, Norm};
    use viscera_net::{Executor, Init, Tensor, Weights};

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

    #[derive(Deserialize)]
    struct BatchNorm {
        shape: [usize; 5],
        optimizer: OptimizerSettings,
        limit: f32,
        start: BTreeMap<String, Vec<f32>>,
        steps: Vec<Step>,
    }
    #[derive(Deserialize)]
    struct Step {
        input: Vec<f32>,
        gradient: Vec<f32>,
        norm: f64,
        after: BTreeMap<String, Vec<f32>>,
    }

    fn param(length: usize) -> Param {
        Param {
            name: "p".to_owned(),
            shape: vec![length],
            init: Init::Constant(0.0),
            kind: ParamKind::Learnt,
        }
    }

    fn expected() -> Expected {
        serde_json::from_str(include_str!("../../../fixtures/train-optimizers/expected.json")).unwrap()
    }

    /// Eight steps with a changing rate against PyTorch.
    #[test]
    fn steps_equal_pytorch() {
        let expected = expected();
        for case in expected.cases {
            let mut weights = [expected.start.clone().into()];
            let mut optimizer = Optimizer::new(case.optimizer.clone(), &[param(6)]);
            for ((gradient, &rate), want) in expected.gradients.iter().zip(&expected.rates).zip(&case.values) {
                optimizer.step(&mut weights, std::slice::from_ref(gradient), rate);
                for (got, want) in weights[0].iter().zip(want) {
                    assert!((got - want).abs() < 2e-6, "{:?}: {got} against {want}", case.optimizer);
                }
            }
        }
    }

    /// Batch norm behind a convolution, with weight decay and a limit on the norm: statistics take part in neither.
    #[test]
    fn running_statistics_equal_pytorch() {
        let golden = include_str!("../../../fixtures/train-statistics/expected.json");
        let golden: BatchNorm = serde_json::from_str(golden).unwrap();
        let mut g = GraphBuilder::new("small");
        let x = g.input(1);
        let y = g.conv("conv", x, 3, [1; 3], [1; 3], true, 0.0);
        let y = g.norm(
            "norm",
            y,
            Norm::Batch {
                eps: 1e-5,
                affine: true,
            },
        );
        let graph = g.finish(vec![y]);
        let start = graph.params.iter().map(|p| golden.start[&p.name].clone().into());
        let mut weights = Weights {
            values: start.collect(),
        };
        let mut engine = Engine::new(&graph, &weights).unwrap();
        let mut optimizer = Optimizer::new(golden.optimizer, &graph.params);
        let [n, _, z, y, x] = golden.shape;
        for step in golden.steps {
            engine
                .forward(&Tensor::new(golden.shape, step.input).unwrap(), 0)
                .unwrap();
            let gradient = Tensor::new([n, 3, z, y, x], step.gradient).unwrap();
            let mut gradients = engine.backward(&[gradient]).unwrap();
            optimizer.take_statistics(&mut weights.values, &mut gradients);
            let norm = clip_norm(&mut gradients, Some(golden.limit));
            assert!((norm - step.norm).abs() < 1e-5, "{norm} {}", step.norm);
            optimizer.step(&mut weights.values, &gradients, 1.0);
            engine.set_parameters(&weights).unwrap();
            for (param, found) in graph.params.iter().zip(&weights.values) {
                for (found, want) in found.iter().zip(&step.after[&param.name]) {
                    assert!((found - want).abs() < 1e-5, "{}: {found} {want}", param.name);
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
        let mut averages = [vec![0.0f32; 2].into()];
        for _ in 0..3 {
            average(&mut averages, &[vec![1.0, -2.0].into()], 0.5);
        }
        assert_eq!(averages, [vec![0.875, -1.75]]);
    }
}
