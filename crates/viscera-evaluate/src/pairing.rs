//! Which prediction belongs to which reference.

use crate::EvaluateError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use viscera_io::{InputCase, case_name, expand_inputs};

/// A reference and the prediction of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) case: String,
    pub(crate) reference: PathBuf,
    pub(crate) prediction: PathBuf,
}

/// The pairs, sorted by case, and the references without a prediction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pairs {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) missing: Vec<String>,
}

/// Joins two files, whatever their names, or the cases of two folders by name.
///
/// # Errors
/// [`EvaluateError::NothingToCompare`] when no name is in both folders, [`EvaluateError::Io`] for folders that cannot be
/// read.
pub(crate) fn pairs(reference: &Path, prediction: &Path) -> Result<Pairs, EvaluateError> {
    if !reference.is_dir() {
        let pair = Pair {
            case: case_name(reference).map_or_else(
                || "reference".to_owned(),
                |name| {
                    label_name(&InputCase {
                        name,
                        path: reference.to_owned(),
                    })
                },
            ),
            reference: reference.to_owned(),
            prediction: prediction.to_owned(),
        };
        return Ok(Pairs {
            pairs: vec![pair],
            missing: Vec::new(),
        });
    }
    let references = expand_inputs(&[reference.to_owned()])?;
    let predictions = expand_inputs(&[prediction.to_owned()])?;
    let whole: BTreeMap<String, &InputCase> = predictions.iter().map(|p| (label_name(p), p)).collect();
    let mut pairs = Vec::new();
    let mut missing = Vec::new();
    for input in references {
        let case = label_name(&input);
        // Without nnU-Net's channel, where only one of the two has it; that list is sorted by name.
        let stripped = || {
            predictions
                .binary_search_by(|p| p.name.cmp(&input.name))
                .ok()
                .map(|at| &predictions[at])
        };
        match whole.get(&case).copied().or_else(stripped) {
            Some(found) => pairs.push(Pair {
                case,
                reference: input.path,
                prediction: found.path.clone(),
            }),
            None => missing.push(case),
        }
    }
    if pairs.is_empty() {
        return Err(EvaluateError::NothingToCompare {
            reference: reference.to_owned(),
            prediction: prediction.to_owned(),
        });
    }
    Ok(Pairs { pairs, missing })
}

/// Name of a label map's case. Label maps have no channel, so that a trailing `_0000` belongs to the name, as in
/// `labelsTr/FLARE_0000.nii.gz` of `imagesTr/FLARE_0000_0000.nii.gz`.
fn label_name(input: &InputCase) -> String {
    let file = input
        .path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match file.strip_prefix(&input.name) {
        Some(rest) if rest.starts_with("_0000.") => format!("{}_0000", input.name),
        _ => input.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(folder: &Path, names: &[&str]) {
        std::fs::create_dir_all(folder).unwrap();
        for name in names {
            std::fs::write(folder.join(name), b"").unwrap();
        }
    }

    #[test]
    fn folders_are_joined_by_case_not_by_file_name() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, found) = (dir.path().join("truth"), dir.path().join("found"));
        touch(
            &truth,
            &[
                "b.nii",
                "a.nii.gz",
                "<img src=x>.nii.gz",
                "only.nii.gz",
                "p_0000.nii.gz",
            ],
        );
        touch(
            &found,
            &[
                "a_0000.nii.gz",
                "b.nii.gz",
                "<img src=x>.nii.gz",
                "other.nii.gz",
                "p_0000.nii.gz",
            ],
        );
        let joined = pairs(&truth, &found).unwrap();
        let cases: Vec<_> = joined.pairs.iter().map(|p| p.case.as_str()).collect();
        assert_eq!(cases, ["<img src=x>", "a", "b", "p_0000"]);
        assert_eq!(joined.pairs[1].prediction, found.join("a_0000.nii.gz"));
        assert_eq!(joined.missing, ["only"]);
    }

    #[test]
    fn folders_without_a_common_case_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, found) = (dir.path().join("truth"), dir.path().join("found"));
        touch(&truth, &["a.nii"]);
        touch(&found, &["b.nii"]);
        assert!(matches!(
            pairs(&truth, &found),
            Err(EvaluateError::NothingToCompare { .. })
        ));
    }

    #[test]
    fn two_files_need_no_common_name() {
        let joined = pairs(Path::new("x/truth.nii.gz"), Path::new("y/found.nii")).unwrap();
        assert_eq!(joined.pairs[0].case, "truth");
        assert_eq!(joined.pairs[0].prediction, Path::new("y/found.nii"));
    }
}
