//! What can be typed after `viscera bench`.

use super::RunPrecision;
use super::values::{triple, whole};
use clap::Subcommand;
use std::ffi::OsString;
use std::path::PathBuf;

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

    /// How values are stored.
    #[arg(long, default_value = "auto", value_name = "KIND")]
    pub(crate) precision: RunPrecision,

    /// Where to compute, as for `viscera train`.
    #[cfg(feature = "train")]
    #[arg(long, default_value = "cpu", value_name = "DEVICE", conflicts_with = "layers")]
    pub(crate) device: viscera_train::Device,

    /// Measured passes, after one that does not count.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = whole)]
    pub(crate) runs: usize,

    /// Also show the median time of every step of the forward pass.
    #[arg(long, conflicts_with = "train")]
    pub(crate) layers: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if (0.0..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("seconds lie between 0 and 3600".to_owned())
    }
}
