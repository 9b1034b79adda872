//! Files written by nibabel, compared with what nibabel reads from them (`fixtures/nifti/generate.py`).

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use viscera_image::Geometry;
use viscera_io::{Image, IoError, ReadOptions, VolumeFault, Warning, read_image, read_label_map};

#[derive(Deserialize)]
struct Expected {
    kind: String,
    shape_xyz: [usize; 3],
    affine: [[f64; 4]; 4],
    values: Vec<Option<f64>>,
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures/nifti", name]
        .iter()
        .collect()
}

fn expected() -> BTreeMap<String, Expected> {
    let text = std::fs::read(fixture("expected.json")).expect("fixtures are committed");
    serde_json::from_slice(&text).expect("well-formed")
}

/// The affine of a grid, for indices (i, j, k).
fn affine(g: &Geometry) -> [[f64; 4]; 3] {
    std::array::from_fn(|r| {
        let column = |axis: usize| g.direction[axis][r] * g.spacing[axis];
        [column(2), column(1), column(0), g.origin[r]]
    })
}

fn values(image: &Image) -> Vec<f64> {
    match image {
        Image::I16(v) => v.data().iter().map(|&v| f64::from(v)).collect(),
        Image::F32(v) => v.data().iter().map(|&v| f64::from(v)).collect(),
    }
}

#[test]
fn everything_reads_as_nibabel_reads_it() {
    let expected = expected();
    assert!(expected.len() > 60);
    for (name, want) in &expected {
        let options = ReadOptions {
            volume: (name == "dim_four.nii").then_some(0),
        };
        let read = read_image(&fixture(name), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let kind = if matches!(read.image, Image::I16(_)) {
            "i16"
        } else {
            "f32"
        };
        assert_eq!(kind, want.kind, "{name}");
        let [x, y, z] = want.shape_xyz;
        assert_eq!(read.image.geometry().shape, [z, y, x], "{name}");
        for (ours, theirs) in affine(read.image.geometry()).iter().zip(&want.affine) {
            for (a, b) in ours.iter().zip(theirs) {
                // Headers hold f32; oblique axes are made orthonormal beyond that.
                assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{name}: {ours:?} {theirs:?}");
            }
        }
        let found = values(&read.image);
        let lowest = found.iter().fold(f64::INFINITY, |a, &b| a.min(b));
        for (i, (&v, want)) in found.iter().zip(&want.values).enumerate() {
            let want = want.unwrap_or(lowest);
            let exact = f64::from(want as f32);
            assert!(
                v == exact || (v - want).abs() <= 1e-6 * want.abs(),
                "{name}: voxel {i} is {v}, not {want}"
            );
        }
    }
}

#[test]
fn each_oddity_warns_and_nothing_else_does() {
    for name in expected().keys() {
        let options = ReadOptions {
            volume: (name == "dim_four.nii").then_some(0),
        };
        let warnings = read_image(&fixture(name), &options).expect("readable").warnings;
        let as_expected = match name.as_str() {
            "form_disagree.nii" => {
                matches!(warnings[..], [Warning::FormsDisagree { distance_mm }] if distance_mm > 100.0)
            }
            "form_none.nii" => matches!(warnings[..], [Warning::NoOrientation]),
            "form_sheared.nii" => {
                matches!(warnings[..], [Warning::SkewedAxes { degrees }] if (degrees - 16.7).abs() < 0.1)
            }
            "unit_metre.nii" => matches!(warnings[..], [Warning::UnitsConverted { unit: "metres" }]),
            "non_finite.nii" => {
                matches!(warnings[..], [Warning::NonFinite { voxels: 3, replaced_by }] if replaced_by > -4.7)
            }
            _ => warnings.is_empty(),
        };
        assert!(as_expected, "{name}: {warnings:?}");
    }
}

#[test]
fn a_volume_of_four_dimensions_is_chosen_or_refused() {
    let path = fixture("dim_four.nii");
    let read = |volume| read_image(&path, &ReadOptions { volume });
    let first = values(&read(Some(0)).expect("volume 0").image);
    let second = values(&read(Some(1)).expect("volume 1").image);
    let third = values(&read(Some(2)).expect("volume 2").image);
    assert!(first.iter().zip(&second).all(|(a, b)| a + 1000.0 == *b));
    assert!(first.iter().zip(&third).all(|(a, b)| a * 2.0 == *b));
    let reason = |volume| match read(volume) {
        Err(IoError::Volume { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(None), VolumeFault::SeveralVolumes { count: 3 });
    assert_eq!(reason(Some(3)), VolumeFault::NoSuchVolume { asked: 3, count: 3 });
}

#[test]
fn label_maps_hold_ids_or_are_refused() {
    for name in ["labels_f4.nii", "labels_i2.nii", "labels_u1.nii"] {
        let map = read_label_map(&fixture(name)).expect(name);
        let step = if name == "labels_u1.nii" { 17 } else { 1 };
        assert!(
            map.data()
                .iter()
                .enumerate()
                .all(|(i, &v)| usize::from(v) == i % 15 * step),
            "{name}"
        );
    }
    for (name, value, index) in [
        ("v1_le_f4.nii", -1000.5, [0, 0, 0]),
        ("scale_half.nii", -3.25, [0, 0, 0]),
        ("scale_zero.nii", 300.0, [3, 0, 0]),
        ("v2_be_i1.nii", -128.0, [0, 0, 0]),
    ] {
        match read_label_map(&fixture(name)) {
            Err(IoError::Volume {
                reason: VolumeFault::NotALabel { value: v, index: i },
                ..
            }) => assert_eq!((v, i), (value, index), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
