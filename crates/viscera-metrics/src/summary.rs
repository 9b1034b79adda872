//! The scores of many cases.

use crate::{CaseScore, ClassScore, Metric};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Means of measures, each over the entries that have a value; serialises as a map by [`Metric::key`].
///
/// It holds the measures that were asked for in at least one entry; the value is `None` when it was defined in none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MeanScore(BTreeMap<Metric, Option<f64>>);

impl MeanScore {
    /// The mean of a measure; `None` when no entry has a value.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied().flatten()
    }

    /// The measures that were asked for, in the order of [`Metric::ALL`], with their means.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, Option<f64>)> + '_ {
        self.0.iter().map(|(&metric, &value)| (metric, value))
    }

    fn of_cases(scores: &[&ClassScore]) -> Self {
        let asked = Metric::ALL
            .iter()
            .filter(|metric| scores.iter().any(|score| metric.measured(score)));
        Self(
            asked
                .map(|&metric| (metric, mean(scores.iter().map(|score| metric.of(score)))))
                .collect(),
        )
    }

    fn of_classes(scores: &[&Self]) -> Self {
        let asked = Metric::ALL
            .iter()
            .filter(|metric| scores.iter().any(|score| score.0.contains_key(metric)));
        Self(
            asked
                .map(|&metric| (metric, mean(scores.iter().map(|score| score.get(metric)))))
                .collect(),
        )
    }
}

/// Mean of the values that are there, summed in order; `None` when there are none.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, n) = values
        .flatten()
        .fold((0.0, 0usize), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// The mean of one class over cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMean {
    /// The means.
    #[serde(flatten)]
    pub mean: MeanScore,
    /// Cases whose reference annotates the class.
    pub cases_annotated: usize,
    /// Of these, the cases with a Dice, that is, not empty in both label maps.
    pub cases_scored: usize,
}

/// The scores of many cases and their means; serialises to the shape of nnU-Net's `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Mean over the foreground classes (all but id 0) of [`Self::mean`], each class with equal weight. Classes without
    /// a value are left out (nnU-Net's mean would be NaN).
    pub foreground_mean: MeanScore,
    /// Mean per class over the cases that annotate it.
    pub mean: BTreeMap<u8, ClassMean>,
    /// The cases, in the order given.
    pub metric_per_case: Vec<CaseScore>,
}

impl Summary {
    /// Averages cases. Each class is averaged over the cases that annotate it, so cases may annotate different classes.
    #[must_use]
    pub fn of(cases: Vec<CaseScore>) -> Self {
        let mut per_class: BTreeMap<u8, Vec<&ClassScore>> = BTreeMap::new();
        for (&class, score) in cases.iter().flat_map(|case| &case.metrics) {
            per_class.entry(class).or_default().push(score);
        }
        let mean: BTreeMap<u8, ClassMean> = per_class
            .into_iter()
            .map(|(class, scores)| {
                let mean = ClassMean {
                    mean: MeanScore::of_cases(&scores),
                    cases_annotated: scores.len(),
                    cases_scored: scores.iter().filter(|score| score.dice.is_some()).count(),
                };
                (class, mean)
            })
            .collect();
        let foreground: Vec<&MeanScore> = mean.range(1..).map(|(_, class)| &class.mean).collect();
        let foreground_mean = MeanScore::of_classes(&foreground);
        Self {
            foreground_mean,
            mean,
            metric_per_case: cases,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScoreOptions;
    use viscera_image::{Geometry, LabelMap};

    fn case(reference: [u8; 4], prediction: [u8; 4], annotated: &[u8]) -> CaseScore {
        let map = |data: [u8; 4]| LabelMap::new(Geometry::ras([1, 2, 2], [1.0; 3]), data.to_vec()).unwrap();
        CaseScore::measure(
            "r",
            "p",
            &map(reference),
            &map(prediction),
            &annotated.iter().copied().collect(),
            &ScoreOptions::default(),
        )
        .unwrap()
    }

    #[test]
    fn each_class_is_averaged_over_its_own_cases() {
        let summary = Summary::of(vec![
            case([1, 1, 0, 2], [1, 0, 0, 2], &[1, 2, 3]), // 1: 2/3, 2: 1, 3: none
            case([1, 1, 0, 0], [1, 1, 2, 2], &[1, 3]),    // 1: 1, 2 not annotated, 3: none
        ]);
        assert_eq!(summary.mean[&1].mean.get(Metric::Dice), Some((2.0 / 3.0 + 1.0) / 2.0));
        assert_eq!(summary.mean[&2].mean.get(Metric::Dice), Some(1.0));
        assert_eq!(
            (summary.mean[&2].cases_annotated, summary.mean[&2].cases_scored),
            (1, 1)
        );
        assert_eq!(summary.mean[&3].mean.get(Metric::Dice), None);
        assert_eq!(summary.mean[&3].mean.get(Metric::PredictedVoxels), Some(0.0));
        assert_eq!(
            (summary.mean[&3].cases_annotated, summary.mean[&3].cases_scored),
            (2, 0)
        );
        assert_eq!(
            summary.foreground_mean.get(Metric::Dice),
            Some(((2.0 / 3.0 + 1.0) / 2.0 + 1.0) / 2.0)
        );
    }

    #[test]
    fn background_stays_out_of_the_foreground_mean() {
        let summary = Summary::of(vec![case([1, 1, 0, 0], [0, 0, 0, 0], &[0, 1])]);
        assert!(summary.mean[&0].mean.get(Metric::Dice).is_some());
        assert_eq!(summary.foreground_mean.get(Metric::Dice), Some(0.0));
    }

    #[test]
    fn json_has_the_keys_of_nnunet_and_reads_back() {
        let summary = Summary::of(vec![case([1, 1, 0, 0], [1, 0, 0, 0], &[1, 7])]);
        let json = serde_json::to_value(&summary).unwrap();
        let metrics = &json["metric_per_case"][0]["metrics"];
        for key in ["Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"] {
            assert!(metrics["1"].get(key).is_some(), "{key} per case");
            assert!(json["mean"]["1"].get(key).is_some(), "{key} in the mean");
            assert!(
                json["foreground_mean"].get(key).is_some(),
                "{key} in the foreground mean"
            );
        }
        assert!(metrics["7"]["Dice"].is_null());
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
    }

    #[test]
    fn no_cases_give_no_means() {
        let summary = Summary::of(Vec::new());
        assert!(summary.mean.is_empty());
        assert_eq!(summary.foreground_mean.get(Metric::Dice), None);
    }
}
