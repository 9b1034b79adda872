//! The way back through the steps, and training behind [`Executor`].

use super::{Engine, Groups, StepWeights, Tape, Tapes, winograd_form};
use crate::Isa;
use crate::element::{Element, Half};
use crate::kernels::amx::{self, TileWeights};
use crate::kernels::conv::{PackedWeights, Window, Write, pack_bias, run_passes};
use crate::kernels::weight_gradient::{bias_gradient, weight_gradient};
use crate::kernels::{norm, pointwise, winograd};
use crate::layout::{Blocked, BufferPool, Dims, Lane};
use crate::plan::{Kind, Moments, Plan, Step, window};
use crate::vector::round;
use std::borrow::Cow;
use std::sync::OnceLock;
use viscera_net::{Conv, Executor, NetError, NodeId, Op, ParamId, Tensor, Weights};

impl Engine {
    /// A value of the forward pass as it was stored: kept, or made again.
    fn stored<'a, E: Element>(
        &self,
        tape: &'a Tape<E>,
        id: NodeId,
        pool: &mut BufferPool,
    ) -> Option<Cow<'a, Blocked<E>>> {
        if let Some(value) = &tape.values[id.0] {
            return Some(Cow::Borrowed(value));
        }
        let step = self.steps.iter().find(|step| step.output == id)?;
        let found = tape.statistics[id.0].as_ref().filter(|_| step.is_made_again())?;
        let x = self.stored(tape, step.inputs[0], pool)?;
        let tail = self.tail(&step.kind, x.dims, Some(tape.seed));
        let mut value = E::take(tape.plan.dims(id), pool, &self.pools);
        norm::forward(self.isa, &x, found, &tail, &mut value);
        self.give_owned(x, pool);
        Some(Cow::Owned(value))
    }

    /// A value of the forward pass in lanes. Give it back with [`done`].
    pub(crate) fn look<'a, E: Element>(
        &self,
        tape: &'a Tape<E>,
        id: NodeId,
        pool: &mut BufferPool,
    ) -> Option<Cow<'a, Blocked>> {
        let widen = |value: &Blocked<E>, pool: &mut BufferPool| {
            let mut wide = pool.take(value.dims);
            value.widen(self.isa, &mut wide);
            wide
        };
        Some(match self.stored(tape, id, pool)? {
            Cow::Borrowed(value) => match E::as_full(value) {
                Some(value) => Cow::Borrowed(value),
                None => Cow::Owned(widen(value, pool)),
            },
            Cow::Owned(value) => Cow::Owned(E::into_full(value).unwrap_or_else(|value| {
                let wide = widen(&value, pool);
                self.give(value, pool);
                wide
            })),
        })
    }

    /// Takes back the buffer of a value that was made for a look at it.
    fn give_owned<E: Element>(&self, value: Cow<'_, Blocked<E>>, full: &mut BufferPool) {
        if let Cow::Owned(value) = value {
            self.give(value, full);
        }
    }

    /// Takes a value's buffer back.
    fn give<E: Element>(&self, value: Blocked<E>, full: &mut BufferPool) {
        match E::into_full(value) {
            Ok(value) => full.give(value),
            Err(value) => {
                if let Ok(mut pool) = E::pool(&self.pools).lock() {
                    pool.give(value);
                }
            }
        }
    }

    /// Adds to, or sets, the gradient of the input channels `range` out of `ins`.
    fn convolve_back(&self, conv: &Conv, [ins, first]: [usize; 2], write: Write<'_>, dy: &Blocked, dx: &mut Blocked) {
        let passes = window(conv).scatter(dx.dims.extent);
        let range = first..first + dx.dims.channels;
        if self.in_tiles(conv.groups) {
            let weight = self.weight(conv.weight);
            let taps: usize = conv.kernel.iter().product();
            let at = |i: usize, o: usize, tap: usize| weight((o * ins + first + i) * taps + tap);
            let packed = TileWeights::new(&passes, range.len(), &[conv.out_channels], at);
            amx::run(self.isa, &passes, &packed, write, &[dy], dx, false);
            return;
        }
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
    fn step_backward<E: Element>(
        &self,
        step: &Step,
        tape: &Tape<E>,
        mut dy: Blocked,
        gradients: &mut Gradients,
        pool: &mut BufferPool,
        parameters: &mut [Vec<f32>],
    ) {
        let wanted = |id: NodeId| self.wanted(id);
        let Some(&first) = step.inputs.first() else {
            pool.give(dy);
            return;
        };
        match &step.kind {
            Kind::Conv(conv) => {
                if let Some(bias) = conv.bias {
                    add_to(&mut parameters[bias.0], &bias_gradient(&dy));
                }
                let pass = window(conv).gather(dy.dims.extent);
                let ins = step.inputs.iter().map(|&id| tape.plan.dims(id).channels).sum();
                let groups = Groups::new(conv, ins);
                let taps: usize = conv.kernel.iter().product();
                let mut channel = 0;
                for &input in &step.inputs {
                    let (target, count) = (&mut parameters[conv.weight.0], tape.plan.dims(input).channels);
                    let add = |target: &mut [f32], o: usize, i: usize, tap: usize, v: f32| {
                        target[(o * groups.ins + (channel + i) % groups.ins) * taps + tap] += v;
                    };
                    if self.in_tiles(conv.groups) {
                        let Some(x) = self.stored(tape, input, pool) else {
                            continue;
                        };
                        amx::weight_gradient(self.isa, &pass, &x, &dy, |o, i, tap, v| add(target, o, i, tap, v));
                        self.give_owned(x, pool);
                    } else {
                        let Some(x) = self.look(tape, input, pool) else {
                            continue;
                        };
                        if let Some(form) = winograd_form(conv, &pass, count, conv.out_channels) {
                            winograd::weight_gradient(self.isa, form, &x, &dy, [ins, channel], target);
                        } else {
                            let connected = |o, i| groups.connected(o, channel + i);
                            weight_gradient(self.isa, &pass, &x, &dy, connected, |o, i, tap, v| {
                                add(target, o, i, tap, v);
                            });
                        }
                        done(x, pool);
                    }
                    if wanted(input) {
                        gradients.write(input, &tape.plan, pool, |fresh, dx| {
                            let none = pack_bias(None, count);
                            let write = if fresh { Write::Set(&none) } else { Write::Add };
                            self.convolve_back(conv, [ins, channel], write, &dy, dx);
                        });
                    }
                    channel += count;
                }
                pool.give(dy);
            }
            Kind::ConvTranspose { kernel, weight, bias } => {
                if let Some(bias) = bias {
                    add_to(&mut parameters[bias.0], &bias_gradient(&dy));
                }
                if let Some(x) = self.stored(tape, first, pool) {
                    let taps: usize = kernel.iter().product();
                    let (ins, outs) = (x.dims.channels, dy.dims.channels);
                    let pass = Window::disjoint(*kernel).gather(x.dims.extent);
                    let target = &mut parameters[weight.0];
                    let add = |i: usize, o: usize, tap: usize, v: f32| target[(i * outs + o) * taps + tap] += v;
                    let tiles = self.in_tiles(1);
                    if tiles {
                        amx::weight_gradient(self.isa, &pass, &dy, &x, add);
                    } else {
                        weight_gradient(self.isa, &pass, &dy, &x.widened(self.isa), |_, _| true, add);
                    }
                    self.give_owned(x, pool);
                    if wanted(first) {
                        gradients.write(first, &tape.plan, pool, |fresh, dx| {
                            let none = pack_bias(None, ins);
                            let write = if fresh { Write::Set(&none) } else { Write::Add };
                            if tiles {
                                let weight = self.weight(*weight);
                                let at = |i: usize, o: usize, tap: usize| weight((i * outs + o) * taps + tap);
                                let passes = [pass];
                                let packed = TileWeights::new(&passes, ins, &[outs], at);
                                amx::run(self.isa, &passes, &packed, write, &[&dy], dx, false);
                            } else {
                                let packed = self.pack_transposed(*weight, [ins, outs], taps, &pass, true);
                                run_passes(self.isa, &[(&pass, &[packed])], write, &[&dy], dx, false);
                            }
                        });
                    }
                }
                pool.give(dy);
            }
            kind @ Kind::Norm { affine, moments, .. } => {
                if let Some(found) = &tape.statistics[step.output.0]
                    && let Some(x) = self.look(tape, first, pool)
                {
                    let tail = self.tail(kind, x.dims, Some(tape.seed));
                    let sums = norm::backward(self.isa, &x, found, &tail, moments.scope(true), &mut dy);
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
                    done(x, pool);
                }
                gradients.pass_on(first, &tape.plan, pool, dy);
            }
            Kind::Add { slope } => {
                if let Some(slope) = slope
                    && let Some(y) = self.look(tape, step.output, pool)
                {
                    pointwise::leaky_backward(self.isa, &y, *slope, &mut dy);
                    done(y, pool);
                }
                for &input in step.inputs.iter().skip(1).filter(|&&i| wanted(i)) {
                    gradients.add(input, &tape.plan, pool, &dy);
                }
                if wanted(first) {
                    gradients.pass_on(first, &tape.plan, pool, dy);
                } else {
                    pool.give(dy);
                }
            }
            _ => self.operation_backward(step, tape, dy, gradients, pool, parameters),
        }
    }

    /// Turns the gradients of the outputs into those of the parameters.
    fn differentiate<E: Element>(&self, mut tape: Tape<E>, gradients: &[Tensor]) -> Result<Vec<Vec<f32>>, NetError> {
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
        pool.hoards = true;
        let mut parameters: Vec<Vec<f32>> = self.graph.params.iter().map(|p| vec![0.0; p.len()]).collect();
        let isa = self.isa;
        let mut gradients_left = Gradients {
            isa,
            open: self.graph.nodes.iter().map(|_| None).collect(),
        };
        for (gradient, &id) in gradients.iter().zip(&self.graph.outputs) {
            gradients_left.scatter(id, &tape.plan, &mut pool, |dy| dy.load(isa, gradient));
        }
        for step in self.steps.iter().rev() {
            // Nothing before a step reads its value; neither do most steps themselves.
            let [_, own] = step.looks_back();
            let value = tape.values[step.output.0].take_if(|_| !own);
            value.into_iter().for_each(|value| self.give(value, &mut pool));
            if let Some(dy) = gradients_left.open[step.output.0].take() {
                self.step_backward(step, &tape, dy, &mut gradients_left, &mut pool, &mut parameters);
            }
            let value = tape.values[step.output.0].take();
            value.into_iter().for_each(|value| self.give(value, &mut pool));
        }
        self.give_pool(pool);
        Ok(parameters)
    }

    /// Takes back the buffers of a tape that nobody wants.
    fn forget<E: Element>(&self, tape: Tape<E>) {
        let mut pool = self.take_pool::<Lane>();
        let values = tape.values.into_iter().flatten();
        values.for_each(|value| self.give(value, &mut pool));
        self.give_pool(pool);
    }

    /// Whether the gradient of a value is of use: not that of the network's input.
    pub(crate) fn wanted(&self, id: NodeId) -> bool {
        !matches!(self.graph.nodes[id.0].op, Op::Input { .. })
    }
}

impl Executor for Engine {
    fn forward(&mut self, input: &Tensor, seed: u64) -> Result<Vec<Tensor>, NetError> {
        match self.tape.take() {
            Some(Tapes::Full(tape)) => self.forget(tape),
            Some(Tapes::Half(tape)) => self.forget(tape),
            None => {}
        }
        let training = Some(seed);
        let (outputs, tape) = if self.bf16 {
            let run = self.run_steps::<Half, _>(input, training, None, None, |values| self.tensors(values));
            run.map(|(outputs, tape)| (outputs, Tapes::Half(tape)))?
        } else {
            let run = self.run_steps::<Lane, _>(input, training, None, None, |values| self.tensors(values));
            run.map(|(outputs, tape)| (outputs, Tapes::Full(tape)))?
        };
        self.tape = Some(tape);
        Ok(outputs)
    }

    fn backward(&mut self, gradients: &[Tensor]) -> Result<Vec<Vec<f32>>, NetError> {
        match self.tape.take() {
            Some(Tapes::Full(tape)) => self.differentiate(tape, gradients),
            Some(Tapes::Half(tape)) => self.differentiate(tape, gradients),
            None => Err(fail("no forward pass before it")),
        }
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
        if self.bf16 && !self.shared {
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
    fn write(&mut self, id: NodeId, plan: &Plan, pool: &mut BufferPool, f: impl FnOnce(bool, &mut Blocked)) {
        match &mut self.open[id.0] {
            Some(gradient) => f(false, gradient),
            empty => {
                let mut gradient = pool.take(plan.gradient_dims(id));
                gradient.clear_halo();
                f(true, &mut gradient);
                *empty = Some(gradient);
            }
        }
    }

    /// The same for an `f` that can only write.
    pub(crate) fn scatter(&mut self, id: NodeId, plan: &Plan, pool: &mut BufferPool, f: impl FnOnce(&mut Blocked)) {
        let mut gradient = pool.take(plan.gradient_dims(id));
        f(&mut gradient);
        self.pass_on(id, plan, pool, gradient);
    }

    /// Adds a gradient that nobody needs afterwards.
    pub(crate) fn pass_on(&mut self, id: NodeId, plan: &Plan, pool: &mut BufferPool, gradient: Blocked) {
        if self.open[id.0].is_none() && gradient.dims == plan.gradient_dims(id) {
            self.open[id.0] = Some(gradient);
        } else {
            self.add(id, plan, pool, &gradient);
            pool.give(gradient);
        }
    }

    /// Adds a gradient.
    fn add(&mut self, id: NodeId, plan: &Plan, pool: &mut BufferPool, gradient: &Blocked) {
        let isa = self.isa;
        self.write(id, plan, pool, |fresh, sum| {
            if fresh {
                pointwise::add(isa, &[gradient.into()], None, sum);
            } else {
                pointwise::add_in_place(isa, sum, None, &[gradient.into()], None);
            }
        });
    }
}

/// Takes back the buffer of a value that was looked at.
pub(crate) fn done(value: Cow<'_, Blocked>, pool: &mut BufferPool) {
    if let Cow::Owned(value) = value {
        pool.give(value);
    }
}

fn fail(reason: &str) -> NetError {
    NetError::Backward {
        reason: reason.to_owned(),
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
