//! What can be typed after `viscera train`, `viscera data` and `viscera plan`.

use super::RunPrecision;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    /// Recipe: a name from `viscera recipe list`, or a file.
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: String,

    /// Data set: a folder of nnU-Net, the decathlon or FLARE, or a list of files (.toml, .csv); annotations.json and
    /// splits.json if wanted.
    #[arg(long, value_name = "DATA")]
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

    /// Which fold validates, counted from 0, where the data set has folds (`viscera data split`). With `all`, one run after
    /// the other, and an ensemble of them; five folds where the data set has none.
    #[arg(long, value_name = "K|all", default_value = "0")]
    pub(crate) fold: FoldChoice,

    /// Share of the cases that validates where there is no splits.json [default: 0.2].
    #[arg(long, value_name = "SHARE")]
    pub(crate) validation_share: Option<f64>,

    /// Folder of prepared cases, which runs may share [default: RUN/cache].
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,

    /// Model file whose weights to start from; with --stages, the other stages keep them.
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,

    /// Where to compute: cpu; cuda or wgpu in a program built with that feature; burn-cpu for comparison.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub(crate) device: viscera_train::Device,

    /// How networks store values while they are trained on the CPU; the weights that are learnt are f32 either way.
    #[arg(long, default_value = "f32", value_name = "KIND")]
    pub(crate) precision: RunPrecision,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PseudoLabelArgs {
    /// Model: a file, or a name from `viscera model list`.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,

    /// Data set, as for `viscera train`.
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,

    /// Folder for the label maps and list.toml, a data set to train on; cases that are there are not labelled again.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Only cases that nobody labelled, not those labelled in part.
    #[arg(long)]
    pub(crate) unlabelled_only: bool,

    /// Leave out cases whose organs' mean confidence is lower, 0 to 1.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(crate) least_confidence: f64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Read every case and name what is wrong: grids, label ids, NaN, empty maps, duplicates, leaks between splits.
    Check {
        /// Data set.
        #[arg(value_name = "DATA")]
        data: PathBuf,
        /// Folds to check as well.
        #[arg(long, value_name = "FILE")]
        splits: Option<PathBuf>,
    },
    /// Write annotations.json: each case annotates the classes that occur in its label map.
    Annotate {
        /// Data set.
        #[arg(value_name = "DATA")]
        data: PathBuf,
        /// Replace an annotations.json that is there; centres and pseudo-labels stay.
        #[arg(long)]
        force: bool,
    },
    /// Spacings, sizes and foreground intensities, in the form of nnU-Net's dataset_fingerprint.json.
    Fingerprint {
        /// Data set.
        #[arg(value_name = "DATA")]
        data: PathBuf,
        /// File to write.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Split the labelled cases into folds, in the form of nnU-Net's splits_final.json.
    Split {
        /// Data set.
        #[arg(value_name = "DATA")]
        data: PathBuf,
        /// Number of folds.
        #[arg(long, value_name = "N", default_value_t = 5)]
        folds: usize,
        /// Keep the cases of a centre together.
        #[arg(long)]
        by_centre: bool,
        /// The same seed gives the same folds.
        #[arg(long, value_name = "S", default_value_t = 0)]
        seed: u64,
        /// File to write [default: splits.json in the data set's folder].
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Data set.
    #[arg(value_name = "DATA")]
    pub(crate) data: PathBuf,

    /// Fingerprint that is there already, from `viscera data fingerprint` or nnU-Net.
    #[arg(long, value_name = "FILE")]
    pub(crate) fingerprint: Option<PathBuf>,

    /// GPU memory for training in GiB, as nnU-Net counts it.
    #[arg(long, value_name = "GIB", default_value = "8G", value_parser = gigabytes)]
    pub(crate) memory: f64,

    /// Plan the network with a residual encoder.
    #[arg(long)]
    pub(crate) residual: bool,

    /// The recipe's name [default: that of its file].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Recipe to write.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

fn gigabytes(text: &str) -> Result<f64, String> {
    let number = text
        .trim_end_matches("iB")
        .trim_end_matches('B')
        .trim_end_matches(['G', 'g']);
    let found: f64 = number.parse().map_err(|_| "no number of GiB, such as 8G".to_owned())?;
    if found > 0.0 && found <= 1e5 {
        Ok(found)
    } else {
        Err("must be positive".to_owned())
    }
}

/// Which folds are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoldChoice {
    One(usize),
    All,
}

impl std::str::FromStr for FoldChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::One)
                .map_err(|_| "a fold's number, counted from 0, or all".to_owned()),
        }
    }
}
