//! What can go wrong between a scan and its masks.

use std::path::PathBuf;
use viscera_image::ImageError;
use viscera_io::IoError;
use viscera_net::NetError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A file that cannot be read.
    #[error("cannot read {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
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
    /// There is no built-in recipe of that name.
    #[error("there is no built-in recipe \"{name}\"; there are {}", known.join(", "))]
    UnknownRecipe {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// There is no model of that name.
    #[error("there is no model \"{name}\"; there are {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A file that is no model, or not one of this version.
    #[error("model {model}: {reason}")]
    Model {
        /// Its name.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// Weights that do not fit the recipe's networks.
    #[error("model {model}: its weights cannot be used")]
    Weights {
        /// The model's name.
        model: String,
        /// What is wrong with them.
        source: NetError,
    },
    /// A class that the model does not have.
    #[error("the model has no class \"{name}\"; it has {}", known.join(", "))]
    UnknownClass {
        /// The class asked for.
        name: String,
        /// The classes there are.
        known: Vec<String>,
    },
    /// Intensities that are not Hounsfield units.
    #[error("the intensities are not Hounsfield units: {reason}")]
    NotHounsfield {
        /// How one can tell.
        reason: String,
    },
    /// A network that could not be run.
    #[error("stage \"{stage}\" failed")]
    Network {
        /// The stage's id.
        stage: String,
        /// Why.
        source: NetError,
    },
    /// An output would replace the scan it was made from.
    #[error("the output would replace the scan itself: {path}", path = path.display())]
    WouldOverwrite {
        /// The file.
        path: PathBuf,
    },
    /// A setting of a recipe that can be stored but not yet carried out on a scan.
    #[error("stage \"{stage}\" has {setting}, which this version cannot carry out yet")]
    Unsupported {
        /// The stage's id.
        stage: String,
        /// The key, with its value where that is to blame.
        setting: &'static str,
    },
    /// A scan whose spacing makes far more voxels of the network's grid than the scan has.
    #[error(
        "voxels of {} mm (z, y, x) would make {} voxels for stage \"{stage}\": no scan is so coarse",
        spacing_mm.map(|s| s.to_string()).join(" × "),
        shape.map(|n| n.to_string()).join("×")
    )]
    GridTooFine {
        /// The stage's id.
        stage: String,
        /// Voxels of the network's grid.
        shape: [usize; 3],
        /// The scan's spacing.
        spacing_mm: [f64; 3],
    },
    /// A setting of a recipe that networks cannot be trained with yet.
    #[error("stage \"{stage}\" has {setting}, which this version cannot train with yet")]
    Untrainable {
        /// The stage's id.
        stage: String,
        /// The key, with its value where that is to blame.
        setting: &'static str,
    },
    /// A file that should say what phantoms vary, or describe a cohort of them.
    #[error("cannot use {path}", path = path.display())]
    PhantomConfig {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        source: toml::de::Error,
    },
    /// A cohort that does not say something sensible.
    #[error("cohort, centre \"{centre}\": {reason}")]
    Cohort {
        /// The centre's name.
        centre: String,
        /// What is wrong.
        reason: String,
    },
    /// An anatomy that cannot be rendered as its file says.
    #[error("anatomy \"{anatomy}\": {reason}")]
    Anatomy {
        /// Its name.
        anatomy: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no built-in cohort of that name.
    #[error("there is no cohort \"{name}\", neither built in ({}) nor as a file", known.join(", "))]
    UnknownCohort {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A folder that a cohort should go to holds other phantoms, or something else.
    #[error("the folder holds another cohort or data set; give another folder, or empty it: {path}", path = path.display())]
    OtherCohort {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that phantoms should go to holds another data set.
    #[error("the folder holds a data set with other classes: {path}", path = path.display())]
    OtherDataset {
        /// The folder.
        path: PathBuf,
    },
    /// A scan that needs more memory than is allowed.
    #[error("needs about {} of memory, and {} are allowed: {path}", mib(*needed), mib(*limit), path = path.display())]
    NeedsMemory {
        /// The scan's file.
        path: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        limit: u64,
    },
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Threads {
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A grid that cannot be, or too little memory for one.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Bytes for people.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
