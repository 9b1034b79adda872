//! What a scan will cost, known from its header: memory, and about how long.

use crate::recipe::Stage;
use crate::{Model, PipelineError};
use viscera_engine::MemoryNeed;
use viscera_image::AxisMap;
use viscera_io::ImageFacts;
use viscera_net::Graph;

/// The program itself, its threads and its buffers for files, measured on small scans.
const PROGRAM_BYTES: u64 = 48 << 20;
/// Multiply-accumulates per multiply-add that the processor could do: what whole networks reach, measured. The forms of
/// convolution that save multiplications are in it, so it may exceed 1.
const EFFICIENCY: f64 = 0.8;
/// Voxels per second and thread of everything outside the networks: reading, turning, deciding, measuring, writing.
const VOXELS_PER_SECOND: f64 = 14e6;

/// What a scan costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Multiply-accumulates of all networks.
    pub macs: u64,
    /// Voxels of the scan.
    pub voxels: u64,
    /// Most bytes that the process holds while it segments this scan and no other.
    pub memory: u64,
    /// Bytes of the scan before and after: while it waits, and while its label map is written.
    pub waiting: u64,
}

/// What one scan costs with a model on so many threads.
///
/// Memory is an upper bound as far as it is known: each ROI is taken to be the whole scan. Intensities that are stored in
/// 16 bits but need more once they are scaled take twice the room that is counted.
///
/// # Errors
/// [`PipelineError::Network`] for a network that cannot run on its input.
pub fn estimate(model: &Model, scan: &ImageFacts, threads: usize) -> Result<Estimate, PipelineError> {
    let voxels = scan.geometry.len() as u64;
    let (mut macs, mut networks, mut passing) = (0u64, 0u64, 0u64);
    for network in model.networks() {
        let folds = network.folds.len() as u64;
        let stage = work(network.stage, network.graph, threads)?;
        macs = macs.saturating_add(stage.macs.saturating_mul(folds));
        networks = networks.saturating_add(stage.kept.saturating_mul(folds));
        passing = passing.max(stage.passing);
    }
    let turned = if AxisMap::to_ras(&scan.geometry) == AxisMap::IDENTITY {
        0
    } else {
        scan.bytes
    };
    let cropped = if model.networks().any(|n| n.stage.roi.is_some()) {
        scan.bytes
    } else {
        0
    };
    // First the network with its input cut out, then labels beside the turned scan, then labels pasted and turned back.
    let steps = [turned + cropped + passing, turned + voxels + passing, 3 * voxels];
    let peak = steps.into_iter().fold(0, u64::max);
    Ok(Estimate {
        macs,
        voxels,
        memory: PROGRAM_BYTES
            .saturating_add(networks)
            .saturating_add(scan.bytes)
            .saturating_add(peak),
        waiting: scan.bytes + voxels,
    })
}

/// What a stage's network costs, for one fold.
struct Work {
    macs: u64,
    /// Bytes that stay for the next scan: weights, as the model and as the engine have them, and its working memory.
    kept: u64,
    /// Bytes of input and logits.
    passing: u64,
}

fn work(stage: &Stage, graph: &Graph, threads: usize) -> Result<Work, PipelineError> {
    let failed = |source| crate::prepare::network_error(stage, source);
    let size = stage.network_size();
    let need = MemoryNeed::new(graph, 1, size, threads).map_err(failed)?;
    let shapes = graph.shapes(size).map_err(failed)?;
    let heads = graph.outputs.iter().filter_map(|output| shapes.nodes.get(output.0));
    let values = |(channels, extent): (usize, [usize; 3])| {
        extent.iter().fold(channels as u64, |n, &e| n.saturating_mul(e as u64))
    };
    let tensors = heads
        .copied()
        .map(values)
        .fold(values((graph.input_channels(), size)), u64::saturating_add);
    Ok(Work {
        macs: graph.counts(size).map_err(failed)?.macs,
        kept: (need.total() as u64).saturating_add(need.weights as u64),
        passing: tensors.saturating_mul(4),
    })
}

impl Estimate {
    /// About how many seconds it takes on a processor that does `peak_gflops` thousand million operations a second (two per
    /// multiply-add) on `threads` threads. Good to a factor of two or so; the first finished scan tells more.
    #[must_use]
    pub fn seconds(&self, peak_gflops: f64, threads: usize) -> f64 {
        let networks = self.macs as f64 / (peak_gflops * 0.5e9 * EFFICIENCY).max(1.0);
        networks + self.voxels as f64 / (VOXELS_PER_SECOND * threads as f64)
    }
}
