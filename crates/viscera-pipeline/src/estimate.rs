//! What a scan will cost, known from its header: memory, and about how long.

use crate::grid::Grid;
use crate::prepare::network_error;
use crate::recipe::{Method, PostRule, Resample, Stage};
use crate::window::{SHRINKS, positions};
use crate::{PipelineError, Segmenter};
use viscera_engine::{MemoryNeed, Precision};
use viscera_image::{AxisMap, Geometry, scan_rule_bytes};
use viscera_io::ImageFacts;
use viscera_net::Graph;

/// The program itself, its threads and its buffers for files, measured on small scans.
const PROGRAM_BYTES: u64 = 48 << 20;
/// Multiply-accumulates per multiply-add that the processor could do. Networks of eight channels reach less than a third,
/// wide ones all of it and more, because some convolutions save multiplications; this lies between.
const EFFICIENCY: f64 = 0.5;
/// Voxels per second and thread of everything outside the networks: reading, turning, deciding, measuring, writing. On one
/// thread it is twice that, but not all of it is shared among threads.
const VOXELS_PER_SECOND: f64 = 20e6;
/// Share of a scan that is taken to be the region around what an earlier stage finds. For the time alone.
const REGION_SHARE: f64 = 0.4;

/// What a scan costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Multiply-accumulates of all networks; of those that look at a region, as much as such regions usually need.
    pub macs: u64,
    /// Voxels of the scan.
    pub voxels: u64,
    /// Most bytes that the process holds while it segments this scan and no other.
    pub memory: u64,
    /// Bytes of the scan before and after: while it waits, and while its label map is written.
    pub waiting: u64,
    /// By how many eighths the patches of sliding windows are shorter than the recipe has them, to save memory.
    pub shrunk: u8,
}

/// What one scan costs on so many threads; where more than `limit` bytes, with patches that are made smaller until it is
/// no more, or as small as they can be.
///
/// Memory is an upper bound as far as it is known: each region is taken to be the whole scan. Intensities that are stored
/// in 16 bits but need more once they are scaled take twice the room that is counted.
///
/// # Errors
/// [`PipelineError::Network`] for a network that cannot run on its input; [`PipelineError::Image`] for a grid that cannot
/// be.
pub fn estimate(
    segmenter: &Segmenter,
    scan: &ImageFacts,
    threads: usize,
    limit: Option<u64>,
) -> Result<Estimate, PipelineError> {
    let whole = with_patches(segmenter, scan, threads, 0)?;
    let Some(limit) = limit.filter(|limit| whole.memory > *limit) else {
        return Ok(whole);
    };
    let mut least = whole;
    for eighths in 1..=SHRINKS {
        // A network that cannot run on such a patch may run on the next.
        match with_patches(segmenter, scan, threads, eighths) {
            Ok(estimate) if estimate.memory <= limit => return Ok(estimate),
            Ok(estimate) if estimate.memory < least.memory => least = estimate,
            _ => {}
        }
    }
    Ok(least)
}

fn with_patches(
    segmenter: &Segmenter,
    scan: &ImageFacts,
    threads: usize,
    shrunk: u8,
) -> Result<Estimate, PipelineError> {
    let voxels = scan.geometry.len() as u64;
    let (mut macs, mut kept, mut passing) = (0u64, 0u64, 0u64);
    let mut turned = 0;
    for (stage, network) in segmenter.stages().zip(segmenter.model().networks()) {
        let stage = &stage.with_patches(shrunk);
        let map = stage.frame(&scan.geometry)?;
        // A scan whose axes only run backwards is turned where it lies.
        if map.perm() != AxisMap::IDENTITY.perm() {
            turned = scan.bytes;
        }
        let grid = map.geometry(&scan.geometry);
        let folds = network.folds.len() as u64;
        let precision = segmenter.options().precision;
        let work = work(stage, network.graph, &grid, folds, threads, precision)?;
        macs = macs.saturating_add(work.macs);
        kept = kept.saturating_add(work.kept);
        passing = passing.max(work.passing);
        // Labels are cleaned when the networks are done.
        if stage.postprocess.iter().any(PostRule::sees_scan) {
            passing = passing.max(scan_rule_bytes(&grid));
        }
    }
    // The labels of one stage, of all, and on the file's grid.
    let labels = 3 * voxels;
    Ok(Estimate {
        macs,
        voxels,
        memory: [PROGRAM_BYTES, kept, scan.bytes, turned, passing, labels]
            .into_iter()
            .fold(0, u64::saturating_add),
        waiting: scan.bytes + voxels,
        shrunk,
    })
}

/// What a stage's networks cost.
struct Work {
    macs: u64,
    /// Bytes that stay for the next scan: the model's weights.
    kept: u64,
    /// Bytes of input and logits, and of the engines.
    passing: u64,
}

fn work(
    stage: &Stage,
    graph: &Graph,
    scan: &Geometry,
    folds: u64,
    threads: usize,
    precision: Precision,
) -> Result<Work, PipelineError> {
    let failed = |source| network_error(stage, source);
    let graph = stage.inference_graph(graph).map_err(failed)?;
    let size = stage.network_size();
    let need = MemoryNeed::with_precision(&graph, 1, size, threads, precision).map_err(failed)?;
    let shapes = graph.shapes(size).map_err(failed)?;
    let channels = graph
        .outputs
        .first()
        .and_then(|o| shapes.nodes.get(o.0))
        .map_or(0, |s| s.0);
    let grid = Grid::new(stage, scan)?.shape;

    let mirrors = 1u64 << stage.inference.mirror.len();
    let each = graph.counts(size).map_err(failed)?.macs.saturating_mul(mirrors * folds);
    let share = match (&stage.roi, &stage.resample) {
        (Some(_), Resample::Spacing(_)) => REGION_SHARE,
        _ => 1.0,
    };
    // Input and output of a run, once more as mirrored or summed; a single run hands on slabs.
    let single = mirrors * folds == 1;
    let mut passing = values(size, 1 + if single { 0 } else { 2 * channels });
    passing = passing.saturating_add((need.values + need.scratch) as u64);
    let macs = match stage.inference.window {
        None => each,
        Some(window) => {
            let padded: [usize; 3] = std::array::from_fn(|a| grid[a].max(window.patch[a]));
            let starts = (0..3).map(|a| positions(padded[a], window.patch[a], window.step).len() as u64);
            let patches = starts.fold(1, u64::saturating_mul);
            let sums = values([window.patch[0], padded[1], padded[2]], 2 * channels);
            passing = passing.saturating_add(values(padded, 1)).saturating_add(sums);
            each.saturating_mul((patches as f64 * share).ceil() as u64)
        }
    };
    passing = passing.saturating_add(values(grid, 1));
    if let Resample::Spacing(spacing) = &stage.resample
        && spacing.image.method != Method::AlignCorners
    {
        // Before it is resampled, the part is cut out.
        passing = passing.saturating_add(values(scan.shape, 2));
    }
    // The engine and the model share one copy of the weights.
    let model: usize = graph.params.iter().map(|p| 4 * p.len()).sum();
    Ok(Work {
        macs,
        kept: (model as u64).saturating_mul(folds),
        passing: passing.saturating_add((need.packed as u64).saturating_mul(folds)),
    })
}

/// Bytes of so many values per voxel.
fn values(shape: [usize; 3], each: usize) -> u64 {
    shape.iter().fold(4 * each as u64, |n, &e| n.saturating_mul(e as u64))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{NetworkSpec, Recipe, sample};
    use crate::{Model, SegmentOptions, Tta};

    const PATCH: [usize; 3] = [16, 24, 32];

    fn facts(shape: [usize; 3], spacing: f64) -> ImageFacts {
        let geometry = Geometry::ras(shape, [spacing; 3]);
        let bytes = 2 * geometry.len() as u64;
        ImageFacts { geometry, bytes }
    }

    /// A small network at 2 mm, by a sliding window; wide enough for kernels that need room to work in.
    fn sliding(options: &SegmentOptions) -> Segmenter {
        let mut recipe = sample::sliding();
        let stage = &mut recipe.stages[0];
        if let (Resample::Spacing(grid), NetworkSpec::PlainUnet(plan), Some(window)) =
            (&mut stage.resample, &mut stage.network, &mut stage.inference.window)
        {
            (grid.spacing_mm, grid.image.method) = ([2.0; 3], Method::AlignCorners);
            (plan.features, plan.deep_supervision) = (vec![16, 32], false);
            window.patch = PATCH;
        }
        let labels = recipe.label_table().unwrap();
        Segmenter::new(Model::fresh("small", recipe, labels, 1).unwrap(), options).unwrap()
    }

    #[test]
    fn every_patch_every_mirror_counts() {
        let segmenter = sliding(&SegmentOptions::default());
        let once = segmenter
            .model()
            .network(None)
            .unwrap()
            .graph
            .counts(PATCH)
            .unwrap()
            .macs;
        let macs =
            |segmenter: &Segmenter, shape, spacing| estimate(segmenter, &facts(shape, spacing), 2, None).unwrap().macs;
        // Smaller than a patch; then 32 × 48 × 64 voxels at 2 mm, with patches half over each other: 3 per axis.
        assert_eq!(macs(&segmenter, [5, 6, 7], 2.0), once);
        assert_eq!(macs(&segmenter, [32, 48, 64], 2.0), 27 * once);
        assert_eq!(macs(&segmenter, [64, 96, 128], 1.0), 27 * once);
        let options = SegmentOptions {
            tta: Some(Tta::Mirror),
            step_size: Some(1.0),
            ..SegmentOptions::default()
        };
        assert_eq!(macs(&sliding(&options), [32, 48, 64], 2.0), 8 * 8 * once);
    }

    #[test]
    fn memory_grows_with_the_scan_and_with_what_turns_it() {
        let segmenter = sliding(&SegmentOptions::default());
        let small = facts([50, 100, 100], 2.0);
        let need = |facts: &ImageFacts, threads| estimate(&segmenter, facts, threads, None).unwrap();
        let mut turned = small.clone();
        turned.geometry.direction[2] = [-1.0, 0.0, 0.0];
        assert_eq!(need(&turned, 1).memory, need(&small, 1).memory);
        turned.geometry.direction.swap(1, 2);
        assert_eq!(need(&turned, 1).memory - need(&small, 1).memory, small.bytes);
        let long = facts([100, 100, 100], 2.0);
        // The scan, three label maps and the network's input grow; the window's sums do not.
        let more = 500_000 * (2 + 3 + 4 + 4);
        assert_eq!(need(&long, 1).memory - need(&small, 1).memory, more);
        assert_eq!(need(&small, 1).waiting, 500_000 * 3);
        assert!(need(&small, 8).memory > need(&small, 1).memory);
        let quick = need(&small, 2);
        assert!(quick.seconds(100.0, 2) > quick.seconds(200.0, 2) && quick.seconds(1e9, 2) > 0.0);
    }

    /// Networks that see any scan as one small grid need less than rules that look at a large scan do.
    #[test]
    fn rules_that_look_at_the_scan_count() {
        let need = |fits: bool, facts: &ImageFacts| {
            let mut recipe = Recipe::builtin("efficientsegnet-small").unwrap();
            if !fits {
                let rules = recipe.stages.iter_mut().map(|stage| &mut stage.postprocess);
                rules.for_each(|rules| rules.retain(|rule| !rule.sees_scan()));
            }
            let labels = recipe.label_table().unwrap();
            let model = Model::fresh("borders", recipe, labels, 1).unwrap();
            let segmenter = Segmenter::new(model, &SegmentOptions::default()).unwrap();
            estimate(&segmenter, facts, 1, None).unwrap().memory
        };
        let (small, large) = (facts([60, 100, 100], 3.0), facts([900, 512, 512], 1.0));
        assert_eq!(need(true, &small), need(false, &small));
        // Two bytes a voxel, and 12 + 2 × 3 slices twice over in f32.
        let fitting = 512 * 512 * (2 * 900 + 8 * 18);
        let fixed = PROGRAM_BYTES + large.bytes + 3 * large.geometry.len() as u64;
        assert!(need(true, &large) > need(false, &large));
        assert!(need(true, &large) >= fixed + fitting);
    }

    #[test]
    fn patches_shrink_until_it_fits_and_no_further() {
        let segmenter = sliding(&SegmentOptions::default());
        let scan = facts([50, 100, 100], 2.0);
        let least = |limit| estimate(&segmenter, &scan, 2, limit).unwrap();
        let whole = least(None);
        assert_eq!(least(Some(whole.memory)), whole);
        let smaller = least(Some(whole.memory - 1));
        assert!(smaller.shrunk > 0 && smaller.memory < whole.memory && smaller.macs > whole.macs / 8);
        let smallest = least(Some(1));
        assert!(smallest.shrunk >= smaller.shrunk && smallest.memory <= smaller.memory);
    }
}
