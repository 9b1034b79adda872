//! nnU-Net folders.

use std::fs;
use std::path::Path;
use viscera_image::LabelTable;
use viscera_io::{Annotations, Classes, Dataset, DatasetFault, DatasetJson, IoError, Split};

const JSON: &str = r#"{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 3, "ignore": 20},
  "numTraining": 2, "file_ending": ".nii.gz", "licence": "CC BY", "name": "x"}"#;

fn folder(files: &[&str], json: &str, annotations: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::write(dir.path().join("dataset.json"), json).expect("written");
    if let Some(text) = annotations {
        fs::write(dir.path().join("annotations.json"), text).expect("written");
    }
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, b"").expect("written");
    }
    dir
}

const FILES: [&str; 5] = [
    "imagesTr/b_0000.nii.gz",
    "imagesTr/a_0000.nii.gz",
    "imagesTs/t_0000.nii.gz",
    "labelsTr/a.nii.gz",
    "labelsTr/b.nii.gz",
];

fn reason(result: Result<impl std::fmt::Debug, IoError>) -> DatasetFault {
    match result {
        Err(IoError::Dataset { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn cases_with_their_annotations() {
    let dir = folder(&FILES, JSON, Some(r#"{"default": ["liver"], "cases": {"b": "all"}}"#));
    let dataset = Dataset::open(dir.path()).expect("a data set");
    assert_eq!(dataset.labels().by_name("spleen").map(|e| e.id), Some(3));
    assert_eq!(dataset.labels().entries().len(), 2);
    let cases = dataset.cases(Split::Train).expect("cases");
    let names: Vec<_> = cases.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(cases[0].annotated.iter().collect::<Vec<_>>(), [1]);
    assert_eq!(cases[1].annotated.iter().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(cases[0].image, dir.path().join("imagesTr/a_0000.nii.gz"));
    assert_eq!(cases[0].labels, Some(dir.path().join("labelsTr/a.nii.gz")));
    let tests = dataset.cases(Split::Test).expect("cases");
    assert_eq!((tests.len(), &tests[0].labels, tests[0].annotated.len()), (1, &None, 0));
}

#[test]
fn without_annotations_every_class_counts() {
    let dir = folder(&FILES, JSON, None);
    let cases = Dataset::open(dir.path())
        .and_then(|d| d.cases(Split::Train))
        .expect("cases");
    assert!(cases.iter().all(|c| c.annotated.len() == 2));
}

#[test]
fn an_unlabelled_case_must_say_so() {
    let files = &FILES[..4]; // b has no label map
    let dir = folder(files, JSON, None);
    let refused = Dataset::open(dir.path()).and_then(|d| d.cases(Split::Train));
    assert_eq!(reason(refused), DatasetFault::NoLabelMap { case: "b".to_owned() });
    let dir = folder(files, JSON, Some(r#"{"cases": {"b": []}}"#));
    let cases = Dataset::open(dir.path())
        .and_then(|d| d.cases(Split::Train))
        .expect("cases");
    assert_eq!((&cases[1].labels, cases[1].annotated.is_empty()), (&None, true));
}

#[test]
fn what_does_not_fit_together_is_named() {
    let open = |dir: &Path| Dataset::open(dir).and_then(|d| d.cases(Split::Train));
    let dir = folder(&FILES, JSON, Some(r#"{"default": ["livre"]}"#));
    assert_eq!(
        reason(open(dir.path())),
        DatasetFault::UnknownClass {
            name: "livre".to_owned()
        }
    );
    let dir = folder(&FILES, JSON, Some(r#"{"default": "all", "cases": {"zz": []}}"#));
    assert_eq!(
        reason(open(dir.path())),
        DatasetFault::UnknownCase { case: "zz".to_owned() }
    );
    let dir = folder(
        &["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/c.nii.gz"],
        JSON,
        None,
    );
    assert_eq!(reason(open(dir.path())), DatasetFault::NoImage { case: "c".to_owned() });
    let dir = folder(&[], JSON, None);
    assert!(matches!(reason(open(dir.path())), DatasetFault::Missing { .. }));
    let dir = tempfile::tempdir().expect("temporary folder");
    assert_eq!(
        reason(open(dir.path())),
        DatasetFault::Missing {
            name: "dataset.json".to_owned()
        }
    );
    for (json, part) in [
        (r#"{"channel_names": {"0": "CT"}, "labels": {"liver": 300}}"#, "300"),
        (r#"{"channel_names": {"0": "CT"}, "labels": {"all": [1, 2]}}"#, "region"),
        (
            r#"{"channel_names": {"0": "CT", "1": "PET"}, "labels": {"liver": 1}}"#,
            "2 image channels",
        ),
    ] {
        let dir = folder(&FILES, json, None);
        assert!(reason(open(dir.path())).to_string().contains(part));
    }
    let dir = folder(&FILES, JSON, Some(r#"{"default": "some"}"#));
    match open(dir.path()) {
        Err(IoError::Json { source, .. }) => assert!(source.to_string().contains("\"some\""), "{source}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_version_of_the_format_is_understood() {
    let json =
        r#"{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "kidney"}, "numTraining": 1}"#;
    let dir = folder(&FILES, json, None);
    let dataset = Dataset::open(dir.path()).expect("a data set");
    assert_eq!(dataset.labels().by_name("kidney").map(|e| e.id), Some(2));
}

#[test]
fn what_was_made_opens_again() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut description = DatasetJson::new(&LabelTable::flare13(), 1);
    description.other.insert("reference".to_owned(), "phantom".into());
    let mut annotations = Annotations::default();
    annotations
        .cases
        .insert("p1".to_owned(), Classes::Named(vec!["liver".to_owned()]));
    let made = Dataset::create(dir.path(), description.clone(), annotations.clone()).expect("made");
    for path in [
        made.image_path(Split::Train, "p1"),
        made.labels_path(Split::Train, "p1"),
    ] {
        viscera_io::atomic_write(&path, |w| w.write_all(b"")).expect("written");
    }
    let opened = Dataset::open(dir.path()).expect("a data set");
    assert_eq!(opened.description(), &description);
    let cases = opened.cases(Split::Train).expect("cases");
    assert_eq!(
        (cases[0].name.as_str(), cases[0].annotated.iter().collect::<Vec<_>>()),
        ("p1", vec![1])
    );
    // FLARE's classes keep FLARE's colours.
    assert_eq!(opened.labels().entries(), LabelTable::flare13().entries());
}

/// The decathlon's folder: names without a channel, `dataset.json` with lists.
#[test]
fn decathlon_folders() {
    let json = r#"{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "cancer"}, "numTraining": 2,
      "training": [{"image": "./imagesTr/liver_0.nii.gz", "label": "./labelsTr/liver_0.nii.gz"},
                   {"image": "./imagesTr/liver_1.nii.gz", "label": "./labelsTr/liver_1.nii.gz"}],
      "test": ["./imagesTs/liver_7.nii.gz"]}"#;
    let files = [
        "imagesTr/liver_0.nii.gz",
        "imagesTr/liver_1.nii.gz",
        "imagesTr/._liver_1.nii.gz",
        "imagesTs/liver_7.nii.gz",
        "labelsTr/liver_0.nii.gz",
        "labelsTr/liver_1.nii.gz",
    ];
    let dir = folder(
        &files,
        json,
        Some(r#"{"cases": {"liver_1": ["liver"]}, "centres": {"liver_1": "Bern"}}"#),
    );
    let dataset = Dataset::open(dir.path()).expect("a data set");
    let cases = dataset.cases(Split::Train).expect("cases");
    assert_eq!(cases.len(), 2);
    assert_eq!(cases[0].annotated.iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        (cases[1].annotated.len(), cases[1].centre.as_deref()),
        (1, Some("Bern"))
    );
    assert_eq!(dataset.cases(Split::Test).expect("tests")[0].name, "liver_7");

    let dir = folder(&files[..1], json, None);
    let fault = reason(Dataset::open(dir.path()));
    assert!(
        matches!(&fault, DatasetFault::BadList { reason } if reason.contains("labelsTr/liver_0")),
        "{fault}"
    );
}

/// FLARE23's folders; which classes a case annotates must be written down or found.
#[test]
fn flare_folders() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let grid = viscera_image::Geometry::ras([2, 2, 2], [1.0; 3]);
    let map = |ids: [i16; 8]| {
        viscera_io::Image::I16(viscera_image::Volume::new(grid.clone(), ids.to_vec()).expect("eight voxels"))
    };
    for (file, ids) in [
        ("imagesTr2200/FLARE23_0001_0000.nii.gz", [40; 8]),
        ("imagesTr2200/FLARE23_0002_0000.nii.gz", [40; 8]),
        ("labelsTr2200/FLARE23_0001.nii.gz", [0, 1, 3, 3, 0, 0, 14, 1]),
        ("labelsTr2200/FLARE23_0002.nii.gz", [0; 8]),
        ("unlabeledTr1800/FLARE23_4000_0000.nii.gz", [40; 8]),
        ("imagesVal100/FLARE23Ts_0001_0000.nii.gz", [40; 8]),
    ] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        viscera_io::write_image(&path, &map(ids)).expect("written");
    }
    let dataset = Dataset::open(dir.path()).expect("a data set");
    assert_eq!(reason(dataset.cases(Split::Train)), DatasetFault::Undeclared);
    let found = dataset.found_classes().expect("readable");
    viscera_io::write_json(&dir.path().join("annotations.json"), &found).expect("written");
    let cases = Dataset::open(dir.path())
        .and_then(|d| d.cases(Split::Train))
        .expect("cases");
    let annotated: Vec<Vec<u8>> = cases.iter().map(|c| c.annotated.iter().collect()).collect();
    assert_eq!(annotated, [vec![1, 3, 14], vec![], vec![]]);
    assert_eq!(cases[2].name, "FLARE23_4000");
}

#[test]
fn lists_of_files() {
    let toml = r#"
labels = { background = 0, liver = 1, spleen = 3 }
[[case]]
image = "a/ct.nii.gz"
label = "a/seg.nii.gz"
classes = ["liver"]
centre = "Bern"
name = "a"
[[case]]
image = "b.nii.gz"
[[case]]
image = "c.nii.gz"
label = "c_seg.nii.gz"
split = "test"
"#;
    let csv = "image,label,classes,split,centre,name\na/ct.nii.gz,a/seg.nii.gz,liver,,Bern,a\nb.nii.gz,,,,,\n\
               c.nii.gz,c_seg.nii.gz,all,test,,\n";
    let dir = folder(
        &["a/ct.nii.gz", "a/seg.nii.gz", "b.nii.gz", "c.nii.gz", "c_seg.nii.gz"],
        JSON,
        None,
    );
    for (name, text) in [("list.toml", toml), ("list.csv", csv)] {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        let dataset = Dataset::open(&path).expect("a data set");
        assert_eq!(dataset.labels().by_name("spleen").map(|e| e.id), Some(3));
        let cases = dataset.cases(Split::Train).expect("cases");
        assert_eq!(
            (cases[0].name.as_str(), cases[0].centre.as_deref()),
            ("a", Some("Bern"))
        );
        assert_eq!(cases[0].annotated.iter().collect::<Vec<_>>(), [1]);
        assert_eq!((&cases[1].labels, cases[1].annotated.len()), (&None, 0));
        assert_eq!(dataset.cases(Split::Test).expect("tests")[0].annotated.len(), 2);

        for (from, to, part) in [
            ("centre", "center", "center"),
            ("test", "tset", "tset"),
            ("b.nii", "z.nii", "z.nii"),
            // Names become names of files in caches and folders of labels.
            ("Bern\"\nname = \"a", "Bern\"\nname = \"../a", "../a"),
            ("Bern,a", "Bern,../a", "../a"),
        ] {
            if !text.contains(from) {
                continue;
            }
            fs::write(&path, text.replace(from, to)).expect("written");
            let fault = reason(Dataset::open(&path));
            assert!(
                matches!(&fault, DatasetFault::BadList { reason } if reason.contains(part)),
                "{fault}"
            );
        }
    }
}
