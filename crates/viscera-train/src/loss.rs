//! Soft Dice and focal loss of sigmoid channels, with the gradients of the logits.
//!
//! The heads are leaves: [`evaluate`] gives the gradient for each, and the executor carries it on. With p = sigmoid(logit)
//! and g the 0/1 target, after EfficientSegNet (arXiv:2109.10601):
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
//!
//! Two fused passes: one for the sums, one for the gradient. The same definitions on Burn tensors with automatic
//! differentiation took ten times as long on a CPU, a third of a whole training step; they are the oracle of the tests,
//! beside PyTorch. Sums are made over fixed pieces and joined in order: the result does not depend on the number of threads.

use crate::TrainError;
use rayon::prelude::*;
use serde::Serialize;
use viscera_image::AnnotatedClasses;
use viscera_net::Tensor;
use viscera_pipeline::recipe::LossSettings;

/// Voxels per piece of work: its arrays stay in the first-level cache.
const CHUNK: usize = 4096;
/// Sums side by side, for vector registers.
const LANES: usize = 8;

/// What the logits should say: one label map per sample, on the network's grid.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Label ids, `batch` maps one after the other.
    pub labels: &'a [u8],
    /// The classes that each sample annotates.
    pub annotated: &'a [AnnotatedClasses],
    /// Label id of each channel.
    pub classes: &'a [u8],
}

/// The value of a loss and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LossValue {
    /// Weighted sum of the terms.
    pub total: f64,
    /// Dice term before its weight; 0 when it is left out.
    pub dice: f64,
    /// Focal term before its weight; 0 when it is left out.
    pub focal: f64,
}

/// The loss and its gradient for each head.
///
/// `heads` are logits `[batch, classes, z, y, x]`; one head is taken for now, and its gradient has its shape.
///
/// # Errors
/// [`TrainError::Settings`] when there is not exactly one head, or its shape does not fit the target.
pub fn evaluate(
    settings: &LossSettings,
    heads: &[Tensor],
    target: Target<'_>,
) -> Result<(LossValue, Vec<Tensor>), TrainError> {
    let [logits] = heads else {
        return Err(TrainError::settings(format!(
            "the loss takes one head, the network has {}",
            heads.len()
        )));
    };
    let [batch, channels, ..] = logits.shape();
    let voxels: usize = logits.spatial().iter().product();
    if channels != target.classes.len() || batch != target.annotated.len() || target.labels.len() != batch * voxels {
        return Err(TrainError::settings(format!(
            "logits of shape {:?} do not fit {} samples of {} classes",
            logits.shape(),
            target.annotated.len(),
            target.classes.len()
        )));
    }
    let row = |at: usize| Row {
        logits: logits.channel(at / channels, at % channels),
        labels: &target.labels[at / channels * voxels..(at / channels + 1) * voxels],
        class: target.classes[at % channels],
        annotated: target.annotated[at / channels].contains(target.classes[at % channels]),
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

    let mut value = LossValue::default();
    if settings.dice > 0.0 {
        let losses = fractions.iter().flatten().filter(|f| f.counts).map(Fraction::loss);
        value.dice = losses.sum::<f64>() * dice_share;
    }
    value.focal = sums.iter().map(|s| s.focal).sum::<f64>() * focal_share;
    value.total = f64::from(settings.dice) * value.dice + f64::from(settings.focal) * value.focal;
    Ok((value, vec![gradient]))
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
    settings: &LossSettings,
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
}

impl Row<'_> {
    /// Fills `p` and sums; does neither where the class is not annotated.
    fn sums(&self, settings: &LossSettings, p: &mut [f32]) -> Sums {
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
    fn gradient(&self, settings: &LossSettings, dice: [f32; 2], share: f32, p: &mut [f32]) {
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

    /// Runs `f` on groups of p, logit and target; the last group is filled up with background that is surely none.
    #[inline(always)]
    fn groups(&self, p: &mut [f32], x: &[f32], labels: &[u8], mut f: impl FnMut(&mut Lanes, &Lanes, &Lanes)) {
        const SURELY_NOT: f32 = -1e4;
        let target = |labels: &[u8; LANES]| labels.map(|l| if l == self.class { 1.0 } else { 0.0 });
        let (p_groups, p_rest) = p.as_chunks_mut::<LANES>();
        let (x_groups, x_rest) = x.as_chunks::<LANES>();
        let (label_groups, label_rest) = labels.as_chunks::<LANES>();
        for ((p, x), labels) in p_groups.iter_mut().zip(x_groups).zip(label_groups) {
            f(p, x, &target(labels));
        }
        if !p_rest.is_empty() {
            let (mut p, mut x, mut g) = ([0.0; LANES], [SURELY_NOT; LANES], [0.0; LANES]);
            for (i, (&value, &label)) in x_rest.iter().zip(label_rest).enumerate() {
                (p[i], x[i], g[i]) = (p_rest[i], value, indicator(label, self.class));
            }
            f(&mut p, &x, &g);
            p_rest.copy_from_slice(&p[..p_rest.len()]);
        }
    }
}

type Lanes = [f32; LANES];

/// The focal loss of single voxels: with s = ±1 for g = 1, 0 and z = s x, p_t = sigmoid(z), BCE = −log p_t.
struct Focal {
    alpha: f32,
    gamma: f32,
}

impl Focal {
    /// `None` when the term is left out.
    fn new(settings: &LossSettings) -> Option<Self> {
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

#[inline(always)]
fn indicator(label: u8, class: u8) -> f32 {
    f32::from(u8::from(label == class))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let e = exp_neg(x.abs());
    let one = 1.0 / (1.0 + e);
    if x >= 0.0 { one } else { e * one }
}

/// `exp(−a)` for a ≥ 0 to 5e-7 relative (and 1e-7 more per unit of a): 2^n · 2^f with a polynomial for f in −½..½. Without branches or calls, so that
/// the compiler makes vectors of it. NaN stays NaN.
#[inline(always)]
fn exp_neg(a: f32) -> f32 {
    /// 1.5 · 2^23: adding it rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let t = -(if a > 87.0 { 87.0 } else { a }) * std::f32::consts::LOG2_E;
    let rounded = t + ROUND;
    let f = t - (rounded - ROUND);
    // ln(2)^k / k!
    let mut p = 1.540_353e-4;
    for c in [
        1.333_355_8e-3,
        9.618_129e-3,
        5.550_411e-2,
        2.402_265e-1,
        std::f32::consts::LN_2,
        1.0,
    ] {
        p = p * f + c;
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// `ln(1 + e)` for e in 0..1 to 4e-7: 2 artanh(e / (2 + e)) as a series.
#[inline(always)]
fn ln_1p(e: f32) -> f32 {
    let y = e / (2.0 + e);
    let square = y * y;
    let mut sum = 0.0;
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    2.0 * y * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::activation::{log_sigmoid, sigmoid as burn_sigmoid};
    use burn::tensor::{Tensor as BurnTensor, TensorData, backend::AutodiffBackend};
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Expected {
        shape: [usize; 5],
        classes: Vec<u8>,
        annotated: Vec<Vec<u8>>,
        labels: Vec<u8>,
        logits: Vec<f32>,
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        settings: LossSettings,
        total: f64,
        dice: f64,
        focal: f64,
        gradient: Vec<f32>,
    }

    /// Values and gradients of PyTorch, with a class that is not annotated and one that is absent.
    #[test]
    fn losses_equal_pytorch() {
        let e: Expected = serde_json::from_str(include_str!("../../../fixtures/train-losses/expected.json")).unwrap();
        let annotated: Vec<AnnotatedClasses> = e.annotated.iter().map(|a| a.iter().copied().collect()).collect();
        let target = Target {
            labels: &e.labels,
            annotated: &annotated,
            classes: &e.classes,
        };
        let logits = Tensor::new(e.shape, e.logits).unwrap();
        for case in e.cases {
            let (value, gradients) = evaluate(&case.settings, std::slice::from_ref(&logits), target).unwrap();
            for (got, want) in [
                (value.total, case.total),
                (value.dice, case.dice),
                (value.focal, case.focal),
            ] {
                assert!(
                    (got - want).abs() < 1e-5 * want.abs().max(1.0),
                    "{got} against {want}: {:?}",
                    case.settings
                );
            }
            for (got, want) in gradients[0].data().iter().zip(&case.gradient) {
                assert!(
                    (got - want).abs() < 1e-6 + 1e-4 * want.abs(),
                    "{got} against {want}: {:?}",
                    case.settings
                );
            }
        }
    }

    /// A class that is annotated but absent: nothing to learn with a tiny `smooth`, a push towards 0 with a large one.
    #[test]
    fn smooth_makes_absent_classes_count() {
        let annotated = [[1u8].into_iter().collect::<AnnotatedClasses>()];
        let labels = vec![0u8; 1000];
        let target = Target {
            labels: &labels,
            annotated: &annotated,
            classes: &[1],
        };
        let logits = Tensor::zeros([1, 1, 10, 10, 10]);
        let push = |smooth: f32| {
            let settings = LossSettings {
                dice: 1.0,
                focal: 0.0,
                smooth,
                batch_dice: false,
                focal_alpha: 0.5,
                focal_gamma: 2.0,
            };
            let (value, gradient) = evaluate(&settings, std::slice::from_ref(&logits), target).unwrap();
            (value.total, gradient[0].data().iter().sum::<f32>())
        };
        let (value, gradient) = push(1e-8);
        assert!((value - 1.0).abs() < 1e-6 && gradient < 1e-6);
        let (value, gradient) = push(250.0);
        assert!((value - 0.5).abs() < 1e-6 && gradient > 0.1, "{value} {gradient}");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let settings: LossSettings = toml::from_str("dice = 1.0").unwrap();
        let annotated = [AnnotatedClasses::none()];
        let target = Target {
            labels: &[0; 8],
            annotated: &annotated,
            classes: &[1, 2],
        };
        let logits = Tensor::zeros([1, 1, 2, 2, 2]);
        assert!(evaluate(&settings, std::slice::from_ref(&logits), target).is_err());
        assert!(evaluate(&settings, &[logits.clone(), logits], target).is_err());
    }

    /// The definitions on Burn tensors `[pairs, voxels]`, all annotated, differentiated by Burn.
    fn by_autodiff<B: AutodiffBackend>(settings: &LossSettings, x: &[f32], g: &[f32], rows: usize) -> (f32, Vec<f32>) {
        let device = B::Device::default();
        let shape = [rows, x.len() / rows];
        let x = BurnTensor::<B, 2>::from_data(TensorData::new(x.to_vec(), shape), &device).require_grad();
        let g = BurnTensor::<B, 2>::from_data(TensorData::new(g.to_vec(), shape), &device);
        let p = burn_sigmoid(x.clone());
        let both = (p.clone() * g.clone()).sum_dim(1);
        let either = (p.powi_scalar(2) + g.clone()).sum_dim(1);
        let dice = ((both * 2.0 + settings.smooth) / (either + settings.smooth))
            .neg()
            .add_scalar(1.0)
            .mean();
        let z = x.clone() * (g.clone() * 2.0 - 1.0);
        let missed = burn_sigmoid(z.clone().neg());
        let alpha = g.clone() * (2.0 * settings.focal_alpha - 1.0) + (1.0 - settings.focal_alpha);
        let focal = (alpha * missed.powf_scalar(settings.focal_gamma) * log_sigmoid(z))
            .sum()
            .neg()
            / g.sum();
        let total = dice * settings.dice + focal * settings.focal;
        let gradient = x.grad(&total.backward()).unwrap().into_data().into_vec().unwrap();
        (total.into_data().into_vec().unwrap()[0], gradient)
    }

    /// On thousands of voxels, with logits far into saturation.
    #[test]
    fn fused_passes_equal_automatic_differentiation() {
        let n = 3 * CHUNK + 5;
        let labels: Vec<u8> = (0..n).map(|i| (i / 700 % 4) as u8).collect();
        let classes = [1, 3];
        let x: Vec<f32> = (0..2 * n)
            .map(|i| ((i * 7919 % 20011) as f32 - 10_000.0) / 400.0)
            .collect();
        let g: Vec<f32> = classes
            .iter()
            .flat_map(|&c| labels.iter().map(move |&l| indicator(l, c)))
            .collect();
        let annotated = [classes.into_iter().collect::<AnnotatedClasses>()];
        let target = Target {
            labels: &labels,
            annotated: &annotated,
            classes: &classes,
        };
        for text in [
            "dice = 1.0\nsmooth = 3.0",
            "dice = 0.3\nfocal = 2.0\nfocal_gamma = 1.5\nfocal_alpha = 0.25",
        ] {
            let settings: LossSettings = toml::from_str(text).unwrap();
            let (want, want_gradient) = by_autodiff::<Autodiff<Flex>>(&settings, &x, &g, 2);
            let logits = Tensor::new([1, 2, 1, 1, n], x.clone()).unwrap();
            let (value, gradient) = evaluate(&settings, std::slice::from_ref(&logits), target).unwrap();
            assert!(
                (value.total as f32 - want).abs() < 1e-5 * want,
                "{} against {want}",
                value.total
            );
            let largest = want_gradient.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (got, want) in gradient[0].data().iter().zip(want_gradient) {
                assert!((got - want).abs() < 1e-5 * largest, "{got} against {want}");
            }
        }
    }

    #[test]
    fn fast_functions_are_exact_enough() {
        for i in 0..=8700 {
            let a = i as f32 / 100.0;
            let want = (-f64::from(a)).exp();
            let tolerance = (5e-7 + 1e-7 * f64::from(a)) * want;
            assert!(
                (f64::from(exp_neg(a)) - want).abs() < tolerance,
                "{a}: {} against {want}",
                exp_neg(a)
            );
            let e = want as f32;
            let want = f64::from(e).ln_1p();
            assert!((f64::from(ln_1p(e)) - want).abs() < 4e-7 * want, "{e}");
        }
        assert!(exp_neg(f32::INFINITY) < 1e-37 && sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let settings: LossSettings = toml::from_str("dice = 1.0\nfocal = 1.0").unwrap();
        let n = 24;
        let labels: Vec<u8> = (0..n * n * n).map(|i| (i / 997 % 3) as u8).collect();
        let annotated = [[1, 2].into_iter().collect::<AnnotatedClasses>()];
        let target = Target {
            labels: &labels,
            annotated: &annotated,
            classes: &[1, 2],
        };
        let x = (0..2 * n * n * n).map(|i| ((i * 31 % 1009) as f32).sin()).collect();
        let logits = Tensor::new([1, 2, n, n, n], x).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| evaluate(&settings, std::slice::from_ref(&logits), target).unwrap())
        };
        assert_eq!(run(1), run(3));
    }
}
