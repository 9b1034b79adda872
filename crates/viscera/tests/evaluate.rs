//! `viscera evaluate` and `viscera compare` as their users meet them.

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use viscera_image::{Geometry, Volume};
use viscera_io::{SourceHeader, write_label_map};

/// A name that would be markup, a formula, or three fields, if anybody let it.
const HOSTILE: [&str; 3] = ["<img src=x onerror=alert(1)>", "=1+1", "a, \"b\" é"];

fn viscera(arguments: &[&str]) -> Output {
    Command::cargo_bin("viscera").unwrap().args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A map of 8 × 8 × 8 voxels with a block of class 1 whose end along z is `to`, and one of class 3.
fn write(folder: &Path, case: &str, spacing: [f64; 3], to: usize) {
    let mut map = Volume::filled(Geometry::ras([8, 8, 8], spacing), 0u8).unwrap();
    for z in 1..7 {
        for y in 1..6 {
            for x in 1..6 {
                let at = map.offset([z, y, x]);
                map.data_mut()[at] = if z < to { 1 } else { 3 };
            }
        }
    }
    std::fs::create_dir_all(folder).unwrap();
    let header = SourceHeader::from_geometry(map.geometry());
    write_label_map(&folder.join(format!("{case}.nii.gz")), &map, &header, &[]).unwrap();
}

fn folders(dir: &TempDir) -> [PathBuf; 3] {
    let [truth, near, far] = ["truth", "near", "far"].map(|name| dir.path().join(name));
    for case in HOSTILE {
        write(&truth, case, [2.0; 3], 4);
        write(&near, case, [2.0; 3], 5);
        write(&far, case, [2.0; 3], 6);
    }
    [truth, near, far]
}

#[test]
fn a_folder_of_results_whatever_the_cases_are_called() {
    let dir = TempDir::new().unwrap();
    let [truth, near, _] = folders(&dir);
    let out = dir.path().join("out");
    let output = viscera(&["evaluate", text(&truth), text(&near), "-o", text(&out), "--flare", "22"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(
        html.contains("&lt;img src=x onerror=alert(1)&gt;") && !html.contains("<img"),
        "markup from outside"
    );
    assert!(
        !html.contains("<script") && !html.contains("://"),
        "a report that needs something"
    );
    assert!(html.contains("FLARE22") && html.contains("class=\"prediction\""));

    let csv = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    assert!(
        csv.starts_with("case,class_id,class,Dice,IoU,NSD,HD,HD95,ASSD,"),
        "{csv}"
    );
    assert!(
        csv.contains("\"a, \"\"b\"\" é\",1,liver,") && csv.contains("\"=1+1\",3,spleen,"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 1 + 2 * HOSTILE.len());

    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    // Blocks of 3 against 4 slices, and of 3 against 2.
    assert!((json["mean"]["1"]["Dice"].as_f64().unwrap() - 6.0 / 7.0).abs() < 1e-12);
    assert_eq!(json["metric_per_case"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["metric_per_case"][0]["metrics"]["3"]["NSD"], 1.0);
    assert_eq!(json["settings"]["scores"]["tolerances"]["classes_mm"]["1"], 5.0);
    assert_eq!(json["statistics"]["classes"]["1"]["Dice"]["n"], 3);
    assert_eq!(json["flare"]["classes"]["1"][0], 0.8571);
}

#[test]
fn tolerance_and_surfaces_are_as_asked() {
    let dir = TempDir::new().unwrap();
    let [truth, near, _] = folders(&dir);
    let json = |more: &[&str]| -> serde_json::Value {
        let output = viscera(&[&["evaluate", text(&truth), text(&near), "--json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let strict = json(&["--tolerance", "0.5,spleen=2.5"]);
    assert!(strict["mean"]["1"]["NSD"].as_f64().unwrap() < 1.0);
    assert_eq!(strict["mean"]["3"]["NSD"], 1.0);
    assert!(json(&["--no-surface"])["mean"]["1"]["NSD"].is_null());
    let bad = viscera(&["evaluate", text(&truth), text(&near), "--tolerance", "liver=0"]);
    assert_eq!(bad.status.code(), Some(2), "{}", stderr(&bad));
}

#[test]
fn grids_must_match_or_be_matched() {
    let dir = TempDir::new().unwrap();
    let (truth, found) = (dir.path().join("truth"), dir.path().join("found"));
    write(&truth, "a", [2.0; 3], 4);
    write(&found, "a", [2.0, 2.0, 2.5], 4);
    let refused = viscera(&["evaluate", text(&truth), text(&found)]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        stderr(&refused).contains("--resample-prediction"),
        "{}",
        stderr(&refused)
    );
    let placed = viscera(&["evaluate", text(&truth), text(&found), "--resample-prediction"]);
    assert_eq!(placed.status.code(), Some(0), "{}", stderr(&placed));
    assert!(
        stderr(&placed).contains("brought to the reference's grid"),
        "{}",
        stderr(&placed)
    );
}

#[test]
fn results_are_compared_and_ranked() {
    let dir = TempDir::new().unwrap();
    let [truth, near, far] = folders(&dir);
    let results: Vec<PathBuf> = [&near, &far, &truth]
        .iter()
        .enumerate()
        .map(|(i, found)| {
            let out = dir.path().join(format!("result{i}"));
            let output = viscera(&["evaluate", text(&truth), text(found), "-o", text(&out)]);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            out
        })
        .collect();
    let all: Vec<&str> = results.iter().map(|r| text(r)).collect();
    let out = dir.path().join("comparison");
    let output = viscera(&[&["compare"], all.as_slice(), &["-o", text(&out), "--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ranks: Vec<_> = json["ranking"]["systems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["rank"].as_f64())
        .collect();
    assert_eq!(ranks, [Some(2.0), Some(3.0), Some(1.0)]);
    assert!(out.join("comparison.html").is_file() && out.join("comparison.csv").is_file());

    let two = viscera(&["compare", all[0], all[1]]);
    assert!(String::from_utf8_lossy(&two.stdout).contains("p (Holm)"));
    let unknown = viscera(&["compare", all[0], all[1], "--metrics", "dice"]);
    assert_eq!(unknown.status.code(), Some(2));
}
