//! One scan from file to files: label map, manifest, and what else is wanted.

use crate::outputs::{CaseFiles, Outputs};
use crate::segmenter::{Report, SegmentOptions, Segmentation, Segmenter, StepTime};
use crate::{PipelineError, SourceFile, peak_memory_bytes};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;
use viscera_image::{Geometry, Orientation};
use viscera_io::{InputCase, ReadImage, ReadOptions, read_image, remove_file, write_json};

/// What to write, and how to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JobOptions {
    /// The files that each case gets.
    #[serde(flatten)]
    pub outputs: Outputs,
    /// Which volume of a 4-D file to take.
    pub volume: Option<usize>,
}

impl JobOptions {
    /// How to read.
    #[must_use]
    pub fn read(&self) -> ReadOptions {
        ReadOptions { volume: self.volume }
    }
}

/// Everything that was asked for and that the outputs depend on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Settings {
    /// How to segment.
    pub segment: SegmentOptions,
    /// How to read, and what to write.
    pub write: JobOptions,
}

/// Everything about one finished case: the content of `CASE.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// Name of the case.
    pub case: String,
    /// Version of this program.
    pub viscera: &'static str,
    /// The scan's file.
    pub input: PathBuf,
    /// The same file, or the two of a pair, by what tells whether it has changed.
    pub source: Vec<SourceFile>,
    /// What was asked for.
    pub settings: Settings,
    /// What was written: names from the folder that this file lies in, with `/` on every system.
    pub outputs: Vec<String>,
    /// What segmented it.
    pub model: ModelFacts,
    /// The scan's grid, and so the label map's.
    pub geometry: GridFacts,
    /// How it came about, and what it shows.
    #[serde(flatten)]
    pub report: Report,
    /// Seconds of work from opening the scan to the last output but this file. In a batch the scan also waits for others;
    /// that is not in it.
    pub seconds: f64,
    /// Threads that computed.
    pub threads: usize,
    /// The most resident memory of the process so far, in MiB; with several cases, that of the greediest until now.
    pub peak_memory_mib: Option<f64>,
}

/// A model by its fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub weights_sha256: Option<String>,
    /// Name of its recipe.
    pub recipe: String,
    /// SHA-256 of its recipe's canonical text.
    pub recipe_sha256: String,
    /// Name of its label table.
    pub labels: String,
}

impl ModelFacts {
    /// The facts of a model.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] when its recipe has no text form.
    pub fn new(model: &crate::Model) -> Result<Self, PipelineError> {
        Ok(Self {
            name: model.name().to_owned(),
            weights_sha256: model.hash().map(str::to_owned),
            recipe: model.recipe().recipe.name.clone(),
            recipe_sha256: model.recipe().hash()?,
            labels: model.labels().name().to_owned(),
        })
    }
}

/// A grid for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GridFacts {
    /// Axis codes in the order x, y, z, such as "LPS".
    pub orientation: String,
    /// Shape, spacing, origin, direction.
    #[serde(flatten)]
    pub grid: Geometry,
}

impl GridFacts {
    /// The facts of a grid.
    #[must_use]
    pub fn new(grid: &Geometry) -> Self {
        Self {
            orientation: Orientation::of(grid).to_string(),
            grid: grid.clone(),
        }
    }
}

/// A scan on its way from file to files.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) case: InputCase,
    /// Its files, as they were before they were read.
    pub(crate) source: Vec<SourceFile>,
    pub(crate) image: ReadImage,
    /// Seconds that reading took.
    pub(crate) seconds: f64,
    /// By how many eighths patches are to be shorter.
    pub(crate) shrunk: u8,
}

/// Segments one file and writes what the options say into a folder, and the manifest `CASE.json`.
///
/// Each file appears whole or not at all; older results are replaced. The manifest comes last, and an older one goes
/// first: where there is a manifest, its outputs are those that it tells of.
///
/// # Errors
/// [`PipelineError::WouldOverwrite`] when an output's file is the scan itself; those of reading, segmenting and
/// writing.
pub fn segment_case(
    segmenter: &Segmenter,
    case: &InputCase,
    out: &Path,
    options: &JobOptions,
) -> Result<Manifest, PipelineError> {
    let mut scan = read_case(segmenter, case, out, options)?;
    let begin = Instant::now();
    let result = segmenter.segment_in_place(&mut scan.image, 0)?;
    write_case(segmenter, &scan, result, begin.elapsed().as_secs_f64(), out, options)
}

/// The first third of [`segment_case`].
pub(crate) fn read_case(
    segmenter: &Segmenter,
    case: &InputCase,
    out: &Path,
    options: &JobOptions,
) -> Result<Scan, PipelineError> {
    let begin = Instant::now();
    CaseFiles::new(out, &case.name, &options.outputs).spare(&case.path, segmenter.model().labels())?;
    let source = SourceFile::of(&case.path)?;
    let image = read_image(&case.path, &options.read())?;
    Ok(Scan {
        case: case.clone(),
        source,
        image,
        seconds: begin.elapsed().as_secs_f64(),
        shrunk: 0,
    })
}

/// The last third of [`segment_case`]; `seconds` is what segmenting took.
pub(crate) fn write_case(
    segmenter: &Segmenter,
    scan: &Scan,
    result: Segmentation,
    seconds: f64,
    out: &Path,
    options: &JobOptions,
) -> Result<Manifest, PipelineError> {
    let begin = Instant::now();
    let case = &scan.case;
    let files = CaseFiles::new(out, &case.name, &options.outputs);
    remove_file(&files.path(&files.manifest()))?;
    let grid = GridFacts::new(scan.image.image.geometry());
    let title = title(&case.name, segmenter.model().name(), &grid);
    let (mut outputs, times) = files.write(&scan.image, &result, &title)?;
    outputs.push(files.manifest());
    let mut report = result.report;
    report.timings.insert(
        0,
        StepTime {
            step: "read".to_owned(),
            seconds: scan.seconds,
        },
    );
    report.timings.extend(times);
    let manifest = Manifest {
        case: case.name.clone(),
        viscera: env!("CARGO_PKG_VERSION"),
        input: case.path.clone(),
        source: scan.source.clone(),
        settings: Settings {
            segment: segmenter.options().clone(),
            write: options.clone(),
        },
        outputs,
        model: ModelFacts::new(segmenter.model())?,
        geometry: grid,
        report,
        seconds: scan.seconds + seconds + begin.elapsed().as_secs_f64(),
        threads: rayon::current_num_threads(),
        peak_memory_mib: peak_memory_bytes().map(|bytes| (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0),
    };
    write_json(&files.path(&files.manifest()), &manifest)?;
    Ok(manifest)
}

fn title(case: &str, model: &str, grid: &GridFacts) -> String {
    let [z, y, x] = grid.grid.shape;
    let [dz, dy, dx] = grid.grid.spacing;
    format!(
        "{case}    {x} × {y} × {z} voxels of {dx:.2} × {dy:.2} × {dz:.2} mm, {}    model {model}",
        grid.orientation
    )
}
