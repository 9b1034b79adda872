//! The scores of many cases.

use crate::{CaseScore, ClassScore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Means of the fields of [`ClassScore`], each over the entries that have a value; `None` when none has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeanScore {
    /// Mean Dice's coefficient.
    #[serde(rename = "Dice")]
    pub dice: Option<f64>,
    /// Mean Jaccard index.
    #[serde(rename = "IoU")]
    pub jaccard: Option<f64>,
    /// Mean voxels in both.
    #[serde(rename = "TP")]
    pub tp: Option<f64>,
    /// Mean voxels in the prediction only.
    #[serde(rename = "FP")]
    pub fp: Option<f64>,
    /// Mean voxels in the reference only.
    #[serde(rename = "FN")]
    pub fn_: Option<f64>,
    /// Mean voxels in neither.
    #[serde(rename = "TN")]
    pub tn: Option<f64>,
    /// Mean voxels in the prediction.
    pub n_pred: Option<f64>,
    /// Mean voxels in the reference.
    pub n_ref: Option<f64>,
    /// Mean volume of the reference mask in ml.
    pub volume_ref_ml: Option<f64>,
    /// Mean volume of the predicted mask in ml.
    pub volume_pred_ml: Option<f64>,
}

impl MeanScore {
    fn of_cases(scores: &[&ClassScore]) -> Self {
        let over = |field: fn(&ClassScore) -> Option<f64>| mean(scores.iter().map(|score| field(score)));
        Self {
            dice: over(|s| s.dice),
            jaccard: over(|s| s.jaccard),
            tp: over(|s| Some(s.overlap.tp as f64)),
            fp: over(|s| Some(s.overlap.fp as f64)),
            fn_: over(|s| Some(s.overlap.fn_ as f64)),
            tn: over(|s| Some(s.overlap.tn as f64)),
            n_pred: over(|s| Some(s.overlap.n_pred as f64)),
            n_ref: over(|s| Some(s.overlap.n_ref as f64)),
            volume_ref_ml: over(|s| Some(s.volume_ref_ml)),
            volume_pred_ml: over(|s| Some(s.volume_pred_ml)),
        }
    }

    fn of_classes(scores: &[&Self]) -> Self {
        let over = |field: fn(&Self) -> Option<f64>| mean(scores.iter().map(|score| field(score)));
        Self {
            dice: over(|s| s.dice),
            jaccard: over(|s| s.jaccard),
            tp: over(|s| s.tp),
            fp: over(|s| s.fp),
            fn_: over(|s| s.fn_),
            tn: over(|s| s.tn),
            n_pred: over(|s| s.n_pred),
            n_ref: over(|s| s.n_ref),
            volume_ref_ml: over(|s| s.volume_ref_ml),
            volume_pred_ml: over(|s| s.volume_pred_ml),
        }
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
    use viscera_image::{Geometry, LabelMap};

    fn case(reference: [u8; 4], prediction: [u8; 4], annotated: &[u8]) -> CaseScore {
        let map = |data: [u8; 4]| LabelMap::new(Geometry::ras([1, 2, 2], [1.0; 3]), data.to_vec()).unwrap();
        CaseScore::measure(
            "r",
            "p",
            &map(reference),
            &map(prediction),
            &annotated.iter().copied().collect(),
        )
        .unwrap()
    }

    #[test]
    fn each_class_is_averaged_over_its_own_cases() {
        let summary = Summary::of(vec![
            case([1, 1, 0, 2], [1, 0, 0, 2], &[1, 2, 3]), // 1: 2/3, 2: 1, 3: none
            case([1, 1, 0, 0], [1, 1, 2, 2], &[1, 3]),    // 1: 1, 2 not annotated, 3: none
        ]);
        assert_eq!(summary.mean[&1].mean.dice, Some((2.0 / 3.0 + 1.0) / 2.0));
        assert_eq!(summary.mean[&2].mean.dice, Some(1.0));
        assert_eq!(
            (summary.mean[&2].cases_annotated, summary.mean[&2].cases_scored),
            (1, 1)
        );
        assert_eq!(summary.mean[&3].mean.dice, None);
        assert_eq!(summary.mean[&3].mean.n_pred, Some(0.0));
        assert_eq!(
            (summary.mean[&3].cases_annotated, summary.mean[&3].cases_scored),
            (2, 0)
        );
        assert_eq!(
            summary.foreground_mean.dice,
            Some(((2.0 / 3.0 + 1.0) / 2.0 + 1.0) / 2.0)
        );
    }

    #[test]
    fn background_stays_out_of_the_foreground_mean() {
        let summary = Summary::of(vec![case([1, 1, 0, 0], [0, 0, 0, 0], &[0, 1])]);
        assert!(summary.mean[&0].mean.dice.is_some());
        assert_eq!(summary.foreground_mean.dice, Some(0.0));
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
        assert_eq!(summary.foreground_mean.dice, None);
    }
}
