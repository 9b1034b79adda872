//! What can be typed after `viscera segment`.

use super::RunPrecision;
use super::values::{memory, positive};
use std::path::PathBuf;
use viscera_pipeline::{LabelFormat, MeshFormat};

#[derive(Debug, clap::Args)]
pub(crate) struct SegmentArgs {
    /// Scans (NIfTI, NRRD, MetaImage), folders of them, patterns such as 'ct/*.nii.gz', or - for a list on standard
    /// input, a path a line (nnU-Net's _0000 is stripped from names).
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

    /// Print volume and mean HU per organ, and write them to statistics.csv, and per scan to CASE/statistics.json and
    /// .csv in TotalSegmentator's form.
    #[arg(long)]
    pub(crate) statistics: bool,

    /// Draw a picture per scan.
    #[arg(long)]
    pub(crate) preview: bool,

    /// Of files with several volumes, take volume K, counted from 0.
    #[arg(long, value_name = "K")]
    pub(crate) volume: Option<usize>,

    /// Mirror each input along the axes that the recipe names (all three where it names none), and average; or do not.
    /// [default: as the recipe says]
    #[arg(long, value_name = "KIND")]
    pub(crate) tta: Option<TtaKind>,

    /// How networks store values while they run; auto is bf16 on processors that multiply in it, and f32 on others.
    #[arg(long, default_value = "auto", value_name = "KIND")]
    pub(crate) precision: RunPrecision,

    /// Write probabilities too, on the scan's grid, in steps of 1/255.
    #[arg(long, value_name = "WHICH")]
    pub(crate) probabilities: Option<ProbabilitiesOf>,

    /// Step of sliding windows in patches, above 0 and at most 1 [default: as the recipe says].
    #[arg(long, value_name = "STEP")]
    pub(crate) step_size: Option<f64>,

    /// Segment scans whose intensities are plainly not Hounsfield units, with a warning.
    #[arg(long)]
    pub(crate) allow_non_hu: bool,

    /// Leave out scans that are finished: same file, model, settings and version, and all outputs there.
    #[arg(long)]
    pub(crate) resume: bool,

    /// Do one of N parts of the scans; several programs may write to one folder so.
    #[arg(long, value_name = "N", requires = "part_id", value_parser = positive)]
    pub(crate) num_parts: Option<usize>,

    /// Which part, counted from 0.
    #[arg(long, value_name = "K", requires = "num_parts")]
    pub(crate) part_id: Option<usize>,

    /// End with the first scan that fails.
    #[arg(long)]
    pub(crate) fail_fast: bool,

    /// End with exit code 1 when a warning puts masks in doubt; they are written all the same.
    #[arg(long)]
    pub(crate) fail_on_qc: bool,

    /// Most memory, such as 2G or 1500M; scans that need more are refused before they are read.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub(crate) max_memory: Option<u64>,

    /// How to tell of the progress; json prints a line per event on standard output.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: ProgressMode,

    /// Format of the label map: nii.gz, nii, nrrd, or seg.nrrd for 3D Slicer, with names and colours.
    #[arg(long, value_name = "FORMAT", default_value = "nii.gz")]
    pub(crate) format: LabelFormat,

    /// Write one mask per class as well, CASE/liver.nii.gz and so on, with TotalSegmentator's names.
    #[arg(long)]
    pub(crate) split: bool,

    /// Write surfaces in mm (LPS), joined by commas: stl (a file per organ), obj, glb (names and colours).
    #[arg(long, value_name = "FORMATS", value_delimiter = ',')]
    pub(crate) mesh: Vec<MeshFormat>,
}

/// How to tell of the progress of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// A line per scan; on a terminal a bar as well. With --json nothing.
    Auto,
    /// A line per scan, and a bar where standard error is a terminal; with --json the bar alone.
    Bar,
    /// A line per scan.
    Plain,
    /// Events as JSON, one a line, on standard output.
    Json,
    /// Nothing but warnings and errors.
    None,
}

/// Whose probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProbabilitiesOf {
    /// Of the class (or background) that won each voxel: one file.
    Winner,
    /// Of every class: a file each.
    All,
}

impl From<ProbabilitiesOf> for viscera_pipeline::ProbabilityKind {
    fn from(of: ProbabilitiesOf) -> Self {
        match of {
            ProbabilitiesOf::Winner => Self::Winner,
            ProbabilitiesOf::All => Self::All,
        }
    }
}

/// Mirroring at test time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TtaKind {
    /// Each input as it is.
    None,
    /// The average over mirrored inputs.
    Mirror,
}

impl From<TtaKind> for viscera_pipeline::Tta {
    fn from(kind: TtaKind) -> Self {
        match kind {
            TtaKind::None => Self::None,
            TtaKind::Mirror => Self::Mirror,
        }
    }
}
