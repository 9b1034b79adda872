//! Soft Dice and focal loss of sigmoid channels, with the gradients of the logits.
//!
//! With p = sigmoid(logit) and g the 0/1 target, after EfficientSegNet (arXiv:2109.10601):
//! * Dice of one sample and channel: `1 − (2 Σpg + smooth) / (Σp² + Σg² + smooth)`, averaged over all annotated
//!   (sample, channel) pairs. With `batch_dice` the sums run over the samples of the batch that annotate the channel.
//! * Focal (Lin et al. 2017): `Σ α_t (1 − p_t)^γ BCE` over the voxels of all annotated channels, divided by
//!   `max(Σg, 1)` over the same voxels; all classes share the divisor, so that a tiny organ does not count thousandfold.
//!   Fresh weights (p = ½) give about 0.09 · channels / (share of foreground voxels), some 10 for 13 organs, and it falls
//!   below the Dice term within the first hundred steps.
//!
//! Channels of classes that a sample does not annotate have no loss and no gradient.
//!
//! A class that is annotated but absent from the sample has Σg = 0. With the original `smooth` of 1e-8 its Dice term is 1
//! whatever is predicted, and its gradient `2 p smooth / (Σp² + smooth)²` is nothing: false positives cost nothing. A
//! `smooth` of about the size in voxels of the smallest organ makes the term fall from 1 towards 0 as Σp² falls below it,
//! and gives the gradient a size; the focal term, too, tells absent from present.

use super::math::{LANES, Lanes, exp_neg, ln_1p, sigmoid};
use super::{LossValue, Target};
use rayon::prelude::*;
use viscera_net::Tensor;
use viscera_pipeline::recipe::{ChannelLoss, Stream};

/// Voxels per piece of work: its arrays stay in the first-level cache.
const CHUNK: usize = 4096;

/// The loss and its gradient; shapes fit.
pub(super) fn evaluate(settings: &ChannelLoss, logits: &Tensor, target: Target<'_>) -> (LossValue, Tensor) {
    let [_, channels, ..] = logits.shape();
    let voxels: usize = logits.spatial().iter().product();
    let row = |at: usize| Row {
        logits: logits.channel(at / channels, at % channels),
        labels: &target.labels[at / channels * voxels..(at / channels + 1) * voxels],
        class: target.classes[at % channels],
        annotated: target.streams[at / channels] != Stream::Unlabelled
            && target.annotated[at / channels].contains(target.classes[at % channels]),
        ignore: target.ignore,
    };

    // First pass: sums, and p into the gradient's place.
    let mut gradient = Tensor::zeros(logits.shape());
    let sums: Vec<Sums> = gradient
        .data_mut()
        .par_chunks_mut(voxels)
        .enumerate()
        .map(|(at, p)| row(at).sums(settings, p))
        .collect();
    let positives: f64 = sums.iter().map(|s| s.g).sum();
    let focal_share = 1.0 / positives.max(1.0);
    let fractions = fractions(settings, &sums, channels, |at| row(at).annotated);
    // Each fraction counts once: one per pair, or one per channel when the batch is pooled.
    let counted = fractions.iter().flatten().filter(|f| f.counts).count();
    let dice_share = 1.0 / counted.max(1) as f64;

    // Second pass: the gradient.
    gradient
        .data_mut()
        .par_chunks_mut(voxels)
        .zip(&fractions)
        .enumerate()
        .for_each(|(at, (p, fraction))| {
            if let Some(fraction) = fraction {
                let dice = fraction
                    .slopes()
                    .map(|s| (s * dice_share * f64::from(settings.dice)) as f32);
                let focal = (focal_share * f64::from(settings.focal)) as f32;
                row(at).gradient(settings, dice, focal, p);
            }
        });

    let mut dice = 0.0;
    if settings.dice > 0.0 {
        let losses = fractions.iter().flatten().filter(|f| f.counts).map(Fraction::loss);
        dice = losses.sum::<f64>() * dice_share;
    }
    let focal = sums.iter().map(|s| s.focal).sum::<f64>() * focal_share;
    let value = LossValue {
        total: f64::from(settings.dice) * dice + f64::from(settings.focal) * focal,
        terms: [("dice".to_owned(), dice), ("focal".to_owned(), focal)].into(),
    };
    (value, gradient)
}

/// The Dice fraction of one sample and channel, or of a channel over the batch.
#[derive(Clone, Copy)]
struct Fraction {
    above: f64,
    below: f64,
    /// Whether it is part of the mean: of those that pool a batch, one per channel is.
    counts: bool,
}

impl Fraction {
    fn loss(&self) -> f64 {
        1.0 - self.above / self.below
    }

    /// The loss's derivative by p is `slopes[0] · g + slopes[1] · p`.
    fn slopes(&self) -> [f64; 2] {
        [-2.0 / self.below, 2.0 * self.above / (self.below * self.below)]
    }
}

/// For each row its fraction, if it is annotated.
fn fractions(
    settings: &ChannelLoss,
    sums: &[Sums],
    channels: usize,
    annotated: impl Fn(usize) -> bool,
) -> Vec<Option<Fraction>> {
    let smooth = f64::from(settings.smooth);
    let mut result: Vec<Option<Fraction>> = vec![None; sums.len()];
    for at in (0..sums.len()).filter(|&at| annotated(at)) {
        // Rows that are not annotated have sums of 0.
        let pool = |part: fn(&Sums) -> f64| -> f64 {
            if settings.batch_dice {
                sums.iter().skip(at % channels).step_by(channels).map(part).sum()
            } else {
                part(&sums[at])
            }
        };
        result[at] = Some(Fraction {
            above: 2.0 * pool(|s| s.pg) + smooth,
            below: pool(|s| s.pp + s.g) + smooth,
            counts: !settings.batch_dice || (at % channels..at).step_by(channels).all(|before| !annotated(before)),
        });
    }
    result
}

/// Σp², Σpg, Σg (= Σg²) and the focal sum of one sample and channel.
#[derive(Clone, Copy, Default)]
struct Sums {
    pp: f64,
    pg: f64,
    g: f64,
    focal: f64,
}

/// One channel of one sample.
struct Row<'a> {
    logits: &'a [f32],
    labels: &'a [u8],
    class: u8,
    annotated: bool,
    ignore: Option<u8>,
}

impl Row<'_> {
    /// Fills `p` and sums; does neither where the class is not annotated.
    fn sums(&self, settings: &ChannelLoss, p: &mut [f32]) -> Sums {
        if !self.annotated {
            return Sums::default();
        }
        let focal = Focal::new(settings);
        let parts: Vec<Sums> = p
            .par_chunks_mut(CHUNK)
            .zip(self.logits.par_chunks(CHUNK))
            .zip(self.labels.par_chunks(CHUNK))
            .map(|((p, x), labels)| {
                let mut sums = [[0.0f32; LANES]; 4];
                self.groups(p, x, labels, |p, x, g| {
                    for i in 0..LANES {
                        p[i] = sigmoid(x[i]);
                        sums[0][i] += p[i] * p[i];
                        sums[1][i] += p[i] * g[i];
                        sums[2][i] += g[i];
                    }
                    if let Some(focal) = &focal {
                        let (loss, _) = focal.at(x, g);
                        for i in 0..LANES {
                            sums[3][i] += loss[i];
                        }
                    }
                });
                let [pp, pg, g, focal] = sums.map(|lanes| lanes.iter().map(|&v| f64::from(v)).sum());
                Sums { pp, pg, g, focal }
            })
            .collect();
        parts.iter().fold(Sums::default(), |a, b| Sums {
            pp: a.pp + b.pp,
            pg: a.pg + b.pg,
            g: a.g + b.g,
            focal: a.focal + b.focal,
        })
    }

    /// Turns `p` into the gradient by the logits; `dice` are the slopes of [`Fraction::slopes`], weighted, `share` the
    /// weight of one voxel's focal loss.
    fn gradient(&self, settings: &ChannelLoss, dice: [f32; 2], share: f32, p: &mut [f32]) {
        let focal = Focal::new(settings);
        p.par_chunks_mut(CHUNK)
            .zip(self.logits.par_chunks(CHUNK))
            .zip(self.labels.par_chunks(CHUNK))
            .for_each(|((p, x), labels)| {
                self.groups(p, x, labels, |p, x, g| {
                    for i in 0..LANES {
                        p[i] = (dice[0] * g[i] + dice[1] * p[i]) * p[i] * (1.0 - p[i]);
                    }
                    if let Some(focal) = &focal {
                        let (_, slope) = focal.at(x, g);
                        for i in 0..LANES {
                            p[i] += share * slope[i];
                        }
                    }
                });
            });
    }

    /// Runs `f` on groups of p, logit and target; ignored voxels, and what fills up the last
    /// group, are background that is surely none, without loss or gradient.
    #[inline(always)]
    fn groups(&self, p: &mut [f32], x: &[f32], labels: &[u8], mut f: impl FnMut(&mut Lanes, &Lanes, &Lanes)) {
        const SURELY_NOT: f32 = -1e4;
        // No label is 256.
        let ignore = self.ignore.map_or(256, u16::from);
        let ignored = |label: u8| u16::from(label) == ignore;
        let target = |label: u8| {
            if label == self.class && !ignored(label) {
                1.0
            } else {
                0.0
            }
        };
        let value = |label: u8, x: f32| if ignored(label) { SURELY_NOT } else { x };
        let (p_groups, p_rest) = p.as_chunks_mut::<LANES>();
        let (x_groups, x_rest) = x.as_chunks::<LANES>();
        let (label_groups, label_rest) = labels.as_chunks::<LANES>();
        for ((p, x), labels) in p_groups.iter_mut().zip(x_groups).zip(label_groups) {
            let x = std::array::from_fn(|i| value(labels[i], x[i]));
            f(p, &x, &labels.map(target));
        }
        if !p_rest.is_empty() {
            let (mut p, mut x, mut g) = ([0.0; LANES], [SURELY_NOT; LANES], [0.0; LANES]);
            for (i, (&rest, &label)) in x_rest.iter().zip(label_rest).enumerate() {
                (p[i], x[i], g[i]) = (p_rest[i], value(label, rest), target(label));
            }
            f(&mut p, &x, &g);
            p_rest.copy_from_slice(&p[..p_rest.len()]);
        }
    }
}

/// The focal loss of single voxels: with s = ±1 for g = 1, 0 and z = s x, p_t = sigmoid(z), BCE = −log p_t.
struct Focal {
    alpha: f32,
    gamma: f32,
}

impl Focal {
    /// `None` when the term is left out.
    fn new(settings: &ChannelLoss) -> Option<Self> {
        (settings.focal > 0.0).then_some(Self {
            alpha: settings.focal_alpha,
            gamma: settings.focal_gamma,
        })
    }

    /// Losses and their derivatives by x.
    #[inline(always)]
    fn at(&self, x: &Lanes, g: &Lanes) -> (Lanes, Lanes) {
        let (mut loss, mut slope) = ([0.0; LANES], [0.0; LANES]);
        let mut missed = [0.0; LANES];
        for i in 0..LANES {
            let z = (2.0 * g[i] - 1.0) * x[i];
            let e = exp_neg(z.abs());
            let one = 1.0 / (1.0 + e);
            missed[i] = if z >= 0.0 { e * one } else { one };
            let p_t = if z >= 0.0 { one } else { e * one };
            let bce = (if z >= 0.0 { 0.0 } else { -z }) + ln_1p(e);
            loss[i] = bce;
            slope[i] = self.gamma * p_t * bce + missed[i];
        }
        let power = if self.gamma == 2.0 {
            missed.map(|m| m * m)
        } else {
            missed.map(|m| m.powf(self.gamma))
        };
        for i in 0..LANES {
            let alpha = self.alpha * g[i] + (1.0 - self.alpha) * (1.0 - g[i]);
            loss[i] *= alpha * power[i];
            slope[i] *= (1.0 - 2.0 * g[i]) * alpha * power[i];
        }
        (loss, slope)
    }
}
