//! Every environment variable that the program reads.

use std::path::PathBuf;

/// Folders to look for models in, separated as in `PATH`.
pub(crate) const VISCERA_MODELS: &str = "VISCERA_MODELS";

/// Where models are looked for: `VISCERA_MODELS`, then `models` beside the program.
pub(crate) fn model_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os(VISCERA_MODELS)
        .map(|paths| std::env::split_paths(&paths).collect())
        .unwrap_or_default();
    if let Ok(program) = std::env::current_exe()
        && let Some(folder) = program.parent()
    {
        folders.push(folder.join("models"));
    }
    folders
}
