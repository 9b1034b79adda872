//! Many scans through one model: what is to be done, what is done already, and doing it.
//!
//! While one scan is segmented, the next one is read and the last one is written. At most three scans are in memory.

mod resume;
mod run;
mod workers;

pub use resume::StoredManifest;
pub use run::{Event, Summary};

use crate::{Estimate, JobOptions, ModelFacts, PipelineError, Segmenter, Settings, SourceFile, estimate};
use rayon::prelude::*;
use std::path::PathBuf;
use viscera_io::{ImageFacts, InputCase, image_facts};

/// A scan of which the header was read.
#[derive(Debug)]
pub struct Probed {
    /// The scan.
    pub case: InputCase,
    /// Its files and what its header says, or why it cannot be used.
    pub facts: Result<(Vec<SourceFile>, ImageFacts), PipelineError>,
}

/// Reads the headers of scans, in their order; many at a time.
#[must_use]
pub fn probe(cases: Vec<InputCase>, options: &JobOptions) -> Vec<Probed> {
    let facts = |case: &InputCase| Ok((SourceFile::of(&case.path)?, image_facts(&case.path, &options.read())?));
    cases
        .into_par_iter()
        .map(|case| Probed {
            facts: facts(&case),
            case,
        })
        .collect()
}

/// The share `id` (from 0) of a sorted list that is split into `parts`: items `id`, `id + parts`, and so on, as nnU-Net
/// splits. All shares together are the list, each item once.
#[must_use]
pub fn part<T>(items: Vec<T>, parts: usize, id: usize) -> Vec<T> {
    items.into_iter().skip(id).step_by(parts.max(1)).collect()
}

/// How to run a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOptions {
    /// Folder for the results.
    pub out: PathBuf,
    /// How to read, and what to write.
    pub job: JobOptions,
    /// Leave out what is finished.
    pub resume: bool,
    /// End with the first scan that fails.
    pub fail_fast: bool,
    /// Most bytes that the process may hold; scans that need more fail before they are read.
    pub max_memory: Option<u64>,
}

/// What a batch will cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forecast {
    /// Scans to be segmented.
    pub scans: usize,
    /// Multiply-accumulates and voxels of all of them.
    pub total: Estimate,
    /// Most bytes that the process holds.
    pub memory: u64,
    /// Whether reading and writing overlap with computing; not where that would need more than the limit.
    pub overlap: bool,
}

/// Scans, a model and a folder: what is to be done.
#[derive(Debug)]
pub struct Batch {
    segmenter: Segmenter,
    options: BatchOptions,
    /// To be done, in order.
    queue: Vec<Queued>,
    finished: Vec<StoredManifest>,
    forecast: Forecast,
}

/// A scan to be done.
#[derive(Debug)]
struct Queued {
    case: InputCase,
    /// What it will cost, or why it cannot be done.
    estimate: Result<Estimate, PipelineError>,
}

impl Batch {
    /// Finds out what is finished, and what the rest costs. What stands against a scan is found when its turn comes.
    #[must_use]
    pub fn new(segmenter: Segmenter, scans: Vec<Probed>, options: BatchOptions) -> Self {
        let (mut queue, mut finished) = (Vec::new(), Vec::new());
        let settings = Settings {
            segment: segmenter.options().clone(),
            write: options.job.clone(),
        };
        let threads = rayon::current_num_threads();
        for scan in scans {
            if options.resume
                && let Ok((source, _)) = &scan.facts
                && let Some(found) = resume::finished(&options.out, &scan.case, source, &settings, segmenter.model())
            {
                finished.push(found);
                continue;
            }
            let facts = scan
                .facts
                .and_then(|(_, facts)| estimate(&segmenter, &facts, threads, options.max_memory));
            queue.push(Queued {
                estimate: facts.and_then(|estimate| within(estimate, options.max_memory, &scan.case)),
                case: scan.case,
            });
        }
        let forecast = Forecast::new(&queue, options.max_memory);
        Self {
            segmenter,
            options,
            queue,
            finished,
            forecast,
        }
    }

    /// What is finished and will not be done again.
    #[must_use]
    pub fn finished(&self) -> &[StoredManifest] {
        &self.finished
    }

    /// What the rest will cost.
    #[must_use]
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// The model.
    ///
    /// # Errors
    /// As [`ModelFacts::new`].
    pub fn model(&self) -> Result<ModelFacts, PipelineError> {
        ModelFacts::new(self.segmenter.model())
    }
}

fn within(estimate: Estimate, limit: Option<u64>, case: &InputCase) -> Result<Estimate, PipelineError> {
    match limit {
        Some(limit) if estimate.memory > limit => Err(PipelineError::NeedsMemory {
            path: case.path.clone(),
            needed: estimate.memory,
            limit,
        }),
        _ => Ok(estimate),
    }
}

impl Forecast {
    fn new(queue: &[Queued], limit: Option<u64>) -> Self {
        let scans: Vec<Estimate> = queue.iter().filter_map(|q| q.estimate.as_ref().ok()).copied().collect();
        let mut total = Estimate::default();
        let (mut alone, mut beside) = (0, 0);
        for (i, scan) in scans.iter().enumerate() {
            total.macs = total.macs.saturating_add(scan.macs);
            total.voxels = total.voxels.saturating_add(scan.voxels);
            let neighbour = |i: Option<usize>| i.and_then(|i| scans.get(i)).map_or(0, |s| s.waiting);
            let others = neighbour(i.checked_sub(1)).saturating_add(neighbour(Some(i + 1)));
            alone = alone.max(scan.memory);
            beside = beside.max(scan.memory.saturating_add(others));
        }
        let overlap = limit.is_none_or(|limit| beside <= limit);
        let memory = if overlap { beside } else { alone };
        total.memory = memory;
        Self {
            scans: queue.len(),
            total,
            memory,
            overlap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_and_stay_the_same() {
        let all: Vec<u32> = (0..11).collect();
        assert_eq!(part(all.clone(), 3, 1), [1, 4, 7, 10]);
        let mut joined: Vec<u32> = (0..3).flat_map(|id| part(all.clone(), 3, id)).collect();
        joined.sort_unstable();
        assert_eq!(joined, all);
        assert_eq!(part(all.clone(), 1, 0), all);
        assert!(part(all, 20, 15).is_empty());
    }

    fn queued(memory: u64, waiting: u64, limit: Option<u64>) -> Queued {
        let estimate = Estimate {
            macs: 1,
            voxels: 2,
            memory,
            waiting,
            shrunk: 0,
        };
        let case = InputCase {
            name: "a".to_owned(),
            path: PathBuf::from("a.nii"),
        };
        Queued {
            estimate: within(estimate, limit, &case),
            case,
        }
    }

    #[test]
    fn scans_overlap_only_where_memory_allows_it() {
        let forecast = |limit| {
            let queue = [queued(100, 10, limit), queued(120, 20, limit), queued(90, 5, limit)];
            Forecast::new(&queue, limit)
        };
        let free = forecast(None);
        assert_eq!((free.scans, free.memory, free.overlap), (3, 120 + 10 + 5, true));
        assert_eq!((free.total.macs, free.total.voxels), (3, 6));
        assert!(forecast(Some(135)).overlap);
        let tight = forecast(Some(134));
        assert_eq!((tight.memory, tight.overlap), (120, false));
        // What does not fit at all is no part of it.
        let small = forecast(Some(100));
        assert_eq!((small.scans, small.memory, small.total.macs), (3, 100, 2));
    }
}
