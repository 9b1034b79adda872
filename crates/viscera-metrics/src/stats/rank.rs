//! Ranking of many systems as challenges do it, and how stable it is.

use super::order::mean_ranks_by;
use super::{Bootstrap, kendall_tau_b, mean_ranks};
use crate::{Better, MetricsError};
use serde::{Deserialize, Serialize};

/// One column of a [`RankTable`]: a metric, or a metric of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankMetric {
    /// Name for people.
    pub name: String,
    /// Which values are better.
    pub better: Better,
}

/// The values of some systems on common cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankTable {
    /// Names of the systems.
    pub systems: Vec<String>,
    /// Names of the cases.
    pub cases: Vec<String>,
    /// The metrics.
    pub metrics: Vec<RankMetric>,
    /// One value per system, case and metric in this order, the metric changing fastest. `None` or NaN is missing.
    pub values: Vec<Option<f64>>,
}

/// How values become ranks. Both treat all metrics alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankMethod {
    /// Rank the systems for each case and metric, then average the ranks ("rank then aggregate", as the FLARE
    /// challenges).
    #[default]
    PerCase,
    /// Average each metric over the cases, rank the systems for each metric, then average the ranks ("aggregate then
    /// rank").
    OfMean,
}

/// A ranking of all systems of a [`RankTable`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// How it was made.
    pub method: RankMethod,
    /// How its stability was tested.
    pub bootstrap: Bootstrap,
    /// The systems in the order of the table.
    pub systems: Vec<SystemRank>,
    /// Agreement of the ranking with those of the resamples; `None` where it has no meaning, as for a single system.
    pub stability: Option<RankStability>,
}

/// Where one system stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemRank {
    /// Name of the system.
    pub name: String,
    /// Average rank over cases and metrics (or over metrics): 1 is best in everything, the number of systems is last.
    pub mean_rank: f64,
    /// Final rank; systems with equal `mean_rank` share the mean of their places.
    pub rank: f64,
    /// Bootstrap percentile interval of the final rank.
    pub interval: [f64; 2],
    /// For each place (the first entry is place 1) the share of resamples in which the system takes it. A tie counts to
    /// equal parts for all places that it covers, so rows and columns sum to 1.
    pub frequencies: Vec<f64>,
}

/// Kendall's τ-b between the full ranking and those of bootstrap resamples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankStability {
    /// Mean over the resamples; 1 when all rank alike.
    pub mean_tau: f64,
    /// Percentile interval.
    pub interval: [f64; 2],
    /// Number of resamples with a τ; one in which all systems tie has none.
    pub resamples: usize,
}

/// Ranks systems and tests the ranking by resampling the cases (Wiesenfarth et al., *Scientific Reports* 11:2369,
/// 2021).
///
/// Ties share the mean rank everywhere. A value that only some systems lack ranks behind all values: `PerCase` puts the
/// systems without it last in that case and metric; `OfMean` puts a system that lacks more values of a metric behind
/// those that lack fewer. A case and metric that no system has a value for is left out. Every case and metric with
/// values weighs the same. Without any value all systems tie.
///
/// ```
/// use viscera_metrics::{Better, stats::{rank, Bootstrap, RankMethod, RankMetric, RankTable}};
/// let table = RankTable {
///     systems: vec!["a".into(), "b".into()],
///     cases: vec!["1".into(), "2".into(), "3".into()],
///     metrics: vec![RankMetric { name: "Dice".into(), better: Better::Higher }],
///     values: [0.9, 0.8, 0.5, 0.7, 0.7, 0.6].map(Some).to_vec(),
/// };
/// let ranking = rank(&table, RankMethod::PerCase, &Bootstrap::default())?;
/// assert_eq!(ranking.systems[0].mean_rank, (1.0 + 1.0 + 2.0) / 3.0);
/// assert_eq!((ranking.systems[0].rank, ranking.systems[1].rank), (1.0, 2.0));
/// # Ok::<(), viscera_metrics::MetricsError>(())
/// ```
///
/// # Errors
/// [`MetricsError::TableSize`] when `table.values` has another length than systems × cases × metrics.
pub fn rank(table: &RankTable, method: RankMethod, bootstrap: &Bootstrap) -> Result<Ranking, MetricsError> {
    let costs = Costs::of(table)?;
    let (n_systems, n_cases) = (table.systems.len(), table.cases.len());
    let per_case = match method {
        RankMethod::PerCase => costs.ranks_per_case(),
        RankMethod::OfMean => Vec::new(),
    };
    let ranks_of = |cases: &[usize]| match method {
        RankMethod::PerCase => mean_of_ranks(&per_case, cases, n_systems),
        RankMethod::OfMean => costs.ranks_of_means(cases),
    };
    let all_cases: Vec<usize> = (0..n_cases).collect();
    let mean_rank = ranks_of(&all_cases);
    let full = mean_ranks(&mean_rank);
    let resampled = match n_cases {
        0 => vec![full.clone()],
        _ => bootstrap.map(n_cases, |cases| mean_ranks(&ranks_of(cases))),
    };
    let mut systems = Vec::with_capacity(n_systems);
    for (i, name) in table.systems.iter().enumerate() {
        let mut ranks: Vec<f64> = resampled.iter().map(|ranks| ranks[i]).collect();
        systems.push(SystemRank {
            name: name.clone(),
            mean_rank: mean_rank[i],
            rank: full[i],
            interval: bootstrap.interval(&mut ranks).unwrap_or([full[i]; 2]),
            frequencies: place_frequencies(&resampled, i),
        });
    }
    let mut taus: Vec<f64> = resampled
        .iter()
        .filter_map(|ranks| kendall_tau_b(&full, ranks))
        .collect();
    Ok(Ranking {
        method,
        bootstrap: *bootstrap,
        systems,
        stability: bootstrap.interval(&mut taus).map(|interval| RankStability {
            mean_tau: taus.iter().sum::<f64>() / taus.len() as f64,
            interval,
            resamples: taus.len(),
        }),
    })
}

/// A [`RankTable`] in which less is better, reordered so that the systems lie side by side.
struct Costs {
    n_systems: usize,
    n_metrics: usize,
    /// For each case and metric the costs of all systems; none at all where every system lacks the value.
    cells: Vec<Vec<Option<f64>>>,
}

impl Costs {
    fn of(table: &RankTable) -> Result<Self, MetricsError> {
        let (n_systems, n_cases, n_metrics) = (table.systems.len(), table.cases.len(), table.metrics.len());
        let n_cells = n_cases.checked_mul(n_metrics);
        if n_cells.and_then(|n| n.checked_mul(n_systems)) != Some(table.values.len()) {
            return Err(MetricsError::TableSize {
                systems: n_systems,
                cases: n_cases,
                metrics: n_metrics,
                found: table.values.len(),
            });
        }
        let n_cells = if n_systems == 0 { 0 } else { n_cases * n_metrics };
        let cell = |at: usize| {
            let cost = |value: f64| match table.metrics[at % n_metrics].better {
                Better::Higher => -value,
                Better::Lower => value,
                Better::NearZero => value.abs(),
            };
            let values = (0..n_systems).map(|system| table.values[system * n_cells + at]);
            let costs: Vec<_> = values.map(|v| v.filter(|v| !v.is_nan()).map(cost)).collect();
            if costs.iter().any(Option::is_some) {
                costs
            } else {
                Vec::new()
            }
        };
        Ok(Self {
            n_systems,
            n_metrics,
            cells: (0..n_cells).map(cell).collect(),
        })
    }

    /// For each case the ranks of all systems summed over the metrics, and over how many.
    fn ranks_per_case(&self) -> Vec<(Vec<f64>, usize)> {
        let sum = |cells: &[Vec<Option<f64>>]| {
            let mut sums = vec![0.0; self.n_systems];
            let filled = cells.iter().filter(|cell| !cell.is_empty());
            let count = filled.clone().count();
            for cell in filled {
                // NaN ranks behind all numbers.
                let costs: Vec<f64> = cell.iter().map(|cost| cost.unwrap_or(f64::NAN)).collect();
                sums.iter_mut()
                    .zip(mean_ranks(&costs))
                    .for_each(|(sum, rank)| *sum += rank);
            }
            (sums, count)
        };
        self.cells.chunks(self.n_metrics.max(1)).map(sum).collect()
    }

    /// The average over the metrics of the ranks of the systems' means over `cases`.
    fn ranks_of_means(&self, cases: &[usize]) -> Vec<f64> {
        let mut per_metric = Vec::new();
        for metric in 0..self.n_metrics {
            // How many values each system lacks, the sum of those it has, and how many these are.
            let mut sums = vec![(0usize, 0.0, 0usize); self.n_systems];
            let cells = cases
                .iter()
                .filter_map(|case| self.cells.get(case * self.n_metrics + metric));
            for (sum, cost) in cells.flat_map(|cell| (0..).zip(cell)) {
                let sum: &mut (usize, f64, usize) = &mut sums[sum];
                match cost {
                    Some(cost) => (sum.1, sum.2) = (sum.1 + cost, sum.2 + 1),
                    None => sum.0 += 1,
                }
            }
            if sums.iter().any(|sum| sum.2 > 0) {
                let mean = |sum: &(usize, f64, usize)| sum.1 / sum.2.max(1) as f64 + 0.0;
                let ranks = mean_ranks_by(&sums, |a, b| a.0.cmp(&b.0).then(mean(a).total_cmp(&mean(b))));
                per_metric.push((ranks, 1));
            }
        }
        let all: Vec<usize> = (0..per_metric.len()).collect();
        mean_of_ranks(&per_metric, &all, self.n_systems)
    }
}

/// The average of summed ranks over the drawn parts; a tie of all systems where there is nothing to average.
fn mean_of_ranks(parts: &[(Vec<f64>, usize)], drawn: &[usize], n_systems: usize) -> Vec<f64> {
    let mut sums = vec![0.0; n_systems];
    let mut count = 0;
    for (ranks, cells) in drawn.iter().filter_map(|&i| parts.get(i)) {
        sums.iter_mut().zip(ranks).for_each(|(sum, rank)| *sum += rank);
        count += cells;
    }
    if count == 0 {
        return vec![(n_systems + 1) as f64 / 2.0; n_systems];
    }
    sums.iter().map(|sum| sum / count as f64).collect()
}

/// For each place the share of rankings in which `system` takes it.
fn place_frequencies(rankings: &[Vec<f64>], system: usize) -> Vec<f64> {
    let n_systems = rankings.first().map_or(0, Vec::len);
    let mut shares = vec![0.0; n_systems];
    for ranks in rankings {
        let tied = ranks.iter().filter(|&&rank| rank == ranks[system]).count();
        // `tied` places with the mean `rank` begin at rank − (tied − 1) / 2.
        let first = (ranks[system] - (tied + 1) as f64 / 2.0) as usize;
        let part = 1.0 / (tied * rankings.len()) as f64;
        shares
            .iter_mut()
            .skip(first)
            .take(tied)
            .for_each(|share| *share += part);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(better: &[Better], systems: &[&[Option<f64>]]) -> RankTable {
        RankTable {
            systems: (0..systems.len()).map(|i| format!("s{i}")).collect(),
            cases: (0..systems[0].len() / better.len()).map(|i| format!("c{i}")).collect(),
            metrics: better
                .iter()
                .map(|&better| RankMetric {
                    name: "m".to_owned(),
                    better,
                })
                .collect(),
            values: systems.concat(),
        }
    }

    fn mean_rank(table: &RankTable, method: RankMethod) -> Vec<f64> {
        let ranking = rank(
            table,
            method,
            &Bootstrap {
                resamples: 20,
                ..Bootstrap::default()
            },
        )
        .unwrap();
        ranking.systems.iter().map(|s| s.mean_rank).collect()
    }

    #[test]
    fn the_two_methods_differ() {
        // The second system is best in two of three cases, but far behind in one.
        let table = table(
            &[Better::Higher],
            &[
                &[Some(0.8), Some(0.8), Some(0.8)],
                &[Some(0.9), Some(0.9), Some(0.1)],
                &[Some(0.7), Some(0.8), Some(0.2)],
            ],
        );
        let cases = [[2.0, 2.5, 1.0], [1.0, 1.0, 3.0], [3.0, 2.5, 2.0]];
        assert_eq!(
            mean_rank(&table, RankMethod::PerCase),
            cases.map(|r| r.iter().sum::<f64>() / 3.0)
        );
        assert_eq!(mean_rank(&table, RankMethod::OfMean), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn direction_of_a_metric() {
        let values: [&[Option<f64>]; 3] = [&[Some(-3.0)], &[Some(1.0)], &[Some(2.0)]];
        let expected = [
            (Better::Higher, [3.0, 2.0, 1.0]),
            (Better::Lower, [1.0, 2.0, 3.0]),
            (Better::NearZero, [3.0, 1.0, 2.0]),
        ];
        for (better, ranks) in expected {
            for method in [RankMethod::PerCase, RankMethod::OfMean] {
                assert_eq!(
                    mean_rank(&table(&[better], &values), method),
                    ranks,
                    "{better:?} {method:?}"
                );
            }
        }
    }

    #[test]
    fn missing_values_rank_last_unless_nobody_has_one() {
        // Two metrics; nobody has the second one in the first case.
        let table = table(
            &[Better::Lower, Better::Lower],
            &[
                &[Some(9.0), None, Some(1.0), Some(5.0)],
                &[None, None, Some(2.0), Some(6.0)],
                &[None, None, None, Some(1.0)],
            ],
        );
        let sums = [1.0 + 1.0 + 2.0, 2.5 + 2.0 + 3.0, 2.5 + 3.0 + 1.0];
        assert_eq!(mean_rank(&table, RankMethod::PerCase), sums.map(|s| s / 3.0));
        assert_eq!(mean_rank(&table, RankMethod::OfMean), [1.5, 2.5, 2.0]);
    }

    #[test]
    fn a_clear_winner_is_stable() {
        let table = table(&[Better::Higher], &[&[Some(0.9); 6], &[Some(0.5); 6], &[Some(0.5); 6]]);
        let ranking = rank(&table, RankMethod::PerCase, &Bootstrap::default()).unwrap();
        let [winner, second, third] = &ranking.systems[..] else {
            panic!()
        };
        assert_eq!((winner.rank, winner.interval), (1.0, [1.0; 2]));
        assert_eq!((second.rank, third.rank), (2.5, 2.5));
        for (system, expected) in [(winner, [1.0, 0.0, 0.0]), (second, [0.0, 0.5, 0.5])] {
            let near = |(a, b): (&f64, f64)| (a - b).abs() < 1e-12;
            assert!(
                system.frequencies.iter().zip(expected).all(near),
                "{:?}",
                system.frequencies
            );
        }
        let stability = ranking.stability.unwrap();
        assert!((stability.mean_tau - 1.0).abs() < 1e-12 && stability.resamples == 2000);
    }

    #[test]
    fn frequencies_follow_the_cases() {
        // Each system wins one of two cases: they tie in half of the resamples and win a quarter each.
        let table = table(&[Better::Higher], &[&[Some(1.0), Some(0.0)], &[Some(0.0), Some(1.0)]]);
        let ranking = rank(&table, RankMethod::PerCase, &Bootstrap::default()).unwrap();
        for system in &ranking.systems {
            assert_eq!((system.rank, system.interval), (1.5, [1.0, 2.0]));
            assert!((system.frequencies[0] - 0.5).abs() < 0.05);
        }
        // The full ranking is one tie.
        assert_eq!(ranking.stability, None);
    }

    #[test]
    fn tables_of_no_use() {
        let mut wrong = table(&[Better::Lower], &[&[Some(1.0)]]);
        wrong.values.clear();
        let error = rank(&wrong, RankMethod::PerCase, &Bootstrap::default()).unwrap_err();
        assert!(matches!(error, MetricsError::TableSize { found: 0, .. }));
        for (systems, cases) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
            let names = |n: usize| vec![String::new(); n];
            let empty = RankTable {
                systems: names(systems),
                cases: names(cases),
                metrics: Vec::new(),
                values: Vec::new(),
            };
            for method in [RankMethod::PerCase, RankMethod::OfMean] {
                let ranking = rank(&empty, method, &Bootstrap::default()).unwrap();
                assert!(ranking.systems.iter().all(|s| s.rank == 1.5 && s.mean_rank == 1.5));
                assert_eq!((ranking.systems.len(), ranking.stability), (systems, None));
            }
        }
    }

    proptest! {
        #[test]
        fn shares_and_ranks_add_up(
            values in prop::collection::vec(prop::option::weighted(0.9, -2i8..3), 24),
            method in prop::sample::select(vec![RankMethod::PerCase, RankMethod::OfMean]),
        ) {
            let values: Vec<Option<f64>> = values.into_iter().map(|v| v.map(f64::from)).collect();
            let rows: Vec<&[Option<f64>]> = values.chunks(6).collect();
            let table = table(&[Better::Higher, Better::NearZero], &rows);
            let ranking = rank(&table, method, &Bootstrap { resamples: 50, ..Bootstrap::default() }).unwrap();
            prop_assert_eq!(ranking.systems.iter().map(|s| s.rank).sum::<f64>(), 10.0);
            prop_assert!((ranking.systems.iter().map(|s| s.mean_rank).sum::<f64>() - 10.0).abs() < 1e-9);
            for place in 0..4 {
                let column: f64 = ranking.systems.iter().map(|s| s.frequencies[place]).sum();
                let row: f64 = ranking.systems[place].frequencies.iter().sum();
                prop_assert!((column - 1.0).abs() < 1e-9 && (row - 1.0).abs() < 1e-9);
            }
        }
    }
}
