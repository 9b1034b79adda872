//! Whether a model file is what was written.

use super::Model;
use super::networks::fold_prefix;
use crate::PipelineError;
use crate::hash::sha256_hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use viscera_net::WeightFile;

/// Key of the file's hash.
pub(super) const KEY: &str = "viscera.sha256";
/// What stands for the hash while it is computed.
pub(super) const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What was found in order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Whether the file holds a hash of itself, which then is right. Models of older versions hold none.
    pub sealed: bool,
    /// Values of all networks; all are finite.
    pub values: usize,
}

/// Where the hash stands in a file. Inside other texts the quotes would have backslashes before them.
fn place(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let header = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let key = format!("\"{KEY}\":\"");
    let header = bytes.get(8..header.checked_add(8)?)?;
    let start = 8 + header.windows(key.len()).position(|w| w == key.as_bytes())? + key.len();
    Some(start..start + BLANK.len())
}

/// The hash of a file's bytes with zeros in this place.
fn hash(bytes: &[u8], place: &std::ops::Range<usize>) -> Option<String> {
    let mut hasher = Sha256::new();
    hasher.update(bytes.get(..place.start)?);
    hasher.update(BLANK);
    hasher.update(bytes.get(place.end..)?);
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes the hash over its zeros.
pub(super) fn seal(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let place = place(&bytes)?;
    let found = hash(&bytes, &place)?;
    bytes.get_mut(place)?.copy_from_slice(found.as_bytes());
    Some(bytes)
}

impl Model {
    /// Checks the file that this model was read from: its hash, that it holds nothing else, and that all values are
    /// finite.
    ///
    /// # Errors
    /// [`PipelineError::Model`] saying what is wrong.
    pub fn verify(&self) -> Result<Verified, PipelineError> {
        let wrong = |reason: String| PipelineError::Model {
            model: self.name.clone(),
            reason,
        };
        let source = self.source.as_ref();
        let source = source.ok_or_else(|| wrong("was not read from a file".to_owned()))?;
        let bytes: &[u8] = source;
        let place = place(bytes);
        if let Some(place) = &place {
            let stored = bytes.get(place.clone()).unwrap_or_default();
            if hash(bytes, place).is_none_or(|found| found.as_bytes() != stored) {
                let reason = "the file is not what was written: its hash differs; copy or import it again";
                return Err(wrong(reason.to_owned()));
            }
        }
        let mut known = BTreeSet::new();
        let mut values = 0;
        for network in self.networks() {
            for (prefix, weights) in fold_prefix(network.stage).zip(network.folds) {
                for (param, array) in network.graph.params.iter().zip(&weights.values) {
                    let name = format!("{prefix}{}", param.name);
                    if array.iter().any(|v| !v.is_finite()) {
                        return Err(wrong(format!("parameter {name} holds values that are not finite")));
                    }
                    values += array.len();
                    known.insert(name);
                }
            }
        }
        let file = WeightFile::new(Arc::new(source.clone())).map_err(|e| wrong(e.to_string()))?;
        if let Some(name) = file.names().into_iter().find(|name| !known.contains(name)) {
            return Err(wrong(format!("holds a tensor \"{name}\" that no network uses")));
        }
        Ok(Verified {
            sha256: self.hash().map_or_else(|| sha256_hex(bytes), str::to_owned),
            sealed: place.is_some(),
            values,
        })
    }
}
