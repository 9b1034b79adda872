//! What can be said of a file without segmenting it.

use crate::job::GridFacts;
use crate::{PipelineError, Warning, Warnings, lie_of_body, not_hounsfield};
use serde::Serialize;
use std::path::Path;
use viscera_image::{Histogram, Intensity, Volume, histogram, moments, percentiles};
use viscera_io::{Image, ReadOptions, read_image};

/// Range and bins of the histogram in HU.
const RANGE: [f64; 2] = [-1100.0, 1500.0];
const BINS: usize = 26;

/// What a file holds.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Its grid.
    pub geometry: GridFacts,
    /// How the voxels are held: `int16` or `float32`.
    pub voxels: &'static str,
    /// Mean over all voxels.
    pub mean: Option<f64>,
    /// Standard deviation over all voxels.
    pub std: Option<f64>,
    /// Percentiles 0, 0.5, 50, 99.5, 100.
    pub percentiles: Vec<f64>,
    /// Voxels per range of HU.
    pub histogram: Histogram,
    /// What is odd.
    pub warnings: Warnings,
}

/// Reads a file and looks at it.
///
/// # Errors
/// Those of reading.
pub fn inspect(path: &Path, volume: Option<usize>) -> Result<Inspection, PipelineError> {
    let scan = read_image(path, &ReadOptions { volume })?;
    let mut warnings = Warnings::default();
    scan.warnings
        .into_iter()
        .for_each(|w| warnings.push(Warning::Source(w)));
    let geometry = GridFacts::new(scan.image.geometry());
    match &scan.image {
        Image::I16(volume) => look("int16", geometry, volume, warnings),
        Image::F32(volume) => look("float32", geometry, volume, warnings),
    }
}

fn look<T: Intensity>(
    voxels: &'static str,
    geometry: GridFacts,
    scan: &Volume<T>,
    mut warnings: Warnings,
) -> Result<Inspection, PipelineError> {
    let data = scan.data();
    match not_hounsfield(data)? {
        Some(reason) => warnings.push(Warning::NotHounsfield { reason }),
        None => lie_of_body(scan)?.warn(&mut warnings),
    }
    let moments = moments(data);
    Ok(Inspection {
        geometry,
        voxels,
        mean: moments.map(|m| m.mean),
        std: moments.map(|m| m.std),
        percentiles: percentiles(data, &[0.0, 0.5, 50.0, 99.5, 100.0])?,
        histogram: histogram(data, RANGE[0], RANGE[1], BINS)?,
        warnings,
    })
}
