//! The two files of a `.hdr`/`.img` pair.

use crate::{IoError, VolumeFault};
use std::path::{Path, PathBuf};

/// The other file of a `.hdr`/`.img` pair: `stem.other`, compressed or not. `None` for a name with neither ending.
fn other_half(path: &Path, this: &str, other: &str) -> Option<Result<PathBuf, IoError>> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let stem = name.get(..plain.strip_suffix(this)?.len())?;
    let ending = name.get(stem.len()..plain.len())?;
    let other = if ending.chars().any(|c| c.is_ascii_uppercase()) {
        other.to_ascii_uppercase()
    } else {
        other.to_owned()
    };
    let same = format!("{stem}{other}{}", name.get(plain.len()..)?);
    let candidates = [same.clone(), format!("{stem}{other}"), format!("{stem}{other}.gz")];
    let found = candidates.iter().map(|n| path.with_file_name(n)).find(|p| p.is_file());
    Some(found.ok_or_else(|| IoError::Volume {
        path: path.to_owned(),
        offset: None,
        reason: VolumeFault::MissingHalf { expected: same },
    }))
}

/// The file with the header: the path itself, or for an `.img` its `.hdr`.
pub(crate) fn header_path(path: &Path) -> Result<PathBuf, IoError> {
    other_half(path, ".img", ".hdr").unwrap_or_else(|| Ok(path.to_owned()))
}

/// The file with the voxels of a header that says they lie in another file.
pub(super) fn data_path(header_path: &Path) -> Result<PathBuf, IoError> {
    other_half(header_path, ".hdr", ".img").unwrap_or_else(|| {
        Err(IoError::Volume {
            path: header_path.to_owned(),
            offset: None,
            reason: VolumeFault::MissingHalf {
                expected: "an .img file; a header alone must be named .hdr".to_owned(),
            },
        })
    })
}
