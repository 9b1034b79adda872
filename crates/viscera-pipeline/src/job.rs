//! One scan from file to files: label map, manifest, picture.

use crate::preview::preview;
use crate::segmenter::{Report, SegmentOptions, Segmentation, Segmenter, StepTime};
use crate::{Organ, PipelineError, SourceFile, peak_memory_bytes};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use viscera_image::{Geometry, Orientation};
use viscera_io::{
    InputCase, ReadImage, ReadOptions, atomic_write, read_image, remove_file, write_json, write_label_map, write_png,
};

/// What to write beside the label map and the manifest, and how to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct JobOptions {
    /// Write a picture.
    pub preview: bool,
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
    /// What was written, by file name.
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
}

/// Segments one file and writes `CASE.nii.gz`, `CASE.json` and, if asked for, `CASE.png` into a folder.
///
/// Each file appears whole or not at all; older results are replaced. The manifest comes last, and an older one goes
/// first: where there is a manifest, its outputs are those that it tells of.
///
/// # Errors
/// [`PipelineError::WouldOverwrite`] when the label map's file is the scan itself; those of reading, segmenting and
/// writing.
pub fn segment_case(
    segmenter: &Segmenter,
    case: &InputCase,
    out: &Path,
    options: &JobOptions,
) -> Result<Manifest, PipelineError> {
    let scan = read_case(case, out, options)?;
    let begin = Instant::now();
    let result = segmenter.segment(&scan.image)?;
    write_case(segmenter, &scan, result, begin.elapsed().as_secs_f64(), out, options)
}

/// The first third of [`segment_case`].
pub(crate) fn read_case(case: &InputCase, out: &Path, options: &JobOptions) -> Result<Scan, PipelineError> {
    let begin = Instant::now();
    let target = out.join(format!("{}.nii.gz", case.name));
    if same_file(&target, &case.path) {
        return Err(PipelineError::WouldOverwrite { path: target });
    }
    let source = SourceFile::of(&case.path)?;
    let image = read_image(&case.path, &options.read())?;
    Ok(Scan {
        case: case.clone(),
        source,
        image,
        seconds: begin.elapsed().as_secs_f64(),
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
    let file = |ending: &str| format!("{}.{ending}", case.name);
    remove_file(&out.join(file("json")))?;
    let mut report = result.report;
    report.timings.insert(
        0,
        StepTime {
            step: "read".to_owned(),
            seconds: scan.seconds,
        },
    );

    let mut last = begin;
    let mut time = |report: &mut Report, step: &str| {
        report.timings.push(StepTime {
            step: step.to_owned(),
            seconds: last.elapsed().as_secs_f64(),
        });
        last = Instant::now();
    };
    let (target, header) = (out.join(file("nii.gz")), &scan.image.header);
    write_label_map(&target, &result.labels, header, result.table.entries())?;
    let mut outputs = vec![file("nii.gz"), file("json")];
    time(&mut report, "write");
    let grid = GridFacts::new(scan.image.image.geometry());
    if options.preview {
        let title = title(&case.name, segmenter.model().name(), &grid);
        let picture = match &scan.image.image {
            viscera_io::Image::I16(v) => preview(
                v,
                &result.labels,
                &result.table,
                &report.organs,
                &report.warnings,
                &title,
            ),
            viscera_io::Image::F32(v) => preview(
                v,
                &result.labels,
                &result.table,
                &report.organs,
                &report.warnings,
                &title,
            ),
        }?;
        write_png(&out.join(file("png")), picture.width, picture.height, &picture.rgb)?;
        outputs.push(file("png"));
        time(&mut report, "preview");
    }
    let manifest = Manifest {
        case: case.name.clone(),
        viscera: env!("CARGO_PKG_VERSION"),
        input: case.path.clone(),
        source: scan.source.clone(),
        settings: Settings {
            segment: segmenter.options().clone(),
            write: *options,
        },
        outputs,
        model: ModelFacts::new(segmenter.model())?,
        geometry: grid,
        report,
        seconds: scan.seconds + seconds + begin.elapsed().as_secs_f64(),
        threads: rayon::current_num_threads(),
        peak_memory_mib: peak_memory_bytes().map(|bytes| (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0),
    };
    write_json(&out.join(file("json")), &manifest)?;
    Ok(manifest)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn title(case: &str, model: &str, grid: &GridFacts) -> String {
    let [z, y, x] = grid.grid.shape;
    let [dz, dy, dx] = grid.grid.spacing;
    format!(
        "{case}    {x} × {y} × {z} voxels of {dx:.2} × {dy:.2} × {dz:.2} mm, {}    model {model}",
        grid.orientation
    )
}

/// Writes the measures of all organs of some cases, by the cases' names, as a table with commas, one row per case and
/// organ.
///
/// # Errors
/// [`PipelineError::Io`] when the system refuses.
pub fn write_statistics(path: &Path, cases: &[(&str, &[Organ])]) -> Result<(), PipelineError> {
    let mut text = "case,id,organ,voxels,volume_ml,mean_hu,std_hu,touches_border\n".to_owned();
    for (case, organs) in cases {
        for organ in *organs {
            row(&mut text, case, organ);
        }
    }
    atomic_write(path, |file| file.write_all(text.as_bytes()))?;
    Ok(())
}

fn row(text: &mut String, case: &str, organ: &Organ) {
    let hu = |value: Option<f64>| value.map(|v| format!("{v:.2}")).unwrap_or_default();
    // Names are the user's: quotes keep commas and quotes in them apart from ours.
    let case = if case.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", case.replace('"', "\"\""))
    } else {
        case.to_owned()
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{case},{},{},{},{:.4},{},{},{}",
        organ.id,
        organ.name,
        organ.voxels,
        organ.volume_ml,
        hu(organ.mean_hu),
        hu(organ.std_hu),
        organ.touches_border
    );
}
