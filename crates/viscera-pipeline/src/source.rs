//! What tells whether a scan's file has changed since it was segmented.

use crate::PipelineError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A file by its place, size and time of change. Its content is not hashed: that would mean to read all scans of a batch
/// only to find that there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Absolute path; links are not followed.
    pub path: PathBuf,
    /// Bytes.
    pub bytes: u64,
    /// When it was last changed: seconds since 1970 (UTC) with nine decimals; `None` where the system does not say.
    pub modified: Option<String>,
}

impl SourceFile {
    /// The files of a scan: itself, or for one half of a `.hdr`/`.img` pair both.
    ///
    /// # Errors
    /// [`PipelineError::Io`] when a half is missing; [`PipelineError::File`] when the system refuses.
    pub fn of(scan: &Path) -> Result<Vec<Self>, PipelineError> {
        viscera_io::image_files(scan)?
            .iter()
            .map(|file| Self::one(file))
            .collect()
    }

    fn one(path: &Path) -> Result<Self, PipelineError> {
        let failed = |source| PipelineError::File {
            path: path.to_owned(),
            source,
        };
        let facts = std::fs::metadata(path).map_err(failed)?;
        let modified = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            path: std::path::absolute(path).map_err(failed)?,
            bytes: facts.len(),
            modified: modified.map(|since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos())),
        })
    }
}
