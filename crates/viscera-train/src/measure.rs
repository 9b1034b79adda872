//! Training steps on made-up labels, to be timed.

use crate::{Optimizer, Target, TrainError, evaluate};
use viscera_image::AnnotatedClasses;
use viscera_net::{Executor, Param, Tensor, Weights};
use viscera_pipeline::recipe::{ChannelLoss, LossSettings, OptimizerSettings, Stream};

/// Repeats a training step as a trainer does it: forward, Dice and focal loss on every head, backward, SGD with Nesterov
/// momentum.
#[derive(Debug)]
pub struct StepMeasure {
    loss: LossSettings,
    optimizer: Optimizer,
    weights: Weights,
}

impl StepMeasure {
    /// For a network with these parameters, in the order of `weights`.
    #[must_use]
    pub fn new(params: &[Param], weights: Weights) -> Self {
        let settings = OptimizerSettings::Sgd {
            lr: 1e-4,
            momentum: 0.99,
            nesterov: true,
            weight_decay: 3e-5,
        };
        Self {
            loss: LossSettings::Channels(ChannelLoss {
                focal: 1.0,
                smooth: 1e-5,
                ..ChannelLoss::default()
            }),
            optimizer: Optimizer::new(settings, params),
            weights,
        }
    }

    /// One step. Labels are stripes of all classes.
    ///
    /// # Errors
    /// When the input does not fit the network.
    pub fn step(&mut self, executor: &mut dyn Executor, input: &Tensor, seed: u64) -> Result<(), TrainError> {
        let heads = executor.forward(input, seed)?;
        let mut gradients = Vec::with_capacity(heads.len());
        for head in heads {
            let [batch, channels, ..] = head.shape();
            let classes: Vec<u8> = (1..=channels).map(|c| u8::try_from(c).unwrap_or(u8::MAX)).collect();
            let voxels: usize = head.spatial().iter().product();
            let stripe = |v: usize| u8::try_from(v / 64 % (channels + 1)).unwrap_or(0);
            let labels: Vec<u8> = (0..batch * voxels).map(stripe).collect();
            let annotated = vec![classes.iter().copied().collect::<AnnotatedClasses>(); batch];
            let target = Target {
                labels: &labels,
                coarser: &[],
                annotated: &annotated,
                streams: &vec![Stream::Labelled; batch],
                classes: &classes,
                ignore: None,
            };
            gradients.extend(evaluate(&self.loss, std::slice::from_ref(&head), target, 1.0)?.1);
        }
        let mut gradients = executor.backward(&gradients)?;
        self.optimizer.take_statistics(&mut self.weights.values, &mut gradients);
        self.optimizer.step(&mut self.weights.values, &gradients, 1e-4);
        executor.set_parameters(&self.weights)?;
        Ok(())
    }
}
