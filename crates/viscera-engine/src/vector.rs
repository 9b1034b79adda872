//! Eight floats at once, and how one piece of code becomes a kernel for each instruction set.
//!
//! A kernel is a [`Kernel`]: a struct of operands with one method, generic over the [`Vector`] that it computes with.
//! [`crate::Isa::run`] compiles it once per instruction set and picks one at run time.

use crate::element::Half;
use crate::layout::{LANES, Lane};

/// Eight floats in whatever the instruction set has for them.
pub(crate) trait Vector: Copy {
    /// The values of a lane.
    fn load(from: &Lane) -> Self;
    /// Writes them to a lane.
    fn store(self, to: &mut Lane);
    /// The values of half a lane, widened.
    fn load_half(from: &Half) -> Self;
    /// Writes them to half a lane, each rounded to the nearest bf16, ties to even. NaN stays NaN.
    fn store_half(self, to: &mut Half);
    /// One value eight times.
    fn splat(value: f32) -> Self;
    /// The first value eight times.
    fn first(self) -> Self;
    /// self + other.
    fn add(self, other: Self) -> Self;
    /// self − other.
    fn sub(self, other: Self) -> Self;
    /// self · other.
    fn mul(self, other: Self) -> Self;
    /// self · factor + sum, rounded once where the processor can.
    fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// Per value, `then` where self > 0, else `otherwise` (also for NaN).
    fn if_positive(self, then: Self, otherwise: Self) -> Self;
    /// self / other.
    fn div(self, other: Self) -> Self;
    /// The larger of both; `other` where self is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of both; `other` where self is NaN.
    fn min(self, other: Self) -> Self;
    /// The nearest whole number, ties to even.
    fn round(self) -> Self;
    /// 2 to the power of self, which is whole and within −126..=127.
    fn exp2_whole(self) -> Self;

    /// Leaky ReLU with this slope of the negative part.
    #[inline(always)]
    fn leaky(self, slope: Self) -> Self {
        self.if_positive(self, self.mul(slope))
    }
}

/// Work that is compiled for each instruction set.
pub(crate) trait Kernel {
    /// What it gives.
    type Output;
    /// Does the work. To be `#[inline(always)]`, so that it is compiled with the caller's instruction set.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Vector for Plain {
    #[inline(always)]
    fn load(from: &Lane) -> Self {
        Self(from.0)
    }

    #[inline(always)]
    fn store(self, to: &mut Lane) {
        to.0 = self.0;
    }

    #[inline(always)]
    fn load_half(from: &Half) -> Self {
        Self(from.0.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }

    #[inline(always)]
    fn store_half(self, to: &mut Half) {
        to.0 = self.0.map(round);
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn first(self) -> Self {
        Self([self.0[0]; LANES])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        self.mul(factor).add(sum)
    }

    #[inline(always)]
    fn if_positive(self, then: Self, otherwise: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if self.0[i] > 0.0 { then.0[i] } else { otherwise.0[i] }
        }))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(
            self.0
                .map(|n| f32::from_bits(((n as i32).wrapping_add(127) << 23) as u32)),
        )
    }
}

/// The nearest bf16, ties to even, as the upper half of an f32's bits. NaN becomes a quiet NaN.
#[inline(always)]
pub(crate) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let kept = if value.is_nan() { bits | 0x0040_0000 } else { nearest };
    (kept >> 16) as u16
}

/// AVX2 with FMA and F16C. Values of this type exist only inside [`avx2`], on processors that have all three.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2(std::arch::x86_64::__m256);

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2 {
    use super::{Avx2, Half, Lane, Vector};
    use std::arch::x86_64::{
        _CMP_GT_OQ, _CMP_UNORD_Q, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_load_si128, _mm_store_si128,
        _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_blendv_ps, _mm256_broadcastss_ps,
        _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps,
        _mm256_cvtepu16_epi32, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_load_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_packus_epi32, _mm256_permute4x64_epi64, _mm256_round_ps,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_store_ps,
        _mm256_sub_ps,
    };

    impl Vector for Avx2 {
        #[inline(always)]
        fn load(from: &Lane) -> Self {
            // SAFETY: a lane is 32 bytes on a 32-byte boundary; AVX is there, see the type. So for all that follow.
            Self(unsafe { _mm256_load_ps(from.0.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut Lane) {
            // SAFETY: as above.
            unsafe { _mm256_store_ps(to.0.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn load_half(from: &Half) -> Self {
            // SAFETY: half a lane is 16 bytes on a 16-byte boundary; AVX2 is there.
            Self(unsafe {
                let bits = _mm256_cvtepu16_epi32(_mm_load_si128(from.0.as_ptr().cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            })
        }

        #[inline(always)]
        fn store_half(self, to: &mut Half) {
            // SAFETY: as above. The steps are those of `round`.
            unsafe {
                let bits = _mm256_castps_si256(self.0);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
                let kept = _mm256_blendv_ps(_mm256_castsi256_ps(nearest), _mm256_castsi256_ps(quiet), nan);
                let upper = _mm256_srli_epi32::<16>(_mm256_castps_si256(kept));
                // Packing works on each half of a register: words 0..4 and 4..8 end up in its first and third quarter.
                let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(upper, upper));
                _mm_store_si128(to.0.as_mut_ptr().cast(), _mm256_castsi256_si128(packed));
            }
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        fn first(self) -> Self {
            // SAFETY: as above, and AVX2.
            Self(unsafe { _mm256_broadcastss_ps(_mm256_castps256_ps128(self.0)) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: as above, and FMA.
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
        }

        #[inline(always)]
        fn if_positive(self, then: Self, otherwise: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe {
                let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, _mm256_setzero_ps());
                _mm256_blendv_ps(otherwise.0, then.0, positive)
            })
        }

        #[inline(always)]
        fn div(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_div_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
        }

        #[inline(always)]
        fn exp2_whole(self) -> Self {
            // SAFETY: as above, and AVX2.
            Self(unsafe {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            })
        }
    }
}

/// Runs a kernel compiled for AVX2, FMA and F16C.
///
/// # Safety
/// The processor has them.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}
