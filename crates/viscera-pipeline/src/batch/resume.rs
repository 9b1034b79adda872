//! Which scans are finished.

use crate::{Model, ModelFacts, Organ, Settings, SourceFile};
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use viscera_io::InputCase;

/// Most bytes of a manifest.
const MOST_BYTES: u64 = 64 << 20;

/// The manifest of a finished case, as it was read.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// Name of the case.
    pub case: String,
    /// Its measures.
    pub organs: Vec<Organ>,
    /// All of it.
    pub content: Value,
}

/// What of a manifest tells whether it is about the same work.
#[derive(Deserialize)]
struct Facts {
    case: String,
    viscera: String,
    source: Vec<SourceFile>,
    settings: Value,
    outputs: Vec<String>,
    model: ModelFacts,
    organs: Vec<Organ>,
}

/// The manifest of a case, if that is finished: the manifest is whole, tells of the same files (by place, size and time
/// of change), settings, model (by the hashes of weights and recipe) and version of this program, and all outputs that it
/// names are there.
pub(super) fn finished(
    out: &Path,
    case: &InputCase,
    source: &[SourceFile],
    settings: &Settings,
    model: &Model,
) -> Option<StoredManifest> {
    let file = File::open(out.join(format!("{}.json", case.name))).ok()?;
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).ok()?;
    let content: Value = serde_json::from_slice(&text).ok()?;
    let facts = Facts::deserialize(&content).ok()?;
    let model = ModelFacts::new(model).ok()?;
    // Through text, as what stands in the file: numbers then read the same.
    let settings: Value = serde_json::from_str(&serde_json::to_string(settings).ok()?).ok()?;
    let same = facts.case == case.name
        && facts.viscera == env!("CARGO_PKG_VERSION")
        && facts.source == source
        && source.iter().all(|file| file.modified.is_some())
        && facts.settings == settings
        && model.weights_sha256.is_some()
        && facts.model.weights_sha256 == model.weights_sha256
        && facts.model.recipe_sha256 == model.recipe_sha256
        && facts.outputs.iter().all(|name| out.join(name).exists());
    same.then_some(StoredManifest {
        case: facts.case,
        organs: facts.organs,
        content,
    })
}
