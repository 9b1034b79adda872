//! `viscera phantom --cohort` as its users meet it, and that training's own checks are content with what it makes.

use assert_cmd::Command;
use std::path::Path;
use std::process::Output;

fn viscera(arguments: &[&str]) -> Output {
    Command::cargo_bin("viscera").unwrap().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_built_in_cohort_is_made_once_and_holds_together() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let arguments = ["phantom", "--cohort", "mini", "-o", text(&out)];
    let output = viscera(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("10 made, 0 already there"), "{said}");
    let row = |name: &str| -> Vec<String> {
        let line = said
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("centre"), ["centre", "labelled", "partial", "unlabelled", "test"]);
    assert_eq!(row("birch"), ["birch", "0", "3", "1", "0"]);
    assert!(stdout(&viscera(&arguments)).contains("0 made, 10 already there"));

    #[cfg(feature = "train")]
    {
        let check = viscera(&["data", "check", text(&out), "--json"]);
        assert_eq!(check.status.code(), Some(0), "{}{}", stdout(&check), stderr(&check));
        let report: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
        assert_eq!(report["cases"], 8);
        assert_eq!(report["annotated"]["liver"], 4);
        assert_eq!(report["annotated"]["spleen"], 2);
        assert!(report["findings"].as_array().unwrap().is_empty(), "{report}");
        let split = viscera(&["data", "split", text(&out), "--by-centre", "--folds", "2"]);
        assert!(split.status.success(), "{}", stderr(&split));
        let folds: serde_json::Value =
            serde_json::from_slice(&std::fs::read(out.join("splits.json")).unwrap()).unwrap();
        for fold in folds.as_array().unwrap() {
            let centres = |part: &str| -> Vec<String> {
                let names = fold[part].as_array().unwrap().iter();
                names.map(|n| n.as_str().unwrap()[..3].to_owned()).collect()
            };
            assert!(centres("val").iter().all(|centre| !centres("train").contains(centre)));
        }
    }

    let other = viscera(&["phantom", "--cohort", "mini", "--seed", "2", "-o", text(&out)]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("another cohort"), "{}", stderr(&other));
}

#[test]
fn what_is_wrong_with_a_cohort_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("c.toml"), dir.path().join("set"));
    std::fs::write(&file, "seed = 1\n[[centre]]\nname = \"a\"\nlabeled = 1\n").unwrap();
    let unknown = viscera(&["phantom", "--cohort", text(&file), "-o", text(&out)]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("labeled"), "{}", stderr(&unknown));
    let nowhere = viscera(&["phantom", "--cohort", "maxi", "-o", text(&out)]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("mini"), "{}", stderr(&nowhere));
    let both = viscera(&["phantom", "--cohort", "mini", "--cases", "3", "-o", text(&out)]);
    assert_eq!(both.status.code(), Some(2));
    assert!(!out.exists());
}

#[test]
fn an_anatomy_becomes_many_scans_beside_phantoms() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("set"));
    let made = viscera(&[
        "phantom",
        "-o",
        text(&source),
        "--spacing",
        "6,6,6",
        "--shape",
        "30,40,50",
        "--seed",
        "4",
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    std::fs::write(dir.path().join("names.json"), r#"{"hepar": 1, "lien": 3, "aorta": 5}"#).unwrap();
    std::fs::write(dir.path().join("none.json"), r#"{"hepar": 1}"#).unwrap();
    let list = dir.path().join("anatomies.toml");
    let toml = r#"
[[anatomy]]
name = "one"
labels = "source/labelsTr/phantom_4_0000.nii.gz"
structures = "names.json"
image = "source/imagesTr/phantom_4_0000_0000.nii.gz"
cases = 2
copies = 1
classes = { hepar = "liver", lien = "spleen" }
tissues = [["hep*", "liver"], ["lien", "spleen"], ["*", "artery"]]

[[anatomy]]
name = "two"
labels = "source/labelsTr/phantom_4_0000.nii.gz"
cases = 1
under_lung = ["liver"]
tissues = [["kidney_*", "renal_cortex"], ["*", "soft_tissue"]]

[[anatomy]]
name = "three"
labels = "source/labelsTr/phantom_4_0000.nii.gz"
image = "source/imagesTr/phantom_4_0000_0000.nii.gz"
cases = 2
copies = 1
spacing = [12, 6, 9]
render = { reshape = 1.5, lesions = 1.0, liver_vessels = 1.0 }
tissues = [["liver", "liver"], ["spleen", "spleen"]]
"#;
    std::fs::write(&list, toml).unwrap();
    let phantoms = ["phantom", "-o", text(&out), "--spacing", "6,6,6", "--shape", "30,40,50"];
    assert!(viscera(&phantoms).status.success());
    let arguments = ["phantom", "-o", text(&out), "--anatomies", text(&list), "--seed", "9"];
    let first = viscera(&arguments);
    assert!(stdout(&first).contains("7 made, 0 already there"), "{}", stderr(&first));
    let scan = |name: &str| std::fs::read(out.join("imagesTr").join(format!("{name}_0000.nii.gz"))).unwrap();
    assert!(scan("one_0000") != scan("one_0001") && scan("one_0000") != scan("one_copy_0000"));
    let labels = |name: &str| viscera_io::read_label_map(&out.join("labelsTr").join(format!("{name}.nii.gz"))).unwrap();
    // The same body in other looks; other bodies where it is reshaped, on the grid that was asked for.
    assert_eq!(labels("one_0000"), labels("one_0001"));
    let [first, second, copy] = ["three_0000", "three_0001", "three_copy_0000"].map(labels);
    assert_eq!(first.geometry(), copy.geometry());
    let voxels = first.data().len() as f64 / (30.0 * 40.0 * 50.0 / 3.0);
    assert!((0.97..1.03).contains(&voxels), "{:?}", first.shape());
    assert!(first != second && first != copy);
    let volume = |map: &viscera_image::LabelMap| map.data().iter().filter(|id| **id == 1).count() as f64;
    assert!((0.4..2.5).contains(&(volume(&first) / volume(&copy))));
    let before = scan("one_0001");
    std::fs::remove_file(out.join("imagesTr/one_0001_0000.nii.gz")).unwrap();
    assert!(stdout(&viscera(&arguments)).contains("1 made, 6 already there"));
    assert!(before == scan("one_0001"));

    let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let annotations = read(&out.join("annotations.json"));
    let classes = &annotations["cases"]["one_0000"];
    assert_eq!(*classes, serde_json::json!(["liver", "spleen", "aorta"]));
    assert_eq!(annotations["default"], "all");
    assert!(annotations["cases"]["two_0000"].as_array().unwrap().len() > 8);
    assert_eq!(annotations["centres"]["two_0000"], "two");
    assert_eq!(read(&out.join("dataset.json"))["numTraining"], 8);

    // A shorter list than that of a run that was stopped: what was never made is no case.
    std::fs::remove_file(out.join("imagesTr/three_0001_0000.nii.gz")).unwrap();
    std::fs::write(
        &list,
        toml.replace("cases = 2\ncopies = 1\nspacing", "cases = 1\ncopies = 1\nspacing"),
    )
    .unwrap();
    assert!(stdout(&viscera(&arguments)).contains("0 made, 6 already there"));
    let annotations = read(&out.join("annotations.json"));
    assert!(annotations["cases"]["three_0001"].is_null() && !annotations["cases"]["three_0000"].is_null());
    assert_eq!(read(&out.join("dataset.json"))["numTraining"], 7);

    for (from, to, said) in [
        ("\"liver\", lien", "\"livre\", lien", "livre"),
        ("hepar =", "hepra =", "hepra"),
        ("\"soft_tissue\"", "\"sfot_tissue\"", "sfot_tissue"),
        ("name = \"two\"", "name = \"../two\"", "../two"),
        ("name = \"two\"", "name = \"one\"", "two anatomies"),
        ("cases = 1", "cases = 1\ncopies = 1", "copies"),
        ("cases = 2", "csaes = 2", "csaes"),
        ("reshape = 1.5", "reshape = 3.5", "reshape"),
        ("spacing = [12, 6, 9]", "spacing = [0, 6, 9]", "three"),
        ("spacing = [12, 6, 9]", "spacing = [12, nan, 9]", "three"),
        ("spacing = [12, 6, 9]", "spacing = [12, 6, 1e-12]", "three"),
        (
            "under_lung = [\"liver\"]",
            "structures = \"none.json\"",
            "none of the data set's classes",
        ),
    ] {
        assert!(toml.contains(from), "{from}");
        std::fs::write(&list, toml.replacen(from, to, 1)).unwrap();
        let refused = viscera(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{to}");
        assert!(stderr(&refused).contains(said), "{to}: {}", stderr(&refused));
    }
}
