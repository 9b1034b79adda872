//! What can be typed.

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use viscera_metrics::Metric;

/// Segments abdominal CT: organ masks, volumes and a report. For research, not for diagnosis.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 all well, 1 finished with failed cases, 2 usage or configuration, \
                  3 input that cannot be used, 4 device or memory."
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
    /// Segment scans: writes CASE.nii.gz (label map), CASE.json (manifest) and, if asked for, CASE.png.
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
    /// Train the networks of a recipe on an nnU-Net data set; writes checkpoints, a log, and model.safetensors.
    #[cfg(feature = "train")]
    Train(TrainArgs),
    /// Measure time, processor, memory and GPU memory of a command, whichever it is, sampled as FLARE does.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Make a phantom, segment it with the default model, score the result, leave the pictures.
    Demo(DemoArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SegmentArgs {
    /// NIfTI files, or folders of them (nnU-Net's _0000 is stripped from names).
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,

    /// Folder for the results; older results of the same names are replaced.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Model: a name from `viscera model list`, or a file.
    #[arg(long, default_value = "default", value_name = "NAME|PATH")]
    pub(crate) model: String,

    /// Write these classes only, joined by commas: liver,spleen.
    #[arg(long, value_name = "CLASSES", value_delimiter = ',')]
    pub(crate) roi_subset: Option<Vec<String>>,

    /// Print volume and mean HU per organ, and write them to statistics.csv.
    #[arg(long)]
    pub(crate) statistics: bool,

    /// Draw a picture per scan.
    #[arg(long)]
    pub(crate) preview: bool,

    /// Of files with several volumes, take volume K, counted from 0.
    #[arg(long, value_name = "K")]
    pub(crate) volume: Option<usize>,

    /// Segment scans whose intensities are plainly not Hounsfield units, with a warning.
    #[arg(long)]
    pub(crate) allow_non_hu: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EvaluateArgs {
    /// Label map, or folder of label maps, that is right.
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: PathBuf,

    /// Label map, or folder of label maps, to score.
    #[arg(value_name = "PREDICTION")]
    pub(crate) prediction: PathBuf,

    /// Classes that the reference annotates, by name or id, joined by commas. Without it: annotations.json or
    /// dataset.json beside or above the reference, else the classes that occur in it.
    #[arg(long, value_name = "CLASSES", value_delimiter = ',')]
    pub(crate) classes: Option<Vec<String>>,

    /// Folder for summary.json (in nnU-Net's form), metrics.csv and report.html; older ones are replaced.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Score by the rules of a FLARE challenge as well, quirks included.
    #[arg(long, value_name = "YEAR")]
    pub(crate) flare: Option<FlareYear>,

    /// With --flare: keep the last slice of aorta, vena cava and oesophagus, which the official scripts leave out.
    #[arg(long, requires = "flare")]
    pub(crate) inclusive: bool,

    /// Leave out surface Dice and distances, which take most of the time.
    #[arg(long)]
    pub(crate) no_surface: bool,

    /// Tolerance of the surface Dice in mm: one for all, or by class as liver=5,spleen=3 [default: FLARE22's per organ,
    /// 2 for others].
    #[arg(long, value_name = "MM|NAME=MM,...", value_delimiter = ',', value_parser = tolerance)]
    pub(crate) tolerance: Vec<(Option<String>, f64)>,

    /// What a class counts that is empty in both reference and prediction.
    #[arg(long, value_name = "RULE", default_value = "skip")]
    pub(crate) both_empty: BothEmpty,

    /// Bring predictions that lie on another grid to the reference's, by nearest neighbour.
    #[arg(long)]
    pub(crate) resample_prediction: bool,

    /// Group the cases by this column of the case table; may be given several times.
    #[arg(long, value_name = "COLUMN", requires = "cases")]
    pub(crate) by: Vec<String>,

    /// Table of cases (CSV with a column "case") for --by.
    #[arg(long, value_name = "TABLE.csv", requires = "by")]
    pub(crate) cases: Option<PathBuf>,

    /// The class whose connected components are lesions, for lesion-wise detection [default: tumour, where annotated].
    #[arg(long, value_name = "CLASS")]
    pub(crate) lesions: Option<String>,

    /// Probability of the predicted class per voxel, for calibration: maps joined by name, 0 to 255 in whole numbers or
    /// 0 to 1 in fractions.
    #[arg(long, value_name = "DIR")]
    pub(crate) confidence: Option<PathBuf>,

    /// CTs for the report's pictures, joined by name (nnU-Net's _0000 is stripped) [default: imagesTr beside labelsTr].
    #[arg(long, value_name = "DIR", requires = "out")]
    pub(crate) images: Option<PathBuf>,
}

/// A FLARE challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FlareYear {
    /// Liver, kidneys, spleen, pancreas at 1 mm.
    #[value(name = "21")]
    Flare21,
    /// 13 organs.
    #[value(name = "22")]
    Flare22,
    /// 13 organs and the lesion.
    #[value(name = "23")]
    Flare23,
}

/// What a class counts that is empty in both label maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BothEmpty {
    /// Nothing: it is in no mean.
    Skip,
    /// As right: ratios 1, distances 0.
    One,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// Folders that `evaluate -o` wrote, or their metrics.csv; two or more.
    #[arg(required = true, num_args = 2.., value_name = "RESULT")]
    pub(crate) results: Vec<PathBuf>,

    /// Folder for comparison.json, comparison.csv and comparison.html.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Measures to compare, as the columns of metrics.csv are called.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "Dice,NSD", value_parser = measure)]
    pub(crate) metrics: Vec<Metric>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PhantomArgs {
    /// Folder of the data set; cases that are there are not made again.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Number of cases.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) cases: usize,

    /// Seed; the same seed gives the same patients.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,

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
    /// Show a recipe: a built-in one by name, or a file (which checks it).
    Show {
        /// Name or path.
        #[arg(value_name = "NAME|PATH")]
        recipe: String,
    },
}

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
    /// Write a model with another model card.
    Card {
        /// Name or path.
        #[arg(value_name = "NAME|PATH")]
        model: String,
        /// The card, Markdown.
        #[arg(long, value_name = "FILE")]
        text: PathBuf,
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

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure a command and all its descendants; its exit code is passed on, the table goes to standard error.
    Run(BenchRunArgs),
    /// Measure `viscera segment`, each case in a process of its own, one at a time.
    Segment(BenchSegmentArgs),
    /// Time a network on made-up input, without reading or writing anything.
    Net(BenchNetArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchSettings {
    /// Seconds between readings.
    #[arg(long, default_value_t = 0.1, value_name = "S", value_parser = seconds)]
    pub(crate) interval: f64,

    /// Run so many times; tables then show the median.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,

    /// Seconds to watch the idle system before each start; 0 is not at all.
    #[arg(long, default_value_t = 0.5, value_name = "S", value_parser = seconds)]
    pub(crate) baseline: f64,

    /// GPU to read, by NVML's count [default: the first, if there is one].
    #[arg(long, value_name = "INDEX")]
    pub(crate) gpu: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchRunArgs {
    #[command(flatten)]
    pub(crate) settings: BenchSettings,

    /// Write all readings to this file, as JSON.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Program and arguments. With --json, what it prints goes to standard error.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchSegmentArgs {
    /// NIfTI files, or folders of them.
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,

    /// Folder for the results and CASE.bench.json [default: a temporary one, without files].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Model: a name from `viscera model list`, or a file.
    #[arg(long, default_value = "default", value_name = "NAME|PATH")]
    pub(crate) model: OsString,

    #[command(flatten)]
    pub(crate) settings: BenchSettings,

    /// More arguments for `viscera segment`, after `--`.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub(crate) rest: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchNetArgs {
    /// A network by name (`viscera model count` lists them), an ONNX file, or a model: a name from `viscera model list`, or
    /// a file.
    #[arg(value_name = "NAME|FILE.onnx|MODEL")]
    pub(crate) network: String,

    /// Voxels of the input [default: the size that the network is made for].
    #[arg(long, value_name = "Z,Y,X", value_parser = triple::<usize>)]
    pub(crate) input: Option<[usize; 3]>,

    /// Stage of a model [default: the last].
    #[arg(long, value_name = "ID")]
    pub(crate) stage: Option<String>,

    /// Samples per pass.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole)]
    pub(crate) batch: usize,

    /// Time training steps (forward, loss, backward, SGD) and not forward passes.
    #[arg(long)]
    pub(crate) train: bool,

    /// How values are stored in a forward pass; training steps are f32.
    #[arg(long, default_value = "auto", value_name = "KIND")]
    pub(crate) precision: RunPrecision,

    /// Measured passes, after one that does not count.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = whole)]
    pub(crate) runs: usize,

    /// Also show the median time of every step of the forward pass.
    #[arg(long, conflicts_with = "train")]
    pub(crate) layers: bool,
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

#[cfg(feature = "train")]
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    /// Recipe: a name from `viscera recipe list`, or a file.
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: String,

    /// nnU-Net raw data folder (dataset.json, imagesTr, labelsTr; annotations.json and splits.json if wanted).
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// Folder for checkpoints, log and model.
    #[arg(short, long, value_name = "RUN")]
    pub(crate) out: PathBuf,

    /// Go on with a run that was stopped.
    #[arg(long)]
    pub(crate) resume: bool,

    /// Train these stages only, joined by commas.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub(crate) stages: Option<Vec<String>>,

    /// Seed instead of the recipe's; the same seed gives the same run.
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,

    /// Steps per stage instead of the recipe's.
    #[arg(long, value_name = "N")]
    pub(crate) iterations: Option<u64>,

    /// Hours for all stages together; the learning rate falls in time.
    #[arg(long, value_name = "H")]
    pub(crate) hours: Option<f64>,

    /// Share of the cases that validates where there is no splits.json [default: 0.2].
    #[arg(long, value_name = "SHARE")]
    pub(crate) validation_share: Option<f64>,

    /// Folder of prepared cases, which runs may share [default: RUN/cache].
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,

    /// Model file whose weights to start from.
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,

    /// Where to compute: cpu, or burn-cpu for comparison.
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = device)]
    pub(crate) device: viscera_train::Device,
}

#[cfg(feature = "train")]
fn device(text: &str) -> Result<viscera_train::Device, String> {
    let all = viscera_train::Device::ALL;
    let known = || all.map(viscera_train::Device::name).join(", ");
    all.into_iter()
        .find(|d| d.name() == text)
        .ok_or_else(|| format!("there are {}", known()))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if (0.0..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("seconds lie between 0 and 3600".to_owned())
    }
}

fn whole(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err("a whole number from 1 to 10000".to_owned()),
    }
}

/// Three numbers joined by commas.
fn triple<T: std::str::FromStr>(text: &str) -> Result<[T; 3], String> {
    let parts: Vec<T> = text
        .split(',')
        .map(|part| part.trim().parse().map_err(|_| format!("\"{part}\" is no number")))
        .collect::<Result<_, _>>()?;
    parts
        .try_into()
        .map_err(|parts: Vec<T>| format!("{} numbers instead of three (Z,Y,X)", parts.len()))
}

fn spacing(text: &str) -> Result<[f64; 3], String> {
    let spacing = triple::<f64>(text)?;
    if spacing.iter().all(|s| (0.1..=50.0).contains(s)) {
        Ok(spacing)
    } else {
        Err("a spacing lies between 0.1 and 50 mm".to_owned())
    }
}

fn shape(text: &str) -> Result<[usize; 3], String> {
    let shape = triple::<usize>(text)?;
    if shape.iter().all(|s| (8..=2048).contains(s)) {
        Ok(shape)
    } else {
        Err("an extent lies between 8 and 2048 voxels".to_owned())
    }
}

/// Voxels of a network's input.
fn extent(text: &str) -> Result<[usize; 3], String> {
    let extent = triple::<usize>(text)?;
    if extent.iter().all(|s| (1..=2048).contains(s)) {
        Ok(extent)
    } else {
        Err("an extent lies between 1 and 2048 voxels".to_owned())
    }
}

/// `MM` or `NAME=MM`.
fn tolerance(text: &str) -> Result<(Option<String>, f64), String> {
    let (name, mm) = match text.rsplit_once('=') {
        Some((name, mm)) => (Some(name.trim().to_owned()), mm),
        None => (None, text),
    };
    let mm = mm.trim().parse().map_err(|_| format!("\"{mm}\" is no number of mm"))?;
    Ok((name, mm))
}

/// A measure by its name in files.
fn measure(text: &str) -> Result<Metric, String> {
    let judged = || Metric::ALL.iter().filter(|m| m.better().is_some());
    let found = judged().find(|m| m.key() == text).copied();
    found.ok_or_else(|| {
        let known: Vec<&str> = judged().map(|m| m.key()).collect();
        format!("there are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn triples() {
        assert_eq!(spacing("2.5, 1,1"), Ok([2.5, 1.0, 1.0]));
        assert!(spacing("1,1").is_err() && spacing("1,1,0").is_err() && spacing("1,1,NaN").is_err());
        assert!(shape("8,8,4000").is_err() && shape("8,8,x").is_err());
    }
}
