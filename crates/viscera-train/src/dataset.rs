//! The cases of a run: which ones train, which ones validate, and whether they can.
//!
//! The split is by case. It is, in this order: `splits.json` of the run (so that all stages and resumed runs share one),
//! `splits.json` or nnU-Net's `splits_final.json` of the data folder, or drawn with the seed. What holds is written to the
//! run's file. A list of folds, as `viscera data split` and nnU-Net write it, is one split per fold.

use crate::data::Fold;
use crate::{CachedCase, CaseGrid, Progress, TrainError, cache};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use viscera_image::LabelTable;
use viscera_io::{Case, Dataset, write_json};

/// Name of the file with a split, in the data folder and in the run folder.
pub(crate) const SPLIT_FILE: &str = "splits.json";
/// Name that nnU-Net gives its folds.
pub(crate) const NNUNET_SPLIT_FILE: &str = "splits_final.json";

/// Case names by use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// Cases to train on; in a data folder's file they may be left out: all the others.
    #[serde(default)]
    pub train: Vec<String>,
    /// Cases to validate on.
    pub validation: Vec<String>,
}

/// A data set, split.
#[derive(Debug, Clone)]
pub struct TrainingData {
    known: LabelTable,
    wanted: LabelTable,
    /// Cases to train on.
    pub train: Vec<Case>,
    /// Cases to validate on.
    pub validation: Vec<Case>,
    /// Cases without any class of the recipe annotated.
    pub unlabelled: Vec<Case>,
}

impl TrainingData {
    /// Opens a data set for a recipe with the classes `wanted`, and splits its labelled cases: as fold `fold` of the folds
    /// beside it, else a share of `validation_share` (at least one case if there are two, if the share is not 0) validates.
    ///
    /// # Errors
    /// [`TrainError::Io`] for a folder that is no data set; [`TrainError::DataSet`] when a class has another id here, no
    /// case annotates it, or nothing is left to train on; [`TrainError::Content`] for a split that does not fit.
    pub fn open(
        folder: &Path,
        run: &Path,
        wanted: &LabelTable,
        fold: usize,
        validation_share: f64,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let fail = |reason: String| TrainError::DataSet { reason };
        let dataset = Dataset::open(folder)?;
        let known = dataset.labels().clone();
        for entry in known.entries() {
            if let Some(other) = wanted.by_name(&entry.name).filter(|other| other.id != entry.id) {
                return Err(fail(format!(
                    "class \"{}\" has id {} here and {} in the recipe",
                    entry.name, entry.id, other.id
                )));
            }
            if let Some(other) = wanted.by_id(entry.id).filter(|other| other.name != entry.name) {
                return Err(fail(format!(
                    "id {} is \"{}\" here and \"{}\" in the recipe",
                    entry.id, entry.name, other.name
                )));
            }
        }
        let counts = |case: &Case| case.annotated.iter().any(|id| wanted.by_id(id).is_some());
        let (cases, unlabelled): (Vec<Case>, Vec<Case>) =
            dataset.cases(viscera_io::Split::Train)?.into_iter().partition(counts);
        let splits = splits(folder, run, &cases, fold, validation_share, seed)?;
        write_json(&run.join(SPLIT_FILE), &splits)?;
        let pick = |names: &[String]| -> Vec<Case> {
            let names: BTreeSet<&String> = names.iter().collect();
            cases.iter().filter(|c| names.contains(&c.name)).cloned().collect()
        };
        let (train, validation) = (pick(&splits.train), pick(&splits.validation));
        if train.is_empty() {
            return Err(fail("no labelled case is left to train on".to_owned()));
        }
        for entry in wanted.entries() {
            if !train.iter().any(|case| case.annotated.contains(entry.id)) {
                return Err(fail(format!("no case to train on annotates \"{}\"", entry.name)));
            }
        }
        Ok(Self {
            known,
            wanted: wanted.clone(),
            train,
            validation,
            unlabelled,
        })
    }

    /// The same with other label maps and annotations for some cases: those of the data set that
    /// [`crate::pseudo_label`] wrote. Cases that were unlabelled and are not any longer join those to train on.
    ///
    /// # Errors
    /// [`TrainError::Io`] when it cannot be read.
    pub fn relabelled(&self, list: &Path) -> Result<Self, TrainError> {
        let listed = Dataset::open(list)?.cases(viscera_io::Split::Train)?;
        let by_name: BTreeMap<&str, &Case> = listed.iter().map(|case| (case.name.as_str(), case)).collect();
        let newer = |case: &Case| {
            by_name
                .get(case.name.as_str())
                .map_or_else(|| case.clone(), |c| (*c).clone())
        };
        let mut set = self.clone();
        set.train = self.train.iter().map(newer).collect();
        let (more, unlabelled): (Vec<Case>, Vec<Case>) = self
            .unlabelled
            .iter()
            .map(newer)
            .partition(|case| !case.annotated.is_empty());
        set.train.extend(more);
        set.unlabelled = unlabelled;
        Ok(set)
    }

    /// The data set's classes.
    #[must_use]
    pub fn known(&self) -> &LabelTable {
        &self.known
    }

    /// Reads, checks and prepares cases, through the cache folder; what is odd in their files is told.
    ///
    /// # Errors
    /// The first case (by name) with a fault: unreadable, image and labels on different grids, an unknown label id.
    pub fn load(
        &self,
        cases: &[Case],
        grid: CaseGrid,
        cache: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Arc<CachedCase>>, TrainError> {
        let loaded: Vec<Result<_, TrainError>> = cases
            .par_iter()
            .with_max_len(1)
            .map(|case| cache::load(case, &self.known, &self.wanted, grid, cache))
            .collect();
        loaded
            .into_iter()
            .map(|loaded| {
                let (case, odd) = loaded?;
                odd.iter().for_each(|text| progress.note(text));
                Ok(Arc::new(case))
            })
            .collect()
    }
}

fn splits(
    folder: &Path,
    run: &Path,
    cases: &[Case],
    fold: usize,
    validation_share: f64,
    seed: u64,
) -> Result<Splits, TrainError> {
    // A list of files has its splits beside it.
    let folder = if folder.is_file() {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    for path in [
        run.join(SPLIT_FILE),
        folder.join(SPLIT_FILE),
        folder.join(NNUNET_SPLIT_FILE),
    ] {
        match std::fs::read(&path) {
            Ok(text) => {
                let splits = parse(&text, fold).map_err(|reason| TrainError::content(&path, reason))?;
                return complete(splits, cases).map_err(|reason| TrainError::content(&path, reason));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(TrainError::file(&path)(error)),
        }
    }
    let mut names: Vec<String> = cases.iter().map(|c| c.name.clone()).collect();
    names.sort();
    names.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let share = (names.len() as f64 * validation_share.clamp(0.0, 1.0)).round() as usize;
    let count = match names.len() {
        0 | 1 => 0,
        _ if validation_share <= 0.0 => 0,
        n => share.clamp(1, n - 1),
    };
    let mut validation = names.split_off(names.len() - count);
    names.sort();
    validation.sort();
    Ok(Splits {
        train: names,
        validation,
    })
}

/// One split, or the fold of a list of them.
fn parse(text: &[u8], fold: usize) -> Result<Splits, String> {
    if !text.trim_ascii_start().starts_with(b"[") {
        return serde_json::from_slice(text).map_err(|e| e.to_string());
    }
    let folds: Vec<Fold> = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let count = folds.len();
    let Fold { train, val } = folds
        .into_iter()
        .nth(fold)
        .ok_or_else(|| format!("there is no fold {fold}; there are {count}, counted from 0"))?;
    Ok(Splits { train, validation: val })
}

/// Checks a split's names and fills in the cases to train on.
fn complete(mut splits: Splits, cases: &[Case]) -> Result<Splits, String> {
    let known: BTreeSet<&String> = cases.iter().map(|c| &c.name).collect();
    if let Some(name) = splits
        .train
        .iter()
        .chain(&splits.validation)
        .find(|n| !known.contains(n))
    {
        return Err(format!("there is no labelled case \"{name}\""));
    }
    if let Some(name) = splits.train.iter().find(|n| splits.validation.contains(n)) {
        return Err(format!("case \"{name}\" is to train and to validate"));
    }
    if splits.train.is_empty() {
        let rest = cases.iter().map(|c| &c.name).filter(|n| !splits.validation.contains(n));
        splits.train = rest.cloned().collect();
    }
    Ok(splits)
}
