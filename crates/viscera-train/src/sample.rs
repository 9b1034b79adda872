//! One training sample: a case, placed, resampled once, changed, windowed and z-scored for one stage.

use crate::augment::{change_hu, change_normalised, place};
use crate::gather::gather;
use crate::{CachedCase, TrainError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use viscera_image::{AnnotatedClasses, Geometry, Volume};
use viscera_net::Tensor;
use viscera_pipeline::normalise;
use viscera_pipeline::recipe::{Augment, Stage, Stream};

/// Samples of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[batch, 1, z, y, x]`.
    pub input: Tensor,
    /// Label ids on the network's grid, sample after sample.
    pub labels: Vec<u8>,
    /// The classes that each sample annotates.
    pub annotated: Vec<AnnotatedClasses>,
    /// Where the labels of each sample come from.
    pub streams: Vec<Stream>,
}

/// Draws samples for one stage. Sample k is a function of the seed and k alone.
#[derive(Debug, Clone)]
pub struct Sampler {
    stage: Stage,
    /// Number of classes of the recipe.
    classes: usize,
    augment: Augment,
    seed: u64,
    /// The stream of each sample of a step; any where empty.
    slots: Vec<Stream>,
}

impl Sampler {
    /// A sampler; `augment` as the recipe spells it.
    #[must_use]
    pub fn new(stage: &Stage, classes: usize, augment: &Augment, seed: u64) -> Self {
        Self {
            stage: stage.clone(),
            classes,
            augment: augment.effective(),
            seed,
            slots: Vec::new(),
        }
    }

    /// The same sampler with so many samples of each stream in a row, and again from the first stream on.
    #[must_use]
    pub fn with_streams(mut self, streams: &BTreeMap<Stream, usize>) -> Self {
        self.slots = streams
            .iter()
            .flat_map(|(&stream, &n)| std::iter::repeat_n(stream, n))
            .collect();
        self
    }

    /// Samples `first .. first + count`, from `cases`.
    ///
    /// # Errors
    /// [`TrainError::DataSet`] when there are no cases; [`TrainError::Image`] for an image without finite voxels.
    pub fn batch(&self, cases: &[CachedCase], first: u64, count: usize) -> Result<Batch, TrainError> {
        let samples = (first..first + count as u64)
            .map(|k| self.sample(cases, k))
            .collect::<Result<Vec<_>, _>>()?;
        join(samples, self.stage.fixed_size()?.size)
    }

    fn sample(&self, cases: &[CachedCase], k: u64) -> Result<Sample, TrainError> {
        let (wanted, number) = self.slot(k);
        let fits = |at: &usize| wanted.is_none_or(|stream| cases[*at].stream == stream);
        // All cases (of a stream) once, in a new order each time. Numbers below 2^32 are orders, those above are samples.
        let mut order: Vec<usize> = (0..cases.len()).filter(fits).collect();
        let count = order.len() as u64;
        if count == 0 {
            return Err(TrainError::DataSet {
                reason: match wanted {
                    Some(stream) => format!("there is no case to train on of the stream {stream:?}").to_lowercase(),
                    None => "there is no case to train on".to_owned(),
                },
            });
        }
        let apart = wanted.map_or(0, |stream| (1 + stream as u64) << 28);
        order.shuffle(&mut stream(self.seed, apart + number / count));
        let case = &cases[order[(number % count) as usize]];
        self.draw(case, &self.augment, &mut stream(self.seed, (1 << 32) + k))
    }

    /// The stream that sample `k` is from, and which one of that stream's samples it is.
    fn slot(&self, k: u64) -> (Option<Stream>, u64) {
        let of = |slots: &[Stream], stream| slots.iter().filter(|s| **s == stream).count() as u64;
        let Some(step) = k.checked_div(self.slots.len() as u64) else {
            return (None, k);
        };
        let (before, rest) = self.slots.split_at((k % self.slots.len() as u64) as usize);
        match rest.first() {
            Some(&stream) => (Some(stream), step * of(&self.slots, stream) + of(before, stream)),
            None => (None, k),
        }
    }

    /// The sample that inference would see of a case; for a stage with a ROI, that of a perfect localiser.
    ///
    /// # Errors
    /// [`TrainError::Image`] for an image without finite voxels.
    pub fn plain(&self, case: &CachedCase) -> Result<Batch, TrainError> {
        let sample = self.draw(case, &Augment::default(), &mut stream(self.seed, u64::MAX))?;
        join(vec![sample], self.stage.fixed_size()?.size)
    }

    fn draw(&self, case: &CachedCase, augment: &Augment, rng: &mut ChaCha8Rng) -> Result<Sample, TrainError> {
        let size = self.stage.fixed_size()?.size;
        let partial = case.annotated.len() < self.classes;
        let placement = place(case, &self.stage, size, partial, augment, rng);
        let (hu, labels) = gather(&case.image, &case.labels, &placement, size);
        let mut volume = Volume::new(Geometry::ras(size, placement.spacing), hu)?;
        change_hu(&mut volume, &labels, case.annotated, augment, rng);
        normalise(&mut volume, self.stage.window_zscore()?)?;
        change_normalised(&mut volume, augment, rng);
        Ok(Sample {
            input: volume.into_parts().1,
            labels,
            annotated: case.annotated,
            stream: case.stream,
        })
    }
}

struct Sample {
    input: Vec<f32>,
    labels: Vec<u8>,
    annotated: AnnotatedClasses,
    stream: Stream,
}

fn join(samples: Vec<Sample>, [z, y, x]: [usize; 3]) -> Result<Batch, TrainError> {
    let annotated: Vec<AnnotatedClasses> = samples.iter().map(|s| s.annotated).collect();
    let labels = samples.iter().flat_map(|s| &s.labels).copied().collect();
    let batch = samples.len();
    let mut values = Vec::with_capacity(batch * z * y * x);
    samples.iter().for_each(|s| values.extend_from_slice(&s.input));
    Ok(Batch {
        input: Tensor::new([batch, 1, z, y, x], values)?,
        labels,
        annotated,
        streams: samples.iter().map(|s| s.stream).collect(),
    })
}

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}
