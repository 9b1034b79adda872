//! The files that a scan gets.

use assert_cmd::Command;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use viscera_io::{ReadOptions, case_name, read_image, read_label_map, write_image};

fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::cargo_bin("viscera")
        .unwrap()
        .args(arguments)
        .env_remove("VISCERA_MODELS")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), message)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A phantom's scan.
fn phantom(folder: &Path) -> PathBuf {
    let set = folder.join("set");
    let (code, message) = run(&["phantom", "--spacing", "4,3,3", "--cases", "1", "-o", text(&set)]);
    assert_eq!(code, 0, "{message}");
    let images = std::fs::read_dir(set.join("imagesTr")).unwrap();
    images.map(|e| e.unwrap().path()).next().unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Names of all files below a folder, with `/`.
fn files(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            files(&path, &format!("{name}/"), found);
        } else {
            found.insert(name);
        }
    }
}

#[test]
fn every_form_says_the_same() {
    let dir = TempDir::new().unwrap();
    let scan = phantom(dir.path());
    // The same scan as NRRD.
    let input = dir.path().join("p.nrrd");
    let image = read_image(&scan, &ReadOptions::default()).unwrap().image;
    write_image(&input, &image).unwrap();
    let (plain, out) = (dir.path().join("plain"), dir.path().join("out"));
    let (code, message) = run(&["segment", text(&scan), "-o", text(&plain)]);
    assert_eq!(code, 0, "{message}");
    let (code, message) = run(&[
        "segment",
        text(&input),
        "-o",
        text(&out),
        "--format",
        "seg.nrrd",
        "--split",
        "--mesh",
        "stl,obj,glb",
        "--statistics",
    ]);
    assert_eq!(code, 0, "{message}");

    let manifest = json(&out.join("p.json"));
    let named: BTreeSet<String> = manifest["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let mut there = BTreeSet::new();
    files(&out, "", &mut there);
    assert!(there.remove("statistics.csv"));
    assert_eq!(there, named);

    let labels = read_label_map(&plain.join(format!("{}.nii.gz", case_name(&scan).unwrap()))).unwrap();
    let segments = read_label_map(&out.join("p.seg.nrrd")).unwrap();
    assert_eq!(segments.data(), labels.data());
    assert!(segments.geometry().same_grid(labels.geometry(), 1e-3));
    let statistics = json(&out.join("p/statistics.json"));
    let scene = std::fs::read(out.join("p.glb")).unwrap();
    assert_eq!(
        u32::from_le_bytes(scene[8..12].try_into().unwrap()) as usize,
        scene.len()
    );
    let header = u32::from_le_bytes(scene[12..16].try_into().unwrap()) as usize;
    let scene: Value = serde_json::from_slice(&scene[20..20 + header]).unwrap();
    let nodes: BTreeSet<&str> = scene["nodes"].as_array().unwrap()[1..]
        .iter()
        .map(|n| n["name"].as_str().unwrap())
        .collect();
    let mut meshes = 0;
    for organ in manifest["organs"].as_array().unwrap() {
        let (id, name) = (organ["id"].as_u64().unwrap(), organ["name"].as_str().unwrap());
        let mask = read_label_map(&out.join(format!("p/{name}.seg.nrrd"))).unwrap();
        let pairs = || mask.data().iter().zip(labels.data());
        assert!(
            pairs().all(|(m, l)| u64::from(*m) == u64::from(u64::from(*l) == id)),
            "{name}"
        );
        let voxels = pairs().filter(|(m, _)| **m == 1).count();
        let volume = voxels as f64 * labels.geometry().voxel_volume_mm3();
        assert!(
            (statistics[name]["volume"].as_f64().unwrap() - volume).abs() < 0.01,
            "{name}"
        );
        let surface = out.join(format!("p/{name}.stl"));
        assert_eq!(surface.is_file(), voxels > 0, "{name}");
        assert_eq!(nodes.contains(name), voxels > 0, "{name}");
        if voxels > 0 {
            let bytes = std::fs::read(surface).unwrap();
            let triangles = u32::from_le_bytes(bytes[80..84].try_into().unwrap()) as usize;
            assert!(bytes.len() == 84 + 50 * triangles && triangles >= 8, "{name}");
            assert!(bytes[..80].windows(9).any(|w| w == b"SPACE=LPS"));
            meshes += 1;
        }
    }
    assert!(meshes > 5, "{meshes} organs found");
    let object = std::fs::read_to_string(out.join("p.obj")).unwrap();
    assert_eq!(object.lines().filter(|l| l.starts_with("o ")).count(), meshes);
    assert!(object.lines().any(|l| l == "# SPACE=LPS") && object.lines().any(|l| l == "mtllib p.mtl"));
}

#[test]
fn no_output_takes_the_place_of_the_scan() {
    let dir = TempDir::new().unwrap();
    let scan = phantom(dir.path());
    let folder = dir.path().join("liver");
    std::fs::create_dir(&folder).unwrap();
    let input = folder.join("liver.nii.gz");
    std::fs::copy(&scan, &input).unwrap();
    let out = text(dir.path());
    let (code, message) = run(&["segment", text(&input), "-o", out, "--split"]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("would replace the scan"), "{message}");
    assert!(std::fs::read(&input).unwrap() == std::fs::read(&scan).unwrap());
    let (code, message) = run(&["segment", text(&input), "-o", out, "--format", "dcm"]);
    assert!(code == 2 && message.contains("seg.nrrd"), "{message}");
}
