//! Faults of a data set that would only show after hours, or never.

use super::{Fold, same_grid};
use crate::TrainError;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use viscera_image::{AxisMap, LabelTable, Volume};
use viscera_io::{Case, ReadOptions, read_image, read_label_map};

/// Standard deviation in HU below which a scan is taken for flat.
const FLAT_HU: f64 = 1e-3;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataReport {
    /// Cases that were read.
    pub cases: usize,
    /// Cases that annotate each class, by its name.
    pub annotated: BTreeMap<String, usize>,
    /// Cases in which each class occurs.
    pub present: BTreeMap<String, usize>,
    /// All that is wrong or odd, by case name.
    pub findings: Vec<Finding>,
}

impl DataReport {
    /// Whether something is wrong that would spoil a training.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.kind.is_error())
    }
}

/// One thing that is wrong or odd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The case.
    pub case: String,
    /// What kind of thing.
    pub kind: FindingKind,
    /// It, in words.
    pub text: String,
}

/// Kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// A file that cannot be read.
    Unreadable,
    /// Image and labels lie on different grids.
    Grid,
    /// A label id that the data set's table does not have.
    UnknownId,
    /// NaN or infinite voxels.
    NotFinite,
    /// An image of one value.
    Flat,
    /// A label map without any label.
    Empty,
    /// Labels of a class that the case does not annotate.
    NotAnnotated,
    /// The same voxels as another case.
    Duplicate,
    /// Train and validation, or tests, share a scan.
    Leak,
    /// A fold that names a case which is not there, or leaves one out.
    Split,
}

impl FindingKind {
    /// Whether it would spoil a training; the others are worth a look.
    #[must_use]
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Empty | Self::NotAnnotated | Self::Duplicate | Self::Flat)
    }
}

/// Reads every case to train on, and the test cases for what they share with them, and says what is wrong. One case is in
/// memory per thread.
///
/// Duplicates are scans whose voxels are all the same, whatever their headers say.
#[must_use]
pub fn check_data(train: &[Case], test: &[Case], table: &LabelTable, folds: &[Fold]) -> DataReport {
    let read: Vec<OfCase> = train
        .par_iter()
        .with_max_len(1)
        .map(|case| OfCase::new(case, table))
        .collect();
    let tests: Vec<OfCase> = test
        .par_iter()
        .with_max_len(1)
        .map(|case| OfCase::new(case, table))
        .collect();
    let mut report = DataReport {
        cases: train.len(),
        annotated: BTreeMap::new(),
        present: BTreeMap::new(),
        findings: Vec::new(),
    };
    for entry in table.entries() {
        let count = |of: &dyn Fn(usize) -> bool| (0..train.len()).filter(|&i| of(i)).count();
        let annotated = count(&|i| train[i].annotated.contains(entry.id));
        report.annotated.insert(entry.name.clone(), annotated);
        let present = count(&|i| read[i].occurs.contains(&entry.id));
        report.present.insert(entry.name.clone(), present);
    }

    let mut by_content: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
    for (case, of) in train.iter().zip(&read) {
        by_content.entry(&of.hash).or_default().push(&case.name);
    }
    for (case, of) in test.iter().zip(&tests).filter(|(_, of)| !of.hash.is_empty()) {
        if let Some(same) = by_content.get(of.hash.as_slice()) {
            let text = format!("a test case has the same voxels as {} to train on", same.join(", "));
            report.add(&case.name, FindingKind::Leak, text);
        }
    }
    for same in by_content
        .into_iter()
        .filter(|(hash, names)| !hash.is_empty() && names.len() > 1)
    {
        let names = same.1;
        for name in &names[1..] {
            report.add(
                name,
                FindingKind::Duplicate,
                format!("has the same voxels as {}", names[0]),
            );
        }
        for (at, fold) in folds.iter().enumerate() {
            let is_in = |list: &[String]| names.iter().find(|name| list.iter().any(|n| n == *name)).copied();
            if let (Some(train), Some(val)) = (is_in(&fold.train), is_in(&fold.val)) {
                let text = format!("fold {at} validates on the voxels of {train}, which it trains on");
                report.add(val, FindingKind::Leak, text);
            }
        }
    }
    report.folds(train, folds);
    for of in read.into_iter().chain(tests) {
        report.findings.extend(of.findings);
    }
    report
        .findings
        .sort_by(|a, b| (&a.case, a.kind).cmp(&(&b.case, b.kind)));
    report
}

impl DataReport {
    fn add(&mut self, case: &str, kind: FindingKind, text: String) {
        self.findings.push(Finding {
            case: case.to_owned(),
            kind,
            text,
        });
    }

    fn folds(&mut self, cases: &[Case], folds: &[Fold]) {
        for (at, fold) in folds.iter().enumerate() {
            for name in fold.train.iter().chain(&fold.val) {
                if !cases.iter().any(|case| case.name == *name) {
                    self.add(
                        name,
                        FindingKind::Split,
                        format!("fold {at} names it, but there is no such case"),
                    );
                }
            }
            for name in fold.val.iter().filter(|name| fold.train.contains(name)) {
                self.add(
                    name,
                    FindingKind::Leak,
                    format!("is to train and to validate in fold {at}"),
                );
            }
        }
    }
}

/// What one case shows.
struct OfCase {
    findings: Vec<Finding>,
    /// SHA-256 of its voxels; empty where it cannot be read.
    hash: Vec<u8>,
    /// Label ids that occur.
    occurs: Vec<u8>,
}

impl OfCase {
    fn new(case: &Case, table: &LabelTable) -> Self {
        let mut of = Self {
            findings: Vec::new(),
            hash: Vec::new(),
            occurs: Vec::new(),
        };
        if let Err(error) = of.read(case, table) {
            let kind = match error {
                TrainError::Case { .. } => FindingKind::Grid,
                _ => FindingKind::Unreadable,
            };
            of.add(case, kind, error.to_string());
        }
        of
    }

    fn add(&mut self, case: &Case, kind: FindingKind, text: String) {
        self.findings.push(Finding {
            case: case.name.clone(),
            kind,
            text,
        });
    }

    fn read(&mut self, case: &Case, table: &LabelTable) -> Result<(), TrainError> {
        let read = read_image(&case.image, &ReadOptions::default())?;
        // Reading replaced them, and told.
        for warning in &read.warnings {
            if let viscera_io::Warning::NonFinite { .. } = warning {
                self.add(case, FindingKind::NotFinite, warning.to_string());
            }
        }
        let image = read.image.into_f32();
        let geometry = image.geometry().clone();
        let (hash, flat) = look(&AxisMap::to_ras(&geometry).apply(&image));
        self.hash = hash;
        if flat {
            self.add(case, FindingKind::Flat, "all voxels have one value".to_owned());
        }
        drop(image);
        let Some(path) = &case.labels else { return Ok(()) };
        let labels = read_label_map(path)?;
        same_grid(&case.name, &geometry, &labels)?;
        let mut counts = [0u64; 256];
        labels.data().iter().for_each(|&id| counts[usize::from(id)] += 1);
        self.occurs = (1..=u8::MAX).filter(|&id| counts[usize::from(id)] > 0).collect();
        for id in self.occurs.clone() {
            let voxels = counts[usize::from(id)];
            match table.by_id(id) {
                None => self.add(
                    case,
                    FindingKind::UnknownId,
                    format!("{voxels} voxels have the unknown label id {id}"),
                ),
                Some(entry) if !case.annotated.contains(id) => {
                    let text = format!(
                        "{voxels} voxels are \"{}\", which the case does not annotate",
                        entry.name
                    );
                    self.add(case, FindingKind::NotAnnotated, text);
                }
                Some(_) => {}
            }
        }
        if self.occurs.is_empty() {
            self.add(case, FindingKind::Empty, "its label map is empty".to_owned());
        }
        Ok(())
    }
}

/// Hash of the voxels, and whether all are alike.
fn look(image: &Volume<f32>) -> (Vec<u8>, bool) {
    let mut hash = Sha256::new();
    for n in image.shape() {
        hash.update((n as u64).to_le_bytes());
    }
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for plane in image.data().chunks(1 << 14) {
        let bytes: Vec<u8> = plane.iter().flat_map(|v| v.to_le_bytes()).collect();
        hash.update(&bytes);
        for &v in plane {
            (low, high) = (low.min(v), high.max(v));
        }
    }
    (hash.finalize().to_vec(), f64::from(high) - f64::from(low) < FLAT_HU)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use viscera_image::Geometry;
    use viscera_io::{Annotations, Dataset, DatasetJson, Image, Split, write_image};

    fn write(dataset: &Dataset, name: &str, hu: impl Fn(usize) -> f32, label: impl Fn(usize) -> i16, shift: f64) {
        let grid = Geometry::ras([6, 7, 8], [2.0, 1.0, 1.0]);
        let image = Volume::new(grid.clone(), (0..336).map(hu).collect()).unwrap();
        let moved = Geometry {
            origin: [0.0, 0.0, shift],
            ..grid
        };
        let labels = Volume::new(moved, (0..336).map(label).collect()).unwrap();
        write_image(&dataset.image_path(Split::Train, name), &Image::F32(image)).unwrap();
        write_image(&dataset.labels_path(Split::Train, name), &Image::I16(labels)).unwrap();
    }

    fn data(folder: &Path) -> Dataset {
        let table = LabelTable::flare13();
        let some = Annotations {
            cases: [("d".to_owned(), viscera_io::Classes::Named(vec!["liver".to_owned()]))].into(),
            ..Annotations::default()
        };
        let dataset = Dataset::create(folder, DatasetJson::new(&table, 7), some).unwrap();
        let ramp = |add: usize| move |i: usize| ((i + add) * 13 % 400) as f32 - 100.0;
        write(&dataset, "a", ramp(0), |i| i16::from(i > 300), 0.0);
        write(&dataset, "b", ramp(0), |i| i16::from(i > 200), 0.0);
        write(&dataset, "c", ramp(1), |i| if i == 9 { 77 } else { 3 }, 0.0);
        write(&dataset, "d", ramp(2), |i| (i % 4) as i16, 0.0);
        write(&dataset, "e", ramp(3), |_| 0, 0.0);
        write(
            &dataset,
            "f",
            |i| if i < 2 { f32::NAN } else { i as f32 },
            |i| i16::from(i > 3),
            0.0,
        );
        write(&dataset, "g", |_| 40.0, |i| i16::from(i > 3), 4.0);
        Dataset::open(folder).unwrap()
    }

    #[test]
    fn faults_are_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = data(folder.path());
        let cases = dataset.cases(Split::Train).unwrap();
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let fold = Fold {
            train: names(&["a", "c", "d", "e"]),
            val: names(&["b", "f", "g", "zz", "c"]),
        };
        let report = check_data(&cases, &[], dataset.labels(), std::slice::from_ref(&fold));
        let found: Vec<(&str, FindingKind)> = report.findings.iter().map(|f| (f.case.as_str(), f.kind)).collect();
        use FindingKind::{Duplicate, Empty, Flat, Grid, Leak, NotAnnotated, NotFinite, UnknownId};
        let want = [
            ("b", Duplicate),
            ("b", Leak),
            ("c", UnknownId),
            ("c", Leak),
            ("d", NotAnnotated),
            ("d", NotAnnotated),
            ("e", Empty),
            ("f", NotFinite),
            ("g", Grid),
            ("g", Flat),
            ("zz", FindingKind::Split),
        ];
        let mut want = want.to_vec();
        want.sort();
        assert_eq!(found, want, "{:#?}", report.findings);
        assert!(report.has_errors());
        assert_eq!(
            (
                report.annotated["liver"],
                report.annotated["spleen"],
                report.present["spleen"]
            ),
            (7, 6, 2)
        );

        let clean: Vec<Case> = cases.iter().filter(|c| c.name == "a").cloned().collect();
        let same: Vec<Case> = cases.iter().filter(|c| c.name == "b").cloned().collect();
        assert!(!check_data(&clean, &[], dataset.labels(), &[]).has_errors());
        let leak = check_data(&clean, &same, dataset.labels(), &[]);
        assert_eq!(leak.findings[0].kind, Leak);
    }
}
