//! What to measure, and what made the numbers.

use crate::EvaluateError;
use crate::known::{Known, id};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use viscera_image::LabelTable;
use viscera_metrics::stats::Bootstrap;
use viscera_metrics::{EmptyDistance, EmptyRule, FlareEdition, FlareOptions, LesionOptions, ScoreOptions, Tolerances};

/// Tolerances of the surface Dice as a user says them. A class has its own, else `default_mm`, else FLARE's of 2022
/// and 2023 for the organ of its name, else 2 mm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToleranceChoice {
    /// For classes that are not named, in mm.
    pub default_mm: Option<f64>,
    /// Class (name or id) and mm.
    pub named: Vec<(String, f64)>,
}

impl ToleranceChoice {
    /// The tolerances per class id.
    ///
    /// # Errors
    /// [`EvaluateError::BadTolerance`] for a tolerance that is not positive and finite,
    /// [`EvaluateError::UnknownClass`].
    pub(crate) fn resolve(&self, known: &Known) -> Result<Tolerances, EvaluateError> {
        let given = self.default_mm.into_iter().chain(self.named.iter().map(|(_, mm)| *mm));
        if let Some(value) = given.into_iter().find(|mm| !(mm.is_finite() && *mm > 0.0)) {
            return Err(EvaluateError::BadTolerance { value });
        }
        let mut classes_mm = BTreeMap::new();
        if self.default_mm.is_none() {
            let organs = LabelTable::flare14();
            let usual = |name: &str| FlareEdition::Flare23.tolerance_mm(organs.by_name(name)?.id);
            let entries = known.table.entries().iter();
            classes_mm.extend(entries.filter_map(|e| Some((e.id, usual(&e.name)?))));
        }
        for (name, mm) in &self.named {
            classes_mm.insert(id(name, &known.table)?, *mm);
        }
        Ok(Tolerances {
            default_mm: self.default_mm.unwrap_or(Tolerances::default().default_mm),
            classes_mm,
        })
    }
}

/// What [`crate::evaluate`] does beyond the defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EvaluateOptions {
    /// Classes that every reference annotates, by name or id; `None` leaves it to the files beside the references.
    pub classes: Option<Vec<String>>,
    /// Leaves out the distances of surfaces.
    pub no_surface: bool,
    /// Tolerances of the surface Dice.
    pub tolerance: ToleranceChoice,
    /// What stands for classes that are empty in both label maps.
    pub both_empty: EmptyRule,
    /// Scores by a FLARE challenge's rules beside the strict ones.
    pub flare: Option<FlareOptions>,
    /// Brings a prediction on another grid to the reference's, by nearest neighbour.
    pub resample_prediction: bool,
    /// The class whose components are lesions, by name or id; `None` takes a class named `tumour`, `tumor` or `lesion`
    /// if a reference annotates it.
    pub lesions: Option<String>,
    /// Scores organs with the lesions inside them ([`viscera_image::settle`]), in references and predictions; lesions
    /// are scored as they are.
    pub lesions_in_organs: bool,
    /// Maps of the predicted class's probability, joined by name: a folder, or the map of the only case.
    pub confidence: Option<PathBuf>,
    /// A table (CSV) with a column `case`.
    pub case_table: Option<PathBuf>,
    /// Columns of that table to group by.
    pub by: Vec<String>,
    /// How confidence intervals are made.
    pub bootstrap: Bootstrap,
}

impl EvaluateOptions {
    pub(crate) fn score_options(&self, known: &Known) -> Result<ScoreOptions, EvaluateError> {
        Ok(ScoreOptions {
            surface: !self.no_surface,
            tolerances: self.tolerance.resolve(known)?,
            both_empty: self.both_empty,
            one_empty: EmptyDistance::Skip,
            flare: self.flare,
        })
    }
}

/// Every setting that made the numbers, for `summary.json` and the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Version of viscera.
    pub viscera: &'static str,
    /// References, as the user named them.
    pub reference: String,
    /// Predictions, as the user named them.
    pub prediction: String,
    /// Where the classes that a reference annotates come from.
    pub annotated: String,
    /// Whether predictions on other grids were resampled; if not, such a prediction is an error.
    pub resample_prediction: bool,
    /// What was measured.
    pub scores: ScoreOptions,
    /// Lesion class and when components match, if lesions were counted.
    pub lesions: Option<(String, LesionOptions)>,
    /// Whether lesions counted as part of the organs around them when those were scored.
    pub lesions_in_organs: bool,
    /// Maps of confidence, as the user named them.
    pub confidence: Option<String>,
    /// Table of cases, as the user named it.
    pub case_table: Option<String>,
    /// Columns of the case table that make groups.
    pub by: Vec<String>,
    /// How confidence intervals were made.
    pub bootstrap: Bootstrap,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn tolerances_by_name_by_default_and_by_organ() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::of(Path::new(dir.path())).unwrap();
        let of = |default_mm, named: &[(&str, f64)]| {
            let named = named.iter().map(|(n, mm)| ((*n).to_owned(), *mm)).collect();
            ToleranceChoice { default_mm, named }.resolve(&known)
        };
        let usual = of(None, &[("spleen", 1.5)]).unwrap();
        assert_eq!(
            (usual.of(1), usual.of(12), usual.of(3), usual.of(99)),
            (5.0, 7.0, 1.5, 2.0)
        );
        let one = of(Some(1.0), &[("12", 4.0)]).unwrap();
        assert_eq!((one.of(1), one.of(12)), (1.0, 4.0));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(of(Some(bad), &[]), Err(EvaluateError::BadTolerance { .. })));
        }
        assert!(matches!(
            of(None, &[("milt", 1.0)]),
            Err(EvaluateError::UnknownClass { .. })
        ));
    }
}
