//! NRRD and MetaImage files written by SimpleITK and pynrrd, compared with what SimpleITK reads from them
//! (`fixtures/itk/generate.py`); files that lie; and what we write.

use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use viscera_image::{Geometry, LabelEntry, LabelMap, Volume};
use viscera_io::{
    Image, IoError, ReadImage, ReadOptions, SourceHeader, VolumeFault, Warning, read_image, read_label_map,
    write_image, write_label_map,
};

#[derive(Deserialize)]
struct Expected {
    kind: String,
    shape_xyz: [usize; 3],
    affine: [[f64; 4]; 3],
    values: Vec<f64>,
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures/itk", name]
        .iter()
        .collect()
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).expect("fixtures are committed")
}

fn read_bytes(ending: &str, bytes: &[u8]) -> Result<ReadImage, IoError> {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(format!("scan.{ending}"));
    std::fs::write(&path, bytes).expect("written");
    let _ = read_label_map(&path);
    read_image(&path, &ReadOptions::default())
}

fn fault(ending: &str, bytes: &[u8]) -> VolumeFault {
    match read_bytes(ending, bytes) {
        Err(IoError::Volume { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A good file whose header has `from` replaced.
fn edited(name: &str, from: &str, to: &str) -> Vec<u8> {
    let bytes = bytes(name);
    let at = bytes
        .windows(from.len())
        .position(|w| w == from.as_bytes())
        .expect(from);
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[test]
fn everything_reads_as_simpleitk_reads_it() {
    let expected: BTreeMap<String, Expected> = serde_json::from_slice(&bytes("expected.json")).expect("well-formed");
    assert!(expected.len() > 35);
    for (name, want) in &expected {
        let options = ReadOptions {
            volume: (name == "volumes.nrrd").then_some(1),
        };
        let read = read_image(&fixture(name), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (kind, found): (_, Vec<f64>) = match &read.image {
            Image::I16(v) => ("i16", v.data().iter().map(|&v| f64::from(v)).collect()),
            Image::F32(v) => ("f32", v.data().iter().map(|&v| f64::from(v)).collect()),
        };
        assert_eq!(kind, want.kind, "{name}");
        let [x, y, z] = want.shape_xyz;
        let g = read.image.geometry();
        assert_eq!(g.shape, [z, y, x], "{name}");
        for (r, row) in want.affine.iter().enumerate() {
            let column = |axis: usize| g.direction[axis][r] * g.spacing[axis];
            let ours = [column(2), column(1), column(0), g.origin[r]];
            assert!(
                ours.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-9),
                "{name}: {ours:?} {row:?}"
            );
        }
        let same = found.iter().zip(&want.values).all(|(a, b)| *a == f64::from(*b as f32));
        assert!(same && found.len() == want.values.len(), "{name}: {found:?}");
        // What a label map is written with says the same.
        assert!(read.header == SourceHeader::from_geometry(g), "{name}");
        let as_expected = match name.as_str() {
            "spacings_only.nrrd" => matches!(read.warnings[..], [Warning::NoSpace]),
            _ => read.warnings.is_empty(),
        };
        assert!(as_expected, "{name}: {:?}", read.warnings);
    }
}

#[test]
fn label_maps_hold_ids() {
    for name in ["labels.nrrd", "labels.mha"] {
        let map = read_label_map(&fixture(name)).expect(name);
        assert!(
            map.data().iter().enumerate().all(|(i, &v)| usize::from(v) == i % 15),
            "{name}"
        );
    }
    match read_label_map(&fixture("nrrd_axial_packed.nrrd")) {
        Err(IoError::Volume {
            reason: VolumeFault::NotALabel { value, index },
            ..
        }) => assert_eq!((value, index), (-32768.0, [0, 0, 0])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn axes_without_a_place_are_volumes_or_refused() {
    let read = |name: &str, volume| match read_image(&fixture(name), &ReadOptions { volume }) {
        Err(IoError::Volume { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(read("volumes.nrrd", None), VolumeFault::SeveralVolumes { count: 2 });
    assert_eq!(read("layers.seg.nrrd", None), VolumeFault::SeveralValues { count: 2 });
}

#[test]
fn every_truncation_is_an_error() {
    for (name, ending) in [
        ("nrrd_i2.nrrd", "nrrd"),
        ("nrrd_oblique_packed.nrrd", "nrrd"),
        ("mha_f4.mha", "mha"),
        ("mha_oblique_packed.mha", "mha"),
    ] {
        let bytes = bytes(name);
        assert!(read_bytes(ending, &bytes).is_ok(), "{name}");
        for len in 0..bytes.len() {
            assert!(read_bytes(ending, &bytes[..len]).is_err(), "{name} cut to {len} bytes");
        }
    }
}

#[test]
fn headers_that_lie_are_refused() {
    use VolumeFault as F;
    let nrrd = |from: &str, to: &str| fault("nrrd", &edited("nrrd_i2.nrrd", from, to));
    let mha = |from: &str, to: &str| fault("mha", &edited("mha_i2.mha", from, to));
    let huge = "4000000000 4000000000 4000000000";
    assert!(matches!(nrrd("4 3 2", huge), F::TooLarge { needed: u64::MAX, .. }));
    assert!(matches!(nrrd("4 3 2", "40000 3000 2000"), F::TooLarge { .. }));
    assert!(matches!(mha("4 3 2", "40000 3000 2000"), F::TooLarge { .. }));
    for bad in ["4 3", "4 3 0", "4 3 -2", "4 3 x", ""] {
        assert!(
            matches!(nrrd("4 3 2", bad), F::BadField { field: "sizes", .. }),
            "{bad}"
        );
        assert!(
            matches!(mha("4 3 2", bad), F::BadField { field: "DimSize", .. }),
            "{bad}"
        );
    }
    assert!(matches!(
        nrrd("dimension: 3", "dimension: 17"),
        F::BadField { field: "dimension", .. }
    ));
    assert!(matches!(nrrd("type: short", "type: block"), F::UnsupportedType { .. }));
    assert!(matches!(mha("MET_SHORT", "MET_STRING"), F::UnsupportedType { .. }));
    assert!(matches!(
        nrrd("encoding: raw", "encoding: bzip2"),
        F::UnsupportedEncoding { .. }
    ));
    assert!(matches!(
        mha("BinaryData = True", "BinaryData = False"),
        F::UnsupportedEncoding { .. }
    ));
    assert_eq!(nrrd("endian: little\n", ""), F::MissingField { field: "endian" });
    assert!(matches!(
        nrrd("endian: little", "endian: middle"),
        F::BadField { field: "endian", .. }
    ));
    assert!(matches!(nrrd("0004", "0009"), F::BadHeader { line: 1, .. }));
    assert!(matches!(nrrd("kinds:", "sizes:"), F::BadHeader { .. }));
    assert!(matches!(nrrd("kinds: domain", "kinds domain"), F::BadHeader { .. }));
    assert!(matches!(nrrd("(0.70173508959612452,", "(nan,"), F::BadAffine));
    assert!(matches!(nrrd("(0.70173508959612452,", "none (1,"), F::BadField { .. }));
    assert!(matches!(
        nrrd("space origin: (-90,", "space origin: (-90 "),
        F::BadField { .. }
    ));
    assert!(matches!(mha("0.75 ", "0 "), F::BadSpacing { .. }));
    assert!(matches!(
        mha("NDims = 3", "ElementNumberOfChannels = 3"),
        F::SeveralValues { count: 3 }
    ));
    assert!(matches!(
        mha("TransformMatrix = 0.93564678612816599", "TransformMatrix ="),
        F::BadField { .. }
    ));
    // Compressed voxels inside a compressed file.
    let packed = edited("nrrd_oblique_packed.nrrd", "encoding: gzip", "encoding: gz");
    assert!(read_bytes("nrrd", &packed).is_ok());
}

/// A header must not make us read files elsewhere.
#[test]
fn data_files_lie_beside_their_header() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).expect("made");
    std::fs::write(dir.path().join("two_files.raw"), bytes("two_files.raw")).expect("written");
    for (name, field) in [
        ("two_files.nhdr", "data file: "),
        ("two_files.mhd", "ElementDataFile = "),
    ] {
        let path = inner.join(name);
        let refused = |text: &[u8]| {
            std::fs::write(&path, text).expect("written");
            match read_image(&path, &ReadOptions::default()) {
                Err(IoError::Volume { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            refused(&bytes(name)),
            VolumeFault::MissingHalf {
                expected: "two_files.raw".to_owned()
            }
        );
        for elsewhere in ["../two_files.raw", "/etc/passwd", "LIST", "x%03d.raw", "..", "a\\b.raw"] {
            let text = edited(name, &format!("{field}two_files.raw"), &format!("{field}{elsewhere}"));
            assert!(matches!(refused(&text), VolumeFault::BadField { .. }), "{elsewhere}");
        }
    }
}

fn oblique(shape: [usize; 3]) -> Geometry {
    let (s, c) = (0.6, 0.8);
    Geometry {
        spacing: [2.5, 0.75, 0.5],
        origin: [-120.5, 33.25, 900.0],
        direction: [[0.0, -s, c], [0.0, c, s], [-1.0, 0.0, 0.0]],
        ..Geometry::ras(shape, [1.0; 3])
    }
}

#[test]
fn a_segmentation_names_its_segments() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("a.seg.nrrd");
    let entry = |id, name: &str, rgb| LabelEntry {
        id,
        name: name.to_owned(),
        rgb,
    };
    let mut map: LabelMap = Volume::filled(oblique([5, 6, 7]), 0).expect("a good grid");
    for at in [[1, 2, 3], [3, 4, 3], [1, 2, 6]] {
        let at = map.offset(at);
        map.data_mut()[at] = 7;
    }
    let labels = [
        entry(7, "adrenal_gland_right", [255, 0, 51]),
        entry(9, "odd \\ name\nin two lines", [0; 3]),
    ];
    write_label_map(&path, &map, &SourceHeader::from_geometry(map.geometry()), &labels).expect("written");
    assert_eq!(read_label_map(&path).expect("readable"), map);
    let written = std::fs::read(&path).expect("readable");
    let end = written.windows(2).position(|w| w == b"\n\n").expect("an empty line");
    let text = String::from_utf8(written[..end].to_vec()).expect("text");
    for line in [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: 7 6 5",
        "space directions: (0.5,0,0) (0,-0.6000000000000001,0.44999999999999996) (0,1.5,2)",
        "kinds: domain domain domain",
        "encoding: gzip",
        "space origin: (120.5,-33.25,900)",
        "Segment0_Color:=1.000000 0.000000 0.200000",
        "Segment0_Extent:=3 6 2 4 1 3",
        "Segment0_ID:=adrenal_gland_right",
        "Segment0_LabelValue:=7",
        "Segment0_Layer:=0",
        "Segment0_Name:=adrenal_gland_right",
        "Segment0_Tags:=TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list\
         ~SCT^123037004^Anatomical Structure~SCT^23451007^Adrenal gland~SCT^24028007^Right\
         ~Anatomic codes - DICOM master list~^^~^^|",
        "Segment1_Extent:=0 -1 0 -1 0 -1",
        "Segment1_Name:=odd \\\\ name\\nin two lines",
        "Segmentation_SourceRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any grid and intensities come back.
    #[test]
    fn what_is_written_is_read(
        shape in prop::array::uniform3(1usize..9), seed in any::<u32>(), float in any::<bool>()
    ) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.nrrd");
        let data: Vec<i16> = (0..shape.iter().product::<usize>())
            .map(|i| (seed.wrapping_mul(i as u32 + 1) >> 16) as i16)
            .collect();
        let volume = Volume::new(oblique(shape), data).expect("a good grid");
        let image = if float { Image::F32(volume.map(|v| f32::from(v) / 7.0)) } else { Image::I16(volume) };
        write_image(&path, &image).expect("written");
        let back = read_image(&path, &ReadOptions::default()).expect("readable");
        prop_assert!(back.warnings.is_empty());
        prop_assert!(back.image.geometry().same_grid(image.geometry(), 1e-9));
        match (back.image, image) {
            (Image::I16(a), Image::I16(b)) => prop_assert_eq!(a.data(), b.data()),
            (Image::F32(a), Image::F32(b)) => prop_assert_eq!(a.data(), b.data()),
            _ => prop_assert!(false, "another type"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Any bytes anywhere: an image or an error.
    #[test]
    fn damage_never_panics(
        name in prop::sample::select(vec!["nrrd_i2.nrrd", "nrrd_oblique_packed.nrrd", "volumes.nrrd", "spacings_only.nrrd", "mha_i2.mha", "mha_permuted_packed.mha"]),
        edits in prop::collection::vec((0usize..700, prop::sample::select(b"0123456789-.(), \n:=ax\x00\xff".to_vec())), 1..6),
    ) {
        let mut bytes = bytes(name);
        for (at, with) in edits {
            if let Some(b) = bytes.get_mut(at) {
                *b = with;
            }
        }
        let ending = if name.ends_with("mha") { "mha" } else { "nrrd" };
        if let Ok(read) = read_bytes(ending, &bytes) {
            prop_assert!(read.image.geometry().validate().is_ok());
        }
    }
}
