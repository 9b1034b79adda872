//! Weights in the order in which tiles read them, as they are kept in memory: f32, or f16 in units of a power of two.
//!
//! Not bf16, because Winograd's transforms mix weights that bf16 holds exactly into ones that it does not; f16 has three
//! bits more, and the unit keeps them in its range.

use crate::layout::{LANES, Lane};
use half::f16;
use std::ops::Range;

/// Eight weights in f16.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct HalfLane(pub(crate) [u16; LANES]);

impl HalfLane {
    /// The weights, exactly.
    pub(crate) fn widen(&self) -> Lane {
        Lane(self.0.map(|bits| f16::from_bits(bits).to_f32()))
    }
}

/// What packed weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kept {
    /// f32.
    Full,
    /// f16, divided by this power of two: what is summed up with them is to be multiplied by it.
    Half {
        /// The power of two.
        unit: f32,
    },
}

impl Kept {
    /// For f16: the unit in which the largest of these weights is some thousands, so that Winograd's sums of them stay in
    /// f16's range, as do weights that are smaller by a factor of millions.
    pub(crate) fn half(weights: impl Iterator<Item = f32>) -> Self {
        let largest = weights.fold(0.0f32, |m, w| if w.is_finite() { m.max(w.abs()) } else { m });
        let exponent = if largest > 0.0 { largest.log2().floor() } else { 0.0 };
        Self::Half {
            unit: (exponent - 12.0).clamp(-60.0, 60.0).exp2(),
        }
    }

    /// What sums are to be multiplied by.
    pub(crate) fn unit(self) -> f32 {
        match self {
            Self::Full => 1.0,
            Self::Half { unit } => unit,
        }
    }
}

/// Packed weights.
#[derive(Debug)]
pub(crate) enum Packed {
    Full(Vec<Lane>),
    Half(Vec<HalfLane>),
}

/// Some of them, one behind the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PackedSlice<'a> {
    Full(&'a [Lane]),
    Half(&'a [HalfLane]),
}

impl Packed {
    pub(crate) fn new(lanes: Vec<Lane>, kept: Kept) -> Self {
        match kept {
            Kept::Full => Self::Full(lanes),
            Kept::Half { unit } => {
                // A power of two: exact but for the rounding to f16.
                let round = |weight: f32| f16::from_f32(weight / unit).to_bits();
                Self::Half(lanes.iter().map(|lane| HalfLane(lane.0.map(round))).collect())
            }
        }
    }

    /// These lanes.
    pub(crate) fn slice(&self, range: Range<usize>) -> PackedSlice<'_> {
        match self {
            Self::Full(lanes) => PackedSlice::Full(&lanes[range]),
            Self::Half(lanes) => PackedSlice::Half(&lanes[range]),
        }
    }
}

impl PackedSlice<'_> {
    /// Lanes.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Full(lanes) => lanes.len(),
            Self::Half(lanes) => lanes.len(),
        }
    }

    /// One of them, in f32.
    pub(crate) fn get(self, index: usize) -> Lane {
        match self {
            Self::Full(lanes) => lanes[index],
            Self::Half(lanes) => lanes[index].widen(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_in_units_is_close_at_any_scale() {
        for scale in [1e-12f32, 3e-4, 1.0, 7e8] {
            let weights: Vec<f32> = (1..=64).map(|i| scale * ((i * 37 % 64) as f32 - 31.5) / 31.5).collect();
            let kept = Kept::half(weights.iter().copied());
            let lanes: Vec<Lane> = weights
                .chunks_exact(LANES)
                .map(|chunk| Lane(std::array::from_fn(|i| chunk[i])))
                .collect();
            let packed = Packed::new(lanes, kept);
            let slice = packed.slice(0..8);
            for (i, weight) in weights.iter().enumerate() {
                let found = slice.get(i / LANES).0[i % LANES] * kept.unit();
                assert!((found - weight).abs() <= weight.abs() / 2048.0, "{found} of {weight}");
            }
            // Three times the largest, as Winograd's transforms may make of it, is still there.
            let packed = Packed::new(vec![Lane([3.0 * scale; LANES])], kept);
            assert!((packed.slice(0..1).get(0).0[0] * kept.unit() / scale - 3.0).abs() < 2e-3);
        }
        // Without any weight that counts, the unit is one that does no harm.
        let kept = Kept::half([0.0, f32::NAN].into_iter());
        assert!(kept.unit() > 0.0 && kept.unit().is_finite());
    }
}
