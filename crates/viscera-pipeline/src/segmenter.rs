//! The whole way from a scan to its label map.

use crate::body::lie_of_body;
use crate::confidence::{Confidence, ConfidenceMeter, Kind};
use crate::decide::Decision;
use crate::localise::Localised;
use crate::plausibility::look_over;
use crate::postprocess::{Removed, clean};
use crate::predict::{Infer, Predictor, Reader};
use crate::prepare::{NetworkInput, Oriented, network_error};
use crate::probability::{Gathered, ProbabilityKind, ProbabilityMap};
use crate::recipe::{Axis, Modality, Restore, Role, Stage, subset};
use crate::restore::Enlarger;
use crate::slab::Slab;
use crate::statistics::{Organ, measure};
use crate::{Model, PipelineError, Warning, Warnings, Watch, not_hounsfield};
use rayon::prelude::*;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;
use viscera_engine::{Engine, MemoryNeed, Options, Precision};
use viscera_image::{AxisMap, Box3, Geometry, Intensity, LabelMap, LabelTable, Volume, paste_over};
use viscera_io::{Image, ReadImage};
use viscera_net::{Graph, Tensor, Weights};

/// What a [`Segmenter`] should do beyond its model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SegmentOptions {
    /// Names of the classes to keep; all without.
    pub roi_subset: Option<Vec<String>>,
    /// Segment although the intensities are plainly not Hounsfield units, with a warning.
    pub allow_non_hu: bool,
    /// Mirroring at test time; as the recipe says without.
    pub tta: Option<Tta>,
    /// Step of every sliding window in patches, 0 < s ≤ 1; as the recipe says without.
    pub step_size: Option<f64>,
    /// How networks store values while they run.
    #[serde(serialize_with = "precision_name")]
    pub precision: Precision,
    /// Probabilities to give beside the labels: before clean-up, for all of the model's classes.
    pub probabilities: Option<ProbabilityKind>,
}

fn precision_name<S: Serializer>(precision: &Precision, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match precision {
        Precision::Auto => "auto",
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    })
}

/// Mirroring at test time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tta {
    /// Each input as it is.
    None,
    /// Averaged over the axes that the recipe names; over all three where it names none.
    Mirror,
}

/// A model ready to run: loaded once, used for any number of scans.
#[derive(Debug)]
pub struct Segmenter {
    model: Model,
    /// The recipe's stages as they are run, each with its networks.
    stages: Vec<Ready>,
    /// The classes that are written and measured.
    kept: LabelTable,
    options: SegmentOptions,
    watch: Watch,
}

/// A stage with its networks.
#[derive(Debug, Clone)]
struct Ready {
    stage: Stage,
    classes: LabelTable,
    /// What of its network is run.
    graph: Graph,
    /// Weights of each fold, shared with the model.
    folds: Vec<Weights>,
    precision: Precision,
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
    /// Probabilities that were asked for, on the scan's own grid.
    pub probabilities: Vec<ProbabilityMap>,
}

/// How a label map came about, and what it shows.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where the first segmenting stage looked.
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

/// The part of the scan that the first segmenting stage saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoiReport {
    /// First voxel, `[z, y, x]` of the turned scan (RAS+, unless the recipe says otherwise).
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
struct Clock<'a> {
    last: Instant,
    times: Vec<StepTime>,
    watch: &'a Watch,
}

impl<'a> Clock<'a> {
    fn new(watch: &'a Watch) -> Self {
        Self {
            last: Instant::now(),
            times: Vec::new(),
            watch,
        }
    }

    /// Takes time from the last step and gives it to a new one.
    fn split(&mut self, step: impl Into<String>, seconds: f64) {
        if let Some(last) = self.times.last_mut() {
            last.seconds -= seconds;
        }
        let part = StepTime {
            step: step.into(),
            seconds,
        };
        self.watch.done(&part);
        self.times.push(part);
    }

    fn step(&mut self, step: impl Into<String>) {
        let now = Instant::now();
        let done = StepTime {
            step: step.into(),
            seconds: now.duration_since(self.last).as_secs_f64(),
        };
        self.watch.done(&done);
        self.times.push(done);
        self.last = now;
    }
}

impl Segmenter {
    /// Prepares a model's networks.
    ///
    /// # Errors
    /// [`PipelineError::UnknownClass`] for a class to keep that the model does not have; [`PipelineError::Network`] when
    /// the engine cannot run a network; [`PipelineError::Unsupported`] for a recipe that cannot be carried out on scans;
    /// [`PipelineError::Recipe`] for a step that cannot be.
    pub fn new(model: Model, options: &SegmentOptions) -> Result<Self, PipelineError> {
        model.recipe().check_supported()?;
        let mut stages = Vec::new();
        for network in model.networks() {
            let stage = adjusted(network.stage, options, &model)?;
            let failed = |e| network_error(&stage, e);
            let graph = stage.inference_graph(network.graph).map_err(failed)?;
            // Finds what the engine cannot run.
            MemoryNeed::new(&graph, 1, stage.network_size(), 1).map_err(failed)?;
            let classes = stage.table(model.labels())?;
            stages.push(Ready {
                stage,
                classes,
                graph,
                folds: network.folds.to_vec(),
                precision: options.precision,
            });
        }
        let kept = match &options.roi_subset {
            Some(names) => subset(model.labels(), names)?,
            None => model.labels().clone(),
        };
        Ok(Self {
            model,
            stages,
            kept,
            options: options.clone(),
            watch: Watch::default(),
        })
    }

    /// The same, telling of each step that is done.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// What it was asked to do.
    #[must_use]
    pub fn options(&self) -> &SegmentOptions {
        &self.options
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The recipe's stages as they are run, in the order of the model's networks.
    pub(crate) fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.stages.iter().map(|ready| &ready.stage)
    }

    /// Segments a scan that was read from a file; the file's oddities go into the report.
    ///
    /// # Errors
    /// As [`Self::segment_volume`].
    pub fn segment(&self, scan: &ReadImage) -> Result<Segmentation, PipelineError> {
        let warnings = of_source(scan);
        match &scan.image {
            Image::I16(volume) => self.segment_volume(volume, warnings),
            Image::F32(volume) => self.segment_volume(volume, warnings),
        }
    }

    /// The same with patches of sliding windows that are shorter by so many eighths ([`crate::Estimate::shrunk`]), and
    /// without a second copy of a scan whose axes only run backwards: it is turned where it lies, and back again unless
    /// this fails.
    pub(crate) fn segment_in_place(&self, scan: &mut ReadImage, shrunk: u8) -> Result<Segmentation, PipelineError> {
        let warnings = of_source(scan);
        match &mut scan.image {
            Image::I16(volume) => self.in_place(volume, warnings, shrunk),
            Image::F32(volume) => self.in_place(volume, warnings, shrunk),
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
        warnings: Warnings,
    ) -> Result<Segmentation, PipelineError> {
        self.run(scan.geometry(), |map| Oriented::new(scan, map), warnings, 0)
    }

    fn in_place<T: Intensity>(
        &self,
        scan: &mut Volume<T>,
        warnings: Warnings,
        shrunk: u8,
    ) -> Result<Segmentation, PipelineError> {
        let file = scan.geometry().clone();
        self.run(&file, |map| Oriented::in_place(scan, map), warnings, shrunk)
    }

    fn run<'a, T: Intensity + 'a>(
        &self,
        file: &Geometry,
        turn: impl FnOnce(AxisMap) -> Oriented<'a, T>,
        mut warnings: Warnings,
        shrunk: u8,
    ) -> Result<Segmentation, PipelineError> {
        let mut clock = Clock::new(&self.watch);
        let Some(first) = self.stages.first() else {
            return Err(self.nothing_segments());
        };
        let oriented = turn(first.stage.frame(file)?);
        clock.step("orient");
        if self.model.recipe().recipe.modality == Modality::Ct {
            match not_hounsfield(oriented.volume().data())? {
                Some(reason) if !self.options.allow_non_hu => return Err(PipelineError::NotHounsfield { reason }),
                Some(reason) => warnings.push(Warning::NotHounsfield { reason }),
                None => lie_of_body(oriented.volume())?.warn(&mut warnings),
            }
        }
        clock.step("check");

        let grid = oriented.volume().geometry().clone();
        let mut located: BTreeMap<&str, Localised> = BTreeMap::new();
        let mut removed = Vec::new();
        let mut confidence: BTreeMap<u8, Confidence> = BTreeMap::new();
        let mut gathered = Gathered::new(&grid);
        let mut merged: Option<(LabelMap, RoiReport)> = None;
        let stages = self
            .stages
            .iter()
            .map(|ready| ready.with_patches(shrunk, &mut warnings));
        let stages: Vec<_> = stages.collect();
        for ready in &stages {
            let (stage, id) = (&ready.stage, ready.stage.id.as_str());
            // A recipe whose stages refer to earlier ones only is the only one that can be made.
            let from = stage
                .roi
                .as_ref()
                .and_then(|roi| Some((roi, located.get(roi.from.as_str())?)));
            let (region, fallback) = match from {
                Some((spec, found)) => {
                    let roi = found.roi(&grid, spec.margin_mm, &mut warnings);
                    (roi.region, roi.fallback)
                }
                None => (Box3::whole(grid.shape), false),
            };
            let mut input = NetworkInput::new(oriented.volume(), &region, stage)?;
            clock.step(format!("{id}.prepare"));
            let tensor = std::mem::replace(&mut input.tensor, Tensor::zeros([0; 5]));
            let (network, slices) = (format!("{id}.network"), input.grid.shape[0]);
            let told = |slab: &Slab<'_>| {
                let done = slab.start() + slab.slices();
                self.watch.reached(&network, done as f64 / slices as f64);
            };
            match stage.role {
                Role::Localise => {
                    let labels = ready.labels_on_grid(&tensor, &told)?;
                    clock.step(&network);
                    let found = Localised::new(labels, &input, stage, &ready.classes)?;
                    removed.extend(found.removed.iter().cloned());
                    located.insert(id, found);
                    clock.step(format!("{id}.localise"));
                }
                Role::Segment | Role::Bare => {
                    let Found {
                        mut labels,
                        confidence: sure,
                        probabilities,
                        restore_seconds,
                    } = ready.labels(&tensor, &input, self.options.probabilities, &told)?;
                    confidence.extend(sure);
                    clock.step(&network);
                    clock.split(format!("{id}.restore"), restore_seconds);
                    match self.options.probabilities {
                        None => {}
                        Some(ProbabilityKind::Winner) => {
                            for map in &probabilities {
                                gathered.winner(map, &labels, &input.part)?;
                            }
                        }
                        Some(ProbabilityKind::All) => {
                            let background = probabilities.len() - ready.classes.entries().len();
                            for (class, map) in ready.classes.entries().iter().zip(&probabilities[background..]) {
                                gathered.class(&class.name, map, &input.part)?;
                            }
                        }
                    }
                    let (scan, start) = (oriented.volume(), input.part.start);
                    let [_, ny, nx] = scan.shape();
                    let hu = |[z, y, x]: [usize; 3]| {
                        let at = ((start[0] + z) * ny + start[1] + y) * nx + start[2] + x;
                        scan.data()[at].to_f32()
                    };
                    removed.extend(clean(&mut labels, Some(&hu), stage, &ready.classes)?);
                    clock.step(format!("{id}.postprocess"));
                    let roi = RoiReport::new(input.part, grid.spacing, fallback);
                    // What a later stage finds lies over what earlier ones found.
                    match &mut merged {
                        Some((whole, _)) => paste_over(&labels, whole, &input.part)?,
                        None => {
                            let mut whole = Volume::filled(grid.clone(), 0u8)?;
                            paste_over(&labels, &mut whole, &input.part)?;
                            merged = Some((whole, roi));
                        }
                    }
                    clock.step(format!("{id}.merge"));
                }
            }
        }
        let frame = oriented.frame().clone();
        let scan = oriented.back()?;
        let (mut labels, roi) = merged.ok_or_else(|| self.nothing_segments())?;
        if self.kept != *self.model.labels() {
            keep_only(&mut labels, &self.kept);
        }
        let probabilities = gathered.finish(&frame)?;
        let labels = frame.back(labels)?;
        clock.step("return");
        let mut organs = measure(scan, &labels, &self.kept)?;
        for organ in &mut organs {
            if let Some(sure) = confidence.get(&organ.id).filter(|_| organ.voxels > 0) {
                organ.confidence = Some(sure.probability);
                organ.entropy = Some(sure.entropy);
            }
        }
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
            probabilities,
        })
    }

    /// Validation of recipes makes sure that the last stage segments.
    fn nothing_segments(&self) -> PipelineError {
        PipelineError::Recipe {
            recipe: self.model.recipe().recipe.name.clone(),
            line: None,
            reason: "has no stage that segments".to_owned(),
        }
    }
}

/// What was odd about a file.
fn of_source(scan: &ReadImage) -> Warnings {
    let mut warnings = Warnings::default();
    let found = scan.warnings.iter();
    found.for_each(|w| warnings.push(Warning::Source(w.clone())));
    warnings
}

/// What a segmenting stage found.
struct Found {
    labels: LabelMap,
    confidence: BTreeMap<u8, Confidence>,
    probabilities: Vec<Volume<u8>>,
    restore_seconds: f64,
}

impl Ready {
    /// The same with smaller patches, and a word about them.
    fn with_patches(&self, eighths: u8, warnings: &mut Warnings) -> Cow<'_, Self> {
        let stage = self.stage.with_patches(eighths);
        match (&self.stage.inference.window, &stage.inference.window) {
            (Some(whole), Some(smaller)) if whole.patch != smaller.patch => {
                warnings.push(Warning::SmallerPatches {
                    stage: stage.id.clone(),
                    patches: [whole.patch, smaller.patch],
                });
                Cow::Owned(Self { stage, ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Runs the networks. Their engines live no longer, since the next stage's need the memory; to make them costs little
    /// beside running them.
    fn predict(&self, input: &Tensor, read: Reader<'_>) -> Result<(), PipelineError> {
        // The model stays for the next scan.
        let options = Options {
            shared: true,
            ..self.precision.into()
        };
        let engine = |weights| Engine::with_options(&self.graph, weights, options);
        let engines = self.folds.iter().map(engine).collect::<Result<Vec<_>, _>>();
        let engines = engines.map_err(|e| network_error(&self.stage, e))?;
        Predictor::new(&self.stage, &engines).run(input, read)
    }

    /// The labels of an input on the network's own grid. `told` sees each slab.
    fn labels_on_grid(&self, input: &Tensor, told: &dyn Fn(&Slab<'_>)) -> Result<Vec<u8>, PipelineError> {
        let decision = Decision::new(&self.stage.inference, &self.classes);
        let mut labels = Vec::with_capacity(input.spatial().iter().product());
        self.predict(input, &mut |slab| {
            labels.extend(decision.slab_labels(slab));
            told(slab);
            Ok(())
        })?;
        Ok(labels)
    }

    /// The labels of an input at the scan's resolution, over the part that it shows, and how sure the networks are.
    fn labels(
        &self,
        tensor: &Tensor,
        input: &NetworkInput,
        wanted: Option<ProbabilityKind>,
        told: &dyn Fn(&Slab<'_>),
    ) -> Result<Found, PipelineError> {
        restored((&self.stage, &self.classes), input, wanted, &mut |read| {
            self.predict(tensor, &mut |slab| {
                read(slab)?;
                told(slab);
                Ok(())
            })
        })
    }
}

/// The labels that a stage's networks find in an input, at the resolution of the scan that it was made of, over the part
/// that it shows. Nothing is cleaned up.
///
/// # Errors
/// [`PipelineError::Network`] when a network fails; [`PipelineError::Image`] when memory is short.
pub fn stage_labels<N: Infer>(
    stage: &Stage,
    classes: &LabelTable,
    networks: &[N],
    input: &NetworkInput,
) -> Result<LabelMap, PipelineError> {
    let predictor = Predictor::new(stage, networks);
    let found = restored((stage, classes), input, None, &mut |read| {
        predictor.run(&input.tensor, read)
    })?;
    Ok(found.labels)
}

/// Brings what `predict` hands on to the resolution of the scan.
fn restored(
    (stage, classes): (&Stage, &LabelTable),
    input: &NetworkInput,
    wanted: Option<ProbabilityKind>,
    predict: &mut dyn FnMut(Reader<'_>) -> Result<(), PipelineError>,
) -> Result<Found, PipelineError> {
    let decision = Decision::new(&stage.inference, classes);
    let mut meter = ConfidenceMeter::new(&stage.inference, &decision);
    let shape = input.geometry.shape;
    let tables = input.grid.back(stage, shape)?;
    let enlarger = Enlarger::new(&tables, &decision);
    let mut enlarger = enlarger.with_probabilities(wanted, Kind::of(&stage.inference));
    // Where labels are enlarged instead of logits, these are enlarged for their probabilities alone.
    let by_labels = stage.inference.restore == Restore::Labels;
    let mut small = Vec::new();
    let mut restore_seconds = 0.0;
    predict(&mut |slab| {
        let begin = Instant::now();
        meter.push(slab);
        if by_labels {
            small.extend(decision.slab_labels(slab));
        }
        if !by_labels || wanted.is_some() {
            enlarger.push(slab);
        }
        restore_seconds += begin.elapsed().as_secs_f64();
        Ok(())
    })?;
    let (mut labels, maps) = enlarger.finish_with_probabilities();
    if by_labels {
        labels = picked(&small, input.grid.shape, &input.grid.nearest(shape)?);
    }
    let volume = |values| Volume::new(input.geometry.clone(), values);
    Ok(Found {
        labels: volume(labels)?,
        confidence: meter.finish(),
        probabilities: maps.into_iter().map(volume).collect::<Result<_, _>>()?,
        restore_seconds,
    })
}

/// Labels of a grid at some positions of each axis.
fn picked(labels: &[u8], [_, ny, nx]: [usize; 3], [zs, ys, xs]: &[Vec<usize>; 3]) -> Vec<u8> {
    let mut out = vec![0; zs.len() * ys.len() * xs.len()];
    out.par_chunks_mut(xs.len().max(1)).enumerate().for_each(|(row, out)| {
        let (z, y) = (zs[row / ys.len()], ys[row % ys.len()]);
        let row = &labels[(z * ny + y) * nx..][..nx];
        out.iter_mut().zip(xs).for_each(|(o, &x)| *o = row[x]);
    });
    out
}

/// A stage with what the caller wants otherwise.
fn adjusted(stage: &Stage, options: &SegmentOptions, model: &Model) -> Result<Stage, PipelineError> {
    let mut stage = stage.clone();
    match options.tta {
        Some(Tta::None) => stage.inference.mirror.clear(),
        Some(Tta::Mirror) if stage.inference.mirror.is_empty() && stage.role == Role::Segment => {
            stage.inference.mirror = vec![Axis::Z, Axis::Y, Axis::X];
        }
        Some(Tta::Mirror) | None => {}
    }
    if let (Some(step), Some(window)) = (options.step_size, &mut stage.inference.window) {
        if !(step > 0.0 && step <= 1.0) {
            return Err(PipelineError::Recipe {
                recipe: model.recipe().recipe.name.clone(),
                line: None,
                reason: format!("a step size of {step} is not in 0 < s ≤ 1"),
            });
        }
        window.step = step;
    }
    Ok(stage)
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
