//! What can be typed after `viscera model`.

use super::values::{extent, triple};
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List the models: the embedded one, then those in VISCERA_MODELS and in the folder `models` beside the program.
    List,
    /// Show a model: networks, classes, fingerprints, model card; or draw a network.
    Show {
        /// Name or path of a model; with --dot also the name of a network from `viscera model count`.
        #[arg(default_value = "default", value_name = "NAME|PATH")]
        model: String,
        /// Draw its network for Graphviz instead: `viscera model show NAME --dot | dot -Tsvg`.
        #[arg(long)]
        dot: bool,
        /// With --dot: the stage, where there are several.
        #[arg(long, value_name = "ID", requires = "dot")]
        stage: Option<String>,
        /// Voxels of an input: what the networks take in work and memory for it [default: the size that they are made for].
        #[arg(long, value_name = "Z,Y,X", value_parser = triple::<usize>, conflicts_with = "dot")]
        input: Option<[usize; 3]>,
        /// How values are stored while a network runs, for the memory that it takes.
        #[arg(long, default_value = "auto", value_name = "KIND", conflicts_with = "dot")]
        precision: RunPrecision,
    },
    /// Write a model with another model card, or its networks under another recipe. No weight changes.
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Edit {
        /// Name or path.
        #[arg(value_name = "NAME|PATH")]
        model: String,
        /// The model card, Markdown.
        #[arg(long, value_name = "FILE", group = "change")]
        card: Option<PathBuf>,
        /// A recipe (name or file) with the same networks and classes; its clean-up rules, windows and regions may differ.
        #[arg(long, value_name = "RECIPE", group = "change")]
        recipe: Option<String>,
        /// The model file to write; the model's own is fine.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a model of another tool's network: an nnU-Net v2 result folder, ONNX, or weights with a recipe or graph.
    Import(ModelImportArgs),
    /// Make a model with fresh weights.
    Init {
        /// Recipe: a name from `viscera recipe list`, or a file; or a network from `viscera model count`.
        #[arg(value_name = "RECIPE|NETWORK")]
        recipe: String,
        /// Seed; the same seed gives the same weights.
        #[arg(long, default_value_t = 1, value_name = "S")]
        seed: u64,
        /// The model file to write.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
        /// How weights are stored.
        #[arg(long, default_value = "f32", value_name = "KIND")]
        precision: Precision,
    },
    /// Run the bare network of a model on an array: no resampling, no normalisation.
    Run {
        /// Name or path.
        #[arg(value_name = "NAME|PATH")]
        model: String,
        /// Array of 32-bit floats, NumPy's .npy: (c, z, y, x) or (n, c, z, y, x).
        #[arg(long, value_name = "X.npy")]
        input: PathBuf,
        /// Logits of the finest head, with as many axes as the input; of several folds, the mean.
        #[arg(long, value_name = "Y.npy")]
        output: PathBuf,
        /// Write all heads, finest first: Y_0.npy, Y_1.npy, …
        #[arg(long)]
        all_heads: bool,
        /// The stage, where there are several.
        #[arg(long, value_name = "ID")]
        stage: Option<String>,
        /// How values are stored while the network runs.
        #[arg(long, default_value = "auto", value_name = "KIND")]
        precision: RunPrecision,
    },
    /// Check that a model file is what was written: its hash, its tensors, that all weights are finite.
    Verify {
        /// Name or path.
        #[arg(default_value = "default", value_name = "NAME|PATH")]
        model: String,
    },
    /// Count parameters and multiply-accumulates; without a name, of all networks of the five FLARE systems.
    Count {
        /// Name of a network, or name or path of a model.
        #[arg(value_name = "NAME|PATH")]
        name: Option<String>,
        /// Voxels of the input [default: those it is meant for].
        #[arg(long, value_name = "Z,Y,X", value_parser = extent, requires = "name")]
        input: Option<[usize; 3]>,
    },
    /// Write a network for other tools.
    Export(ModelExportArgs),
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Precision {
    /// Four bytes, exact.
    F32,
    /// Two bytes, rounded.
    Bf16,
}

/// How values are stored while a network runs. Arithmetic is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RunPrecision {
    /// Two bytes where the processor multiplies in bf16 (AMX), four elsewhere.
    Auto,
    /// Four bytes.
    F32,
    /// Two bytes: half the memory.
    Bf16,
}

/// Which checkpoint of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckpointKind {
    /// The last.
    Final,
    /// The best in validation.
    Best,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelImportArgs {
    /// nnU-Net v2 result folder (with plans.json, or the data set's folder above it), .onnx, PyTorch checkpoint (.pth), or
    /// .safetensors.
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,

    /// The model file to write.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// nnU-Net: folds to take, joined by commas [default: all numbered ones, else the one of all cases].
    #[arg(long, value_name = "FOLDS", value_delimiter = ',')]
    pub(crate) folds: Option<Vec<String>>,

    /// nnU-Net: which checkpoint of each fold.
    #[arg(long, default_value = "final", value_name = "WHICH")]
    pub(crate) checkpoint: CheckpointKind,

    /// nnU-Net: the configuration [default: the folder's; 3d_fullres where there are several].
    #[arg(long, value_name = "NAME")]
    pub(crate) configuration: Option<String>,

    /// Weights: recipe with one stage that says what they are for, by name or path.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<String>,

    /// Weights: their graph, JSON; .safetensors files that viscera exported have it in them.
    #[arg(long, value_name = "FILE", conflicts_with = "recipe")]
    pub(crate) graph: Option<PathBuf>,

    /// Without a recipe: an input that suits the network.
    #[arg(long, default_value = "64,64,64", value_name = "Z,Y,X", value_parser = extent)]
    pub(crate) input: [usize; 3],

    /// How weights are stored.
    #[arg(long, default_value = "f32", value_name = "KIND")]
    pub(crate) precision: Precision,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("form").required(true))]
pub(crate) struct ModelExportArgs {
    /// Name or path.
    #[arg(value_name = "NAME|PATH")]
    pub(crate) model: String,

    /// As ONNX.
    #[arg(long, group = "form")]
    pub(crate) onnx: bool,

    /// As safetensors: weights under PyTorch's names, with the graph.
    #[arg(long, group = "form")]
    pub(crate) safetensors: bool,

    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// The stage, where there are several.
    #[arg(long, value_name = "ID")]
    pub(crate) stage: Option<String>,

    /// The fold, where there are several.
    #[arg(long, value_name = "FOLD")]
    pub(crate) fold: Option<String>,

    /// ONNX: fix the voxels of the input; open without.
    #[arg(long, value_name = "Z,Y,X", value_parser = extent, conflicts_with = "safetensors")]
    pub(crate) input: Option<[usize; 3]>,

    /// Safetensors: how weights are stored.
    #[arg(long, default_value = "f32", value_name = "KIND", conflicts_with = "onnx")]
    pub(crate) precision: Precision,
}
