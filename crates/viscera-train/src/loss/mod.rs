//! What a training minimises: values, and gradients by the logits.
//!
//! The heads of a network are leaves: [`evaluate`] gives the gradient for each, and the executor carries it on. Two
//! mechanisms: `channels.rs` for sigmoid channels, `softmax.rs` for a softmax and its list of terms (`voxel.rs` has the
//! formulas of single voxels, `consistency.rs` the one that needs no labels).
//!
//! Both are fused passes: one for the sums, one for the gradient. The same definitions on Burn tensors with automatic
//! differentiation took ten times as long on a CPU, a third of a whole training step; they are the oracle of the tests,
//! beside PyTorch. Sums are made over fixed pieces and joined in order: the result does not depend on the number of
//! threads.

mod channels;
mod consistency;
mod enlarge;
mod math;
mod pieces;
mod softmax;
#[cfg(test)]
mod tests;
mod voxel;

use crate::TrainError;
pub(crate) use enlarge::Enlarge;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use viscera_image::AnnotatedClasses;
use viscera_net::Tensor;
use viscera_pipeline::recipe::{Formula, LossSettings, SoftmaxLoss, Stream};

/// What the logits should say: one label map per sample, on the grid of the finest head.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Label ids, `batch` maps one after the other.
    pub labels: &'a [u8],
    /// The same on the grids of the coarser heads, in their order; those of the nearest voxels if empty.
    pub coarser: &'a [Vec<u8>],
    /// The classes that each sample annotates.
    pub annotated: &'a [AnnotatedClasses],
    /// Where the labels of each sample come from; those of an unlabelled one are not looked at.
    pub streams: &'a [Stream],
    /// Label ids of the classes, without background: those of sigmoid channels 0, 1, …, of softmax channels 1, 2, ….
    pub classes: &'a [u8],
    /// Label id of voxels that teach nothing.
    pub ignore: Option<u8>,
}

/// The value of a loss and where it comes from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LossValue {
    /// Weighted sum of the terms.
    pub total: f64,
    /// Each term by its name, before its weight; the weighted mean over the heads.
    #[serde(flatten)]
    pub terms: BTreeMap<String, f64>,
}

impl LossValue {
    /// Adds another batch's, term by term.
    pub(crate) fn add(&mut self, other: &Self) {
        self.total += other.total;
        for (name, value) in &other.terms {
            *self.terms.entry(name.clone()).or_default() += value;
        }
    }

    /// Multiplies all by a factor.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.total *= factor;
        self.terms.values_mut().for_each(|value| *value *= factor);
    }
}

/// The loss, and its gradient for each head.
///
/// `heads` are logits `[batch, channels, z, y, x]`, the finest first; each gradient has its head's shape. `done` is the
/// share (0 to 1) of the run that is over, for terms whose weight rises.
///
/// # Errors
/// [`TrainError::Settings`] when the number of heads does not fit the settings, or a shape does not fit the target.
pub fn evaluate(
    settings: &LossSettings,
    heads: &[Tensor],
    target: Target<'_>,
    done: f64,
) -> Result<(LossValue, Vec<Tensor>), TrainError> {
    let finest = heads
        .first()
        .ok_or_else(|| TrainError::settings("the network has no output"))?;
    let [batch, channels, ..] = finest.shape();
    let voxels: usize = finest.spatial().iter().product();
    let expected = match settings {
        LossSettings::Channels(_) => target.classes.len(),
        LossSettings::Softmax(_) => target.classes.len() + 1,
    };
    let alike = heads
        .iter()
        .all(|head| head.shape()[..2] == [batch, channels] && !head.data().is_empty());
    let samples = [target.annotated.len(), target.streams.len()];
    let coarser = heads.iter().skip(1).zip(target.coarser);
    let coarser_fit = coarser.fold(true, |fit, (head, labels)| {
        fit && labels.len() == batch * head.spatial().iter().product::<usize>()
    });
    if !alike || !coarser_fit || channels != expected || samples != [batch; 2] || target.labels.len() != batch * voxels
    {
        return Err(TrainError::settings(format!(
            "logits of shape {:?} do not fit {} labels of {} samples with {} classes",
            finest.shape(),
            target.labels.len(),
            target.annotated.len(),
            target.classes.len()
        )));
    }
    match settings {
        LossSettings::Channels(loss) if heads.len() == 1 => {
            let (value, gradient) = channels::evaluate(loss, finest, target);
            Ok((value, vec![gradient]))
        }
        LossSettings::Channels(_) => Err(TrainError::settings(format!(
            "the loss of sigmoid channels takes one head, the network has {}",
            heads.len()
        ))),
        LossSettings::Softmax(loss) => softmax_heads(loss, heads, target, done),
    }
}

/// All terms on all heads.
fn softmax_heads(
    loss: &SoftmaxLoss,
    heads: &[Tensor],
    target: Target<'_>,
    done: f64,
) -> Result<(LossValue, Vec<Tensor>), TrainError> {
    let weights = loss.head_weights(heads.len()).ok_or_else(|| {
        TrainError::settings(format!(
            "loss.heads has {} weights, the network {} heads",
            loss.heads.len(),
            heads.len()
        ))
    })?;
    let mut value = LossValue::default();
    let mut gradients: Vec<Tensor> = heads.iter().map(|head| Tensor::zeros(head.shape())).collect();
    let size = heads.first().map_or([0; 3], Tensor::spatial);
    for (at, ((head, gradient), &weight)) in heads.iter().zip(&mut gradients).zip(&weights).enumerate() {
        if weight > 0.0 {
            let given = at.checked_sub(1).and_then(|at| target.coarser.get(at));
            let labels = match given {
                Some(labels) => Cow::Borrowed(labels.as_slice()),
                None => nearest(target.labels, size, head.spatial()),
            };
            let target = Target {
                labels: &labels,
                ..target
            };
            softmax::add_head(loss, head, target, weight, done, &mut value, gradient);
        }
    }
    for term in &loss.terms {
        if let Formula::PyramidConsistency { heads: count } = term.formula {
            let pyramid = heads.get(..count).ok_or_else(|| {
                TrainError::settings(format!(
                    "pyramid_consistency compares {count} heads, the network has {}",
                    heads.len()
                ))
            })?;
            let seen: Vec<usize> = (0..target.streams.len())
                .filter(|&s| term.sees(target.streams[s]))
                .collect();
            let found = consistency::add(pyramid, &seen, term.weight_at(done), &mut gradients[..count]);
            value.total += found * term.weight_at(done);
            value.terms.insert(term.name(), found);
        }
    }
    Ok((value, gradients))
}

/// Labels of a coarser grid over the same extent: those of the voxel in which the coarse voxel's centre lies, the upper
/// one at a border.
pub(crate) fn nearest(labels: &[u8], from: [usize; 3], to: [usize; 3]) -> Cow<'_, [u8]> {
    if from == to {
        return Cow::Borrowed(labels);
    }
    let places: [Vec<usize>; 3] = std::array::from_fn(|a| {
        let place = |i: usize| ((2 * i + 1) * from[a] / (2 * to[a])).min(from[a] - 1);
        (0..to[a]).map(place).collect()
    });
    let mut out = Vec::with_capacity(labels.len() / from.iter().product::<usize>() * to.iter().product::<usize>());
    for sample in labels.chunks_exact(from.iter().product()) {
        for z in &places[0] {
            for y in &places[1] {
                let row = &sample[(z * from[1] + y) * from[2]..][..from[2]];
                out.extend(places[2].iter().map(|&x| row[x]));
            }
        }
    }
    Cow::Owned(out)
}
