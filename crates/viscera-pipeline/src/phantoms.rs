//! Phantoms as a data set in nnU-Net's layout.

use crate::{Cohort, CohortCase, PipelineError, Use};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use viscera_image::phantom::{PhantomConfig, PhantomDescription, generate, overlook_tumours};
use viscera_image::{LabelMap, LabelTable};
use viscera_io::{
    Annotations, Classes, Dataset, DatasetJson, Image, SourceHeader, Split, atomic_write, write_image, write_json,
    write_label_map,
};

/// Reads what phantoms vary from a TOML file with the keys of [`PhantomConfig`].
///
/// # Errors
/// [`PipelineError::File`] when it cannot be read; [`PipelineError::PhantomConfig`] for unknown keys or wrong values.
pub fn phantom_config(path: &Path) -> Result<PhantomConfig, PipelineError> {
    let text = std::fs::read_to_string(path).map_err(|source| PipelineError::File {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| PipelineError::PhantomConfig {
        path: path.to_owned(),
        source,
    })
}

/// A phantom data set in the making.
#[derive(Debug)]
pub struct PhantomSet {
    dataset: Dataset,
    root: PathBuf,
    cohort: Cohort,
    cases: Vec<CohortCase>,
}

/// `cohort.json`.
#[derive(Serialize)]
struct Listing<'a> {
    cohort: &'a Cohort,
    cases: &'a [CohortCase],
}

/// `about/CASE.json`.
#[derive(Serialize)]
struct About {
    #[serde(flatten)]
    description: PhantomDescription,
    /// Tumours that the label map to train on misses.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed_lesions: Option<usize>,
}

impl PhantomSet {
    /// Makes the folder with `dataset.json` (the 13 organs and the tumour), `annotations.json` (which classes each case
    /// annotates, and its centre) and `cohort.json` (the cohort, and centre, use, classes and seed of every case). A plain
    /// cohort has nothing to tell apart: it has no `cohort.json`, and no centres.
    ///
    /// # Errors
    /// [`PipelineError::OtherDataset`] when the folder holds a data set with other classes, [`PipelineError::OtherCohort`]
    /// when it holds another cohort; as [`Cohort::validate`]; [`PipelineError::Io`].
    pub fn create(root: &Path, cohort: Cohort) -> Result<Self, PipelineError> {
        cohort.validate()?;
        let cases = cohort.cases();
        let table = LabelTable::flare14();
        let there = root.join("dataset.json").exists();
        let listing = root.join("cohort.json");
        let mut annotations = Annotations::default();
        if cohort.is_plain() {
            if listing.exists() {
                return Err(PipelineError::OtherCohort { path: root.to_owned() });
            }
            if there && Dataset::open(root)?.labels().entries() != table.entries() {
                return Err(PipelineError::OtherDataset { path: root.to_owned() });
            }
        } else {
            list(root, &listing, &cohort, &cases, there)?;
            annotations = annotations_of(&cases);
        }
        let trained_on = cases.iter().filter(|case| case.usage != Use::Test).count();
        let dataset = Dataset::create(root, DatasetJson::new(&table, trained_on), annotations)?;
        Ok(Self {
            dataset,
            root: root.to_owned(),
            cohort,
            cases,
        })
    }

    /// The cohort.
    #[must_use]
    pub fn cohort(&self) -> &Cohort {
        &self.cohort
    }

    /// Its cases, by centre and use.
    #[must_use]
    pub fn cases(&self) -> &[CohortCase] {
        &self.cases
    }

    /// Path of a case's scan.
    #[must_use]
    pub fn image(&self, case: &CohortCase) -> PathBuf {
        self.dataset.image_path(split(case), &case.name)
    }

    /// Path of a case's label map, with the classes that it annotates; `None` for an unlabelled case.
    #[must_use]
    pub fn labels(&self, case: &CohortCase) -> Option<PathBuf> {
        let path = self.dataset.labels_path(split(case), &case.name);
        (case.usage != Use::Unlabelled).then_some(path)
    }

    /// Path of the map of all that is there, for measuring: `truth/CASE.nii.gz` where the label map does not say it all,
    /// that is for partly labelled and unlabelled cases, and for labelled ones of a centre that misses lesions.
    #[must_use]
    pub fn truth(&self, case: &CohortCase) -> Option<PathBuf> {
        let complete = match case.usage {
            Use::Test => true,
            Use::Labelled => self.missed(case) == 0.0,
            Use::Partial | Use::Unlabelled => false,
        };
        let name = format!("{}{}", case.name, self.dataset.description().file_ending);
        (!complete).then(|| self.root.join("truth").join(name))
    }

    /// Makes a case unless all its files are there; says whether it did.
    ///
    /// Writes the scan, the label map, the true map where it is another one, and `about/CASE.json` with what was drawn, in
    /// this order. The same seed and cohort give the same files.
    ///
    /// # Errors
    /// [`PipelineError::Image`] for an impossible configuration; [`PipelineError::Io`] when the system refuses.
    pub fn make(&self, case: &CohortCase) -> Result<bool, PipelineError> {
        let (image, labels, truth) = (self.image(case), self.labels(case), self.truth(case));
        let about = self.root.join("about").join(format!("{}.json", case.name));
        let files = [Some(&image), Some(&about), labels.as_ref(), truth.as_ref()];
        if files.into_iter().flatten().all(|path| path.is_file()) {
            return Ok(false);
        }
        let plain = PhantomConfig::default();
        let config = self.cohort.centres.get(case.place).map_or(&plain, |c| &c.phantom);
        let phantom = generate(config, case.seed)?;
        let header = SourceHeader::from_geometry(phantom.labels.geometry());
        let table = self.dataset.labels().entries();
        write_image(&image, &Image::from(phantom.image))?;
        let mut missed = None;
        if let Some(path) = labels {
            let (annotated, count) = self.annotated(case, &phantom.labels)?;
            missed = count;
            write_label_map(&path, &annotated, &header, table)?;
        }
        if let Some(path) = truth {
            write_label_map(&path, &phantom.labels, &header, table)?;
        }
        let about_case = About {
            description: phantom.description,
            missed_lesions: missed,
        };
        write_json(&about, &about_case)?;
        Ok(true)
    }

    /// Share of tumours that a case's label map misses.
    fn missed(&self, case: &CohortCase) -> f32 {
        match case.usage {
            Use::Labelled | Use::Partial => self.cohort.centres.get(case.place).map_or(0.0, |c| c.missed_lesions),
            Use::Unlabelled | Use::Test => 0.0,
        }
    }

    /// The map that a case's annotators drew, and how many tumours they missed, where they miss any.
    fn annotated(&self, case: &CohortCase, truth: &LabelMap) -> Result<(LabelMap, Option<usize>), PipelineError> {
        let table = self.dataset.labels();
        let classes = case.classes(table);
        let share = self.missed(case);
        let looks = table.by_name("tumour").is_some_and(|e| classes.contains(e.id));
        let (mut labels, missed) = if share > 0.0 && looks {
            let (labels, missed) = overlook_tumours(truth, share, case.seed)?;
            (labels, Some(missed))
        } else {
            (truth.clone(), None)
        };
        let unknown = |id: &&mut u8| !classes.contains(**id);
        labels.data_mut().iter_mut().filter(unknown).for_each(|id| *id = 0);
        Ok((labels, missed))
    }
}

fn split(case: &CohortCase) -> Split {
    match case.usage {
        Use::Test => Split::Test,
        Use::Labelled | Use::Partial | Use::Unlabelled => Split::Train,
    }
}

/// Writes `cohort.json`, unless the folder holds something else.
fn list(
    root: &Path,
    path: &Path,
    cohort: &Cohort,
    cases: &[CohortCase],
    dataset_there: bool,
) -> Result<(), PipelineError> {
    let failed = |source| viscera_io::IoError::Json {
        path: path.to_owned(),
        source,
    };
    let mut text = serde_json::to_vec_pretty(&Listing { cohort, cases }).map_err(failed)?;
    text.push(b'\n');
    let same = match std::fs::read(path) {
        Ok(found) => found == text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => !dataset_there,
        Err(source) => {
            let path = path.to_owned();
            return Err(PipelineError::File { path, source });
        }
    };
    if !same {
        return Err(PipelineError::OtherCohort { path: root.to_owned() });
    }
    Ok(atomic_write(path, |w| w.write_all(&text))?)
}

/// What each case annotates and where it comes from.
fn annotations_of(cases: &[CohortCase]) -> Annotations {
    let some = cases
        .iter()
        .filter(|c| matches!(c.usage, Use::Partial | Use::Unlabelled));
    let centres: BTreeMap<String, String> = cases.iter().map(|c| (c.name.clone(), c.centre.clone())).collect();
    Annotations {
        cases: some
            .map(|c| (c.name.clone(), Classes::Named(c.annotates.clone())))
            .collect(),
        centres,
        ..Annotations::default()
    }
}
