//! Scores of many cases, described: per class and measure, over cases, per group of cases.

use serde::Serialize;
use std::collections::BTreeMap;
use viscera_metrics::stats::{Bootstrap, Described, describe};
use viscera_metrics::{CaseScore, Metric};

/// Descriptions of the measures that have finite values.
pub type Measures = BTreeMap<Metric, Described>;

/// What the scores of some cases look like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Of each class over the cases that have a value, by class id.
    pub classes: BTreeMap<u8, Measures>,
    /// Of the cases' means over their classes: each case counts once, whatever it annotates.
    pub cases: Measures,
}

impl Statistics {
    /// Describes scores. Counts of voxels are left out, as they say nothing without the size of a voxel.
    #[must_use]
    pub fn of(scores: &[&CaseScore], bootstrap: &Bootstrap) -> Self {
        let described = |values: &dyn Fn(Metric) -> Vec<f64>| -> Measures {
            let metrics = Metric::ALL.iter().filter(|m| m.unit() != "voxels");
            metrics
                .filter_map(|&m| Some((m, describe(&values(m), bootstrap)?)))
                .collect()
        };
        let mut ids: Vec<u8> = scores.iter().flat_map(|s| s.metrics.keys().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        let classes = ids.into_iter().map(|id| {
            let of_class = |metric: Metric| -> Vec<f64> {
                let class = scores.iter().filter_map(|s| s.metrics.get(&id));
                class.filter_map(|s| finite(metric.of(s))).collect()
            };
            (id, described(&of_class))
        });
        let over_cases = |metric: Metric| scores.iter().filter_map(|s| case_mean(s, metric)).collect();
        Self {
            classes: classes.collect(),
            cases: described(&over_cases),
        }
    }
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite())
}

/// Mean of a measure over the foreground classes of a case that have a value.
#[must_use]
pub fn case_mean(score: &CaseScore, metric: Metric) -> Option<f64> {
    let classes = score.metrics.range(1..);
    let values: Vec<f64> = classes.filter_map(|(_, s)| finite(metric.of(s))).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The cases with one value in a column of the case table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The value.
    pub value: String,
    /// Number of cases.
    pub cases: usize,
    /// Their scores.
    pub statistics: Statistics,
}

/// Groups by the values of a column, sorted by value.
pub(crate) fn groups<'a>(rows: impl Iterator<Item = (&'a str, &'a CaseScore)>, bootstrap: &Bootstrap) -> Vec<Group> {
    let mut by_value: BTreeMap<&str, Vec<&CaseScore>> = BTreeMap::new();
    for (value, score) in rows {
        by_value.entry(value).or_default().push(score);
    }
    let group = |(value, scores): (&str, Vec<&CaseScore>)| Group {
        value: value.to_owned(),
        cases: scores.len(),
        statistics: Statistics::of(&scores, bootstrap),
    };
    by_value.into_iter().map(group).collect()
}
