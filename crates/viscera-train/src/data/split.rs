//! Splits for cross-validation, in the form of nnU-Net's `splits_final.json`.

use crate::TrainError;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use viscera_io::Case;

/// One fold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// Names of the cases to train on.
    pub train: Vec<String>,
    /// Names of the cases to validate on.
    pub val: Vec<String>,
}

/// What stays together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitBy {
    /// Each case goes where it falls.
    Case,
    /// All cases of a centre validate in one fold: what is measured is how a model does at a hospital that it never saw.
    Centre,
}

/// Splits cases into `count` folds, each of which validates once. The same seed gives the same folds, in whatever order the
/// cases come.
///
/// By centre, the largest centres are placed first, each into the fold that has the fewest cases so far.
///
/// # Errors
/// [`TrainError::DataSet`] for fewer than two folds, fewer cases (or centres) than folds, or a case without a centre.
pub fn folds(cases: &[Case], count: usize, by: SplitBy, seed: u64) -> Result<Vec<Fold>, TrainError> {
    let fail = |reason: String| TrainError::DataSet { reason };
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in cases {
        let group = match by {
            SplitBy::Case => &case.name,
            SplitBy::Centre => case.centre.as_ref().ok_or_else(|| {
                fail(format!(
                    "case \"{}\" has no centre; \"centres\" in annotations.json gives it one",
                    case.name
                ))
            })?,
        };
        groups.entry(group).or_default().push(&case.name);
    }
    if count < 2 || groups.len() < count {
        let what = if by == SplitBy::Case { "cases" } else { "centres" };
        return Err(fail(format!("{} {what} cannot make {count} folds", groups.len())));
    }
    let mut groups: Vec<Vec<&str>> = groups.into_values().collect();
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut validating: Vec<Vec<&str>> = vec![Vec::new(); count];
    for group in groups {
        if let Some(fold) = validating.iter_mut().min_by_key(|fold| fold.len()) {
            fold.extend(group);
        }
    }
    let sorted = |names: Vec<&str>| {
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.sort();
        names
    };
    let fold = |at: usize| {
        let others = validating.iter().enumerate().filter(|(i, _)| *i != at);
        Fold {
            train: sorted(others.flat_map(|(_, names)| names).copied().collect()),
            val: sorted(validating[at].clone()),
        }
    };
    Ok((0..count).map(fold).collect())
}

/// Reads folds.
///
/// # Errors
/// [`TrainError::File`], and [`TrainError::Content`] for what is no list of folds.
pub fn load_folds(path: &Path) -> Result<Vec<Fold>, TrainError> {
    let text = std::fs::read(path).map_err(TrainError::file(path))?;
    serde_json::from_slice(&text).map_err(|e| TrainError::content(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::AnnotatedClasses;

    fn cases() -> Vec<Case> {
        let case = |i: usize| Case {
            name: format!("case_{i:02}"),
            image: "x".into(),
            labels: None,
            annotated: AnnotatedClasses::none(),
            pseudo: AnnotatedClasses::none(),
            // 8 of A, 4 of B, 2 each of C, D, E, F.
            centre: Some(["A", "A", "A", "A", "B", "B", "C", "D", "E", "F"][i / 2].to_owned()),
        };
        (0..20).map(case).collect()
    }

    fn every_case_validates_once(folds: &[Fold]) {
        let mut all: Vec<&String> = folds.iter().flat_map(|fold| &fold.val).collect();
        all.sort();
        assert_eq!(
            all,
            cases()
                .iter()
                .map(|c| c.name.clone())
                .collect::<Vec<_>>()
                .iter()
                .collect::<Vec<_>>()
        );
        for fold in folds {
            assert_eq!(fold.train.len() + fold.val.len(), 20);
            assert!(fold.val.iter().all(|name| !fold.train.contains(name)));
        }
    }

    #[test]
    fn folds_by_case_are_even_and_seeded() {
        let made = folds(&cases(), 5, SplitBy::Case, 3).unwrap();
        every_case_validates_once(&made);
        assert!(made.iter().all(|fold| fold.val.len() == 4));
        let mut turned = cases();
        turned.reverse();
        assert_eq!(folds(&turned, 5, SplitBy::Case, 3).unwrap(), made);
        assert_ne!(folds(&cases(), 5, SplitBy::Case, 4).unwrap(), made);
    }

    #[test]
    fn centres_stay_together() {
        let made = folds(&cases(), 3, SplitBy::Centre, 1).unwrap();
        every_case_validates_once(&made);
        let mut sizes: Vec<usize> = made.iter().map(|fold| fold.val.len()).collect();
        sizes.sort();
        assert_eq!(sizes, [6, 6, 8]);
        let place = |name: &str| made.iter().position(|fold| fold.val.iter().any(|n| n == name));
        assert!((0..8).all(|i| place(&format!("case_{i:02}")) == place("case_00")));
        assert!(folds(&cases(), 7, SplitBy::Centre, 1).is_err());
        let mut lost = cases();
        lost[3].centre = None;
        assert!(
            folds(&lost, 3, SplitBy::Centre, 1)
                .unwrap_err()
                .to_string()
                .contains("case_03")
        );
    }
}
