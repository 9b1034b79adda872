//! What can be typed.

mod bench;
mod evaluate;
mod model;
mod segment;
#[cfg(feature = "train")]
mod train;
mod values;

pub(crate) use bench::{BenchCommand, BenchNetArgs, BenchRunArgs, BenchSegmentArgs, BenchSettings};
pub(crate) use evaluate::{BothEmpty, CompareArgs, EvaluateArgs, FlareYear};
pub(crate) use model::{CheckpointKind, ModelCommand, ModelExportArgs, ModelImportArgs, Precision, RunPrecision};
pub(crate) use segment::{ProgressMode, SegmentArgs};
#[cfg(feature = "train")]
pub(crate) use train::{DataCommand, FoldChoice, PlanArgs, PseudoLabelArgs, TrainArgs};

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use values::{shape, spacing};

/// Segments abdominal CT: organ masks, volumes and a report. For research, not for diagnosis.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 all well, 1 finished with failed cases, 2 usage or configuration, \
                  3 input that cannot be used, 4 device or memory, 130 interrupted."
)]
pub(crate) struct Args {
    /// Print results as JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Compute with so many threads [default: all cores].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Segment scans: writes CASE.nii.gz (label map), CASE.json (manifest) and, if asked for, masks, surfaces, pictures.
    Segment(SegmentArgs),
    /// Score predictions against references; classes that the reference does not annotate are left out.
    Evaluate(EvaluateArgs),
    /// Compare results of `evaluate`: test two against each other, rank many.
    Compare(CompareArgs),
    /// Make synthetic abdominal CT with exact masks, as an nnU-Net data set.
    Phantom(PhantomArgs),
    /// Say what a file holds: geometry, histogram of HU, warnings.
    Inspect(InspectArgs),
    /// List or show built-in recipes.
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// List, show, import, run and export models.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Look at a data set before training on it: faults, fingerprint, splits, annotated classes.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Data(DataCommand),
    /// Plan a training as nnU-Net does: spacing, patch, batch and network from a data set; writes a recipe.
    #[cfg(feature = "train")]
    Plan(PlanArgs),
    /// Train the networks of a recipe on a data set; writes checkpoints, a log, and model.safetensors.
    #[cfg(feature = "train")]
    Train(TrainArgs),
    /// Label the unlabelled and partly labelled cases of a data set with a model; what people drew stays.
    #[cfg(feature = "train")]
    PseudoLabel(PseudoLabelArgs),
    /// Measure time, processor, memory and GPU memory of a command, whichever it is, sampled as FLARE does.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Make a phantom, segment it with the default model, score the result, leave the pictures.
    Demo(DemoArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PhantomArgs {
    /// Folder of the data set; cases that are there are not made again.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Several centres, cases labelled in full, in part and not at all, and held-out ones: a name (ablation, lesions,
    /// mini), or a file.
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["cases", "spacing", "shape", "config"])]
    pub(crate) cohort: Option<String>,

    /// Scans of real anatomies instead: a TOML file that names their label maps. They join what the folder holds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cohort", "cases", "spacing", "shape", "config"])]
    pub(crate) anatomies: Option<PathBuf>,

    /// Number of cases.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) cases: usize,

    /// Seed; the same seed gives the same patients [default: 1, or the cohort's].
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,

    /// Spacing in mm as Z,Y,X [default: drawn at random].
    #[arg(long, value_name = "Z,Y,X", value_parser = spacing)]
    pub(crate) spacing: Option<[f64; 3]>,

    /// Voxels as Z,Y,X [default: drawn at random].
    #[arg(long, value_name = "Z,Y,X", value_parser = shape)]
    pub(crate) shape: Option<[usize; 3]>,

    /// TOML file that says what varies, such as `tumours = 0.5` (share of patients) or `phase = "arterial"`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// NIfTI file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Of a file with several volumes, take volume K, counted from 0.
    #[arg(long, value_name = "K")]
    pub(crate) volume: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecipeCommand {
    /// List the built-in recipes.
    List,
    /// Show a recipe: a built-in one by name, or a file.
    Show {
        /// Name or path.
        #[arg(value_name = "NAME|PATH")]
        recipe: String,
    },
    /// Check recipe files: keys, values, networks, and whether they can segment scans.
    Check {
        /// Files, or names of built-in recipes.
        #[arg(required = true, value_name = "NAME|PATH")]
        recipes: Vec<String>,
    },
    /// Say in words what a recipe does, as Markdown.
    Page {
        /// Name or path.
        #[arg(value_name = "NAME|PATH")]
        recipe: String,
    },
    /// Print the JSON schema of recipes, for editors.
    Schema,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Folder for everything.
    #[arg(short, long, default_value = "viscera-demo", value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Seed of the phantom.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
    }
}
