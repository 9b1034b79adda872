//! The whole way from a scan to its label map.

use crate::body::lie_of_body;
use crate::decide::Decision;
use crate::localise::Localised;
use crate::plausibility::look_over;
use crate::postprocess::{Removed, clean};
use crate::predict::Logits;
use crate::prepare::{NetworkInput, Oriented, network_error};
use crate::recipe::{Role, Stage};
use crate::restore::RoiLabels;
use crate::statistics::{Organ, measure};
use crate::{Model, PipelineError, Warning, Warnings, not_hounsfield};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use viscera_engine::Engine;
use viscera_image::{Box3, Intensity, LabelMap, LabelTable, Volume};
use viscera_io::{Image, ReadImage};

/// What a [`Segmenter`] should do beyond its model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Names of the classes to keep; all without.
    pub roi_subset: Option<Vec<String>>,
    /// Segment although the intensities are plainly not Hounsfield units, with a warning.
    pub allow_non_hu: bool,
}

/// A model ready to run: loaded once, used for any number of scans.
#[derive(Debug)]
pub struct Segmenter {
    model: Model,
    engines: Vec<Engine>,
    /// The classes that are written and measured.
    kept: LabelTable,
    allow_non_hu: bool,
}

/// A finished scan.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// The label map on the scan's own grid.
    pub labels: LabelMap,
    /// The classes of the label map.
    pub table: LabelTable,
    /// How it came about, and what it shows.
    pub report: Report,
}

/// How a label map came about, and what it shows.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where the last stage looked.
    pub roi: RoiReport,
    /// Measures of every class that was asked for.
    pub organs: Vec<Organ>,
    /// What the rules removed.
    pub removed: Vec<Removed>,
    /// What is odd.
    pub warnings: Warnings,
    /// Seconds per step, in running order.
    pub timings: Vec<StepTime>,
}

/// The part of the scan that the last stage saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoiReport {
    /// First voxel, `[z, y, x]` of the scan in RAS+.
    pub start: [usize; 3],
    /// First voxel past the end.
    pub end: [usize; 3],
    /// Extent in mm, `[z, y, x]`.
    pub extent_mm: [f64; 3],
    /// Whether it is the whole scan because nothing was localised.
    pub fallback: bool,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// Name of the step, with its stage's id before it where it belongs to one: `fine.network`.
    pub step: String,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Measures the wall-clock time between calls.
struct Clock {
    last: Instant,
    times: Vec<StepTime>,
}

impl Clock {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            times: Vec::new(),
        }
    }

    fn step(&mut self, step: impl Into<String>) {
        let now = Instant::now();
        self.times.push(StepTime {
            step: step.into(),
            seconds: now.duration_since(self.last).as_secs_f64(),
        });
        self.last = now;
    }
}

impl Segmenter {
    /// Prepares a model's networks.
    ///
    /// # Errors
    /// [`PipelineError::UnknownClass`] for a class to keep that the model does not have; [`PipelineError::Network`] when
    /// the engine cannot run a network; [`PipelineError::Unsupported`] for a recipe that cannot be carried out yet.
    pub fn new(model: Model, options: &SegmentOptions) -> Result<Self, PipelineError> {
        model.recipe().check_supported()?;
        let mut engines = Vec::new();
        for network in model.networks() {
            // Recipes with several folds were refused above.
            for weights in network.folds {
                engines.push(Engine::new(network.graph, weights).map_err(|e| network_error(network.stage, e))?);
            }
        }
        let kept = match &options.roi_subset {
            Some(names) => subset(model.labels(), names)?,
            None => model.labels().clone(),
        };
        Ok(Self {
            model,
            engines,
            kept,
            allow_non_hu: options.allow_non_hu,
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Segments a scan that was read from a file; the file's oddities go into the report.
    ///
    /// # Errors
    /// As [`Self::segment_volume`].
    pub fn segment(&self, scan: &ReadImage) -> Result<Segmentation, PipelineError> {
        let mut warnings = Warnings::default();
        scan.warnings
            .iter()
            .for_each(|w| warnings.push(Warning::Source(w.clone())));
        match &scan.image {
            Image::I16(volume) => self.segment_volume(volume, warnings),
            Image::F32(volume) => self.segment_volume(volume, warnings),
        }
    }

    /// Segments a scan in HU. The result is the same for any number of threads, and for any order and direction of the
    /// scan's axes the same in the patient.
    ///
    /// # Errors
    /// [`PipelineError::NotHounsfield`]; [`PipelineError::Network`] and [`PipelineError::Image`] when memory is short.
    pub fn segment_volume<T: Intensity>(
        &self,
        scan: &Volume<T>,
        mut warnings: Warnings,
    ) -> Result<Segmentation, PipelineError> {
        let mut clock = Clock::new();
        let oriented = Oriented::new(scan)?;
        clock.step("orient");
        if let Some(reason) = not_hounsfield(oriented.volume().data())? {
            if !self.allow_non_hu {
                return Err(PipelineError::NotHounsfield { reason });
            }
            warnings.push(Warning::NotHounsfield { reason });
        } else {
            lie_of_body(oriented.volume())?.warn(&mut warnings);
        }
        clock.step("check");

        let grid = oriented.geometry().clone();
        let whole = RoiReport::new(Box3::whole(grid.shape), grid.spacing, false);
        let mut located: BTreeMap<&str, (Localised, &Stage)> = BTreeMap::new();
        let mut removed = Vec::new();
        let mut result = None;
        for (stage, engine) in self.model.recipe().stages.iter().zip(&self.engines) {
            let id = &stage.id;
            // A recipe whose stages refer to earlier ones only is the only one that can be made.
            let from = stage
                .roi
                .as_ref()
                .and_then(|roi| Some((roi, located.get(roi.from.as_str())?)));
            let roi = match from {
                Some((spec, (found, coarse))) => {
                    let roi = found.roi(coarse, &grid, spec.margin_mm, &mut warnings)?;
                    RoiReport::new(roi.region, grid.spacing, roi.fallback)
                }
                None => whole.clone(),
            };
            let input = NetworkInput::new(&oriented, &roi.region(), stage)?;
            clock.step(format!("{id}.prepare"));
            let logits = Logits::new(engine, input, stage)?;
            clock.step(format!("{id}.network"));
            match stage.role {
                Role::Localise => {
                    let found = Localised::new(&logits, stage, self.model.labels())?;
                    removed.extend(found.removed.iter().cloned());
                    located.insert(id, (found, stage));
                    clock.step(format!("{id}.localise"));
                }
                Role::Segment | Role::Bare => {
                    let decision = Decision::new(&stage.inference, self.model.labels());
                    let labels = RoiLabels::new(logits, &decision)?;
                    clock.step(format!("{id}.restore"));
                    result = Some((labels, stage, roi));
                }
            }
        }
        drop(oriented);
        let Some((mut labels, stage, roi)) = result else {
            // Validation of recipes makes sure that the last stage segments.
            return Err(PipelineError::Recipe {
                recipe: self.model.recipe().recipe.name.clone(),
                line: None,
                reason: "has no stage that segments".to_owned(),
            });
        };
        removed.extend(clean(&mut labels.labels, stage, self.model.labels())?);
        if self.kept != *self.model.labels() {
            keep_only(&mut labels.labels, &self.kept);
        }
        clock.step(format!("{}.postprocess", stage.id));
        let labels = labels.into_source()?;
        clock.step("return");
        let organs = measure(scan, &labels, &self.kept)?;
        look_over(&organs, &mut warnings);
        clock.step("statistics");
        let report = Report {
            roi,
            organs,
            removed,
            warnings,
            timings: clock.times,
        };
        Ok(Segmentation {
            labels,
            table: self.kept.clone(),
            report,
        })
    }
}

impl RoiReport {
    fn new(region: Box3, spacing: [f64; 3], fallback: bool) -> Self {
        let shape = region.shape();
        Self {
            start: region.start,
            end: region.end,
            extent_mm: std::array::from_fn(|a| shape[a] as f64 * spacing[a]),
            fallback,
        }
    }

    fn region(&self) -> Box3 {
        Box3 {
            start: self.start,
            end: self.end,
        }
    }
}

/// The classes of a table that are named, under the table's name.
fn subset(table: &LabelTable, names: &[String]) -> Result<LabelTable, PipelineError> {
    if let Some(unknown) = names.iter().find(|n| table.by_name(n).is_none()) {
        return Err(PipelineError::UnknownClass {
            name: unknown.clone(),
            known: table.entries().iter().map(|e| e.name.clone()).collect(),
        });
    }
    let entries = table.entries().iter().filter(|e| names.contains(&e.name)).cloned();
    Ok(LabelTable::new(table.name(), entries.collect())?)
}

/// Sets every label that the table does not have to background.
fn keep_only(labels: &mut LabelMap, table: &LabelTable) {
    let map: Vec<u8> = (0..=u8::MAX)
        .map(|id| if table.by_id(id).is_some() { id } else { 0 })
        .collect();
    for label in labels.data_mut() {
        *label = map[usize::from(*label)];
    }
}
