//! Scores of predictions against references: two files, or two folders whose cases are joined by name.

use crate::EvaluateError;
use crate::cases::CaseTable;
use crate::confidence::{CalibrationBlock, ConfidenceMaps};
use crate::known::{Known, id, ids};
use crate::pairing::{Pair, pairs};
use crate::place::onto_grid;
use crate::settings::{EvaluateOptions, Settings};
use crate::statistics::{Group, Statistics, groups};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use viscera_image::{AnnotatedClasses, LabelMap, LabelTable, settle};
use viscera_io::read_label_map;
use viscera_metrics::{
    CaseScore, FlareEdition, FlareOptions, LesionCounts, LesionOptions, LesionSummary, Metric, MetricsError, Summary,
    check_same_grid, lesion_counts,
};

/// The result of an evaluation; serialises to nnU-Net's `summary.json` and more.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Scores per case, and their means; in nnU-Net's shape.
    #[serde(flatten)]
    pub summary: Summary,
    /// Names of the class ids.
    pub classes: BTreeMap<u8, String>,
    /// What else is known of the cases, in the order of `metric_per_case`.
    pub cases: Vec<CaseFacts>,
    /// Cases of the reference that have no prediction.
    pub missing: Vec<String>,
    /// Description of the scores, with confidence intervals.
    pub statistics: Statistics,
    /// Description of the scores per group, by column of the case table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<Group>>,
    /// Means by a FLARE challenge's rules, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flare: Option<FlareBlock>,
    /// Lesion-wise detection, if there is a class of lesions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lesions: Option<LesionBlock>,
    /// Whether the predictions are as often right as they are sure, if their confidence is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationBlock>,
    /// Every setting that made the numbers.
    pub settings: Settings,
    /// Names and colours.
    #[serde(skip)]
    pub(crate) table: LabelTable,
    /// Files of the cases.
    #[serde(skip)]
    pub(crate) pairs: Vec<Pair>,
}

impl Evaluation {
    /// Name of a class.
    #[must_use]
    pub fn class_name(&self, class: u8) -> String {
        self.classes
            .get(&class)
            .cloned()
            .unwrap_or_else(|| format!("label {class}"))
    }

    /// The cases with their scores.
    pub fn scored(&self) -> impl Iterator<Item = (&CaseFacts, &CaseScore)> {
        self.cases.iter().zip(&self.summary.metric_per_case)
    }
}

/// What is known of a case beside its scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseFacts {
    /// Its name.
    pub case: String,
    /// The prediction lay on another grid and was brought to the reference's.
    pub resampled: bool,
    /// Values of the columns of the case table that were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
    /// Lesions, where the reference annotates them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lesions: Option<LesionCounts>,
}

/// Means by a FLARE challenge's rules.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlareBlock {
    /// The rules.
    #[serde(flatten)]
    pub options: FlareOptions,
    /// Mean over cases of DSC and NSD per class id.
    pub classes: BTreeMap<u8, [Option<f64>; 2]>,
    /// Mean over the organs of their means, the lesion left out.
    pub organs: [Option<f64>; 2],
    /// The lesion, where the challenge has one.
    pub lesion: Option<[Option<f64>; 2]>,
}

/// Id of the lesion in FLARE23's label maps.
const FLARE_LESION: u8 = 14;

impl FlareBlock {
    fn of(options: FlareOptions, summary: &Summary) -> Self {
        let pair = |id: u8| {
            let mean = &summary.mean.get(&id)?.mean;
            let pair = [mean.get(Metric::FlareDsc), mean.get(Metric::FlareNsd)];
            (pair != [None; 2]).then_some((id, pair))
        };
        let classes: BTreeMap<u8, [Option<f64>; 2]> = summary.mean.keys().filter_map(|&id| pair(id)).collect();
        let has_lesion = options.edition == FlareEdition::Flare23;
        let organ = |id: u8| !(has_lesion && id == FLARE_LESION);
        let mean = |at: usize| {
            let organs = classes.iter().filter(|(id, _)| organ(**id));
            let values: Vec<f64> = organs.filter_map(|(_, pair)| pair[at]).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Self {
            options,
            organs: [mean(0), mean(1)],
            lesion: has_lesion.then(|| classes.get(&FLARE_LESION).copied()).flatten(),
            classes,
        }
    }
}

/// Lesion-wise detection over all cases that annotate lesions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LesionBlock {
    /// Id of the class whose components are lesions.
    pub class: u8,
    /// Counts and rates.
    #[serde(flatten)]
    pub summary: LesionSummary,
}

/// Compares a prediction with a reference, both files or both folders.
///
/// Only classes that the reference annotates are scored. They are `options.classes` where given; else those of
/// `annotations.json` or `dataset.json` in the reference's folder or the one above; else those that occur in the
/// reference's label map. Names come from that `dataset.json`, else they are FLARE's. `progress` is told how many cases
/// are done, of how many.
///
/// # Errors
/// [`EvaluateError::Io`] for files that cannot be read, [`EvaluateError::UnknownClass`],
/// [`EvaluateError::NothingToCompare`] when no name matches, [`EvaluateError::Measure`] when grids differ and
/// resampling was not asked for, [`EvaluateError::NoLesions`], [`EvaluateError::Table`] and
/// [`EvaluateError::UnknownColumn`] for a case table that does not fit, [`EvaluateError::BadTolerance`],
/// [`EvaluateError::Confidence`].
pub fn evaluate(
    reference: &Path,
    prediction: &Path,
    options: &EvaluateOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Evaluation, EvaluateError> {
    let folder = if reference.is_dir() {
        Some(reference)
    } else {
        reference.parent()
    };
    let known = Known::of(folder.unwrap_or(Path::new(".")))?;
    let wanted = options
        .classes
        .as_ref()
        .map(|names| ids(names, &known.table))
        .transpose()?;
    let scores = options.score_options(&known)?;
    let lesion_class = lesion_class(options, &known, wanted)?;
    let in_organs = options
        .lesions_in_organs
        .then(|| lesions(&known, lesion_class))
        .transpose()?;
    let lesion_options = LesionOptions::default();
    let case_table = match &options.case_table {
        Some(path) => CaseTable::read(path, &options.by)?,
        None => CaseTable::default(),
    };

    let mut confidence = options.confidence.as_deref().map(ConfidenceMaps::open).transpose()?;

    let joined = pairs(reference, prediction)?;
    let mut measured = Vec::new();
    let mut cases = Vec::new();
    for (done, pair) in joined.pairs.iter().enumerate() {
        progress(done, joined.pairs.len());
        let in_case = |source| EvaluateError::Measure {
            case: pair.case.clone(),
            source,
        };
        let (truth, found, resampled) = read_pair(pair, options.resample_prediction)?;
        let annotated = wanted.unwrap_or_else(|| known.annotated(&pair.case, &truth));
        let names = [&pair.reference, &pair.prediction].map(|path| path.display().to_string());
        let [r, p] = names;
        let measure = |truth: &LabelMap, found: &LabelMap, classes: &AnnotatedClasses| {
            CaseScore::measure(&r, &p, truth, found, classes, &scores).map_err(in_case)
        };
        let mut score = match &in_organs {
            None => measure(&truth, &found, &annotated)?,
            Some(lesions) => measure(
                &truth,
                &found,
                &annotated.iter().filter(|&c| lesions.contains(c)).collect(),
            )?,
        };
        if let Some(lesions) = &in_organs {
            let [truth, found] = [&truth, &found].map(|labels| {
                let mut labels = labels.clone();
                settle(&mut labels, |class| lesions.contains(class));
                labels
            });
            let organs = annotated.iter().filter(|&c| !lesions.contains(c)).collect();
            score.metrics.extend(measure(&truth, &found, &organs)?.metrics);
        }
        measured.push(score);
        if let Some(maps) = &mut confidence {
            maps.count(&pair.case, &truth, &found, &annotated, resampled)?;
        }
        let lesions = lesion_class
            .filter(|&class| annotated.contains(class))
            .map(|class| lesion_counts(&truth, &found, class, &lesion_options))
            .transpose();
        cases.push(CaseFacts {
            case: pair.case.clone(),
            resampled,
            groups: case_table.of(&pair.case),
            lesions: lesions.map_err(in_case)?,
        });
    }
    progress(joined.pairs.len(), joined.pairs.len());

    let summary = Summary::of(measured);
    let all: Vec<&CaseScore> = summary.metric_per_case.iter().collect();
    let statistics = Statistics::of(&all, &options.bootstrap);
    let group = |column: &String| {
        let rows = cases.iter().zip(&summary.metric_per_case);
        let rows = rows.filter_map(|(facts, score)| Some((facts.groups.get(column)?.as_str(), score)));
        (column.clone(), groups(rows, &options.bootstrap))
    };
    let counts: Vec<LesionCounts> = cases.iter().filter_map(|c| c.lesions).collect();
    let lesions = lesion_class.filter(|_| !counts.is_empty()).map(|class| LesionBlock {
        class,
        summary: LesionSummary::of(&counts),
    });
    let settings = Settings {
        viscera: env!("CARGO_PKG_VERSION"),
        reference: reference.display().to_string(),
        prediction: prediction.display().to_string(),
        annotated: match &options.classes {
            Some(names) => format!("as given: {}", names.join(", ")),
            None => known.source.to_owned(),
        },
        resample_prediction: options.resample_prediction,
        scores,
        lesions: lesions.as_ref().map(|block| (known.name(block.class), lesion_options)),
        lesions_in_organs: options.lesions_in_organs,
        confidence: options.confidence.as_ref().map(|path| path.display().to_string()),
        case_table: options.case_table.as_ref().map(|path| path.display().to_string()),
        by: options.by.clone(),
        bootstrap: options.bootstrap,
    };
    Ok(Evaluation {
        classes: summary.mean.keys().map(|&id| (id, known.name(id))).collect(),
        groups: options.by.iter().map(group).collect(),
        flare: options.flare.map(|flare| FlareBlock::of(flare, &summary)),
        calibration: confidence.map(ConfidenceMaps::finish).transpose()?.flatten(),
        statistics,
        lesions,
        cases,
        missing: joined.missing,
        settings,
        table: known.table,
        pairs: joined.pairs,
        summary,
    })
}

/// Reference and prediction on the reference's grid, and whether the prediction had to be brought there.
///
/// # Errors
/// [`EvaluateError::Io`], [`EvaluateError::Image`]. A difference of grids is left to whoever measures if `resample` is
/// false.
pub(crate) fn read_pair(pair: &Pair, resample: bool) -> Result<(LabelMap, LabelMap, bool), EvaluateError> {
    let truth = read_label_map(&pair.reference)?;
    let found = read_label_map(&pair.prediction)?;
    match check_same_grid(truth.geometry(), found.geometry()) {
        Err(MetricsError::ShapeMismatch { .. } | MetricsError::PlaceMismatch { .. }) if resample => {
            let placed = onto_grid(&found, truth.geometry())?;
            Ok((truth, placed, true))
        }
        _ => Ok((truth, found, false)),
    }
}

/// The class of lesions: the one asked for, else one by that name, if it is among the wanted classes.
fn lesion_class(
    options: &EvaluateOptions,
    known: &Known,
    wanted: Option<AnnotatedClasses>,
) -> Result<Option<u8>, EvaluateError> {
    if let Some(name) = &options.lesions {
        return id(name, &known.table).map(Some);
    }
    let names = ["tumour", "tumor", "lesion"];
    let found = names.iter().find_map(|name| known.table.by_name(name)).map(|e| e.id);
    Ok(found.filter(|&id| wanted.is_none_or(|classes| classes.contains(id))))
}

/// The classes that are lesions: `asked`, and those whose entries say so.
fn lesions(known: &Known, asked: Option<u8>) -> Result<AnnotatedClasses, EvaluateError> {
    let named = known.table.entries().iter().filter(|e| e.is_lesion()).map(|e| e.id);
    let all: AnnotatedClasses = named.chain(asked).collect();
    (!all.is_empty()).then_some(all).ok_or(EvaluateError::NoLesions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::{Geometry, Volume};
    use viscera_io::{SourceHeader, write_label_map};
    use viscera_metrics::Metric;

    fn write(path: &Path, labels: Vec<u8>) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let map = Volume::new(Geometry::ras([1, 2, 2], [1.0; 3]), labels).unwrap();
        write_label_map(path, &map, &SourceHeader::from_geometry(map.geometry()), &[]).unwrap();
    }

    fn run(truth: &Path, found: &Path, classes: &[&str]) -> Result<Evaluation, EvaluateError> {
        let classes = classes.iter().map(|&c| c.to_owned()).collect::<Vec<_>>();
        let options = EvaluateOptions {
            classes: (!classes.is_empty()).then_some(classes),
            ..EvaluateOptions::default()
        };
        evaluate(truth, found, &options, |_, _| ())
    }

    #[test]
    fn folders_are_joined_by_name_and_annotations_hold() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, found) = (dir.path().join("truth/labels"), dir.path().join("found"));
        write(&truth.join("a.nii.gz"), vec![1, 1, 3, 0]);
        write(&truth.join("b.nii.gz"), vec![1, 0, 0, 0]);
        write(&truth.join("c.nii.gz"), vec![1, 0, 0, 0]);
        write(&found.join("a.nii.gz"), vec![1, 0, 3, 2]);
        write(&found.join("b.nii.gz"), vec![0, 0, 0, 0]);

        // Nothing known: classes that occur.
        let plain = run(&truth, &found, &[]).unwrap();
        assert_eq!(plain.missing, ["c"]);
        assert_eq!(plain.classes.values().collect::<Vec<_>>(), ["liver", "spleen"]);
        assert_eq!(
            plain.summary.mean[&1].mean.get(Metric::Dice),
            Some((2.0 / 3.0 + 0.0) / 2.0)
        );
        assert_eq!(plain.summary.mean[&3].cases_annotated, 1);

        // annotations.json one folder up.
        let text = r#"{"default": ["liver"], "cases": {"a": ["liver", "kidney_right", "spleen"]}}"#;
        std::fs::write(dir.path().join("truth/annotations.json"), text).unwrap();
        let annotated = run(&truth, &found, &[]).unwrap();
        assert_eq!(annotated.summary.mean[&2].mean.get(Metric::Dice), Some(0.0));
        assert_eq!(annotated.summary.mean[&2].cases_annotated, 1);
        assert_eq!(annotated.summary.mean[&1].cases_annotated, 2);

        let chosen = run(&truth, &found, &["spleen", "1"]).unwrap();
        assert_eq!(chosen.summary.mean.keys().copied().collect::<Vec<_>>(), [1, 3]);
        let unknown = run(&truth, &found, &["milt"]);
        assert!(matches!(unknown, Err(EvaluateError::UnknownClass { .. })));
    }

    #[test]
    fn another_grid_is_an_error_unless_resampling_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, found) = (dir.path().join("a/x.nii.gz"), dir.path().join("b/x.nii.gz"));
        write(&truth, vec![1, 1, 3, 0]);
        // The same labels on a finer grid: each voxel halved along x.
        let fine = Geometry {
            origin: [-0.25, 0.0, 0.0],
            ..Geometry::ras([1, 2, 4], [1.0, 1.0, 0.5])
        };
        let map = Volume::new(fine, vec![1, 1, 1, 1, 3, 3, 0, 0]).unwrap();
        std::fs::create_dir_all(found.parent().unwrap()).unwrap();
        write_label_map(&found, &map, &SourceHeader::from_geometry(map.geometry()), &[]).unwrap();
        assert!(matches!(run(&truth, &found, &[]), Err(EvaluateError::Measure { .. })));
        let options = EvaluateOptions {
            resample_prediction: true,
            ..EvaluateOptions::default()
        };
        let evaluation = evaluate(&truth, &found, &options, |_, _| ()).unwrap();
        assert!(evaluation.cases[0].resampled && evaluation.settings.resample_prediction);
        assert_eq!(evaluation.summary.foreground_mean.get(Metric::Dice), Some(1.0));
    }

    #[test]
    fn lesions_count_as_the_organ_around_them_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, found) = (dir.path().join("a/x.nii.gz"), dir.path().join("b/x.nii.gz"));
        // Liver with a tumour at its end; the prediction has no class for it, and misses one voxel.
        write(&truth, vec![1, 14, 1, 1]);
        write(&found, vec![1, 1, 1, 0]);
        let dice = |lesions_in_organs, lesions: Option<&str>| {
            let options = EvaluateOptions {
                lesions_in_organs,
                lesions: lesions.map(str::to_owned),
                ..EvaluateOptions::default()
            };
            let evaluation = evaluate(&truth, &found, &options, |_, _| ()).unwrap();
            assert_eq!(evaluation.settings.lesions_in_organs, lesions_in_organs);
            let mean = |class: u8| evaluation.summary.mean.get(&class)?.mean.get(Metric::Dice);
            [mean(1), mean(14)]
        };
        assert_eq!(dice(false, None), [Some(4.0 / 6.0), Some(0.0)]);
        assert_eq!(dice(true, None), [Some(6.0 / 7.0), Some(0.0)]);
        // Named by the user, the liver is a lesion: the tumour (one by its name) and it lie in nothing, and are scored as
        // they are.
        assert_eq!(dice(true, Some("liver")), [Some(4.0 / 6.0), Some(0.0)]);
    }

    #[test]
    fn cases_are_grouped_by_columns_of_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, found) = (dir.path().join("truth"), dir.path().join("found"));
        for (case, labels) in [("a", [1, 1, 0, 0]), ("b", [1, 0, 0, 0]), ("c", [0, 1, 0, 0])] {
            write(&truth.join(format!("{case}.nii.gz")), vec![1, 1, 0, 0]);
            write(&found.join(format!("{case}.nii.gz")), labels.to_vec());
        }
        let table = dir.path().join("cases.csv");
        std::fs::write(&table, "case,centre\na,Kiel\nb,Bonn\nc,Bonn\n").unwrap();
        let options = EvaluateOptions {
            case_table: Some(table),
            by: vec!["centre".to_owned()],
            ..EvaluateOptions::default()
        };
        let evaluation = evaluate(&truth, &found, &options, |_, _| ()).unwrap();
        let dice = |at: usize| {
            let group = &evaluation.groups["centre"][at];
            (
                group.value.as_str(),
                group.cases,
                group.statistics.cases[&Metric::Dice].mean,
            )
        };
        assert_eq!(dice(0), ("Bonn", 2, 2.0 / 3.0));
        assert_eq!(dice(1), ("Kiel", 1, 1.0));
        assert_eq!(evaluation.statistics.classes[&1][&Metric::Dice].n, 3);
    }
}
