//! How the steps other than convolutions, sums and norms over voxels run, forward and backward.

use crate::Engine;
use crate::element::Element;
use crate::engine::backward::{Gradients, add_to, done};
use crate::engine::{Tape, dropout_factor};
use crate::kernels::across::{self, Scaling};
use crate::kernels::activation::{self, Pointwise};
use crate::kernels::{attention, gate, pad, pointwise, pooling, resize};
use crate::layout::{Blocked, BufferPool};
use crate::plan::{Kind, Step};
use viscera_net::{Activation, ParamId};

impl Engine {
    /// Runs a step. `output` holds the first input where `in_place`.
    pub(crate) fn run_operation<E: Element>(
        &self,
        step: &Step,
        in_place: bool,
        training: Option<u64>,
        read: &[&Blocked<E>],
        output: &mut Blocked<E>,
    ) {
        let isa = self.isa;
        match &step.kind {
            Kind::Activation(activation) => {
                if let Some(function) = self.pointwise(*activation, output) {
                    if in_place {
                        activation::forward_in_place(isa, &function, output);
                    } else {
                        activation::forward(isa, &function, read[0], output);
                    }
                }
            }
            Kind::LayerNorm { eps, affine } => {
                let x = read[0].widened(isa);
                let scaling = self.scaling(&x, *affine);
                output.write_widened(isa, |y| across::layer_norm(isa, &x, *eps, &scaling, y));
            }
            Kind::Softmax => {
                let x = read[0].widened(isa);
                output.write_widened(isa, |y| across::softmax(isa, &x, y));
            }
            Kind::Dropout { p, samples } => {
                let factor = |sample, channel| match training {
                    Some(seed) => kept(seed, step, sample, channel, *p, *samples),
                    None => 1.0,
                };
                pointwise::scale_channels(isa, read[0], factor, output);
            }
            Kind::Mul => gate::forward(isa, read, output),
            Kind::Concat => pointwise::concat(isa, read, output),
            Kind::Channels { start } => pointwise::channels(isa, read[0], *start, output),
            Kind::Pad { before } => pad::pad(*before, read[0], output),
            Kind::Pool { kind, window } => pooling::forward(isa, *kind, window, read[0], output),
            Kind::AxisMean { axes } => pooling::axis_mean(isa, *axes, read[0], output),
            Kind::Resize(mode) => resize::forward(isa, *mode, read[0], output),
            Kind::WindowAttention(settings) => {
                let x = read[0].widened(isa);
                let table = self.param(settings.bias);
                output.write_widened(isa, |y| attention::forward(isa, settings, table, &x, y));
            }
            Kind::Input | Kind::Conv(_) | Kind::ConvTranspose { .. } | Kind::Norm { .. } | Kind::Add { .. } => {}
        }
    }

    /// Turns the gradient of a step's output into those of its parameters and inputs.
    pub(crate) fn operation_backward<E: Element>(
        &self,
        step: &Step,
        tape: &Tape<E>,
        mut dy: Blocked,
        gradients: &mut Gradients,
        pool: &mut BufferPool,
        parameters: &mut [Vec<f32>],
    ) {
        let plan = &tape.plan;
        let first = step.inputs[0];
        // A product looks at all its inputs, below.
        let [inputs, own] = step.looks_back();
        let x = (inputs && !matches!(step.kind, Kind::Mul))
            .then(|| self.look(tape, first, pool))
            .flatten();
        let y = own.then(|| self.look(tape, step.output, pool)).flatten();
        match (&step.kind, x.as_deref(), y.as_deref()) {
            (Kind::Activation(activation), Some(x), _) => {
                if let Activation::PRelu { slope } = activation {
                    add_to(&mut parameters[slope.0], &activation::slope_gradient(self.isa, x, &dy));
                }
                if let Some(function) = self.pointwise(*activation, x) {
                    activation::backward(self.isa, &function, x, &mut dy);
                }
                gradients.pass_on(first, plan, pool, dy);
            }
            (Kind::LayerNorm { eps, affine }, Some(x), _) => {
                let scaling = self.scaling(x, *affine);
                let [scale, shift] = across::layer_norm_backward(self.isa, x, *eps, &scaling, &mut dy);
                if let Some((weight, bias)) = affine {
                    add_to(&mut parameters[weight.0], &scale);
                    add_to(&mut parameters[bias.0], &shift);
                }
                gradients.pass_on(first, plan, pool, dy);
            }
            (Kind::Softmax, _, Some(y)) => {
                across::softmax_backward(self.isa, y, &mut dy);
                gradients.pass_on(first, plan, pool, dy);
            }
            (Kind::Dropout { p, samples }, _, _) => {
                let factor = |sample, channel| kept(tape.seed, step, sample, channel, *p, *samples);
                gradients.scatter(first, plan, pool, |dx| {
                    pointwise::scale_channels(self.isa, &dy, factor, dx)
                });
                pool.give(dy);
            }
            (Kind::Mul, _, _) => self.mul_backward(step, tape, dy, gradients, pool),
            (Kind::Concat, _, _) => {
                let mut channel = 0;
                for &input in &step.inputs {
                    if self.wanted(input) {
                        gradients.scatter(input, plan, pool, |dx| pointwise::channels(self.isa, &dy, channel, dx));
                    }
                    channel += plan.dims(input).channels;
                }
                pool.give(dy);
            }
            (Kind::Channels { start }, _, _) => {
                gradients.scatter(first, plan, pool, |dx| pointwise::channels_backward(&dy, *start, dx));
                pool.give(dy);
            }
            (Kind::Pad { before }, _, _) => {
                let back = before.map(|n| -n);
                gradients.scatter(first, plan, pool, |dx| pad::pad(back, &dy, dx));
                pool.give(dy);
            }
            (Kind::Pool { kind, window }, Some(x), Some(y)) => {
                gradients.scatter(first, plan, pool, |dx| {
                    pooling::backward(*kind, window, x, y, &dy, dx);
                });
                pool.give(dy);
            }
            (Kind::AxisMean { axes }, _, _) => {
                gradients.scatter(first, plan, pool, |dx| pooling::axis_mean_backward(*axes, &dy, dx));
                pool.give(dy);
            }
            (Kind::Resize(mode), _, _) => {
                gradients.scatter(first, plan, pool, |dx| resize::backward(*mode, &dy, dx));
                pool.give(dy);
            }
            (Kind::WindowAttention(settings), Some(x), _) => {
                let target = &mut parameters[settings.bias.0];
                gradients.scatter(first, plan, pool, |dx| {
                    let table = self.param(settings.bias);
                    add_to(target, &attention::backward(self.isa, settings, table, x, &dy, dx));
                });
                pool.give(dy);
            }
            // The input has no gradient; nothing else lacks the values that it needs.
            _ => pool.give(dy),
        }
        [x, y].into_iter().flatten().for_each(|value| done(value, pool));
    }

    fn mul_backward<E: Element>(
        &self,
        step: &Step,
        tape: &Tape<E>,
        dy: Blocked,
        gradients: &mut Gradients,
        pool: &mut BufferPool,
    ) {
        let inputs = step.inputs.iter().filter_map(|&id| self.look(tape, id, pool));
        let inputs: Vec<_> = inputs.collect();
        let read: Vec<&Blocked> = inputs.iter().map(|input| &**input).collect();
        for (place, &input) in step.inputs.iter().enumerate().filter(|(_, id)| self.wanted(**id)) {
            let mut product = pool.take(dy.dims);
            pointwise::add(self.isa, &[(&dy).into()], None, &mut product);
            gate::multiply_others(self.isa, &read, place, &mut product);
            if gate::repeats(&tape.plan.dims(input), &dy.dims) {
                gradients.scatter(input, &tape.plan, pool, |dx| gate::reduce(&product, dx));
                pool.give(product);
            } else {
                gradients.pass_on(input, &tape.plan, pool, product);
            }
        }
        inputs.into_iter().for_each(|input| done(input, pool));
        pool.give(dy);
    }

    fn pointwise<E: Element>(&self, activation: Activation, value: &Blocked<E>) -> Option<Pointwise> {
        Pointwise::new(activation, value.dims.blocks(), |id| self.param(id))
    }

    fn scaling(&self, value: &Blocked, affine: Option<(ParamId, ParamId)>) -> Scaling {
        let affine = affine.map(|(weight, bias)| [self.param(weight), self.param(bias)]);
        Scaling::new(value.dims.channels, affine)
    }
}

/// The factor of dropout of channels, or of whole samples, which draw for their first channel.
fn kept(seed: u64, step: &Step, sample: usize, channel: usize, p: f32, samples: bool) -> f32 {
    dropout_factor(seed, step.output.0, sample, if samples { 0 } else { channel }, p)
}
