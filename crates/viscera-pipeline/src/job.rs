//! One scan from file to files: label map, manifest, and what else is wanted.

use crate::outputs::{CaseFiles, Outputs};
use crate::segmenter::{Report, Segmenter, StepTime};
use crate::{PipelineError, peak_memory_bytes};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;
use viscera_image::{Geometry, Orientation};
use viscera_io::{InputCase, IoError, ReadOptions, read_image, write_json};

/// What to write, and how to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// The files that each case gets.
    pub outputs: Outputs,
    /// Which volume of a 4-D file to take.
    pub volume: Option<usize>,
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
    /// What was written: names from the folder that this file lies in, with `/` on every system.
    pub outputs: Vec<String>,
    /// What segmented it.
    pub model: ModelFacts,
    /// The scan's grid, and so the label map's.
    pub geometry: GridFacts,
    /// How it came about, and what it shows.
    #[serde(flatten)]
    pub report: Report,
    /// Seconds from opening the scan to the last output but this file.
    pub seconds: f64,
    /// Threads that computed.
    pub threads: usize,
    /// The most resident memory of the process so far, in MiB; with several cases, that of the greediest until now.
    pub peak_memory_mib: Option<f64>,
}

/// A model by its fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// Segments one file and writes what the options say into a folder, and the manifest `CASE.json`.
///
/// Each file appears whole or not at all; older results are replaced. The manifest comes last, and an older one goes
/// first, so that a manifest never stands beside files of another run.
///
/// # Errors
/// [`PipelineError::WouldOverwrite`] when an output's file is the scan itself; those of reading, segmenting and writing.
pub fn segment_case(
    segmenter: &Segmenter,
    case: &InputCase,
    out: &Path,
    options: &JobOptions,
) -> Result<Manifest, PipelineError> {
    let begin = Instant::now();
    let files = CaseFiles::new(out, &case.name, &options.outputs);
    files.spare(&case.path, segmenter.model().labels())?;
    let scan = read_image(&case.path, &ReadOptions { volume: options.volume })?;
    let read_seconds = begin.elapsed().as_secs_f64();
    let result = segmenter.segment(&scan)?;

    let manifest = files.path(&files.manifest());
    match std::fs::remove_file(&manifest) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(IoError::Write {
            path: manifest.clone(),
            source: e,
        }),
        _ => Ok(()),
    }?;
    let grid = GridFacts::new(scan.image.geometry());
    let (mut outputs, times) = files.write(&scan, &result, &title(&case.name, segmenter.model().name(), &grid))?;
    outputs.push(files.manifest());
    let mut report = result.report;
    report.timings.insert(
        0,
        StepTime {
            step: "read".to_owned(),
            seconds: read_seconds,
        },
    );
    report.timings.extend(times);
    let facts = Manifest {
        case: case.name.clone(),
        viscera: env!("CARGO_PKG_VERSION"),
        input: case.path.clone(),
        outputs,
        model: ModelFacts::new(segmenter.model())?,
        geometry: grid,
        report,
        seconds: begin.elapsed().as_secs_f64(),
        threads: rayon::current_num_threads(),
        peak_memory_mib: peak_memory_bytes().map(|bytes| (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0),
    };
    write_json(&manifest, &facts)?;
    Ok(facts)
}

fn title(case: &str, model: &str, grid: &GridFacts) -> String {
    let [z, y, x] = grid.grid.shape;
    let [dz, dy, dx] = grid.grid.spacing;
    format!(
        "{case}    {x} × {y} × {z} voxels of {dx:.2} × {dy:.2} × {dz:.2} mm, {}    model {model}",
        grid.orientation
    )
}
