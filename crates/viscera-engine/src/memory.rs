//! How much memory a run takes, known before it.

use crate::engine::{Groups, winograd_form};
use crate::kernels::conv::{PackedWeights, Window};
use crate::kernels::winograd::WinogradWeights;
use crate::layout::{BufferPool, Dims, Found, Lane};
use crate::plan::{Kind, Plan, Step, steps, window};
use viscera_net::{Graph, NetError};

/// Bytes that an [`crate::Engine`] holds while a forward pass runs. The input and output tensors, which belong to the
/// caller, are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryNeed {
    /// The network's weights, f32.
    pub weights: usize,
    /// The same in the forms that kernels read, for inputs of this size.
    pub packed: usize,
    /// Values between operations, at their peak.
    pub values: usize,
    /// What the kernels of all threads work in.
    pub scratch: usize,
}

impl MemoryNeed {
    /// For one forward pass over `batch` samples of `spatial` (z, y, x) voxels on so many threads.
    ///
    /// # Errors
    /// Those of [`Graph::shapes`], and an operation that the engine does not know.
    pub fn new(graph: &Graph, batch: usize, spatial: [usize; 3], threads: usize) -> Result<Self, NetError> {
        let steps = steps(graph)?;
        let plan = Plan::new(graph, &steps, batch, spatial)?;
        let mut need = Self {
            weights: graph.params.iter().map(|p| p.len().saturating_mul(4)).sum(),
            values: values(&plan, &steps),
            ..Self::default()
        };
        for step in &steps {
            let (packed, scratch) = convolution(&plan, step);
            need.packed += packed;
            need.scratch = need.scratch.max(scratch * threads);
        }
        Ok(need)
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        self.weights + self.packed + self.values + self.scratch
    }
}

/// Follows the buffers of a run from an empty pool.
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
                    all += lanes - dropped.unwrap_or(0);
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
    peak * size_of::<Lane>()
}

/// Bytes of packed weights of a step, and of scratch per thread.
fn convolution(plan: &Plan, step: &Step) -> (usize, usize) {
    let Some(&input) = step.inputs.first() else {
        return (0, 0);
    };
    let (mut x, y): (Dims, Dims) = (plan.dims(input), plan.dims(step.output));
    match &step.kind {
        Kind::Conv(conv) => {
            x.channels = step.inputs.iter().map(|&id| plan.dims(id).channels).sum();
            let pass = window(conv).gather(y.extent);
            if let Some(form) = winograd_form(conv, &pass, x.channels, y.channels) {
                let packed = WinogradWeights::bytes(form, x.channels, y.channels);
                return (packed, form.scratch_bytes(y.extent, x.blocks()));
            }
            let groups = Groups::new(conv, x.channels);
            let connected = |o, i| groups.connected(o, i);
            (
                PackedWeights::bytes(pass.taps.len(), y.channels, x.channels, connected),
                0,
            )
        }
        Kind::ConvTranspose { kernel, .. } => {
            let taps = Window::disjoint(*kernel).kernel.iter().product();
            (PackedWeights::bytes(taps, y.channels, x.channels, |_, _| true), 0)
        }
        _ => (0, 0),
    }
}
