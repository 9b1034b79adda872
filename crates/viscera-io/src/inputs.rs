//! From what a user names (files and folders) to cases with names.

use crate::IoError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One image to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputCase {
    /// Name of the case, and so of its output files.
    pub name: String,
    /// The image.
    pub path: PathBuf,
}

/// Endings of files with voxels, in the order in which they are looked for. All may be compressed (`.gz`).
const ENDINGS: [&str; 8] = [".nii", ".hdr", ".img", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd"];

/// Name of a case by its file's name: without `.nii.gz`, `.nii`, `.hdr`, `.img`, `.seg.nrrd`, `.nrrd`, `.nhdr`, `.mha` or
/// `.mhd` (plain or `.gz`, in any case of letters), and without nnU-Net's channel suffix `_0000`. `None` for other endings
/// and for names that are empty then.
#[must_use]
pub fn case_name(path: &Path) -> Option<String> {
    let (stem, _) = split_name(path)?;
    let stem = stem.strip_suffix("_0000").unwrap_or(stem);
    (!stem.is_empty()).then(|| stem.to_owned())
}

/// A file's name without its ending, and which one it is.
fn split_name(path: &Path) -> Option<(&str, &'static str)> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let ending = ENDINGS.into_iter().find(|e| plain.ends_with(e))?;
    Some((name.get(..plain.len() - ending.len())?, ending))
}

/// The cases of files and folders.
///
/// A file counts as it is named. A folder counts with the scans that lie directly in it, hidden ones left out,
/// the two halves of a pair as one. The cases are sorted by name.
///
/// # Errors
/// [`IoError::Input`] for a path that is not there, a file with another ending, or a folder without scans;
/// [`IoError::DuplicateCase`] when two files give one name; [`IoError::Read`] when the system refuses.
pub fn expand_inputs(inputs: &[PathBuf]) -> Result<Vec<InputCase>, IoError> {
    let mut cases: BTreeMap<String, PathBuf> = BTreeMap::new();
    for input in inputs {
        let files = if input.is_dir() {
            files_of(input)?
        } else {
            vec![input.clone()]
        };
        for path in files {
            let wrong = |reason| IoError::Input {
                path: path.clone(),
                reason,
            };
            let name = case_name(&path)
                .ok_or_else(|| wrong("not a name of a scan (.nii.gz, .nii, .hdr, .img, .nrrd, .nhdr, .mha, .mhd)"))?;
            if !path.exists() {
                return Err(wrong("there is no such file or folder"));
            }
            if let Some(first) = cases.insert(name.clone(), path.clone())
                && first != path
            {
                return Err(IoError::DuplicateCase {
                    case: name,
                    first,
                    second: path,
                });
            }
        }
    }
    Ok(cases.into_iter().map(|(name, path)| InputCase { name, path }).collect())
}

/// Scans of a folder, sorted; of a pair the header.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let failed = |source| IoError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_file() && case_name(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    let headers: Vec<String> = files
        .iter()
        .filter_map(|path| split_name(path))
        .filter(|(_, ending)| *ending == ".hdr")
        .map(|(stem, _)| stem.to_owned())
        .collect();
    files.retain(|path| {
        !split_name(path).is_some_and(|(stem, ending)| ending == ".img" && headers.iter().any(|h| h == stem))
    });
    if files.is_empty() {
        return Err(IoError::Input {
            path: folder.to_owned(),
            reason: "the folder has no scans (.nii.gz, .nii, .hdr, .img, .nrrd, .nhdr, .mha, .mhd)",
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_endings_and_channel() {
        for (file, name) in [
            ("ct.nii.gz", Some("ct")),
            ("a/FLARE_0001_0000.nii.gz", Some("FLARE_0001")),
            ("x_0000_0000.nii", Some("x_0000")),
            ("scan.v2.NII.GZ", Some("scan.v2")),
            ("p_0001.hdr", Some("p_0001")),
            ("p.img.gz", Some("p")),
            ("_0000.nii", None),
            (".nii.gz", None),
            ("a.nrrd", Some("a")),
            ("a_0000.Seg.NRRD", Some("a")),
            ("b.nhdr", Some("b")),
            ("b.mha", Some("b")),
            ("b.raw", None),
            ("a.gz", None),
        ] {
            assert_eq!(case_name(Path::new(file)).as_deref(), name, "{file}");
        }
    }

    #[test]
    fn folders_give_their_images_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for name in [
            "b_0000.nii.gz",
            "a.nii",
            "c.hdr",
            "c.img",
            "d.img.gz",
            "d.HDR",
            ".e.nii",
            "f.json",
            "g.img",
        ] {
            std::fs::write(dir.path().join(name), b"").expect("written");
        }
        std::fs::create_dir(dir.path().join("h.nii")).expect("made");
        let cases = expand_inputs(&[dir.path().to_owned()]).expect("cases");
        let found: Vec<_> = cases
            .iter()
            .map(|c| {
                (
                    c.name.as_str(),
                    c.path.file_name().and_then(|n| n.to_str()).unwrap_or_default(),
                )
            })
            .collect();
        let expected = [
            ("a", "a.nii"),
            ("b", "b_0000.nii.gz"),
            ("c", "c.hdr"),
            ("d", "d.HDR"),
            ("g", "g.img"),
        ];
        assert_eq!(found, expected);

        // A file counts exactly as it is named, and naming it twice does no harm.
        let one = dir.path().join("c.img");
        let cases = expand_inputs(&[one.clone(), one.clone()]).expect("one case");
        assert_eq!((cases.len(), &cases[0].path), (1, &one));
    }

    #[test]
    fn what_cannot_be_an_input_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let there = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, b"").expect("written");
            path
        };
        let refused = |inputs: &[PathBuf]| expand_inputs(inputs).expect_err("refused").to_string();
        assert!(refused(&[dir.path().to_owned()]).contains("no scans"));
        assert!(refused(&[there("a.txt")]).contains("not a name of a scan"));
        assert!(refused(&[dir.path().join("b.nii")]).contains("no such file"));
        assert!(refused(&[there("c.nii"), there("c_0000.nii.gz")]).contains("\"c\""));
    }
}
