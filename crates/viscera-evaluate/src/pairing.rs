//! Which prediction belongs to which reference.

use crate::EvaluateError;
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
            case: case_name(reference).unwrap_or_else(|| "reference".to_owned()),
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
    let mut pairs = Vec::new();
    let mut missing = Vec::new();
    for InputCase { name, path } in references {
        // Both lists are sorted by name.
        match predictions.binary_search_by(|p| p.name.cmp(&name)) {
            Ok(at) => pairs.push(Pair {
                case: name,
                reference: path,
                prediction: predictions[at].path.clone(),
            }),
            Err(_) => missing.push(name),
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
        touch(&truth, &["b.nii", "a.nii.gz", "<img src=x>.nii.gz", "only.nii.gz"]);
        touch(
            &found,
            &["a_0000.nii.gz", "b.nii.gz", "<img src=x>.nii.gz", "other.nii.gz"],
        );
        let joined = pairs(&truth, &found).unwrap();
        let cases: Vec<_> = joined.pairs.iter().map(|p| p.case.as_str()).collect();
        assert_eq!(cases, ["<img src=x>", "a", "b"]);
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
