//! The way back through the steps, and training behind [`Executor`].

use super::{Engine, Groups, StepWeights, Tape, winograd_form};
use crate::Isa;
use crate::kernels::conv::{PackedWeights, Window, Write, pack_bias, run_passes};
use crate::kernels::weight_gradient::{bias_gradient, weight_gradient};
use crate::kernels::{norm, pointwise, winograd};
use crate::layout::{Blocked, BufferPool, Dims, Lane};
use crate::plan::{Kind, Moments, Step, window};
use crate::vector::round;
use std::sync::OnceLock;
use viscera_net::{Conv, Executor, NetError, Op, ParamId, Tensor, Weights};

impl Engine {
    /// Adds to, or sets, the gradient of the input channels `range` out of `ins`.
    fn convolve_back(&self, conv: &Conv, [ins, first]: [usize; 2], write: Write<'_>, dy: &Blocked, dx: &mut Blocked) {
        let passes = window(conv).scatter(dx.dims.extent);
        let range = first..first + dx.dims.channels;
        if let [pass] = &passes[..]
            && let Some(form) = winograd_form(conv, pass, conv.out_channels, range.len())
        {
            let packed = self.transform(conv, form, pass, ins, range, true);
            winograd::run(self.isa, &packed, write, &[dy], dx, false);
            return;
        }
        let pack = |pass| self.pack_conv(conv, ins, range.clone(), pass, true);
        let packed: Vec<PackedWeights> = passes.iter().map(pack).collect();
        let passes: Vec<_> = passes.iter().zip(packed.chunks(1)).collect();
        run_passes(self.isa, &passes, write, &[dy], dx, false);
    }

    /// Turns the gradient of a step's output into those of its parameters and inputs.
    fn step_backward(
        &self,
        step: &Step,
        tape: &Tape,
        mut dy: Blocked,
        gradients: &mut Gradients,
        pool: &mut BufferPool,
        parameters: &mut [Vec<f32>],
    ) {
        let value = |id: viscera_net::NodeId| tape.values[id.0].as_ref();
        let wanted = |id: viscera_net::NodeId| self.wanted(id);
        let Some(&first) = step.inputs.first() else {
            pool.give(dy);
            return;
        };
        match (&step.kind, value(first), value(step.output)) {
            (Kind::Conv(conv), _, _) => {
                if let Some(bias) = conv.bias {
                    add_to(&mut parameters[bias.0], &bias_gradient(&dy));
                }
                let pass = window(conv).gather(dy.dims.extent);
                let ins = step.inputs.iter().map(|&id| tape.plan.dims(id).channels).sum();
                let groups = Groups::new(conv, ins);
                let taps: usize = conv.kernel.iter().product();
                let mut channel = 0;
                for &input in &step.inputs {
                    let Some(x) = value(input) else { continue };
                    let (target, count) = (&mut parameters[conv.weight.0], x.dims.channels);
                    if let Some(form) = winograd_form(conv, &pass, count, conv.out_channels) {
                        winograd::weight_gradient(self.isa, form, x, &dy, [ins, channel], target);
                    } else {
                        let connected = |o, i| groups.connected(o, channel + i);
                        weight_gradient(self.isa, &pass, x, &dy, connected, |o, i, tap, v| {
                            target[(o * groups.ins + (channel + i) % groups.ins) * taps + tap] += v;
                        });
                    }
                    if wanted(input) {
                        gradients.write(input, tape, pool, |fresh, dx| {
                            let none = pack_bias(None, count);
                            let write = if fresh { Write::Set(&none) } else { Write::Add };
                            self.convolve_back(conv, [ins, channel], write, &dy, dx);
                        });
                    }
                    channel += count;
                }
                pool.give(dy);
            }
            (Kind::ConvTranspose { kernel, weight, bias }, Some(x), _) => {
                if let Some(bias) = bias {
                    add_to(&mut parameters[bias.0], &bias_gradient(&dy));
                }
                let taps: usize = kernel.iter().product();
                let (ins, outs) = (x.dims.channels, dy.dims.channels);
                let pass = Window::disjoint(*kernel).gather(x.dims.extent);
                let target = &mut parameters[weight.0];
                let add = |i: usize, o: usize, tap: usize, v: f32| target[(i * outs + o) * taps + tap] += v;
                weight_gradient(self.isa, &pass, &dy, x, |_, _| true, add);
                if wanted(first) {
                    gradients.write(first, tape, pool, |fresh, dx| {
                        let packed = self.pack_transposed(*weight, [ins, outs], taps, &pass, true);
                        let none = pack_bias(None, ins);
                        let write = if fresh { Write::Set(&none) } else { Write::Add };
                        run_passes(self.isa, &[(&pass, &[packed])], write, &[&dy], dx, false);
                    });
                }
                pool.give(dy);
            }
            (kind @ Kind::Norm { affine, moments, .. }, Some(x), _) => {
                if let Some(found) = &tape.statistics[step.output.0] {
                    let tail = self.tail(kind, x.dims, Some(tape.seed));
                    let sums = norm::backward(self.isa, x, found, &tail, moments.scope(true), &mut dy);
                    for (id, sum) in affine.iter().zip(sums) {
                        if let Some(id) = id {
                            add_to(&mut parameters[id.0], &sum);
                        }
                    }
                    if let Moments::Running { mean, variance } = moments {
                        for (id, of_batch) in [mean, variance].into_iter().zip(found.of_batch(&x.dims)) {
                            let present = self.param(*id);
                            let sum = parameters[id.0].iter_mut().zip(present.iter().zip(of_batch));
                            sum.for_each(|(sum, (present, of_batch))| *sum += present - of_batch);
                        }
                    }
                }
                gradients.pass_on(first, tape, pool, dy);
            }
            (Kind::Add { slope }, _, Some(y)) => {
                if let Some(slope) = slope {
                    pointwise::leaky_backward(self.isa, y, *slope, &mut dy);
                }
                for &input in step.inputs.iter().skip(1).filter(|&&i| wanted(i)) {
                    gradients.add(input, tape, pool, &dy);
                }
                if wanted(first) {
                    gradients.pass_on(first, tape, pool, dy);
                } else {
                    pool.give(dy);
                }
            }
            _ => self.operation_backward(step, tape, dy, gradients, pool, parameters),
        }
    }

    /// Whether the gradient of a value is of use: not that of the network's input.
    pub(crate) fn wanted(&self, id: viscera_net::NodeId) -> bool {
        !matches!(self.graph.nodes[id.0].op, Op::Input { .. })
    }
}

impl Executor for Engine {
    fn forward(&mut self, input: &Tensor, seed: u64) -> Result<Vec<Tensor>, NetError> {
        if let Some(tape) = self.tape.take() {
            let mut pool = self.take_pool::<Lane>();
            tape.values.into_iter().flatten().for_each(|v| pool.give(v));
            self.give_pool(pool);
        }
        let (outputs, tape) =
            self.run_steps::<Lane, _>(input, Some(seed), None, None, |values| self.tensors(values))?;
        self.tape = Some(tape);
        Ok(outputs)
    }

    fn backward(&mut self, gradients: &[Tensor]) -> Result<Vec<Vec<f32>>, NetError> {
        let fail = |reason: &str| NetError::Backward {
            reason: reason.to_owned(),
        };
        let mut tape = self.tape.take().ok_or_else(|| fail("no forward pass before it"))?;
        let fits = gradients.len() == self.graph.outputs.len()
            && gradients.iter().zip(&self.graph.outputs).all(|(gradient, id)| {
                let Dims {
                    batch,
                    channels,
                    extent: [z, y, x],
                    ..
                } = tape.plan.dims(*id);
                gradient.shape() == [batch, channels, z, y, x]
            });
        if !fits {
            return Err(fail("gradients do not have the shapes of the outputs"));
        }
        let mut pool = self.take_pool::<Lane>();
        let mut parameters: Vec<Vec<f32>> = self.graph.params.iter().map(|p| vec![0.0; p.len()]).collect();
        let isa = self.isa;
        let mut gradients_left = Gradients {
            isa,
            open: self.graph.nodes.iter().map(|_| None).collect(),
        };
        for (gradient, &id) in gradients.iter().zip(&self.graph.outputs) {
            gradients_left.scatter(id, &tape, &mut pool, |dy| dy.load(isa, gradient));
        }
        for step in self.steps.iter().rev() {
            if let Some(dy) = gradients_left.open[step.output.0].take() {
                self.step_backward(step, &tape, dy, &mut gradients_left, &mut pool, &mut parameters);
            }
            // Nothing before this step reads its value.
            if let Some(value) = tape.values[step.output.0].take() {
                pool.give(value);
            }
        }
        self.give_pool(pool);
        Ok(parameters)
    }

    fn infer(&mut self, input: &Tensor) -> Result<Vec<Tensor>, NetError> {
        self.run(input)
    }

    fn parameters(&self) -> &Weights {
        if self.rounded.is_empty() {
            return &self.weights;
        }
        self.whole.get_or_init(|| {
            let mut whole = self.weights.clone();
            for (id, values) in whole.values.iter_mut().enumerate().filter(|(_, v)| v.is_empty()) {
                *values = (0..self.graph.params[id].len()).map(self.weight(ParamId(id))).collect();
            }
            whole
        })
    }

    fn set_parameters(&mut self, weights: &Weights) -> Result<(), NetError> {
        weights.check(&self.graph)?;
        self.weights = weights.clone();
        self.whole = OnceLock::new();
        if self.bf16 {
            self.rounded = vec![Vec::new(); weights.values.len()];
            for id in self.steps.iter().filter_map(Step::convolved) {
                let values = std::mem::take(&mut self.weights.values[id.0]);
                if !values.is_empty() {
                    self.rounded[id.0] = values.iter().copied().map(round).collect();
                }
            }
        }
        self.packed = self.steps.iter().map(|_| StepWeights::default()).collect();
        Ok(())
    }
}

/// Gradients that wait for their step, by node.
pub(crate) struct Gradients {
    isa: Isa,
    open: Vec<Option<Blocked>>,
}

impl Gradients {
    /// Lets `f(fresh, gradient)` write a gradient, or add to it when `fresh` is false.
    fn write(
        &mut self,
        id: viscera_net::NodeId,
        tape: &Tape,
        pool: &mut BufferPool,
        f: impl FnOnce(bool, &mut Blocked),
    ) {
        match &mut self.open[id.0] {
            Some(gradient) => f(false, gradient),
            empty => {
                let mut gradient = pool.take(tape.plan.gradient_dims(id));
                gradient.clear_halo();
                f(true, &mut gradient);
                *empty = Some(gradient);
            }
        }
    }

    /// The same for an `f` that can only write.
    pub(crate) fn scatter(
        &mut self,
        id: viscera_net::NodeId,
        tape: &Tape,
        pool: &mut BufferPool,
        f: impl FnOnce(&mut Blocked),
    ) {
        let mut gradient = pool.take(tape.plan.gradient_dims(id));
        f(&mut gradient);
        self.pass_on(id, tape, pool, gradient);
    }

    /// Adds a gradient that nobody needs afterwards.
    pub(crate) fn pass_on(&mut self, id: viscera_net::NodeId, tape: &Tape, pool: &mut BufferPool, gradient: Blocked) {
        if self.open[id.0].is_none() && gradient.dims == tape.plan.gradient_dims(id) {
            self.open[id.0] = Some(gradient);
        } else {
            self.add(id, tape, pool, &gradient);
            pool.give(gradient);
        }
    }

    /// Adds a gradient.
    fn add(&mut self, id: viscera_net::NodeId, tape: &Tape, pool: &mut BufferPool, gradient: &Blocked) {
        let isa = self.isa;
        self.write(id, tape, pool, |fresh, sum| {
            if fresh {
                pointwise::add(isa, &[gradient], None, sum);
            } else {
                pointwise::add_in_place(isa, sum, &[gradient], None);
            }
        });
    }
}

/// Adds a parameter's gradient. Where one value serves all channels, it takes the sum over them.
pub(crate) fn add_to(sum: &mut [f32], more: &[f32]) {
    if let [sum] = sum {
        *sum += more.iter().sum::<f32>();
        return;
    }
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}
