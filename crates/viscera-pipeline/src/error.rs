//! What can go wrong between a scan and its masks.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A file that cannot be read or written.
    #[error("{path}: {action} failed")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: "reading", "writing".
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A recipe that does not say something sensible.
    #[error("recipe {recipe}{}: {reason}", line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Recipe {
        /// Name or path of the recipe.
        recipe: String,
        /// Line of its text, where one is to blame; the first is 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// There is no recipe of that name.
    #[error("there is no built-in recipe \"{name}\"; there are {}", known.join(", "))]
    UnknownRecipe {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
}
