//! How fast this processor multiplies and adds.

use crate::kernels::amx;
use crate::layout::Lane;
use crate::vector::{Kernel, Vector};
use crate::{Isa, Precision};
use std::time::Instant;

/// Sums side by side: enough to hide the latency of an addition on two units.
const CHAINS: usize = 12;
const ROUNDS: usize = 1 << 21;

/// Measures the rate of multiply-adds in registers on all threads of the pool, in GFLOP/s (two per multiply-add), with the
/// path that [`Isa::detect`] chooses: of f32, or of tiles of bf16 where the precision means that convolutions multiply
/// these; the best of five tries of a few milliseconds each.
#[must_use]
pub fn peak_gflops(precision: Precision) -> f64 {
    let isa = Isa::detect();
    let run = |thread: usize| -> usize {
        match isa {
            Isa::Amx if precision.is_bf16() => return amx::peak(isa, ROUNDS / 64),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a path that is chosen only where the processor has AVX-512.
            #[allow(unsafe_code)]
            Isa::Amx | Isa::Avx512 => unsafe { wide::multiply(ROUNDS) },
            _ => {
                std::hint::black_box(isa.run(Multiply(thread)));
            }
        }
        isa.floats() * CHAINS * ROUNDS
    };
    let mut best = 0.0f64;
    for _ in 0..5 {
        let start = Instant::now();
        let products: usize = rayon::broadcast(|thread| run(thread.index())).iter().sum();
        best = best.max(2e-9 * products as f64 / start.elapsed().as_secs_f64());
    }
    best
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::CHAINS;
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps};

    /// Multiplies and adds sixteen floats in each chain, so often.
    ///
    /// # Safety
    /// On a processor with AVX-512.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn multiply(rounds: usize) {
        let factor = _mm512_set1_ps(std::hint::black_box(0.999_9));
        let addend = _mm512_set1_ps(std::hint::black_box(1e-4));
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, addend);
            }
        }
        std::hint::black_box(sums);
    }
}

struct Multiply(usize);

impl Kernel for Multiply {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vector>(self) -> f32 {
        let factor = V::splat(std::hint::black_box(0.999_9));
        let addend = V::splat(std::hint::black_box(1e-4));
        let mut sums = [V::splat(self.0 as f32); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        let mut total = Lane::ZERO;
        for sum in sums {
            V::load(&total).add(sum).store(&mut total);
        }
        total.0.iter().sum()
    }
}
