//! Values of a recipe that parse but cannot be.

use super::{
    Activation, Average, ChannelRule, Crop, Inference, IntensitySource, Method, Mode, NetworkSpec, Normalise,
    OptimizerSettings, PhaseStage, Recipe, Resample, Role, Schedule, SeparateZ, Stage, StageClasses, Supervision,
    TrainingSettings,
};
use crate::PipelineError;
use std::collections::BTreeSet;
use viscera_image::LabelTable;

/// Largest input of a network in voxels: 512³, eight times EfficientSegNet's. Keeps a hostile recipe from asking for more
/// memory than any machine has.
const MAX_VOXELS: usize = 1 << 27;
/// Widest first level of a network.
const MAX_FEATURES: usize = 128;
/// Limits of nnU-Net's plans, far above what its planner makes.
const MAX_LEVELS: usize = 12;
const MAX_DEPTH: usize = 64;
const MAX_KERNEL: usize = 31;
const MAX_WIDTH: usize = 4096;
/// Most channels of an image, and networks of an ensemble.
const MAX_CHANNELS: usize = 64;
const MAX_FOLDS: usize = 32;

pub(super) fn validate(recipe: &Recipe, table: &LabelTable, source: &str) -> Result<(), PipelineError> {
    let check = || -> Result<(), String> {
        if table.name() != recipe.recipe.labels {
            return Err(format!(
                "is for the labels {}, not {}",
                recipe.recipe.labels,
                table.name()
            ));
        }
        if table.entries().is_empty() {
            return Err(format!("the label table {} has no class", table.name()));
        }
        if recipe.stages.is_empty() {
            return Err("has no stage".to_owned());
        }
        let mut earlier = BTreeSet::new();
        for stage in &recipe.stages {
            check_stage(stage, &earlier, table).map_err(|reason| format!("stage \"{}\": {reason}", stage.id))?;
            if !earlier.insert(stage.id.as_str()) {
                return Err(format!("two stages have the id \"{}\"", stage.id));
            }
        }
        let bare = matches!(recipe.stages.as_slice(), [stage] if stage.role == Role::Bare);
        if !bare && recipe.stages.iter().any(|s| s.role == Role::Bare) {
            return Err("a stage with role = \"bare\" must be alone".to_owned());
        }
        let first = &recipe.stages[0];
        if recipe
            .stages
            .iter()
            .any(|s| (s.orient, s.axes) != (first.orient, first.axes))
        {
            return Err("all stages must have the same orient and axes".to_owned());
        }
        if !bare && recipe.stages.last().is_none_or(|s| s.role != Role::Segment) {
            return Err("its last stage must have role = \"segment\"".to_owned());
        }
        for (id, training) in &recipe.training {
            let Some(stage) = recipe.stage(id) else {
                return Err(format!("[training.{id}] speaks of a stage that there is not"));
            };
            check_training(training, stage).map_err(|reason| format!("[training.{id}]: {reason}"))?;
        }
        recipe.check_phases()?;
        for phase in &recipe.phases {
            for PhaseStage { stage, settings, .. } in recipe.phase_stages(Some(phase)) {
                let classes = stage.table(table).map_err(|e| e.to_string())?;
                check_training(&settings, &stage)
                    .and_then(|()| check_network(&stage, &classes))
                    .map_err(|reason| format!("phase {}, stage \"{}\": {reason}", phase.id, stage.id))?;
            }
        }
        Ok(())
    };
    check().map_err(|reason| PipelineError::Recipe {
        recipe: source.to_owned(),
        line: None,
        reason,
    })
}

fn check_stage(stage: &Stage, earlier: &BTreeSet<&str>, table: &LabelTable) -> Result<(), String> {
    let name_ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if stage.id.is_empty() || !stage.id.chars().all(name_ok) {
        return Err("an id consists of letters, digits, _ and -".to_owned());
    }
    if let Some(roi) = &stage.roi {
        if !earlier.contains(roi.from.as_str()) {
            return Err(format!("roi.from = \"{}\" is no earlier stage", roi.from));
        }
        if !roi.margin_mm.iter().all(|m| (0.0..=1000.0).contains(m)) {
            return Err(format!("roi.margin_mm = {:?} is not between 0 and 1000", roi.margin_mm));
        }
    }
    let mut axes = stage.axes;
    axes.sort_unstable();
    if axes != [0, 1, 2] {
        return Err(format!("axes = {:?} is no order of 0, 1, 2", stage.axes));
    }
    let classes = stage.table(table).map_err(|e| format!("classes: {e}"))?;
    if classes.entries().is_empty() {
        return Err("classes names none".to_owned());
    }
    if stage.classes == StageClasses::Union && stage.role == Role::Segment {
        return Err("classes = \"union\" finds where to look; a stage that segments names its classes".to_owned());
    }
    check_crop(stage.crop)?;
    check_normalise(&stage.normalise)?;
    check_resample(&stage.resample)?;
    check_inference(&stage.inference)?;
    if matches!(stage.resample, Resample::Spacing(_)) && stage.inference.window.is_none() {
        return Err("resample.spacing_mm needs inference.mode = \"sliding_window\"".to_owned());
    }
    check_network(stage, &classes)?;
    stage.postprocess.iter().try_for_each(|rule| rule.check(&classes))?;
    let seeing = stage.postprocess.iter().find(|rule| rule.sees_scan());
    if let (Role::Localise, Some(rule)) = (stage.role, seeing) {
        let name = rule.name();
        return Err(format!(
            "{name} looks at the scan's own voxels; a stage that localises has none"
        ));
    }
    Ok(())
}

fn check_crop(crop: Option<Crop>) -> Result<(), String> {
    let fits = match crop {
        Some(Crop::AboveHu(hu)) => hu.is_finite(),
        Some(Crop::MiddleSlices(count)) => count > 0,
        Some(Crop::MiddleMm(length)) => length > 0.0 && length.is_finite(),
        Some(Crop::NonZero) | None => true,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("crop = {crop:?} cannot be"))
    }
}

fn voxels(size: [usize; 3]) -> Option<usize> {
    let count = size.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    count.filter(|&n| n > 0 && n <= MAX_VOXELS)
}

fn rises([low, high]: [f64; 2]) -> bool {
    low.is_finite() && high.is_finite() && low < high
}

fn check_normalise(normalise: &Normalise) -> Result<(), String> {
    match normalise {
        Normalise::Window(w) if !rises(w.window_hu) => {
            let [low, high] = w.window_hu;
            Err(format!("normalise.window_hu = [{low}, {high}] does not rise"))
        }
        Normalise::Channels(channels) if channels.is_empty() || channels.len() > MAX_CHANNELS => Err(format!(
            "normalise.channels has {} entries; from 1 to {MAX_CHANNELS} are possible",
            channels.len()
        )),
        Normalise::Channels(channels) => channels.iter().try_for_each(|rule| match rule {
            ChannelRule::Fixed { window, mean, std } if !(rises(*window) && mean.is_finite() && *std > 0.0) => {
                Err(format!("normalise.channels: {rule:?} cannot be"))
            }
            _ => Ok(()),
        }),
        Normalise::Window(_) => Ok(()),
    }
}

fn check_resample(resample: &Resample) -> Result<(), String> {
    match resample {
        Resample::Size(fixed) if voxels(fixed.size).is_none() => Err(format!(
            "resample.size = {:?} has no voxel, or more than {MAX_VOXELS}",
            fixed.size
        )),
        Resample::Size(_) => Ok(()),
        Resample::Spacing(grid) => {
            if !grid.spacing_mm.iter().all(|s| (0.01..=100.0).contains(s)) {
                return Err(format!(
                    "resample.spacing_mm = {:?} is not between 0.01 and 100",
                    grid.spacing_mm
                ));
            }
            for way in [grid.image, grid.logits] {
                if way.order > 5 || way.order_z > 5 || !(way.anisotropy >= 1.0 && way.anisotropy.is_finite()) {
                    return Err(format!(
                        "resample: {way:?} cannot be; orders are 0 to 5, anisotropy is at least 1"
                    ));
                }
                if way.method == Method::AlignCorners && (way.order != 1 || way.separate_z != SeparateZ::Never) {
                    return Err("resample: align_corners has order 1 and no separate axis".to_owned());
                }
            }
            if grid.logits.order > 1 {
                return Err("resample.logits: orders are 0 and 1".to_owned());
            }
            if grid.max_in_plane == Some(0) {
                return Err("resample.max_in_plane must be positive".to_owned());
            }
            Ok(())
        }
    }
}

fn check_inference(inference: &Inference) -> Result<(), String> {
    match (inference.activation, inference.threshold) {
        (Activation::Sigmoid, Some(t)) if t > 0.0 && t < 1.0 => {}
        (Activation::Sigmoid, Some(t)) => return Err(format!("inference.threshold = {t} is not between 0 and 1")),
        (Activation::Sigmoid, None) => return Err("inference lacks a threshold for its sigmoid".to_owned()),
        (Activation::Softmax, Some(_)) => return Err("inference: a softmax has no threshold".to_owned()),
        (Activation::Softmax, None) => {}
    }
    match (inference.mode, inference.window) {
        (Mode::WholeVolume, None) => {}
        (Mode::WholeVolume, Some(_)) => return Err("inference: a whole volume has no window".to_owned()),
        (Mode::SlidingWindow, None) => return Err("inference lacks the window that slides".to_owned()),
        (Mode::SlidingWindow, Some(window)) => {
            if voxels(window.patch).is_none() {
                return Err(format!(
                    "inference.window.patch = {:?} has no voxel, or more than {MAX_VOXELS}",
                    window.patch
                ));
            }
            if !(window.step > 0.0 && window.step <= 1.0) {
                return Err(format!("inference.window.step = {} is not in 0 < s ≤ 1", window.step));
            }
        }
    }
    match (inference.average, inference.floor) {
        (Average::Probabilities, _) if inference.activation == Activation::Sigmoid => {
            return Err("inference.average = \"probabilities\" needs a softmax".to_owned());
        }
        (Average::Logits, Some(_)) => return Err("inference.floor needs average = \"probabilities\"".to_owned()),
        (_, Some(floor)) if !(0.0..1.0).contains(&floor) => {
            return Err(format!("inference.floor = {floor} is not in 0 ≤ p < 1"));
        }
        _ => {}
    }
    if (1..inference.mirror.len()).any(|i| inference.mirror[..i].contains(&inference.mirror[i])) {
        return Err("inference.mirror names an axis twice".to_owned());
    }
    let folds = &inference.folds;
    let name_ok = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    if !folds.iter().all(name_ok) || folds.iter().collect::<BTreeSet<_>>().len() != folds.len() {
        return Err(format!(
            "inference.folds = {folds:?}: names are different, of letters and digits"
        ));
    }
    if folds.len() > MAX_FOLDS {
        return Err(format!("inference.folds names more than {MAX_FOLDS} networks"));
    }
    Ok(())
}

fn check_network(stage: &Stage, table: &LabelTable) -> Result<(), String> {
    let (features, dropout) = stage.network.limits();
    if let Some(features) = features
        && !(4..=MAX_FEATURES).contains(&features)
    {
        return Err(format!(
            "network.base_features = {features} is not between 4 and {MAX_FEATURES}"
        ));
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(format!("network.dropout = {dropout} is not in 0 ≤ p < 1"));
    }
    let plan = match &stage.network {
        NetworkSpec::Graph {} => return Ok(()),
        NetworkSpec::PlainUnet(plan) | NetworkSpec::ResidualEncoderUnet(plan) | NetworkSpec::GenericUnet(plan) => {
            Some(plan)
        }
        NetworkSpec::PhTrans {
            kernels,
            strides,
            max_features,
            ..
        } => {
            let extents = kernels.as_flattened().iter().chain(strides.as_flattened());
            if kernels.len() > MAX_LEVELS || *max_features > MAX_WIDTH || extents.max() > Some(&MAX_KERNEL) {
                return Err(format!(
                    "network: more than {MAX_LEVELS} levels, {MAX_WIDTH} channels or a kernel above {MAX_KERNEL}"
                ));
            }
            None
        }
        _ => None,
    };
    if let Some(plan) = plan {
        let depths = plan.depths.iter().chain(&plan.decoder_depths);
        let extents = plan.kernels.as_flattened().iter().chain(plan.strides.as_flattened());
        let widths = plan.features.iter().chain(&plan.stem);
        if plan.features.len() > MAX_LEVELS
            || depths.max() > Some(&MAX_DEPTH)
            || extents.max() > Some(&MAX_KERNEL)
            || widths.max() > Some(&MAX_WIDTH)
        {
            return Err(format!(
                "network: more than {MAX_LEVELS} levels, {MAX_DEPTH} convolutions per level, {MAX_WIDTH} channels or a \
                 kernel above {MAX_KERNEL}"
            ));
        }
        if !(plan.norm_eps >= 0.0 && plan.norm_eps.is_finite() && plan.slope.is_finite()) {
            return Err("network: norm_eps and slope must be numbers".to_owned());
        }
    }
    let channels = stage.inference.channels(table.entries().len());
    let size = stage.network_size();
    let graph = stage
        .network
        .graph(stage.normalise.channels(), channels)
        .map_err(|e| format!("network: {e}"))?;
    let unfit = |error| format!("an input of {size:?} voxels does not suit the network: {error}");
    graph.shapes(size).map_err(unfit)?;
    stage
        .inference_graph(&graph)
        .map_err(|e| format!("inference.head = {}: {e}", stage.inference.head))?;
    Ok(())
}

fn check_training(training: &TrainingSettings, stage: &Stage) -> Result<(), String> {
    training.loss.check(stage.inference.activation)?;
    let counts = [
        training.steps(),
        training.batch_size as u64,
        training.accumulate,
        training.validate_every,
    ];
    if counts.contains(&0) {
        return Err(
            "epochs, iterations_per_epoch, batch_size, accumulate and validate_every must be at least 1".to_owned(),
        );
    }
    let streamed: usize = training.streams.values().fold(0, |sum, &n| sum.saturating_add(n));
    if !training.streams.is_empty() && streamed != training.batch_size {
        return Err(format!(
            "streams have {streamed} samples in sum, batch_size is {}",
            training.batch_size
        ));
    }
    let share = |v: f64| (0.0..1.0).contains(&v);
    let positive = |v: f64| v.is_finite() && v > 0.0;
    let moments_fit = match &training.optimizer {
        OptimizerSettings::Adam(a) | OptimizerSettings::Adamw(a) => {
            a.betas.iter().all(|b| share(*b)) && a.weight_decay >= 0.0 && positive(a.eps)
        }
        OptimizerSettings::Sgd {
            momentum, weight_decay, ..
        } => share(*momentum) && *weight_decay >= 0.0,
    };
    if !positive(training.optimizer.lr()) || !moments_fit {
        return Err(format!("the optimizer {:?} cannot be", training.optimizer));
    }
    let schedule_fits = match &training.schedule {
        Schedule::Constant => true,
        Schedule::Steps { at, factors } => {
            if at.len() != factors.len() {
                return Err(format!("schedule: {} places for {} factors", at.len(), factors.len()));
            }
            at.is_sorted()
                && at.iter().all(|t| (0.0..=1.0).contains(t))
                && factors.iter().all(|f| f.is_finite() && *f >= 0.0)
        }
        Schedule::Poly { power } => power.is_finite() && *power >= 0.0,
        Schedule::Cosine { floor } => (0.0..=1.0).contains(floor),
    };
    if !schedule_fits {
        return Err(format!("the schedule {:?} cannot be", training.schedule));
    }
    if !(0.0..=1.0).contains(&training.warmup) {
        return Err(format!("warmup = {} is not between 0 and 1", training.warmup));
    }
    if training.clip_norm.is_some_and(|c| c.is_nan() || c <= 0.0) {
        return Err("clip_norm must be positive".to_owned());
    }
    if training.ema.is_some_and(|d| !(0.0..1.0).contains(&d)) {
        return Err("ema must lie in 0 ≤ d < 1".to_owned());
    }
    if let Supervision::MeanTeacher { decay, weight, .. } = training.supervision {
        let fits = (0.0..1.0).contains(&decay) && weight.is_finite() && weight >= 0.0;
        if !fits {
            return Err(format!("supervision: {:?} cannot be", training.supervision));
        }
        if training.ema.is_some() {
            return Err("ema: a mean teacher is an average already".to_owned());
        }
    }
    if !(0.0..=1.0).contains(&training.foreground_share) {
        return Err(format!(
            "foreground_share = {} is not between 0 and 1",
            training.foreground_share
        ));
    }
    if training.plain_epochs > training.epochs {
        return Err("plain_epochs are part of the epochs".to_owned());
    }
    let constants =
        matches!(&stage.normalise, Normalise::Channels(c) if matches!(c.as_slice(), [ChannelRule::Fixed { .. }]));
    if training.intensities == IntensitySource::Data && !constants {
        return Err("intensities = \"data\" needs a normalise.channels with scheme = \"fixed\"".to_owned());
    }
    if !positive(training.cache_spacing_mm) {
        return Err("cache_spacing_mm must be positive".to_owned());
    }
    if let Some(mirror) = &training.augment.mirror
        && !(0.0..=1.0).contains(&mirror.probability)
    {
        return Err(format!(
            "augment.mirror: probability {} is not between 0 and 1",
            mirror.probability
        ));
    }
    for (key, chance) in training.augment.chances() {
        let Some(chance) = chance else { continue };
        if !(0.0..=1.0).contains(&chance.probability) {
            return Err(format!(
                "augment.{key}: probability {} is not between 0 and 1",
                chance.probability
            ));
        }
        let [low, high] = chance.range;
        if key == "copy_paste" && !(0.0..=1000.0).contains(&high) {
            return Err(format!("augment.{key}: {high} cubes; at most 1000"));
        }
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(format!("augment.{key}: range [{low}, {high}] does not rise"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: (&str, &str)) -> String {
        let text = Recipe::builtin_text("flare21-efficientsegnet").unwrap();
        assert!(text.contains(change.0));
        Recipe::parse(&text.replacen(change.0, change.1, 1), "r")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn contradictions_are_named() {
        for (change, part) in [
            (("from = \"coarse\"", "from = \"fine\""), "is no earlier stage"),
            (("id = \"fine\"", "id = \"coarse\""), "two stages"),
            (("role = \"segment\"", "role = \"localise\""), "its last stage must"),
            (("window_hu = [-325, 325]", "window_hu = [325, -325]"), "does not rise"),
            (("size = [160, 160, 160]", "size = [4000, 4000, 4000]"), "more than"),
            (
                ("size = [192, 192, 192]", "size = [192, 192, 8]"),
                "does not suit the network",
            ),
            (("threshold = 0.5", "threshold = 1.0"), "between 0 and 1"),
            (("\"liver\", ", "\"livre\", "), "is no class of flare13"),
            (("[training.fine]", "[training.finer]"), "a stage that there is not"),
            (("labels = \"flare13\"", "labels = \"flare99\""), "no label table"),
            (("base_features = 8", "base_features = 100000"), "base_features"),
            (("at = [0.66, 0.86]", "at = [0.66]"), "1 places for 2 factors"),
        ] {
            let found = error(change);
            assert!(found.contains(part), "{found}");
        }
    }
}
