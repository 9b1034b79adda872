//! Finding a model by name or path.

use super::Model;
use crate::PipelineError;
use std::path::{Path, PathBuf};

/// Where models are looked for: inside the program (`default`), then in folders.
#[derive(Debug, Clone, Default)]
pub struct ModelStore {
    folders: Vec<PathBuf>,
}

impl ModelStore {
    /// A store that looks into these folders, first to last, for `NAME.safetensors`. Folders need not be there.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Names of all models, each once: `default`, then those of the folders in alphabetical order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["default".to_owned()];
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            let mut found: Vec<String> = entries
                .filter_map(|entry| entry.ok().map(|e| e.path()))
                .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
                .filter_map(|path| path.file_stem().map(|s| s.to_string_lossy().into_owned()))
                .collect();
            found.sort();
            found.retain(|name| !names.contains(name));
            names.append(&mut found);
        }
        names
    }

    /// Loads a model: a path when `name` has a separator or ends in `.safetensors`, else a name.
    ///
    /// A file in a folder goes before the embedded one of the same name.
    ///
    /// # Errors
    /// [`PipelineError::UnknownModel`] with the names there are; as [`Model::load`].
    pub fn load(&self, name: &str) -> Result<Model, PipelineError> {
        let path = Path::new(name);
        if path.components().count() > 1 || path.extension().is_some_and(|e| e == "safetensors") {
            return Model::load(path);
        }
        let file = self
            .folders
            .iter()
            .map(|f| f.join(format!("{name}.safetensors")))
            .find(|p| p.is_file());
        match file {
            Some(path) => Model::load(&path),
            None if name == "default" => Model::embedded(),
            None => Err(PipelineError::UnknownModel {
                name: name.to_owned(),
                known: self.names(),
            }),
        }
    }
}
