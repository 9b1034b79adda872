//! Resampling with replacement.

use super::percentile;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How to bootstrap: draw as many items as there are, with replacement, many times, and look at the spread of a
/// statistic (percentile interval of Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13).
///
/// Resample `i` draws from stream `i` of a ChaCha8 generator with the given seed, so results do not depend on threads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    /// Number of resamples; 0 counts as 1.
    pub resamples: u32,
    /// Confidence level, 0.95 for a 95 % interval; values outside 0 to 1 count as the nearer end.
    pub level: f64,
    /// Seed of the generator.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 2000 resamples, 95 %, seed 0.
    fn default() -> Self {
        Self {
            resamples: 2000,
            level: 0.95,
            seed: 0,
        }
    }
}

impl Bootstrap {
    /// Calls `statistic` with the drawn indices (each below `n`, `n` of them) of every resample, in parallel; the
    /// results stand in the order of the resamples. `n` must not be 0.
    pub(super) fn map<T: Send>(&self, n: usize, statistic: impl Fn(&[usize]) -> T + Sync) -> Vec<T> {
        let resample = |drawn: &mut Vec<usize>, i: u32| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(u64::from(i));
            drawn.clear();
            drawn.extend((0..n).map(|_| below(&mut rng, n)));
            statistic(drawn)
        };
        (0..self.resamples.max(1))
            .into_par_iter()
            .map_init(Vec::new, resample)
            .collect()
    }

    /// The percentile interval of values of a statistic; `None` when there are none. Sorts them.
    pub(super) fn interval(&self, values: &mut [f64]) -> Option<[f64; 2]> {
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level.clamp(0.0, 1.0)) / 2.0;
        Some([percentile(values, tail)?, percentile(values, 1.0 - tail)?])
    }
}

/// A number below `n`, uniform up to a bias of `n` / 2⁶⁴: the upper half of a product (Lemire, ACM TOMACS 29(1), 2019).
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_reach_both_ends() {
        let bootstrap = Bootstrap {
            resamples: 5000,
            ..Bootstrap::default()
        };
        let mut counts = [0u32; 7];
        for drawn in bootstrap.map(7, <[usize]>::to_vec) {
            assert_eq!(drawn.len(), 7);
            drawn.iter().for_each(|&i| counts[i] += 1);
        }
        // 35,000 draws: 5000 each, standard deviation 65.
        assert!(counts.iter().all(|&c| c.abs_diff(5000) < 330), "{counts:?}");
    }

    #[test]
    fn threads_and_seed() {
        let bootstrap = Bootstrap::default();
        let run = |threads: usize, bootstrap: Bootstrap| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bootstrap.map(20, <[usize]>::to_vec))
        };
        let one = run(1, bootstrap);
        assert_eq!(one, run(4, bootstrap));
        assert_ne!(one, run(1, Bootstrap { seed: 1, ..bootstrap }));
        assert_ne!(one[0], one[1]);
    }

    #[test]
    fn odd_settings_do_no_harm() {
        let bootstrap = Bootstrap {
            resamples: 0,
            level: 7.0,
            seed: 3,
        };
        let mut means = bootstrap.map(4, |drawn| drawn.len() as f64);
        assert_eq!(bootstrap.interval(&mut means), Some([4.0, 4.0]));
        assert_eq!(bootstrap.interval(&mut []), None);
    }
}
