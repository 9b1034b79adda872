//! The program as its users meet it: exit codes, messages, files.

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use viscera_image::{Geometry, LabelTable, Volume};
use viscera_io::{Image, ReadOptions, SourceHeader, read_image, read_label_map, write_image, write_label_map};

fn viscera(arguments: &[&str]) -> Output {
    Command::cargo_bin("viscera")
        .unwrap()
        .args(arguments)
        .env_remove("VISCERA_MODELS")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A scan with values that a CT may have, and axes that lie as a scanner writes them.
fn scan(folder: &Path, name: &str) -> PathBuf {
    let mut geometry = Geometry::ras([12, 20, 24], [5.0, 3.0, 3.0]);
    geometry.direction[1] = [0.0, -1.0, 0.0];
    geometry.direction[2] = [-1.0, 0.0, 0.0];
    geometry.origin = [30.0, 40.0, -50.0];
    let data: Vec<i16> = (0..12 * 20 * 24).map(|i| [-1000, -100, 40, 60, 120][i % 5]).collect();
    let path = folder.join(name);
    write_image(&path, &Image::from(Volume::new(geometry, data).unwrap())).unwrap();
    path
}

/// Bytes of an uncompressed NIfTI-1 file with something changed.
fn damaged(folder: &Path, name: &str, change: impl Fn(&mut Vec<u8>)) -> PathBuf {
    let good = scan(folder, "good.nii");
    let mut bytes = std::fs::read(&good).unwrap();
    std::fs::remove_file(good).unwrap();
    change(&mut bytes);
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn segment_writes_on_the_grid_of_the_scan() {
    let dir = TempDir::new().unwrap();
    let input = scan(dir.path(), "patient_0000.nii.gz");
    let out = dir.path().join("out");
    let output = viscera(&["segment", text(&input), "-o", text(&out), "--statistics", "--preview"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let source = read_image(&input, &ReadOptions::default()).unwrap();
    let labels = read_label_map(&out.join("patient.nii.gz")).unwrap();
    assert_eq!(labels.geometry(), source.image.geometry());
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("patient.json")).unwrap()).unwrap();
    assert_eq!(manifest["geometry"]["orientation"], "LPS");
    assert_eq!(manifest["organs"].as_array().map(Vec::len), Some(13));
    for key in [
        "viscera", "model", "roi", "removed", "warnings", "timings", "seconds", "threads",
    ] {
        assert!(!manifest[key].is_null(), "{key}");
    }
    assert_eq!(manifest["model"]["weights_sha256"].as_str().map(str::len), Some(64));
    assert!(out.join("patient.png").is_file());
    let table = std::fs::read_to_string(out.join("statistics.csv")).unwrap();
    assert_eq!(table.lines().count(), 14);
    // A run again gives the same masks, bit for bit.
    let before = std::fs::read(out.join("patient.nii.gz")).unwrap();
    assert_eq!(
        code(&viscera(&["segment", text(&input), "-o", text(&out), "--threads", "1"])),
        0
    );
    assert!(std::fs::read(out.join("patient.nii.gz")).unwrap() == before);
}

#[test]
fn json_is_all_that_goes_to_standard_output() {
    let dir = TempDir::new().unwrap();
    let input = scan(dir.path(), "a.nii.gz");
    let out = dir.path().join("out");
    let output = viscera(&[
        "segment",
        text(&input),
        "-o",
        text(&out),
        "--json",
        "--roi-subset",
        "liver,spleen",
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let organs = value["cases"][0]["organs"].as_array().unwrap();
    assert_eq!(
        organs.iter().map(|o| o["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["liver", "spleen"]
    );
    for arguments in [
        &["recipe", "list"][..],
        &["model", "list"],
        &["model", "show"],
        &["inspect", text(&input)],
    ] {
        let output = viscera(&[arguments, &["--json"]].concat());
        assert_eq!(code(&output), 0, "{arguments:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    }
}

#[test]
fn hostile_scans_give_one_clear_error_each() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path();
    let truncated = damaged(folder, "truncated.nii", |b| b.truncate(1000));
    let cut_header = damaged(folder, "cut_header.nii", |b| b.truncate(100));
    let empty = damaged(folder, "empty.nii", Vec::clear);
    let zero = damaged(folder, "zero.nii", |b| b[42..44].copy_from_slice(&0i16.to_le_bytes()));
    let huge = damaged(folder, "huge.nii", |b| {
        for at in [42, 44, 46] {
            b[at..at + 2].copy_from_slice(&i16::MAX.to_le_bytes());
        }
    });
    let magic = damaged(folder, "magic.nii", |b| b[344..348].copy_from_slice(b"nope"));
    let nan = damaged(folder, "nan.nii", |b| {
        // No sform, no qform, and NaN as spacing along x.
        b[252..256].fill(0);
        b[80..84].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let photograph = folder.join("photograph.nii.gz");
    let grey: Vec<i16> = (0..12 * 20 * 24).map(|i| (i % 256) as i16).collect();
    let volume = Volume::new(Geometry::ras([12, 20, 24], [5.0, 3.0, 3.0]), grey).unwrap();
    write_image(&photograph, &Image::from(volume)).unwrap();
    let noise = folder.join("noise.nii.gz");
    std::fs::write(&noise, [0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    let missing = folder.join("missing.nii.gz");

    for (path, part) in [
        (&truncated, ""),
        (&cut_header, ""),
        (&empty, ""),
        (&zero, "dimensions"),
        (&huge, "cannot hold"),
        (&magic, "not a NIfTI file"),
        (&nan, "spacing"),
        (&photograph, "not Hounsfield units"),
        (&noise, "compressed data are damaged"),
        (&missing, "no such file"),
    ] {
        let output = viscera(&["segment", text(path), "-o", text(&folder.join("out"))]);
        let message = stderr(&output);
        assert_eq!(code(&output), 3, "{}: {message}", path.display());
        assert_eq!(message.matches("error: ").count(), 1, "{message}");
        // Before it, at most the estimate.
        assert!(
            message.lines().take(2).any(|line| line.starts_with("error: ")) && message.contains(part),
            "{}: {message}",
            path.display()
        );
        assert!(!message.contains("panicked"), "{message}");
    }
    let forced = viscera(&[
        "segment",
        text(&photograph),
        "-o",
        text(&folder.join("out")),
        "--allow-non-hu",
    ]);
    assert_eq!(code(&forced), 0);
    assert!(stderr(&forced).contains("warning: photograph: the intensities are not Hounsfield units"));
}

#[test]
fn masks_in_doubt_are_written_and_fail_a_run_that_asks_for_it() {
    let dir = TempDir::new().unwrap();
    let input = scan(dir.path(), "a.nii.gz");
    let out = dir.path().join("out");
    // Whatever a network sees in this, it is no abdomen.
    for again in [&[][..], &["--resume"]] {
        let output = viscera(&[&["segment", text(&input), "-o", text(&out), "--fail-on-qc"], again].concat());
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("1 of 1 scans have masks in doubt"),
            "{}",
            stderr(&output)
        );
    }
    let manifest = std::fs::read_to_string(out.join("a.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let first = &manifest["warnings"][0];
    assert!(first["severity"] != "note" && first["organs"].is_array(), "{first}");
}

#[test]
fn a_bad_file_in_a_folder_does_not_stop_the_others() {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("in");
    std::fs::create_dir(&input).unwrap();
    scan(&input, "a.nii.gz");
    scan(&input, "c.nii.gz");
    std::fs::write(input.join("b.nii.gz"), b"no scan").unwrap();
    let out = dir.path().join("out");
    let output = viscera(&["segment", text(&input), "-o", text(&out)]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("error: case \"b\" failed\ncaused by: "),
        "{}",
        stderr(&output)
    );
    assert!(out.join("a.nii.gz").is_file() && out.join("c.nii.gz").is_file() && !out.join("b.nii.gz").exists());
}

#[test]
fn a_scan_is_never_replaced_by_its_masks() {
    let dir = TempDir::new().unwrap();
    let input = scan(dir.path(), "a.nii.gz");
    let before = std::fs::read(&input).unwrap();
    let output = viscera(&["segment", text(&input), "-o", text(dir.path())]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("would replace the scan itself"),
        "{}",
        stderr(&output)
    );
    assert!(std::fs::read(&input).unwrap() == before);
}

#[test]
fn usage_errors_exit_with_2_and_help() {
    let dir = TempDir::new().unwrap();
    let input = scan(dir.path(), "a.nii.gz");
    let out = dir.path().join("out");
    let bad_model = dir.path().join("bad.safetensors");
    std::fs::write(&bad_model, b"nothing").unwrap();
    let segment = |more: &[&str]| viscera(&[&["segment", text(&input), "-o", text(&out)], more].concat());
    for (output, parts) in [
        (segment(&["--model", "nosuch"]), ["no model \"nosuch\"", "help: "]),
        (
            segment(&["--model", text(&bad_model)]),
            ["cannot be used", "caused by: "],
        ),
        (segment(&["--roi-subset", "livre"]), ["no class \"livre\"", "help: "]),
        (viscera(&["recipe", "show", "nosuch"]), ["no built-in recipe", "help: "]),
        (viscera(&["segment"]), ["required", "--help"]),
    ] {
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        for part in parts {
            assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_misspelt_key_of_a_recipe_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mine.toml");
    let recipe = stdout(&viscera(&["recipe", "show", "efficientsegnet-small"]));
    std::fs::write(&path, recipe.replacen("postprocess", "postproces", 1)).unwrap();
    let output = viscera(&["recipe", "show", text(&path)]);
    assert_eq!(code(&output), 2);
    let line = 1 + recipe.lines().position(|l| l.starts_with("postprocess")).unwrap();
    let expected = format!("line {line}: unknown key `postproces`; did you mean `postprocess`?");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    std::fs::write(&path, recipe).unwrap();
    assert_eq!(code(&viscera(&["recipe", "show", text(&path)])), 0);
}

#[test]
fn evaluate_prints_dice_per_class() {
    let dir = TempDir::new().unwrap();
    let write = |folder: &str, labels: Vec<u8>| {
        let map = Volume::new(Geometry::ras([1, 2, 3], [1.0; 3]), labels).unwrap();
        let path = dir.path().join(folder).join("a.nii.gz");
        let header = SourceHeader::from_geometry(map.geometry());
        write_label_map(&path, &map, &header, LabelTable::flare13().entries()).unwrap();
        path
    };
    let truth = write("truth", vec![1, 1, 1, 0, 2, 0]);
    let found = write("found", vec![1, 1, 0, 0, 3, 0]);
    let results = dir.path().join("results");
    let output = viscera(&["evaluate", text(&truth), text(&found), "-o", text(&results)]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("liver") && stdout(&output).contains("0.8000"),
        "{}",
        stdout(&output)
    );
    let value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(results.join("summary.json")).unwrap()).unwrap();
    assert_eq!(value["mean"]["1"]["Dice"], 0.8);
    let folders = viscera(&[
        "evaluate",
        text(&dir.path().join("truth")),
        text(&dir.path().join("found")),
        "--json",
    ]);
    let value: serde_json::Value = serde_json::from_slice(&folders.stdout).unwrap();
    assert_eq!(value["classes"]["2"], "kidney_right");
}

#[test]
fn phantoms_are_made_once() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("set");
    let arguments = [
        "phantom",
        "-o",
        text(&out),
        "--cases",
        "2",
        "--seed",
        "4",
        "--spacing",
        "8,8,8",
        "--shape",
        "30,40,50",
    ];
    let output = viscera(&arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for name in ["dataset.json", "annotations.json", "labelsTr/phantom_4_0001.nii.gz"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let image = out.join("imagesTr/phantom_4_0000_0000.nii.gz");
    let before = std::fs::read(&image).unwrap();
    assert!(stdout(&viscera(&arguments)).contains("0 made, 2 already there"));
    std::fs::remove_file(&image).unwrap();
    assert!(stdout(&viscera(&arguments)).contains("1 made, 1 already there"));
    assert!(std::fs::read(&image).unwrap() == before);
}
