//! One training sample: a case, placed, resampled once, changed, and its intensities made the network's.

use crate::augment::{change_hu, change_normalised, copy_paste, place};
use crate::gather::gather;
use crate::view::fixed;
use crate::{StageCase, StageView, TrainError};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use viscera_image::{AnnotatedClasses, Geometry, Volume};
use viscera_net::Tensor;
use viscera_pipeline::normalise;
use viscera_pipeline::recipe::{Augment, Normalise, Stream, TrainingSettings, WindowZScore, ZScore};

/// HU outside the scan, for stages that see all of it.
const AIR: f32 = -1024.0;
/// Added to a case's standard deviation, as in inference.
const EPSILON: f64 = 1e-5;

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
    view: StageView,
    augment: Augment,
    seed: u64,
    batch: usize,
    /// Of a batch, the first that are not made to show foreground.
    anywhere: usize,
    foreground_share: f64,
    /// Samples from here on are not changed.
    plain_from: u64,
    /// The stream of each sample of a step; any where empty.
    slots: Vec<Stream>,
}

impl Sampler {
    /// Samples of a stage for a training.
    #[must_use]
    pub fn new(view: &StageView, settings: &TrainingSettings, seed: u64) -> Self {
        let batch = settings.batch_size.max(1);
        let plain = settings.plain_epochs.saturating_mul(settings.iterations_per_epoch);
        let slots = settings.streams.iter();
        Self {
            view: view.clone(),
            augment: settings.augment.effective(),
            seed,
            batch,
            anywhere: (batch as f64 * (1.0 - settings.foreground_share)).round() as usize,
            foreground_share: settings.foreground_share,
            plain_from: settings
                .steps()
                .saturating_sub(plain)
                .saturating_mul(settings.accumulate)
                .saturating_mul(batch as u64),
            slots: slots.flat_map(|(&stream, &n)| std::iter::repeat_n(stream, n)).collect(),
        }
    }

    /// The samples of batch `number`, counted from 0, of `cases` as the stage sees them. An optimiser step takes
    /// `accumulate` batches.
    ///
    /// # Errors
    /// [`TrainError::DataSet`] when there are no cases; [`TrainError::Image`] for an image without finite voxels.
    pub fn batch(&self, cases: &[StageCase], number: u64) -> Result<Batch, TrainError> {
        let first = number * self.batch as u64;
        let samples = (first..first + self.batch as u64)
            .map(|k| self.sample(cases, k))
            .collect::<Result<Vec<_>, _>>()?;
        join(samples, self.view.stage.network_size())
    }

    fn sample(&self, cases: &[StageCase], k: u64) -> Result<Sample, TrainError> {
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
        let mut rng = stream(self.seed, (1 << 32) + k);
        // nnU-Net makes the last of a batch show foreground; a batch of one does in its share of the steps.
        let foreground = match self.batch {
            _ if self.view.stage.inference.window.is_none() => false,
            1 => rng.random::<f64>() < self.foreground_share,
            batch => (k % batch as u64) as usize >= self.anywhere,
        };
        let none = Augment::default();
        let augment = if k < self.plain_from { &self.augment } else { &none };
        self.draw(case, augment, foreground, &mut rng)
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

    fn draw(
        &self,
        case: &StageCase,
        augment: &Augment,
        foreground: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Sample, TrainError> {
        let stage = &self.view.stage;
        let size = stage.network_size();
        let partial = case.annotated.len() < self.view.classes.entries().len();
        let placement = place(case, stage, partial, foreground, augment, rng);
        let (all, patches) = ([f32::NEG_INFINITY, f32::INFINITY], stage.inference.window.is_some());
        let window = match &stage.normalise {
            Normalise::Window(w) => w.window_hu.map(|v| v as f32),
            Normalise::Channels(channels) => fixed(channels).map_or(all, |(window, ..)| window.map(|v| v as f32)),
        };
        let first = match &stage.normalise {
            Normalise::Window(w) => w.window_first,
            Normalise::Channels(_) => true,
        };
        // What a sliding window meets beyond the scan is 0 after normalisation.
        let [mean, std] = case.moments;
        let outside = if patches { mean as f32 } else { AIR };
        let (hu, mut labels) = gather(case, &placement, size, if first { window } else { all }, outside);
        let mut volume = Volume::new(Geometry::ras(size, placement.spacing), hu)?;
        change_hu(&mut volume, &labels, case.annotated, augment, rng);
        copy_paste(volume.data_mut(), &mut labels, size, augment, rng);
        match &stage.normalise {
            Normalise::Window(w) if !patches => normalise(&mut volume, *w)?,
            Normalise::Channels(channels) if !patches && fixed(channels).is_none() => {
                let rule = WindowZScore {
                    window_hu: [f64::NEG_INFINITY, f64::INFINITY],
                    zscore: ZScore::Case,
                    window_first: true,
                };
                normalise(&mut volume, rule)?;
            }
            rule => {
                let std = std
                    + if matches!(rule, Normalise::Window(_)) {
                        EPSILON
                    } else {
                        0.0
                    };
                let (mean, scale) = (mean as f32, 1.0 / std.max(1e-8) as f32);
                for v in volume.data_mut() {
                    *v = (v.clamp(window[0], window[1]) - mean) * scale;
                }
            }
        }
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
