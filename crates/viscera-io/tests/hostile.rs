//! Files that lie, end early, or are something else: one clear error each, never a panic, never memory for voxels that
//! are not there.

use proptest::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use viscera_io::{IoError, ReadImage, ReadOptions, VolumeFault, read_image, read_label_map};

fn fixture(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fixtures/nifti", name]
        .iter()
        .collect();
    std::fs::read(path).expect("fixtures are committed")
}

fn read_bytes(bytes: &[u8]) -> Result<ReadImage, IoError> {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("scan.nii.gz");
    std::fs::write(&path, bytes).expect("written");
    let _ = read_label_map(&path);
    read_image(&path, &ReadOptions::default())
}

fn fault(bytes: &[u8]) -> VolumeFault {
    match read_bytes(bytes) {
        Err(IoError::Volume { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// A good NIfTI-1 file with bytes replaced.
fn edited(edits: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = fixture("v1_le_i2.nii");
    for (at, with) in edits {
        bytes[*at..at + with.len()].copy_from_slice(with);
    }
    bytes
}

/// What came before the end counts, although the last read failed.
#[test]
fn a_cut_gzip_says_how_much_there_was() {
    let mut bytes = edited(&[(42, &[100, 0, 100, 0, 100, 0])]);
    let mut random = 1u32;
    bytes.resize_with(352 + 2_000_000, || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    });
    let packed = gzip(&bytes);
    match fault(&packed[..packed.len() / 2]) {
        VolumeFault::Truncated { expected, found } => {
            assert_eq!(expected, 2_000_352);
            assert!((900_000..=1_100_000).contains(&found), "{found}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_truncation_is_an_error() {
    for name in [
        "v1_le_i2.nii",
        "v2_be_f8.nii",
        "extension.nii",
        "gzip_single.nii",
        "gzip_members.nii",
    ] {
        let bytes = fixture(name);
        assert!(read_bytes(&bytes).is_ok(), "{name}");
        for len in 0..bytes.len() {
            match read_bytes(&bytes[..len]) {
                Err(IoError::Volume { reason, .. }) => {
                    let message = reason.to_string();
                    assert!(
                        message.contains("bytes") || message.contains("damaged") || len < 4,
                        "{name}, {len}: {message}"
                    );
                }
                other => panic!("{name} cut to {len} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn truncation_of_a_large_file_is_an_error_too() {
    // Large enough for the two-threaded way.
    let mut bytes = edited(&[
        (42, &200i16.to_le_bytes()),
        (44, &200i16.to_le_bytes()),
        (46, &20i16.to_le_bytes()),
    ]);
    bytes.truncate(352);
    bytes.extend((0..1_600_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8));
    let packed = gzip(&bytes);
    assert!(read_bytes(&packed).is_ok());
    for len in [packed.len() - 1, packed.len() - 8, packed.len() / 2] {
        assert!(matches!(
            fault(&packed[..len]),
            VolumeFault::Truncated { .. } | VolumeFault::DamagedData { .. }
        ));
    }
    let short = gzip(&bytes[..1_000_000]);
    assert_eq!(
        fault(&short),
        VolumeFault::Truncated {
            expected: 1_600_352,
            found: 1_000_000
        }
    );
    let mut flipped = packed.clone();
    flipped[packed.len() - 6] ^= 1; // in the checksum
    assert!(matches!(fault(&flipped), VolumeFault::DamagedData { .. }));
}

#[test]
fn dimensions_that_cannot_be() {
    for dim in [
        [3i16, 0, 3, 2],
        [3, 4, -3, 2],
        [0, 4, 3, 2],
        [8, 4, 3, 2],
        [-1, 4, 3, 2],
    ] {
        let bytes: Vec<u8> = dim.iter().flat_map(|d| d.to_le_bytes()).collect();
        assert!(
            matches!(fault(&edited(&[(40, &bytes)])), VolumeFault::BadDimensions { .. }),
            "{dim:?}"
        );
    }
}

#[test]
fn huge_dimensions_take_no_memory() {
    let huge: Vec<u8> = [3i16, 32767, 32767, 32767]
        .iter()
        .flat_map(|d| d.to_le_bytes())
        .collect();
    let bytes = edited(&[(40, &huge)]);
    assert!(matches!(fault(&bytes), VolumeFault::TooLarge { .. }));
    assert!(matches!(fault(&gzip(&bytes)), VolumeFault::TooLarge { .. }));
    // NIfTI-2 can ask for more than 2⁶⁴ bytes.
    let mut two = fixture("v2_le_i2.nii");
    for axis in 1..=3 {
        two[16 + 8 * axis..24 + 8 * axis].copy_from_slice(&(i64::MAX - 1).to_le_bytes());
    }
    assert!(matches!(fault(&two), VolumeFault::TooLarge { .. }));
    // A data offset beyond the end.
    let far = edited(&[(108, &1e15f32.to_le_bytes())]);
    assert!(matches!(fault(&far), VolumeFault::TooLarge { .. }));
    assert!(matches!(fault(&gzip(&far)), VolumeFault::TooLarge { .. }));
}

#[test]
fn a_gzip_bomb_is_read_no_further_than_the_header_says() {
    let mut bytes = fixture("v1_le_i2.nii");
    bytes.resize(16 << 20, 0);
    let start = std::time::Instant::now();
    let read = read_bytes(&gzip(&bytes)).expect("the volume itself is whole");
    assert_eq!(read.warnings, [viscera_io::Warning::TrailingBytes]);
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn spacing_that_is_none() {
    for bad in [0.0f32, f32::NAN, f32::NEG_INFINITY] {
        assert!(matches!(
            fault(&edited(&[(84, &bad.to_le_bytes())])),
            VolumeFault::BadSpacing { .. }
        ));
    }
}

#[test]
fn axes_that_span_nothing() {
    let flat = [0u8; 48];
    let none = 0i16.to_le_bytes();
    assert_eq!(fault(&edited(&[(252, &none), (280, &flat)])), VolumeFault::BadAffine);
    let nan = f32::NAN.to_le_bytes();
    assert_eq!(fault(&edited(&[(252, &none), (284, &nan)])), VolumeFault::BadAffine);
}

#[test]
fn files_of_another_kind() {
    assert!(matches!(
        fault(b"hello, this is no scan at all"),
        VolumeFault::UnknownFormat { .. }
    ));
    assert!(matches!(
        fault(&gzip(b"hello, this is no scan at all")),
        VolumeFault::UnknownFormat { .. }
    ));
    assert_eq!(
        fault(&edited(&[(344, b"\0\0\0\0")])),
        VolumeFault::WrongMagic { magic: [0; 4] }
    );
    assert!(matches!(
        fault(&[0x1f, 0x8b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]),
        VolumeFault::DamagedData { .. }
    ));
    assert!(matches!(fault(b""), VolumeFault::Truncated { expected: 4, found: 0 }));
    for (code, name) in [
        (32i16, "COMPLEX64"),
        (128, "RGB24"),
        (2304, "RGBA32"),
        (1792, "COMPLEX128"),
        (77, "unknown"),
    ] {
        assert_eq!(
            fault(&edited(&[(70, &code.to_le_bytes())])),
            VolumeFault::UnsupportedType {
                name: format!("{name} (code {code})")
            }
        );
    }
}

#[test]
fn fields_that_make_no_sense() {
    for bad in [0.0f32, 347.0, 352.5, f32::NAN, f32::INFINITY, -8.0] {
        assert!(
            matches!(
                fault(&edited(&[(108, &bad.to_le_bytes())])),
                VolumeFault::BadOffset { .. }
            ),
            "{bad}"
        );
    }
    let slope = [2.0f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
    assert!(matches!(
        fault(&edited(&[(112, &slope)])),
        VolumeFault::BadScaling { .. }
    ));
}

#[test]
fn messages_name_the_way_out_and_the_file_last() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("scan.nii");
    std::fs::write(&path, edited(&[(344, b"abc\0")])).expect("written");
    let message = read_image(&path, &ReadOptions::default())
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains("at byte 344") && message.contains("convert it to NIfTI"),
        "{message}"
    );
    assert!(message.ends_with("scan.nii"), "{message}");
    let missing = read_image(Path::new("no/such/file.nii"), &ReadOptions::default());
    assert!(matches!(missing, Err(IoError::Read { .. })));
    assert!(matches!(
        read_image(dir.path(), &ReadOptions::default()),
        Err(IoError::Read { .. })
    ));
}

#[test]
fn pairs_need_both_halves() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let at = |name: &str| dir.path().join(name);
    let reason = |name: &str| match read_image(&at(name), &ReadOptions::default()) {
        Err(IoError::Volume { reason, .. }) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    std::fs::write(at("a.hdr"), fixture("pair.hdr")).expect("written");
    assert!(reason("a.hdr").contains("\"a.img\""));
    std::fs::write(at("b.img.gz"), fixture("pair.img")).expect("written");
    assert!(reason("b.img.gz").contains("\"b.hdr.gz\""));
    std::fs::write(at("c.nii"), fixture("pair.hdr")).expect("written");
    assert!(reason("c.nii").contains(".hdr"));
    // Halves may differ in compression, and capitals are kept.
    std::fs::write(at("D.HDR"), fixture("pair.hdr")).expect("written");
    std::fs::write(at("D.IMG.gz"), gzip(&fixture("pair.img"))).expect("written");
    for name in ["D.HDR", "D.IMG.gz"] {
        assert!(read_image(&at(name), &ReadOptions::default()).is_ok(), "{name}");
    }
}

/// This flip makes the last voxel wrong and the content one byte longer: only the checksum behind it can tell.
#[test]
fn damage_that_adds_bytes_is_found() {
    let mut bytes = fixture("gzip_members.nii");
    bytes[242] = 160;
    assert!(matches!(fault(&bytes), VolumeFault::DamagedData { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// Any bytes anywhere in the header: an image or an error.
    #[test]
    fn damaged_headers_never_panic(
        name in prop::sample::select(vec!["v1_le_i2.nii", "v1_be_f4.nii", "v2_le_u8.nii", "v2_be_f8.nii"]),
        edits in prop::collection::vec((0usize..544, any::<u8>()), 1..12),
        packed in any::<bool>(),
    ) {
        let mut bytes = fixture(name);
        for (at, with) in edits {
            if let Some(b) = bytes.get_mut(at) {
                *b = with;
            }
        }
        if let Ok(read) = read_bytes(&if packed { gzip(&bytes) } else { bytes }) {
            prop_assert!(read.image.geometry().validate().is_ok());
        }
    }

    /// Any damage to compressed bytes: an error, or nothing of importance was hit.
    #[test]
    fn damaged_gzip_never_panics(at in 0usize..10_000, with in any::<u8>()) {
        let good = fixture("gzip_members.nii");
        let mut bytes = good.clone();
        let at = at % bytes.len();
        bytes[at] = with;
        if let (Ok(a), Ok(b)) = (read_bytes(&bytes), read_bytes(&good)) {
            prop_assert_eq!(a.image, b.image);
        }
    }
}
