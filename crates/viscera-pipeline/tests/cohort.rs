//! A cohort on disk: which files there are, what they hold, and that nothing of the held-out cases leaks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use viscera_image::phantom::PhantomConfig;
use viscera_image::{LabelMap, components};
use viscera_io::{Case, Dataset, Split, read_label_map};
use viscera_pipeline::{Cohort, PhantomSet, PipelineError, Use};

/// Three centres of small phantoms with an ill patient each.
fn cohort() -> Cohort {
    let text = r#"
seed = 11
[[centre]]
name = "full"
labelled = 3
unlabelled = 1
missed_lesions = 0.6
[centre.phantom]
spacing = [8.0, 6.0, 6.0]
field_of_view = "upper_abdomen"
tumours = 1.0
tumour_count = [3, 4]
tumour_radius_mm = [10, 15]
[[centre]]
name = "part"
partial = 4
annotates = [["liver"], ["spleen", "tumour"]]
[centre.phantom]
spacing = [8.0, 6.0, 6.0]
field_of_view = "upper_abdomen"
tumours = 1.0
[[centre]]
name = "unseen"
test = 1
[centre.phantom]
spacing = [9.0, 7.0, 7.0]
field_of_view = "slab"
"#;
    Cohort::parse(text, Path::new("test.toml")).unwrap()
}

fn make(root: &Path, cohort: Cohort) -> PhantomSet {
    let set = PhantomSet::create(root, cohort).unwrap();
    for case in set.cases() {
        assert!(set.make(case).unwrap(), "{}", case.name);
    }
    set
}

/// Bytes of every file below a folder, by its path there.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn cases(root: &Path, split: Split) -> Vec<Case> {
    Dataset::open(root).unwrap().cases(split).unwrap()
}

#[test]
fn the_same_cohort_gives_the_same_bytes_and_goes_on_where_it_stopped() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set = make(one.path(), cohort());
    // Stopped after two cases, and a file lost.
    let begun = PhantomSet::create(two.path(), cohort()).unwrap();
    for case in &begun.cases()[..2] {
        begun.make(case).unwrap();
    }
    std::fs::remove_file(begun.truth(&begun.cases()[0]).unwrap()).unwrap();
    let resumed = PhantomSet::create(two.path(), cohort()).unwrap();
    let made: Vec<bool> = resumed.cases().iter().map(|case| resumed.make(case).unwrap()).collect();
    assert_eq!(made.iter().position(|m| !m), Some(1));
    assert_eq!(made.iter().filter(|m| !**m).count(), 1);
    assert!(files(one.path()) == files(two.path()));

    let other = Cohort { seed: 12, ..cohort() };
    assert!(matches!(
        PhantomSet::create(one.path(), other.clone()),
        Err(PipelineError::OtherCohort { .. })
    ));
    let plain = Cohort::plain(1, 1, PhantomConfig::default());
    assert!(matches!(
        PhantomSet::create(one.path(), plain),
        Err(PipelineError::OtherCohort { .. })
    ));
    // Another seed has other patients under the same names.
    let third = tempfile::tempdir().unwrap();
    let begun = PhantomSet::create(third.path(), other).unwrap();
    begun.make(&begun.cases()[0]).unwrap();
    let first = |set: &PhantomSet| std::fs::read(set.image(&set.cases()[0])).unwrap();
    assert!(first(&begun) != first(&set));
}

#[test]
fn a_cohort_on_disk_is_what_its_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let set = make(dir.path(), cohort());
    each_case_has_the_files_of_its_use(dir.path(), &set);
    partial_maps_hold_the_annotated_classes_alone_and_whole(dir.path(), &set);
    missed_lesions_are_whole_and_counted(dir.path(), &set);
}

fn each_case_has_the_files_of_its_use(root: &Path, set: &PhantomSet) {
    let (train, test) = (cases(root, Split::Train), cases(root, Split::Test));
    let names = |usages: &[Use]| -> BTreeSet<&str> {
        let of = set.cases().iter().filter(|c| usages.contains(&c.usage));
        of.map(|c| c.name.as_str()).collect()
    };
    let found = |cases: &[Case]| -> BTreeSet<String> { cases.iter().map(|c| c.name.clone()).collect() };
    let is = |found: BTreeSet<String>, wanted: BTreeSet<&str>| {
        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted);
    };
    is(found(&train), names(&[Use::Labelled, Use::Partial, Use::Unlabelled]));
    is(found(&test), names(&[Use::Test]));
    let without: Vec<Case> = train.iter().filter(|c| c.labels.is_none()).cloned().collect();
    is(found(&without), names(&[Use::Unlabelled]));
    assert!(!root.join("labelsTr/full_unlabelled_0000.nii.gz").exists());
    assert!(root.join("truth/full_unlabelled_0000.nii.gz").is_file());
    assert!(test.iter().all(|c| c.labels.is_some() && c.annotated.len() == 14));
    for case in train.iter().chain(&test) {
        let planned = set.cases().iter().find(|c| c.name == case.name).unwrap();
        assert_eq!(case.centre.as_deref(), Some(planned.centre.as_str()));
        assert_eq!(case.annotated.len(), planned.annotates.len());
    }
    // What the table says is what is there.
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(root.join("cohort.json")).unwrap()).unwrap();
    assert_eq!(table["cases"].as_array().unwrap().len(), train.len() + test.len());
    assert_eq!(table["cases"][4]["use"], "partial");
    assert_eq!(table["cohort"]["centre"][1]["name"], "part");
}

fn partial_maps_hold_the_annotated_classes_alone_and_whole(root: &Path, set: &PhantomSet) {
    let mut seen = BTreeSet::new();
    for case in cases(root, Split::Train) {
        let planned = set.cases().iter().find(|c| c.name == case.name).unwrap();
        if planned.usage != Use::Partial {
            continue;
        }
        let labels = read_label_map(case.labels.as_ref().unwrap()).unwrap();
        let truth = read_label_map(&set.truth(planned).unwrap()).unwrap();
        assert_eq!(labels.geometry(), truth.geometry());
        for (label, true_label) in labels.data().iter().zip(truth.data()) {
            let annotated = case.annotated.contains(*true_label);
            assert_eq!(*label, if annotated { *true_label } else { 0 });
        }
        seen.extend(labels.data().iter().copied());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 3, 14]);
}

fn missed_lesions_are_whole_and_counted(root: &Path, set: &PhantomSet) {
    let (mut missed, mut all) = (0, 0);
    for case in set.cases().iter().filter(|c| c.usage == Use::Labelled) {
        let labels = read_label_map(&set.labels(case).unwrap()).unwrap();
        let truth = read_label_map(&set.truth(case).unwrap()).unwrap();
        let pieces = components(&truth).unwrap();
        let mut gone = vec![0; pieces.list().len()];
        for (component, run) in pieces.runs() {
            gone[component] += run.filter(|&i| labels.data()[i] != truth.data()[i]).count();
        }
        let mut of_case = 0;
        for (piece, gone) in pieces.list().iter().zip(gone) {
            assert!(
                gone == 0 || (piece.label == 14 && gone == piece.voxels),
                "{}",
                case.name
            );
            of_case += usize::from(gone > 0);
            all += usize::from(piece.label == 14);
        }
        let background = |map: &LabelMap| map.data().iter().filter(|l| **l == 0).count();
        assert!(background(&labels) <= background(&truth) + truth.data().iter().filter(|l| **l == 14).count());
        let about = root.join("about").join(format!("{}.json", case.name));
        let about: serde_json::Value = serde_json::from_slice(&std::fs::read(about).unwrap()).unwrap();
        assert_eq!(about["missed_lesions"], of_case);
        missed += of_case;
    }
    assert!(missed > 0 && missed < all, "{missed} of {all}");
}

#[test]
fn a_plain_set_is_what_it_always_was() {
    let dir = tempfile::tempdir().unwrap();
    let config = PhantomConfig {
        spacing: Some([9.0, 7.0, 7.0]),
        ..PhantomConfig::default()
    };
    let set = make(dir.path(), Cohort::plain(2, 5, config.clone()));
    let names: Vec<String> = files(dir.path()).into_keys().collect();
    assert_eq!(
        names,
        [
            "about/phantom_5_0000.json",
            "about/phantom_5_0001.json",
            "annotations.json",
            "dataset.json",
            "imagesTr/phantom_5_0000_0000.nii.gz",
            "imagesTr/phantom_5_0001_0000.nii.gz",
            "labelsTr/phantom_5_0000.nii.gz",
            "labelsTr/phantom_5_0001.nii.gz",
        ]
    );
    let annotations = std::fs::read_to_string(dir.path().join("annotations.json")).unwrap();
    assert_eq!(annotations, "{\n  \"default\": \"all\",\n  \"cases\": {}\n}\n");
    let phantom = viscera_image::phantom::generate(&config, 5_000_001).unwrap();
    let labels = read_label_map(&set.labels(&set.cases()[1]).unwrap()).unwrap();
    assert_eq!(labels.data(), phantom.labels.data());
    // More cases, and other seeds, may come later; a cohort may not.
    let more = PhantomSet::create(dir.path(), Cohort::plain(3, 5, config)).unwrap();
    assert!(!more.make(&more.cases()[1]).unwrap() && more.make(&more.cases()[2]).unwrap());
    assert!(matches!(
        PhantomSet::create(dir.path(), cohort()),
        Err(PipelineError::OtherCohort { .. })
    ));
}
