//! From what a user names (files, folders, patterns, lists) to cases with names.

use crate::IoError;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
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

/// Name of a case by its file's name: without `.nii`, `.hdr`, `.img`, `.seg.nrrd`, `.nrrd`, `.nhdr`, `.mha` or `.mhd`
/// (plain or `.gz`, in any case of letters), and without nnU-Net's channel suffix `_0000`. `None` for other endings and
/// for names that are empty then.
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

/// The cases of files, folders and patterns.
///
/// A file counts as it is named. A folder counts with the scans that lie directly in it, hidden ones left out. What
/// does not exist and has `*`, `?` or `[` in its name is a pattern, as shells know them: `*` and `?` stay within a folder,
/// `**` stands for any number of folders. It counts with the scans and folders that it matches. The two halves of a
/// pair are one case. The cases are sorted by name.
///
/// # Errors
/// [`IoError::Input`] for a path that is not there, a file with another ending, a folder without scans, or a pattern
/// that matches none; [`IoError::DuplicateCase`] when two files give one name; [`IoError::Read`] when the system refuses.
pub fn expand_inputs(inputs: &[PathBuf]) -> Result<Vec<InputCase>, IoError> {
    let mut cases: BTreeMap<String, PathBuf> = BTreeMap::new();
    for input in inputs {
        for path in files_of(input)? {
            let wrong = |reason| IoError::Input {
                path: path.clone(),
                reason,
            };
            let name = case_name(&path)
                .ok_or_else(|| wrong("not a name of a scan (.nii.gz, .nii, .hdr, .img, .nrrd, .nhdr, .mha, .mhd)"))?;
            if !path.exists() {
                return Err(wrong("there is no such file or folder"));
            }
            match cases.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(path);
                }
                Entry::Occupied(mut entry) => match same_image(entry.get(), &path) {
                    Some(kept) => {
                        entry.insert(kept);
                    }
                    None => {
                        return Err(IoError::DuplicateCase {
                            case: entry.key().clone(),
                            first: entry.get().clone(),
                            second: path,
                        });
                    }
                },
            }
        }
    }
    Ok(cases.into_iter().map(|(name, path)| InputCase { name, path }).collect())
}

/// What is typed, with the lines of a list in the place of each `-`. Empty lines are left out, and so are the line ends
/// of any system.
///
/// # Errors
/// [`IoError::Input`] for a list without a line; [`IoError::Read`] when it cannot be read or is not UTF-8.
pub fn with_list(inputs: &[PathBuf], list: impl BufRead) -> Result<Vec<PathBuf>, IoError> {
    let dash = Path::new("-");
    if !inputs.iter().any(|input| input == dash) {
        return Ok(inputs.to_owned());
    }
    let lines: Result<Vec<String>, _> = list.lines().collect();
    let lines = lines.map_err(|source| IoError::Read {
        path: PathBuf::from("the list on standard input"),
        source,
    })?;
    let lines = lines.iter().map(|line| line.trim_end_matches('\r'));
    let listed: Vec<PathBuf> = lines.filter(|line| !line.is_empty()).map(PathBuf::from).collect();
    if listed.is_empty() {
        return Err(IoError::Input {
            path: dash.to_owned(),
            reason: "the list on standard input names no file",
        });
    }
    let (before, after) = inputs.split_at(inputs.iter().position(|input| input == dash).unwrap_or_default());
    let after = after.iter().filter(|input| *input != dash);
    Ok(before.iter().chain(&listed).chain(after).cloned().collect())
}

/// The files that one input stands for.
fn files_of(input: &Path) -> Result<Vec<PathBuf>, IoError> {
    let none = |reason| IoError::Input {
        path: input.to_owned(),
        reason,
    };
    if input.is_dir() {
        let files = scans(entries(input)?);
        if files.is_empty() {
            return Err(none(
                "the folder has no scans (.nii.gz, .nii, .hdr, .img, .nrrd, .nhdr, .mha, .mhd)",
            ));
        }
        return Ok(files);
    }
    let pattern = input.to_str().filter(|text| text.contains(['*', '?', '[']));
    let Some(pattern) = pattern.filter(|_| !input.exists()) else {
        return Ok(vec![input.to_owned()]);
    };
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let matches =
        glob::glob_with(pattern, options).map_err(|_| none("not a pattern: its * or [ ] are out of place"))?;
    let mut found = Vec::new();
    for path in matches {
        let path = path.map_err(|error| IoError::Read {
            path: error.path().to_owned(),
            source: error.into(),
        })?;
        if path.is_dir() {
            found.extend(entries(&path)?);
        } else {
            found.push(path);
        }
    }
    let files = scans(found);
    if files.is_empty() {
        return Err(none(
            "the pattern matches no scans (.nii.gz, .nii, .hdr, .img, .nrrd, .nhdr, .mha, .mhd)",
        ));
    }
    Ok(files)
}

/// What lies directly in a folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let failed = |source| IoError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

/// The scans among some paths, each once, sorted; of a pair the header. Hidden ones are left out.
fn scans(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let hidden = |path: &Path| path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| !hidden(path) && path.is_file() && case_name(path).is_some());
    paths.sort();
    paths.dedup();
    let half = |path: &Path, half: &str| {
        let (stem, ending) = split_name(path)?;
        (ending == half).then(|| path.with_file_name(stem))
    };
    let headers: BTreeSet<PathBuf> = paths.iter().filter_map(|path| half(path, ".hdr")).collect();
    paths.retain(|path| half(path, ".img").is_none_or(|stem| !headers.contains(&stem)));
    paths
}

/// Of two names of one image (the same, or the halves of a pair) the one to keep; `None` for two images.
fn same_image(first: &Path, second: &Path) -> Option<PathBuf> {
    if first == second {
        return Some(first.to_owned());
    }
    match scans(vec![first.to_owned(), second.to_owned()]).as_slice() {
        [header] => Some(header.clone()),
        _ => None,
    }
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

    #[test]
    fn patterns_mean_what_they_mean_in_a_shell() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let there = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, b"").expect("written");
        };
        for name in [
            "a/one.nii.gz",
            "a/two.nii",
            "a/.three.nii",
            "a/notes.txt",
            "b/four.hdr",
            "b/four.img",
            "b/deep/five.nii",
            "[x].nii",
        ] {
            there(name);
        }
        let found = |pattern: &str| -> Vec<String> {
            let cases = expand_inputs(&[dir.path().join(pattern)]).expect("cases");
            cases.into_iter().map(|case| case.name).collect()
        };
        assert_eq!(found("a/*"), ["one", "two"]);
        assert_eq!(found("a/t*"), ["two"]);
        assert_eq!(found("a/[!t]*.nii.gz"), ["one"]);
        assert_eq!(found("?/*.*"), ["four", "one", "two"]);
        assert_eq!(found("?"), ["four", "one", "two"]);
        assert_eq!(found("**/*.nii"), ["[x]", "five", "two"]);
        // What is there is no pattern.
        assert_eq!(found("[x].nii"), ["[x]"]);
        for (pattern, part) in [("c*", "matches no scans"), ("a/***", "not a pattern")] {
            let refused = expand_inputs(&[dir.path().join(pattern)]).expect_err("refused");
            assert!(refused.to_string().contains(part), "{refused}");
        }
        // Both halves of a pair, as a shell would name them, are one case.
        let pair = ["b/four.img", "b/four.hdr"].map(|name| dir.path().join(name));
        let cases = expand_inputs(&pair).expect("one case");
        assert_eq!((cases.len(), &cases[0].path), (1, &pair[1]));
    }

    #[test]
    fn a_list_takes_the_place_of_its_dash() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let listed = with_list(&paths(&["a", "-", "d"]), &b"b b.nii\r\n\nc\n"[..]).expect("listed");
        assert_eq!(listed, paths(&["a", "b b.nii", "c", "d"]));
        // Without a dash nothing is read.
        assert_eq!(
            with_list(&paths(&["a"]), &b"b"[..]).expect("as they are"),
            paths(&["a"])
        );
        assert!(with_list(&paths(&["-"]), &b"\n"[..]).is_err());
        assert!(with_list(&paths(&["-"]), &b"\xff\n"[..]).is_err());
    }
}
