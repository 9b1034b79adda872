//! Losses of single voxels: functions of q, the probability of the label (or of all classes joined with it), and for one
//! of them of all probabilities.
//!
//! With r the probabilities among the channels that are joined with the label (1 for the label's channel where none are),
//! the gradient by logit j is `slope(q) (p_j − r_j)`.

use super::math::{ln, power};
use viscera_pipeline::recipe::Formula;

/// −ln 10⁻⁴, for reverse cross-entropy.
const REVERSE: f32 = 9.210_340_4;

/// A loss of single voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum VoxelLoss {
    CrossEntropy,
    Focal { gamma: f32 },
    Generalised { q: f32 },
    Symmetric { alpha: f32, b: f32 },
    Beta { beta: f32 },
}

impl VoxelLoss {
    /// `None` for formulas that are no function of single voxels.
    pub(super) fn new(formula: &Formula) -> Option<Self> {
        match *formula {
            Formula::CrossEntropy {} => Some(Self::CrossEntropy),
            Formula::Focal { gamma } => Some(Self::Focal { gamma: gamma as f32 }),
            Formula::GeneralisedCrossEntropy { q } => Some(Self::Generalised { q: q as f32 }),
            Formula::SymmetricCrossEntropy { alpha, b } => Some(Self::Symmetric {
                alpha: alpha as f32,
                b: b as f32,
            }),
            Formula::BetaCrossEntropy { beta } => Some(Self::Beta { beta: beta as f32 }),
            Formula::Dice { .. } | Formula::PyramidConsistency { .. } => None,
        }
    }

    /// The part of the loss that is a function of the label's probability, given it and its logarithm.
    pub(super) fn values(self, q: &[f32], ln_q: &[f32], out: &mut [f32]) {
        let each = q.iter().zip(ln_q).zip(out);
        match self {
            Self::CrossEntropy => each.for_each(|((_, l), out)| *out = -l),
            Self::Focal { gamma: 2.0 } => each.for_each(|((q, l), out)| *out = -(1.0 - q) * (1.0 - q) * l),
            Self::Focal { gamma } => each.for_each(|((q, l), out)| *out = -power(1.0 - q, gamma) * l),
            Self::Generalised { q: exponent } => {
                each.for_each(|((q, _), out)| *out = (1.0 - power(*q, exponent)) / exponent);
            }
            Self::Symmetric { alpha, b } => {
                each.for_each(|((q, l), out)| *out = b * REVERSE * (1.0 - q) - alpha * l);
            }
            Self::Beta { beta } => {
                let factor = (beta + 1.0) / beta;
                each.for_each(|((q, _), out)| *out = factor * (1.0 - power(*q, beta)));
            }
        }
    }

    /// Adds `share` times the slope.
    pub(super) fn add_slopes(self, q: &[f32], share: f32, out: &mut [f32]) {
        let each = q.iter().zip(out);
        match self {
            Self::CrossEntropy => each.for_each(|(_, out)| *out += share),
            Self::Focal { gamma: 2.0 } => each.for_each(|(q, out)| {
                let missed = 1.0 - q;
                *out += share * missed * (missed - 2.0 * q * ln(*q));
            }),
            // Where nothing is missed, (1 − q)^(γ − 1) ln q has the limit 0 for every γ > 0.
            Self::Focal { gamma } => each.for_each(|(q, out)| {
                let missed = if *q < 1.0 - 1e-7 { 1.0 - q } else { 1e-7 };
                *out += share * power(missed, gamma) * (1.0 - gamma * q * ln(*q) / missed);
            }),
            Self::Generalised { q: exponent } => each.for_each(|(q, out)| *out += share * power(*q, exponent)),
            Self::Symmetric { alpha, b } => each.for_each(|(q, out)| *out += share * (alpha + b * REVERSE * q)),
            Self::Beta { beta } => each.for_each(|(q, out)| *out += share * (beta + 1.0) * power(*q, beta)),
        }
    }

    /// β, for the loss that also sums q^(β + 1) over all (joined) classes.
    pub(super) fn beta(self) -> Option<f32> {
        match self {
            Self::Beta { beta } => Some(beta),
            _ => None,
        }
    }
}
