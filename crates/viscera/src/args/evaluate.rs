//! What can be typed after `viscera evaluate` and `viscera compare`.

use std::path::PathBuf;
use viscera_metrics::Metric;

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

    /// Score organs with the lesions inside them: in reference and prediction, a lesion counts as the organ around it.
    /// Lesions are scored as they are.
    #[arg(long)]
    pub(crate) lesions_in_organs: bool,

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
