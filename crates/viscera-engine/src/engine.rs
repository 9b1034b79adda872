//! The executor: walks the steps of a graph forward. The way back is in `backward.rs`.

pub(crate) mod backward;

use crate::Isa;
use crate::element::{Element, Half, Pools, Precision};
use crate::kernels::activation::Pointwise;
use crate::kernels::amx::{self, TileWeights};
use crate::kernels::conv::{PackedWeights, TapPass, Window, Write, pack_bias, run_passes};
use crate::kernels::moments::Partial;
use crate::kernels::norm::{self, Affine, Deferred, Statistics, Tail};
use crate::kernels::packed::Kept;
use crate::kernels::pointwise::{self, Summand};
use crate::kernels::scope::Scope;
use crate::kernels::winograd::{self, Form, WinogradWeights};
use crate::layout::{Blocked, BufferPool, Dims, Lane};
use crate::plan::{Kind, Moments, Plan, Step, steps, window};
use crate::vector::round;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Instant;
use viscera_net::{Conv, Executor as _, Graph, NetError, Op, ParamId, Tensor, Weights, dropout_keeps};

/// A network ready to run on this machine's CPU.
#[derive(Debug)]
pub struct Engine {
    pub(crate) graph: Graph,
    steps: Vec<Step>,
    /// Those of convolutions are empty where they are in `rounded`.
    weights: Weights,
    /// By parameter: weights of convolutions in bf16.
    rounded: Vec<Vec<u16>>,
    /// All of them, for who asks.
    whole: OnceLock<Weights>,
    /// Forward weights of each step.
    packed: Vec<StepWeights>,
    pub(crate) isa: Isa,
    /// Whether values are stored in bf16.
    bf16: bool,
    /// Whether weights stay in f32 whatever the values are.
    shared: bool,
    pools: Pools,
    tape: Option<Tapes>,
}

/// How an [`Engine`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How values are stored.
    pub precision: Precision,
    /// The kernel path. One that this processor lacks falls back to the best that it has.
    pub isa: Isa,
    /// Whether the caller keeps the weights in any case: the engine then shares them and makes no copy in bf16.
    pub shared: bool,
}

impl Default for Options {
    /// f32 on the best path.
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            isa: Isa::detect(),
            shared: false,
        }
    }
}

impl From<Precision> for Options {
    /// On the best path.
    fn from(precision: Precision) -> Self {
        Self {
            precision,
            ..Self::default()
        }
    }
}

/// What one step of a run took.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// Name of the node that the step begins with; norms, activations and sums behind it may be part of it.
    pub node: String,
    /// What it does.
    pub op: &'static str,
    /// Seconds.
    pub seconds: f64,
    /// Multiply-accumulates, counted as the network asks for them and not as the kernel does them.
    pub macs: u64,
}

/// Weights of a step in the forms that its kernels read, each made when a run first needs it.
#[derive(Debug, Default)]
struct StepWeights {
    /// One per pass or per input.
    direct: OnceLock<Vec<PackedWeights>>,
    /// For F(2, 3), and with F(4, 3) along x.
    winograd: [OnceLock<WinogradWeights>; 2],
    /// For AMX.
    tiles: OnceLock<TileWeights>,
}

/// What a forward pass in training mode leaves for the backward pass.
#[derive(Debug)]
pub(crate) struct Tape<E = Lane> {
    pub(crate) plan: Plan,
    pub(crate) seed: u64,
    /// Those that the backward pass looks at and cannot make again from others.
    pub(crate) values: Vec<Option<Blocked<E>>>,
    statistics: Vec<Option<Statistics>>,
}

/// A tape of values in either form.
#[derive(Debug)]
enum Tapes {
    Full(Tape<Lane>),
    Half(Tape<Half>),
}

impl Engine {
    /// Prepares a graph with its weights, to run in f32.
    ///
    /// # Errors
    /// When the weights do not fit the graph, or the graph has an operation that the engine does not know.
    pub fn new(graph: &Graph, weights: &Weights) -> Result<Self, NetError> {
        Self::with_options(graph, weights, Options::default())
    }

    /// As [`Self::new`], with a chosen kernel path, for tests and comparisons.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_isa(graph: &Graph, weights: &Weights, isa: Isa) -> Result<Self, NetError> {
        let options = Options {
            isa,
            ..Options::default()
        };
        Self::with_options(graph, weights, options)
    }

    /// As [`Self::new`], with other settings: `Engine::with_options(graph, weights, Precision::Auto.into())`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_options(graph: &Graph, weights: &Weights, options: Options) -> Result<Self, NetError> {
        let mut engine = Self {
            graph: graph.clone(),
            steps: steps(graph)?,
            weights: Weights::default(),
            rounded: Vec::new(),
            whole: OnceLock::new(),
            packed: Vec::new(),
            isa: options.isa.min(Isa::detect()),
            bf16: options.precision.is_bf16(),
            shared: options.shared,
            pools: Pools::default(),
            tape: None,
        };
        engine.set_parameters(weights)?;
        Ok(engine)
    }

    /// How values are stored while the network runs: [`Precision::F32`] or [`Precision::Bf16`].
    #[must_use]
    pub fn precision(&self) -> Precision {
        if self.bf16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// Runs the network; gives one tensor per graph output.
    ///
    /// # Errors
    /// When the input does not fit the graph.
    pub fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, NetError> {
        self.infer_steps(input, None)
    }

    /// As [`Self::run`], with the time of every step.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_timed(&self, input: &Tensor) -> Result<(Vec<Tensor>, Vec<StepTime>), NetError> {
        let macs = self.graph.node_macs(input.spatial())?;
        let mut seconds = Vec::with_capacity(self.steps.len());
        let outputs = self.infer_steps(input, Some(&mut seconds))?;
        let times = self.steps.iter().zip(seconds).map(|(step, seconds)| StepTime {
            node: self.graph.nodes[step.first.0].name.clone(),
            op: step.kind.name(),
            seconds,
            macs: macs[step.first.0].saturating_mul(input.shape()[0] as u64),
        });
        Ok((outputs, times.collect()))
    }

    /// Runs the network and hands its first output on in slabs of at most `height` slices (z), in rising order: the place
    /// of the first slice, and the slices. The whole output never exists as a tensor.
    ///
    /// # Errors
    /// When the input does not fit the graph; the first error of `read`, which ends the reading.
    pub fn run_in_slabs<R: From<NetError>>(
        &self,
        input: &Tensor,
        height: usize,
        read: &mut dyn FnMut(usize, Tensor) -> Result<(), R>,
    ) -> Result<(), R> {
        if self.bf16 {
            self.slabs::<Half, R>(input, height, read)
        } else {
            self.slabs::<Lane, R>(input, height, read)
        }
    }

    fn slabs<E: Element, R: From<NetError>>(
        &self,
        input: &Tensor,
        height: usize,
        read: &mut dyn FnMut(usize, Tensor) -> Result<(), R>,
    ) -> Result<(), R> {
        let height = height.max(1);
        let finish = |values: &[Option<Blocked<E>>]| {
            let first = self.graph.outputs.first();
            let Some(output) = first.and_then(|id| values[id.0].as_ref()) else {
                return Ok(());
            };
            let depth = output.dims.extent[0];
            for start in (0..depth).step_by(height) {
                let slices = start..(start + height).min(depth);
                read(start, output.store_slices(self.isa, slices))?;
            }
            Ok(())
        };
        self.run_steps::<E, _>(input, None, None, Some(height), finish)?.0
    }

    /// Runs all steps and keeps nothing.
    fn infer_steps(&self, input: &Tensor, seconds: Option<&mut Vec<f64>>) -> Result<Vec<Tensor>, NetError> {
        Ok(if self.bf16 {
            self.run_steps::<Half, _>(input, None, seconds, None, |values| self.tensors(values))?
                .0
        } else {
            self.run_steps::<Lane, _>(input, None, seconds, None, |values| self.tensors(values))?
                .0
        })
    }

    /// The outputs as plain tensors.
    fn tensors<E: Element>(&self, values: &[Option<Blocked<E>>]) -> Vec<Tensor> {
        let outputs = self.graph.outputs.iter();
        outputs
            .filter_map(|id| values[id.0].as_ref().map(|value| value.store(self.isa)))
            .collect()
    }

    pub(crate) fn param(&self, id: ParamId) -> &[f32] {
        &self.weights.values[id.0]
    }

    /// The values of a convolution's weights, as they count.
    fn weight(&self, id: ParamId) -> impl Fn(usize) -> f32 + Sync {
        let full: &[f32] = &self.weights.values[id.0];
        let rounded = self.rounded.get(id.0).map_or(&[][..], Vec::as_slice);
        let bf16 = self.bf16;
        move |i| match rounded.get(i) {
            Some(&bits) => f32::from_bits(u32::from(bits) << 16),
            None if bf16 => f32::from_bits(u32::from(round(full[i])) << 16),
            None => full[i],
        }
    }

    /// How a convolution's weights are packed for the forward pass.
    fn kept(&self, id: ParamId) -> Kept {
        if self.bf16 {
            Kept::half((0..self.graph.params[id.0].len()).map(self.weight(id)))
        } else {
            Kept::Full
        }
    }

    fn take_pool<E: Element>(&self) -> BufferPool<Vec<E>> {
        E::pool(&self.pools)
            .lock()
            .map(|mut pool| std::mem::take(&mut *pool))
            .unwrap_or_default()
    }

    fn give_pool<E: Element>(&self, pool: BufferPool<Vec<E>>) {
        if let Ok(mut place) = E::pool(&self.pools).lock() {
            *place = pool;
        }
    }

    /// Forward weights of a transposed convolution, one per pass.
    fn pack_transposed_all(&self, kernel: [usize; 3], weight: ParamId) -> Vec<PackedWeights> {
        let shape = &self.graph.params[weight.0].shape;
        let channels = [shape[0], shape[1]];
        Window::disjoint(kernel)
            .scatter(kernel)
            .iter()
            .map(|pass| self.pack_transposed(weight, channels, kernel.iter().product(), pass, false))
            .collect()
    }

    /// Whether convolutions with so many groups multiply tiles of bf16. With few channels most of a tile is empty, and it
    /// is still the faster way.
    fn in_tiles(&self, groups: usize) -> bool {
        self.bf16 && groups == 1 && self.isa.multiplies_tiles()
    }

    /// Runs a transposed convolution forward.
    fn convolve_transposed<E: Element>(
        &self,
        kernel: [usize; 3],
        weight: ParamId,
        weights: &StepWeights,
        bias: &[Lane],
        x: &Blocked<E>,
        y: &mut Blocked<E>,
    ) {
        let passes = Window::disjoint(kernel).scatter(y.dims.extent);
        let (ins, outs) = (x.dims.channels, y.dims.channels);
        if self.in_tiles(1) {
            let packed = weights.tiles.get_or_init(|| {
                let weight = self.weight(weight);
                let taps: usize = kernel.iter().product();
                let at = |o: usize, i: usize, tap: usize| weight((i * outs + o) * taps + tap);
                TileWeights::new(&Window::disjoint(kernel).scatter(kernel), outs, &[ins], at)
            });
            amx::run(self.isa, &passes, packed, Write::Set(bias), &[x], y, false);
            return;
        }
        let packed = weights.direct.get_or_init(|| self.pack_transposed_all(kernel, weight));
        let passes: Vec<_> = passes.iter().zip(packed.chunks(1)).collect();
        run_passes(self.isa, &passes, Write::Set(bias), &[x], y, false);
    }

    /// Runs a convolution forward, over the channels of all of `xs` one after the other, by whichever kernel suits it.
    fn convolve<E: Element>(
        &self,
        conv: &Conv,
        weights: &StepWeights,
        write: Write<'_>,
        xs: &[&Blocked<E>],
        y: &mut Blocked<E>,
        moments: bool,
    ) -> Vec<Partial> {
        let pass = window(conv).gather(y.dims.extent);
        let ins: usize = xs.iter().map(|x| x.dims.channels).sum();
        if self.in_tiles(conv.groups) {
            let passes = [pass];
            let packed = weights.tiles.get_or_init(|| {
                let weight = self.weight(conv.weight);
                let taps: usize = conv.kernel.iter().product();
                let channels: Vec<usize> = xs.iter().map(|x| x.dims.channels).collect();
                let at = |o: usize, i: usize, tap: usize| weight((o * ins + i) * taps + tap);
                TileWeights::new(&passes, conv.out_channels, &channels, at)
            });
            return amx::run(self.isa, &passes, packed, write, xs, y, moments);
        }
        if let Some(form) = winograd_form(conv, &pass, ins, conv.out_channels) {
            let packed = weights.winograd[usize::from(form.is_wide())]
                .get_or_init(|| self.transform(conv, form, &pass, ins, 0..ins, false));
            return winograd::run(self.isa, packed, write, xs, y, moments);
        }
        let packed = weights.direct.get_or_init(|| {
            let mut first = 0;
            xs.iter()
                .map(|x| {
                    let range = first..first + x.dims.channels;
                    first = range.end;
                    self.pack_conv(conv, ins, range, &pass, false)
                })
                .collect()
        });
        run_passes(self.isa, &[(&pass, packed)], write, xs, y, moments)
    }

    /// Winograd's weights of a convolution without groups, for the input channels `range` out of `ins`.
    fn transform(
        &self,
        conv: &Conv,
        form: Form,
        pass: &TapPass,
        ins: usize,
        range: Range<usize>,
        reverse: bool,
    ) -> WinogradWeights {
        let weight = self.weight(conv.weight);
        let taps: usize = conv.kernel.iter().product();
        let at = |o: usize, i: usize, tap: usize| weight((o * ins + range.start + i) * taps + tap);
        if reverse {
            let turned = |i, o, tap| at(o, i, tap);
            WinogradWeights::new(self.isa, form, pass, range.len(), conv.out_channels, turned, Kept::Full)
        } else {
            let kept = self.kept(conv.weight);
            WinogradWeights::new(self.isa, form, pass, conv.out_channels, range.len(), at, kept)
        }
    }

    /// Packed weights of a convolution's pass, for the input channels `range` out of `ins`; `reverse` for the gradient of
    /// its input.
    fn pack_conv(&self, conv: &Conv, ins: usize, range: Range<usize>, pass: &TapPass, reverse: bool) -> PackedWeights {
        let weight = self.weight(conv.weight);
        let groups = Groups::new(conv, ins);
        let taps: usize = conv.kernel.iter().product();
        let (first, count) = (range.start, range.len());
        let at = move |o: usize, i: usize, tap: usize| weight((o * groups.ins + (first + i) % groups.ins) * taps + tap);
        if reverse {
            let connected = |i, o| groups.connected(o, first + i);
            let turned = |i, o, tap| at(o, i, tap);
            PackedWeights::new(self.isa, pass, count, conv.out_channels, connected, turned, Kept::Full)
        } else {
            let connected = |o, i| groups.connected(o, first + i);
            let kept = self.kept(conv.weight);
            PackedWeights::new(self.isa, pass, conv.out_channels, count, connected, at, kept)
        }
    }

    /// Packed weights of a transposed convolution's pass; `reverse` for the gradient of its input.
    fn pack_transposed(
        &self,
        id: ParamId,
        [ins, outs]: [usize; 2],
        taps: usize,
        pass: &TapPass,
        reverse: bool,
    ) -> PackedWeights {
        let weight = self.weight(id);
        let at = move |i: usize, o: usize, tap: usize| weight((i * outs + o) * taps + tap);
        if reverse {
            PackedWeights::new(self.isa, pass, ins, outs, |_, _| true, at, Kept::Full)
        } else {
            let turned = |o, i, tap| at(i, o, tap);
            PackedWeights::new(self.isa, pass, outs, ins, |_, _| true, turned, self.kept(id))
        }
    }

    /// Runs all steps and lets `finish` read the values of the outputs, which it makes tensors of, in slabs of `height`
    /// slices or whole. With `training`, what the backward pass looks at stays. `seconds` gets the time of each step.
    fn run_steps<E: Element, R>(
        &self,
        input: &Tensor,
        training: Option<u64>,
        mut seconds: Option<&mut Vec<f64>>,
        height: Option<usize>,
        finish: impl FnOnce(&[Option<Blocked<E>>]) -> R,
    ) -> Result<(R, Tape<E>), NetError> {
        let channels = match self.graph.nodes.first().map(|n| &n.op) {
            Some(Op::Input { channels }) => *channels,
            _ => 0,
        };
        if input.shape()[1] != channels || input.shape()[0] == 0 {
            return Err(NetError::Shape {
                node: "input".to_owned(),
                reason: format!("takes {channels} channels, got a tensor of shape {:?}", input.shape()),
            });
        }
        let plan = Plan::new(&self.graph, &self.steps, input.shape()[0], input.spatial())?;
        let mut pool = self.take_pool::<E>();
        pool.hoards = training.is_some();
        let mut values: Vec<Option<Blocked<E>>> = self.graph.nodes.iter().map(|_| None).collect();
        let mut statistics = vec![None; self.graph.nodes.len()];
        let mut deferred: Vec<Option<Deferred>> = self.graph.nodes.iter().map(|_| None).collect();
        let mut left = plan.readers.clone();
        for (step, packed) in self.steps.iter().zip(&self.packed) {
            let start = Instant::now();
            // Of no use to the next training step, whose weights are others.
            let once = StepWeights::default();
            let weights = if training.is_some() { &once } else { packed };
            // An input that nobody else reads may become the output; while training, only a sum's, and no input that the
            // backward pass looks at.
            let first = step.inputs.first().copied();
            let in_place = match (&step.kind, first, training) {
                (_, Some(first), None) if step.in_place() => left[first.0] == 1,
                (Kind::Add { .. }, Some(first), Some(_)) => left[first.0] == 1 && !plan.kept[first.0],
                _ => false,
            };
            let mut output = match first {
                Some(first) if in_place => match values[first.0].take() {
                    Some(value) => value,
                    None => pool.take(plan.dims(step.output)),
                },
                _ => pool.take(plan.dims(step.output)),
            };
            self.run_step(
                step,
                weights,
                in_place,
                input,
                training,
                &values,
                &mut statistics,
                &mut deferred,
                &mut output,
            );
            values[step.output.0] = Some(output);
            for read in step.reads() {
                left[read.0] -= 1;
                if left[read.0] == 0
                    && !(training.is_some() && plan.kept[read.0])
                    && let Some(value) = values[read.0].take()
                {
                    pool.give(value);
                }
            }
            if let Some(seconds) = &mut seconds {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        // The tensors take the place of buffers that are free.
        let lanes = self.graph.outputs.iter().map(|id| {
            let dims = plan.dims(*id);
            let depth = dims.extent[0].max(1);
            dims.lanes() / depth * height.map_or(depth, |height| height.min(depth))
        });
        let lanes: usize = lanes.sum();
        drop(pool.trim(lanes * size_of::<Lane>() / size_of::<E>(), usize::MAX));
        let outputs = finish(&values);
        if training.is_none() {
            values.iter_mut().filter_map(Option::take).for_each(|v| pool.give(v));
        }
        self.give_pool(pool);
        let tape = Tape {
            plan,
            seed: training.unwrap_or(0),
            values,
            statistics,
        };
        Ok((outputs, tape))
    }

    /// Scope and constant of the norm that reads a value, if there is one that needs the value's moments: these are then
    /// gathered as it is made. Dropout that does nothing may stand between.
    fn norm_behind(&self, id: viscera_net::NodeId, training: bool) -> Option<(Scope, f32)> {
        self.steps.iter().find_map(|step| match &step.kind {
            Kind::Norm { moments, eps, .. } if step.inputs[0] == id => {
                moments.scope(training).map(|scope| (scope, *eps))
            }
            Kind::Dropout { .. } if step.inputs[0] == id && !training && self.only_reader(id) => {
                self.norm_behind(step.output, false)
            }
            _ => None,
        })
    }

    /// Whether one step, and no output of the network, reads a value.
    fn only_reader(&self, id: viscera_net::NodeId) -> bool {
        let steps = self.steps.iter().filter(|step| step.reads().contains(&id)).count();
        steps + self.graph.outputs.iter().filter(|o| **o == id).count() == 1
    }

    /// Whether a sum reads a value, once, and nobody else does.
    fn only_added(&self, id: viscera_net::NodeId) -> bool {
        let reads = |step: &Step| step.reads().iter().filter(|read| **read == id).count();
        let added = |step: &Step| matches!(step.kind, Kind::Add { .. }) && reads(step) == 1;
        self.only_reader(id) && self.steps.iter().any(added)
    }

    /// Statistics of a norm that takes them from elsewhere than its input.
    fn fixed(&self, moments: Moments, dims: Dims, eps: f32) -> Statistics {
        match moments {
            Moments::Running { mean, variance } => Statistics::fixed(dims, self.param(mean), self.param(variance), eps),
            _ => Statistics::fixed(dims, &[0.0], &[1.0], 0.0),
        }
    }

    fn tail(&self, kind: &Kind, dims: Dims, training: Option<u64>) -> Tail {
        let Kind::Norm {
            affine: [weight, bias],
            dropout,
            slope,
            then,
            ..
        } = kind
        else {
            return Tail::new(dims, Affine::default(), None, None, |_, _| 1.0);
        };
        let affine = Affine {
            weight: weight.map(|id| self.param(id)),
            bias: bias.map(|id| self.param(id)),
        };
        let then = then.and_then(|f| Pointwise::new(f, dims.blocks(), |id| self.param(id)));
        Tail::new(dims, affine, *slope, then, |sample, channel| {
            match (training, dropout) {
                (Some(seed), Some((node, p))) => dropout_factor(seed, node.0, sample, channel, *p),
                _ => 1.0,
            }
        })
    }

    fn run_step<E: Element>(
        &self,
        step: &Step,
        weights: &StepWeights,
        in_place: bool,
        input: &Tensor,
        training: Option<u64>,
        values: &[Option<Blocked<E>>],
        statistics: &mut [Option<Statistics>],
        deferred: &mut [Option<Deferred>],
        output: &mut Blocked<E>,
    ) {
        let read: Vec<&Blocked<E>> = step.reads().iter().filter_map(|id| values[id.0].as_ref()).collect();
        match &step.kind {
            Kind::Input => output.load(self.isa, input),
            Kind::Conv(conv) => {
                let bias = pack_bias(conv.bias.map(|b| self.param(b)), conv.out_channels);
                output.clear_halo();
                let norm = self.norm_behind(step.output, training.is_some());
                let parts = self.convolve(conv, weights, Write::Set(&bias), &read, output, norm.is_some());
                statistics[step.output.0] = norm.map(|(scope, eps)| Statistics::join(output.dims, &parts, scope, eps));
            }
            Kind::ConvTranspose { kernel, bias, weight } => {
                let bias = pack_bias(bias.map(|b| self.param(b)), output.dims.channels);
                output.clear_halo();
                self.convolve_transposed(*kernel, *weight, weights, &bias, read[0], output);
            }
            Kind::Norm { moments, eps, .. } => {
                let tail = self.tail(&step.kind, output.dims, training);
                let gathered = statistics[step.inputs[0].0].take();
                let find = |x: &Blocked<E>| match moments.scope(training.is_some()) {
                    Some(scope) => gathered.unwrap_or_else(|| norm::statistics(self.isa, x, scope, *eps)),
                    None => self.fixed(*moments, x.dims, *eps),
                };
                if in_place {
                    let found = find(output);
                    // A sum can do it as it loads, which saves a walk through memory.
                    if training.is_none() && tail.can_wait() && self.only_added(step.output) {
                        deferred[step.output.0] = Some(Deferred::new(found, tail));
                    } else {
                        norm::forward_in_place(self.isa, output, &found, &tail);
                    }
                } else {
                    let found = find(read[0]);
                    norm::forward(self.isa, read[0], &found, &tail, output);
                    statistics[step.output.0] = Some(found);
                }
            }
            Kind::Add { slope } => {
                let summand = |id: &viscera_net::NodeId| {
                    let norm = deferred[id.0].as_ref();
                    values[id.0].as_ref().map(|value| Summand { value, norm })
                };
                // In place, the first one's buffer has become the output's.
                let summands: Vec<Summand<'_, E>> = step.reads().iter().filter_map(summand).collect();
                if in_place {
                    let norm = deferred[step.inputs[0].0].as_ref();
                    pointwise::add_in_place(self.isa, output, norm, &summands, *slope);
                } else {
                    pointwise::add(self.isa, &summands, *slope, output);
                }
            }
            // In place, dropout between a convolution and a norm hands on what was gathered.
            Kind::Dropout { .. } if in_place => {
                statistics[step.output.0] = statistics[step.inputs[0].0].take();
            }
            _ => self.run_operation(step, in_place, training, &read, output),
        }
    }
}

/// Which channels a grouped convolution joins.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    /// Channels of the input and of the output per group.
    ins: usize,
    outs: usize,
}

impl Groups {
    pub(crate) fn new(conv: &Conv, in_channels: usize) -> Self {
        Self {
            ins: in_channels / conv.groups,
            outs: conv.out_channels / conv.groups,
        }
    }

    pub(crate) fn connected(self, o: usize, i: usize) -> bool {
        o / self.outs == i / self.ins
    }
}

/// The Winograd form of a convolution's pass where it has one that pays.
pub(crate) fn winograd_form(conv: &Conv, pass: &TapPass, ins: usize, outs: usize) -> Option<Form> {
    let form = Form::of(pass).filter(|_| conv.groups == 1)?;
    form.best(ins, outs, pass.count)
}

pub(crate) fn dropout_factor(seed: u64, node: usize, sample: usize, channel: usize, p: f32) -> f32 {
    if dropout_keeps(seed, node, sample, channel, p) {
        1.0 / (1.0 - p)
    } else {
        0.0
    }
}
