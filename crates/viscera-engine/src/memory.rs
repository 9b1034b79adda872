//! How much memory a run takes, known before it.

use crate::Isa;
use crate::element::{Half, Precision};
use crate::engine::{Groups, winograd_form};
use crate::kernels::amx::{self, TileWeights};
use crate::kernels::conv::{PackedWeights, Window, staged_bytes};
use crate::kernels::packed::HalfLane;
use crate::kernels::winograd::WinogradWeights;
use crate::layout::{BufferPool, Dims, Found, Lane};
use crate::plan::{Kind, Plan, Step, steps, window};
use viscera_net::{Graph, NetError, ParamId};

/// Bytes that an [`crate::Engine`] holds while a forward pass runs. The input and output tensors, which belong to the
/// caller, are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryNeed {
    /// The network's weights: f32, or bf16 those of convolutions.
    pub weights: usize,
    /// The same in the forms that kernels read, for inputs of this size.
    pub packed: usize,
    /// Values between operations, at their peak.
    pub values: usize,
    /// What the kernels of all threads work in.
    pub scratch: usize,
}

impl MemoryNeed {
    /// For one forward pass in f32 over `batch` samples of `spatial` (z, y, x) voxels on so many threads.
    ///
    /// # Errors
    /// Those of [`Graph::shapes`], and an operation that the engine does not know.
    pub fn new(graph: &Graph, batch: usize, spatial: [usize; 3], threads: usize) -> Result<Self, NetError> {
        Self::with_precision(graph, batch, spatial, threads, Precision::F32)
    }

    /// The same for an engine that stores values with this precision.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_precision(
        graph: &Graph,
        batch: usize,
        spatial: [usize; 3],
        threads: usize,
        precision: Precision,
    ) -> Result<Self, NetError> {
        let bf16 = precision.is_bf16();
        let element = if bf16 { size_of::<Half>() } else { size_of::<Lane>() };
        let steps = steps(graph)?;
        let rounded = |id: usize| bf16 && steps.iter().any(|step| step.convolved() == Some(ParamId(id)));
        let plan = Plan::new(graph, &steps, batch, spatial)?;
        let mut need = Self {
            weights: (0..graph.params.len())
                .map(|id| graph.params[id].len().saturating_mul(if rounded(id) { 2 } else { 4 }))
                .sum(),
            values: values(&plan, &steps) * element,
            ..Self::default()
        };
        for step in &steps {
            let (packed, mut scratch) = convolution(&plan, step, bf16);
            need.packed += packed;
            scratch *= threads;
            if bf16 && step.is_widened() {
                // A copy of the input and the output in lanes.
                let lanes = |id| plan.dims(id).lanes() * size_of::<Lane>();
                scratch += lanes(step.inputs[0]) + lanes(step.output);
            }
            need.scratch = need.scratch.max(scratch);
        }
        Ok(need)
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        self.weights + self.packed + self.values + self.scratch
    }
}

/// Follows the buffers of a run from an empty pool; gives elements.
fn values(plan: &Plan, steps: &[Step]) -> usize {
    let mut left = plan.readers.clone();
    let mut buffers: Vec<Option<usize>> = vec![None; left.len()];
    let mut pool = BufferPool::<usize>::default();
    let (mut all, mut peak) = (0, 0);
    for step in steps {
        let first = step.inputs.first().copied();
        let in_place = first.filter(|first| step.in_place() && left[first.0] == 1);
        let taken = in_place.and_then(|first| buffers[first.0].take());
        buffers[step.output.0] = Some(taken.unwrap_or_else(|| {
            let lanes = plan.dims(step.output).lanes();
            match pool.find(lanes) {
                Found::Fits(buffer) => buffer,
                Found::None(dropped) => {
                    all += lanes;
                    all -= dropped.iter().sum::<usize>();
                    lanes
                }
            }
        }));
        peak = peak.max(all);
        for read in step.reads() {
            left[read.0] -= 1;
            if left[read.0] == 0
                && let Some(buffer) = buffers[read.0].take()
            {
                pool.put(buffer);
            }
        }
    }
    peak
}

/// Bytes of packed weights of a step, and of scratch per thread.
fn convolution(plan: &Plan, step: &Step, bf16: bool) -> (usize, usize) {
    let lane = if bf16 { size_of::<HalfLane>() } else { size_of::<Lane>() };
    let Some(&input) = step.inputs.first() else {
        return (0, 0);
    };
    let (mut x, y): (Dims, Dims) = (plan.dims(input), plan.dims(step.output));
    match &step.kind {
        Kind::Conv(conv) => {
            x.channels = step.inputs.iter().map(|&id| plan.dims(id).channels).sum();
            let pass = window(conv).gather(y.extent);
            if bf16 && conv.groups == 1 && Isa::detect().multiplies_tiles() {
                let channels: Vec<usize> = step.inputs.iter().map(|&id| plan.dims(id).channels).collect();
                let passes = [pass];
                return (
                    TileWeights::bytes(&passes, y.channels, &channels),
                    amx::scratch_bytes(&passes, &channels, y.batch),
                );
            }
            if let Some(form) = winograd_form(conv, &pass, x.channels, y.channels) {
                let packed = WinogradWeights::bytes(form, x.channels, y.channels, lane);
                return (packed, form.scratch_bytes(y.extent, x.blocks()));
            }
            let groups = Groups::new(conv, x.channels);
            let connected = |o, i| groups.connected(o, i);
            (
                PackedWeights::bytes(pass.taps.len(), y.channels, x.channels, connected, lane),
                if bf16 { staged_bytes(&[pass], x.blocks()) } else { 0 },
            )
        }
        Kind::ConvTranspose { kernel, .. } => {
            let passes = Window::disjoint(*kernel).scatter(y.extent);
            if bf16 && Isa::detect().multiplies_tiles() {
                let channels = [x.channels];
                return (
                    TileWeights::bytes(&passes, y.channels, &channels),
                    amx::scratch_bytes(&passes, &channels, y.batch),
                );
            }
            let taps = kernel.iter().product();
            (
                PackedWeights::bytes(taps, y.channels, x.channels, |_, _| true, lane),
                if bf16 { staged_bytes(&passes, x.blocks()) } else { 0 },
            )
        }
        _ => (0, 0),
    }
}
