//! Seeded random draws. Each part of a phantom takes its own stream, so that a change in one leaves the others alone.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random draws.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream `stream` of a seed; equal arguments give equal draws for ever.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Uniform between two bounds, in either order.
    pub(super) fn within(&mut self, a: f32, b: f32) -> f32 {
        a + (b - a) * self.0.random::<f32>()
    }

    /// Roughly normal: the sum of four uniforms, so never beyond 3.5 deviations.
    pub(super) fn normal(&mut self, mean: f32, deviation: f32) -> f32 {
        let sum: f32 = (0..4).map(|_| self.0.random::<f32>()).sum();
        mean + deviation * (sum - 2.0) * 1.732
    }

    /// `value` with a symmetric relative error of at most `relative`.
    pub(super) fn vary(&mut self, value: f32, relative: f32) -> f32 {
        value * (1.0 + self.within(-relative, relative))
    }

    /// A point with each coordinate moved by at most `mm`.
    pub(super) fn near(&mut self, point: [f32; 3], mm: f32) -> [f32; 3] {
        point.map(|c| c + self.within(-mm, mm))
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f32) -> bool {
        self.0.random::<f32>() < p
    }

    /// A whole number in `low..=high`.
    pub(super) fn count(&mut self, low: usize, high: usize) -> usize {
        self.0.random_range(low..=high)
    }

    /// A seed for a hash or a noise field.
    pub(super) fn seed(&mut self) -> u32 {
        self.0.random()
    }

    /// A unit vector of any direction.
    pub(super) fn direction(&mut self) -> [f32; 3] {
        loop {
            let v: [f32; 3] = std::array::from_fn(|_| self.within(-1.0, 1.0));
            let length = super::shape::length(v);
            if (0.1..=1.0).contains(&length) {
                return v.map(|c| c / length);
            }
        }
    }
}
