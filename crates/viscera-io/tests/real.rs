//! Real CT, where it is at hand: sums of all voxels as nibabel 5.4 finds them. The environment variable
//! `VISCERA_TEST_DATA` names the folder with `ct/CASE/ct.nii.gz`.

use std::path::PathBuf;
use viscera_io::{Image, ReadOptions, read_image, read_label_map};

/// A file of the folder, or `None` with a printed reason.
#[allow(clippy::print_stderr)] // a skipped test must say so
fn real(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("VISCERA_TEST_DATA") else {
        eprintln!("skipped {name}: VISCERA_TEST_DATA is not set");
        return None;
    };
    let path = PathBuf::from(folder).join(name);
    assert!(path.is_file(), "{} is not there", path.display());
    Some(path)
}

#[test]
fn scans_read_as_nibabel_reads_them() {
    for (case, shape, sum) in [
        ("ircad01", [129, 512, 512], -14_871_565_770_i64),
        ("tcia_acrin_001_b", [99, 512, 512], -28_985_192_821),
        ("tcia_acrin_013_b", [49, 512, 512], -11_360_539_140),
        ("tcia_cmb_crc_01068_a", [100, 512, 512], -29_840_863_625),
        ("totalseg_dicom20", [20, 512, 512], -3_272_217_339),
        ("totalseg_example", [112, 101, 122], -496_851_173),
        ("totalseg_example_sm", [30, 101, 122], -130_894_872),
    ] {
        let Some(path) = real(&format!("ct/{case}/ct.nii.gz")) else {
            continue;
        };
        let read = read_image(&path, &ReadOptions::default()).expect(case);
        assert!(read.warnings.is_empty(), "{case}: {:?}", read.warnings);
        let Image::I16(volume) = read.image else {
            panic!("{case} is not i16")
        };
        assert_eq!(volume.shape(), shape, "{case}");
        assert_eq!(volume.data().iter().map(|&v| i64::from(v)).sum::<i64>(), sum, "{case}");
    }
}

#[test]
fn label_maps_read_as_nibabel_reads_them() {
    for (name, sum) in [
        ("ct/ircad01/label_flare14.nii.gz", 11_627_574_u64),
        ("ct/totalseg_example/label_all_pseudo.nii.gz", 8_267_109),
        ("labels/spl_abdominal/label_all.nii.gz", 54_164_476),
    ] {
        let Some(path) = real(name) else { continue };
        let map = read_label_map(&path).expect(name);
        assert_eq!(map.data().iter().map(|&v| u64::from(v)).sum::<u64>(), sum, "{name}");
    }
}
