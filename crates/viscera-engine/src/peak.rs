//! How fast this processor multiplies and adds.

use crate::Isa;
use crate::layout::{LANES, Lane};
use crate::vector::{Kernel, Vector};
use std::time::Instant;

/// Sums side by side: enough to hide the latency of an addition on two units.
const CHAINS: usize = 12;
const ROUNDS: usize = 1 << 21;

/// Measures the rate of f32 multiply-adds in registers on all threads of the pool, with the path that [`Isa::detect`] chooses, in GFLOP/s (two per multiply-add); the
/// best of five tries of a few milliseconds each.
#[must_use]
pub fn peak_gflops() -> f64 {
    let isa = Isa::detect();
    let threads = rayon::current_num_threads();
    let mut best = 0.0f64;
    for _ in 0..5 {
        let start = Instant::now();
        let sums = rayon::broadcast(|thread| isa.run(Multiply(thread.index())));
        let flops = (2 * LANES * CHAINS * ROUNDS * threads) as f64;
        std::hint::black_box(sums);
        best = best.max(flops / start.elapsed().as_secs_f64() / 1e9);
    }
    best
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
