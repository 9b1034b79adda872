//! What we write: read back by ourselves and by the `nifti` crate.

use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use viscera_image::{Geometry, LabelEntry, LabelMap, LabelTable, Volume};
use viscera_io::{
    Image, IoError, NiftiVersion, ReadOptions, SourceHeader, VolumeFault, read_image, read_label_map, write_image,
    write_label_map,
};

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fixtures/nifti", name]
        .iter()
        .collect()
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

fn labels_on(shape: [usize; 3]) -> LabelMap {
    let data = (0..shape.iter().product()).map(|i: usize| (i / 7 % 14) as u8).collect();
    Volume::new(oblique(shape), data).expect("a good grid")
}

/// The header fields that place the voxels must come back bit for bit.
fn same_geometry(a: &SourceHeader, b: &SourceHeader) {
    let bits = |h: &SourceHeader| -> Vec<u64> {
        let floats = h.pixdim[..4]
            .iter()
            .chain(&h.quatern)
            .chain(&h.qoffset)
            .chain(h.srow.iter().flatten());
        floats.map(|v| v.to_bits()).collect()
    };
    assert_eq!(bits(a), bits(b));
    let rest = |h: &SourceHeader| {
        (
            h.version,
            h.shape,
            h.xyzt_units,
            h.qform_code,
            h.sform_code,
            h.descrip.clone(),
        )
    };
    assert_eq!(rest(a), rest(b));
}

#[test]
fn a_label_map_keeps_its_sources_header() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let table = LabelTable::flare14();
    for name in [
        "v1_be_f4.nii",
        "v2_be_u2.nii",
        "form_disagree.nii",
        "form_none.nii",
        "form_sheared.nii",
        "form_qform_left_handed.nii",
        "form_qform_left_handed_v2.nii",
        "unit_metre.nii",
        "dim_trailing.nii",
    ] {
        let source = read_image(&fixture(name), &ReadOptions::default()).expect(name);
        let data = (0..24).map(|i| i as u8).collect();
        let map = Volume::new(source.image.geometry().clone(), data).expect("same grid");
        for ending in ["nii", "nii.gz"] {
            let path = dir.path().join(format!("labels.{ending}"));
            write_label_map(&path, &map, &source.header, table.entries()).expect("written");
            assert_eq!(read_label_map(&path).expect("readable"), map, "{name}");
            let back = read_image(&path, &ReadOptions::default()).expect("readable");
            same_geometry(&back.header, &source.header);
        }
    }
}

/// An independent reader sees the same voxels, affine and extension.
#[test]
fn another_reader_agrees() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("labels.nii.gz");
    let map = labels_on([5, 6, 7]);
    let labels = [
        LabelEntry {
            id: 1,
            name: "liver".to_owned(),
            rgb: [255, 0, 51],
        },
        LabelEntry {
            id: 2,
            name: "a<b & ]]> \"c\"".to_owned(),
            rgb: [0, 0, 0],
        },
    ];
    write_label_map(&path, &map, &SourceHeader::from_geometry(map.geometry()), &labels).expect("written");
    let object = ReaderOptions::new()
        .read_file(&path)
        .expect("valid for the nifti crate");
    let header = object.header();
    assert_eq!(
        (
            header.intent_code,
            header.datatype,
            header.sform_code,
            header.xyzt_units
        ),
        (1002, 2, 1, 2)
    );
    let srow = [header.srow_x, header.srow_y, header.srow_z];
    let corner = map.geometry().world_of([4.0, 5.0, 6.0]);
    for (row, want) in srow.iter().zip(corner) {
        assert!((f64::from(row[0] * 6.0 + row[1] * 5.0 + row[2] * 4.0 + row[3]) - want).abs() < 1e-3);
    }
    let extension = object.extensions().iter().next().expect("one extension");
    assert_eq!((extension.code(), extension.size() % 16), (0, 0));
    let xml = String::from_utf8(extension.data().to_vec()).expect("text");
    assert!(
        xml.contains("<Label Key=\"1\" Red=\"1\" Green=\"0\" Blue=\"0.2\" Alpha=\"1\"><![CDATA[liver]]></Label>"),
        "{xml}"
    );
    assert!(xml.contains("<![CDATA[a<b & ]]]]><![CDATA[> \"c\"]]>"), "{xml}");
    let voxels = object.into_volume().into_ndarray::<u8>().expect("bytes");
    for z in 0..5 {
        for y in 0..6 {
            for x in 0..7 {
                assert_eq!(Some(voxels[[x, y, z]]), map.get([z, y, x]));
            }
        }
    }
}

#[test]
fn images_of_both_types_agree_too() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let geometry = oblique([40, 50, 60]);
    let whole: Vec<i16> = (0..geometry.len()).map(|i| (i * 31 % 65_536) as u16 as i16).collect();
    let real: Vec<f32> = whole.iter().map(|&v| f32::from(v) * 0.37).collect();
    for image in [
        Image::from(Volume::new(geometry.clone(), whole).expect("good")),
        Image::from(Volume::new(geometry.clone(), real).expect("good")),
    ] {
        let path = dir.path().join("image.nii.gz");
        write_image(&path, &image).expect("written");
        let back = read_image(&path, &ReadOptions::default()).expect("readable");
        assert!(back.warnings.is_empty());
        assert!(back.image.geometry().same_grid(&geometry, 1e-3));
        let oracle = ReaderOptions::new().read_file(&path).expect("valid").into_volume();
        let oracle = oracle.into_ndarray::<f32>().expect("voxels");
        let ours = back.image.clone().into_f32();
        assert_eq!(ours.data(), image.clone().into_f32().data());
        assert_eq!(Some(oracle[[59, 3, 21]]), ours.get([21, 3, 59]));
        assert_eq!(matches!(image, Image::I16(_)), matches!(back.image, Image::I16(_)));
    }
}

#[test]
fn long_axes_need_the_second_version() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("long.nii.gz");
    let map = LabelMap::filled(Geometry::ras([1, 2, 40_000], [1.0; 3]), 3).expect("good");
    let mut header = SourceHeader::from_geometry(map.geometry());
    assert_eq!(header.version, NiftiVersion::Two);
    header.version = NiftiVersion::One; // asked for, but there is no room
    header.descrip = "é".repeat(60);
    write_label_map(&path, &map, &header, &[]).expect("written");
    assert_eq!(read_label_map(&path).expect("readable"), map);
    let back = read_image(&path, &ReadOptions::default()).expect("readable").header;
    assert_eq!((back.version, back.descrip), (NiftiVersion::Two, "é".repeat(39)));
}

#[test]
fn wrong_grids_and_names_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let map = labels_on([5, 6, 7]);
    let reason = |path: &Path, shape| {
        let header = SourceHeader {
            shape,
            ..SourceHeader::from_geometry(map.geometry())
        };
        match write_label_map(path, &map, &header, &[]) {
            Err(IoError::Volume { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(
        reason(&dir.path().join("a.nii"), [7, 6, 5]),
        VolumeFault::WrongGrid { .. }
    ));
    for name in ["a", "a.gz", "a.nii.zip", "a.img"] {
        assert!(matches!(
            reason(&dir.path().join(name), [5, 6, 7]),
            VolumeFault::BadName { .. }
        ));
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0);
}

#[test]
fn the_same_map_gives_the_same_bytes() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let map = labels_on([70, 90, 100]);
    let bytes = |threads: usize| {
        let path = dir.path().join(format!("{threads}.nii.gz"));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        let header = SourceHeader::from_geometry(map.geometry());
        pool.install(|| write_label_map(&path, &map, &header, LabelTable::flare13().entries()))
            .expect("written");
        std::fs::read(path).expect("there")
    };
    assert_eq!(bytes(1), bytes(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_label_map_comes_back(
        shape in prop::array::uniform3(1usize..12),
        spacing in prop::array::uniform3(0.2f64..9.0),
        seed in any::<u64>(),
        packed in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join(if packed { "a.nii.gz" } else { "a.nii" });
        let mut state = seed;
        let data = (0..shape.iter().product::<usize>()).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        }).collect();
        let map = Volume::new(Geometry::ras(shape, spacing), data).expect("good");
        write_label_map(&path, &map, &SourceHeader::from_geometry(map.geometry()), &[]).expect("written");
        let back = read_label_map(&path).expect("readable");
        prop_assert_eq!(back.data(), map.data());
        prop_assert!(back.geometry().same_grid(map.geometry(), 1e-4));
    }
}
