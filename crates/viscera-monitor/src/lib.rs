//! Measures what a command costs: time, processor, memory of its process tree and GPU memory, sampled as it runs.

mod curve;
mod record;

pub use curve::{Area, Curve, flare_sum, integral_of_means, maximum, stable_maximum, trapezoid};
pub use record::{Baseline, Bench, GpuFacts, Machine, Record, Sample, Spread, Usage};
