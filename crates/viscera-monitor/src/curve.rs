//! The curves over time, their areas and their largest values.

use crate::record::Sample;
use serde::{Deserialize, Serialize};

/// A quantity that is read over time. Tables, files and reports walk [`Curve::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// Resident memory of the process tree, [`Sample::rss_mib`].
    TreeRss,
    /// Proportional resident memory of the process tree, [`Sample::pss_mib`].
    TreePss,
    /// Memory in use in the whole system, [`Sample::ram_used_mib`].
    Ram,
    /// Memory in use on the GPU, [`Sample::gpu_mib`].
    Gpu,
    /// Busy processors of the whole system, [`Sample::cpu_percent`].
    Cpu,
    /// Busy processors by the formula of FLARE's script: 100 − 100·i / (u + s + i + 0.1 s), where u, s and i are the
    /// seconds that all cores together spent in user mode (at normal priority), in the kernel, and idle. The 0.1 s
    /// makes an idle machine look busy, the more so the fewer cores it has: 33 % with two.
    CpuFlare,
}

impl Curve {
    /// All curves.
    pub const ALL: &[Self] = &[
        Self::TreeRss,
        Self::TreePss,
        Self::Ram,
        Self::Gpu,
        Self::Cpu,
        Self::CpuFlare,
    ];

    /// Name in files.
    pub fn key(self) -> &'static str {
        match self {
            Self::TreeRss => "tree_rss",
            Self::TreePss => "tree_pss",
            Self::Ram => "ram",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::CpuFlare => "cpu_flare",
        }
    }

    /// Name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::TreeRss => "memory of the command (RSS)",
            Self::TreePss => "memory of the command (PSS)",
            Self::Ram => "RAM of the system",
            Self::Gpu => "GPU memory",
            Self::Cpu => "CPU of the system",
            Self::CpuFlare => "CPU as FLARE's script",
        }
    }

    /// Unit of a reading; an area has it times seconds.
    pub fn unit(self) -> &'static str {
        match self {
            Self::TreeRss | Self::TreePss | Self::Ram | Self::Gpu => "MiB",
            Self::Cpu | Self::CpuFlare => "%",
        }
    }

    /// Whether the curve is of the whole system, so that it is not zero before the command starts.
    pub fn of_system(self) -> bool {
        !matches!(self, Self::TreeRss | Self::TreePss)
    }

    /// Whether a reading is the mean since the reading before, and not the state of a moment.
    fn is_mean(self) -> bool {
        matches!(self, Self::Cpu | Self::CpuFlare)
    }

    /// The curve's value in a reading.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::TreeRss => sample.rss_mib,
            Self::TreePss => sample.pss_mib,
            Self::Ram => sample.ram_used_mib,
            Self::Gpu => sample.gpu_mib,
            Self::Cpu => sample.cpu_percent,
            Self::CpuFlare => sample.cpu_flare_percent,
        }
    }

    /// (seconds, value) of all readings that have the curve.
    pub fn points(self, samples: &[Sample]) -> Vec<(f64, f64)> {
        let point = |sample: &Sample| Some((sample.t_s, self.of(sample)?));
        samples.iter().filter_map(point).collect()
    }

    /// Values of the regular readings, which FLARE's rules are about. A reading that lacks the curve has the value before
    /// it; those before the first value are left out.
    pub fn regular(self, samples: &[Sample]) -> Vec<f64> {
        let regular = samples.iter().filter(|sample| !sample.extra);
        let mut last = None;
        let mut held = |sample| {
            last = self.of(sample).or(last);
            last
        };
        regular.filter_map(&mut held).collect()
    }

    /// Area under the curve from 0 to `wall_s`, with and without what the idle system has (`idle`, which is 0 for
    /// curves of the tree). `None` without a reading.
    pub fn area(self, samples: &[Sample], interval_s: f64, wall_s: f64, idle: Option<f64>) -> Option<Area> {
        let regular = self.regular(samples);
        let integral = if self.is_mean() {
            integral_of_means(&self.points(samples), wall_s)
        } else {
            trapezoid(&self.points(samples), wall_s)
        }?;
        let flare = flare_sum(&regular, interval_s);
        let idle = if self.of_system() { idle } else { Some(0.0) };
        Some(Area {
            flare,
            integral,
            flare_above_idle: idle.map(|idle| flare - idle * interval_s * regular.len() as f64),
            integral_above_idle: idle.map(|idle| integral - idle * wall_s),
        })
    }
}

/// Area under a curve, in the unit of [`Curve::unit`] times seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Area {
    /// By FLARE's formula, [`flare_sum`].
    pub flare: f64,
    /// The true integral over the wall clock: [`trapezoid`], or [`integral_of_means`] for processor use.
    pub integral: f64,
    /// `flare` less the idle system's share, where that was watched. Noise may make it negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flare_above_idle: Option<f64>,
    /// `integral` less the idle system's share, where that was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integral_above_idle: Option<f64>,
}

/// FLARE's area: the sum of the regular readings times the interval, whatever the true times were.
pub fn flare_sum(values: &[f64], interval_s: f64) -> f64 {
    values.iter().sum::<f64>() * interval_s
}

/// Integral from 0 to `end` of the lines that join (seconds, value) points in order of time; before the first and after
/// the last point the value is held. `None` without points.
pub fn trapezoid(points: &[(f64, f64)], end: f64) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let pairs = points.iter().zip(points.iter().skip(1));
    let inner: f64 = pairs.map(|((t0, v0), (t1, v1))| (t1 - t0) * (v0 + v1) / 2.0).sum();
    Some(first.0 * first.1 + inner + (end - last.0).max(0.0) * last.1)
}

/// Integral from 0 to `end` of (seconds, mean value since the point before) points; after the last point its value is
/// held. `None` without points.
pub fn integral_of_means(points: &[(f64, f64)], end: f64) -> Option<f64> {
    let last = points.last()?;
    let mut before = 0.0;
    let mut sum = 0.0;
    for &(t, mean) in points {
        sum += (t - before) * mean;
        before = t;
    }
    Some(sum + (end - last.0).max(0.0) * last.1)
}

/// Largest value by the rule of FLARE21 and FLARE22: the largest that occurs, to the last bit, in more than 2 % of the
/// readings. `None` where no value occurs so often.
pub fn stable_maximum(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut groups = sorted.chunk_by(|a, b| a == b);
    let often = |group: &&[f64]| group.len() as f64 > 0.02 * values.len() as f64;
    groups.rfind(often)?.first().copied()
}

/// Largest value; `None` of none.
pub fn maximum(values: &[f64]) -> Option<f64> {
    values.iter().copied().max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rising times from 0 to the end, with gaps as uneven as a loaded machine makes them.
    fn times() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(0.001..0.5f64, 1..200).prop_map(|gaps| {
            let mut t = 0.0;
            let mut times = vec![0.0];
            for gap in gaps {
                t += gap;
                times.push(t);
            }
            times
        })
    }

    proptest! {
        #[test]
        fn the_trapezoid_is_exact_for_lines(times in times(), a in -1e3..1e3f64, b in -1e2..1e2f64) {
            let end = *times.last().unwrap();
            let points: Vec<_> = times.iter().map(|&t| (t, a + b * t)).collect();
            let expected = a * end + b * end * end / 2.0;
            prop_assert!((trapezoid(&points, end).unwrap() - expected).abs() <= 1e-9 * (1.0 + a.abs() * end + b.abs() * end * end));
        }

        #[test]
        fn means_over_any_intervals_add_up_to_the_whole(times in times(), rate in 0.1..9.0f64) {
            // Of f(t) = rate·t² the means are known; their integral is rate·end³/3 however the times fall.
            let end = *times.last().unwrap();
            let area = |t: f64| rate * t.powi(3) / 3.0;
            let mut points = vec![(0.0, 7.0)]; // the mean before the start counts for nothing
            for (t0, t1) in times.iter().zip(&times[1..]) {
                points.push((*t1, (area(*t1) - area(*t0)) / (t1 - t0)));
            }
            let expected = area(end);
            prop_assert!((integral_of_means(&points, end).unwrap() - expected).abs() <= 1e-9 * (1.0 + expected));
        }

        #[test]
        fn smooth_curves_converge_with_the_square_of_the_interval(steps in 20usize..400) {
            // One arch of a sine, whose area is 2.
            let points: Vec<_> = (0..=steps).map(|k| k as f64 * std::f64::consts::PI / steps as f64).map(|t| (t, t.sin())).collect();
            let h = std::f64::consts::PI / steps as f64;
            prop_assert!((trapezoid(&points, std::f64::consts::PI).unwrap() - 2.0).abs() < h * h / 5.0);
        }

        #[test]
        fn the_sum_of_even_readings_nears_the_integral(level in 0.0..1e5f64, n in 1usize..500) {
            // n readings from 0 on, the command ending one interval after the last.
            let samples: Vec<_> = (0..n)
                .map(|k| Sample { t_s: k as f64 * 0.1, ram_used_mib: Some(level), ..Sample::default() })
                .collect();
            let area = Curve::Ram.area(&samples, 0.1, n as f64 * 0.1, Some(level)).unwrap();
            prop_assert!((area.flare - area.integral).abs() <= 1e-9 * (1.0 + area.integral));
            prop_assert!(area.flare_above_idle.unwrap().abs() <= 1e-6 && area.integral_above_idle.unwrap().abs() <= 1e-6);
        }

        #[test]
        fn the_stable_maximum_is_a_count(values in proptest::collection::vec(0u8..20, 1..300)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let expected = (0u8..20).map(f64::from).filter(|v| {
                values.iter().filter(|x| *x == v).count() as f64 > 0.02 * values.len() as f64
            }).fold(None, |_, v| Some(v));
            prop_assert_eq!(stable_maximum(&values), expected);
        }
    }

    #[test]
    fn a_step_is_off_by_less_than_half_an_interval() {
        // 100 from 0.35 on, read at 0, 0.1, …, ending at 1.03.
        let step = |t: f64| if t >= 0.35 { 100.0 } else { 0.0 };
        let points: Vec<_> = (0..=10).map(|k| k as f64 * 0.1).map(|t| (t, step(t))).collect();
        let area = trapezoid(&points, 1.03).unwrap();
        assert!((area - 68.0).abs() <= 5.0 + 1e-9, "{area}");
    }

    #[test]
    fn spikes_count_for_flare23_only() {
        let mut values = vec![1000.0; 97];
        values.extend([2000.0, 2000.0, 3000.0]);
        // 2 of 100 is not more than 2 %.
        assert_eq!(stable_maximum(&values), Some(1000.0));
        assert_eq!(maximum(&values), Some(3000.0));
        values.push(2000.0);
        assert_eq!(stable_maximum(&values), Some(2000.0));
        let all_different: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(stable_maximum(&all_different), None);
    }

    #[test]
    fn extra_readings_are_left_out_of_the_sum() {
        let sample = |t_s, extra| Sample {
            t_s,
            extra,
            rss_mib: Some(10.0),
            ..Sample::default()
        };
        let samples = [
            sample(0.0, false),
            sample(0.05, true),
            sample(0.1, false),
            sample(0.17, true),
        ];
        let area = Curve::TreeRss.area(&samples, 0.1, 0.17, None).unwrap();
        assert!((area.flare - 2.0).abs() < 1e-12);
        assert!((area.integral - 1.7).abs() < 1e-12);
        // The tree has no idle share, even where the system was not watched.
        assert_eq!(area.integral_above_idle, Some(area.integral));
        assert_eq!(Curve::Ram.area(&samples, 0.1, 0.17, None), None);
        // PSS is not in every reading.
        let pss = [None, Some(4.0), None, Some(6.0), None].map(|pss_mib| Sample {
            pss_mib,
            ..Sample::default()
        });
        assert_eq!(Curve::TreePss.regular(&pss), [4.0, 4.0, 6.0, 6.0]);
    }
}
