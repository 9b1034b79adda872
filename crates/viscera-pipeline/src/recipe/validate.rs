//! Values of a recipe that parse but cannot be.

use super::{Keep, OptimizerSettings, Recipe, Role, Schedule, Stage, TrainingSettings};
use crate::PipelineError;
use std::collections::BTreeSet;
use viscera_image::LabelTable;

/// Largest input of a network in voxels: 512³, eight times EfficientSegNet's. Keeps a hostile recipe from asking for more
/// memory than any machine has.
const MAX_VOXELS: usize = 1 << 27;
/// Widest first level of a network.
const MAX_FEATURES: usize = 128;

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
        if recipe.stages.iter().filter(|s| s.role == Role::Segment).count() != 1 {
            return Err("needs exactly one stage with role = \"segment\"".to_owned());
        }
        if recipe.stages.last().is_none_or(|s| s.role != Role::Segment) {
            return Err("its last stage must have role = \"segment\"".to_owned());
        }
        for (id, training) in &recipe.training {
            if recipe.stage(id).is_none() {
                return Err(format!("[training.{id}] speaks of a stage that there is not"));
            }
            check_training(training).map_err(|reason| format!("[training.{id}]: {reason}"))?;
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
    let [low, high] = stage.normalise.window_hu;
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(format!("normalise.window_hu = [{low}, {high}] does not rise"));
    }
    let features = stage.network.base_features();
    if !(4..=MAX_FEATURES).contains(&features) {
        return Err(format!(
            "network.base_features = {features} is not between 4 and {MAX_FEATURES}"
        ));
    }
    if !(0.0..1.0).contains(&stage.network.dropout()) {
        return Err(format!(
            "network.dropout = {} is not in 0 ≤ p < 1",
            stage.network.dropout()
        ));
    }
    let size = stage.resample.size;
    if size
        .iter()
        .try_fold(1usize, |n, &s| n.checked_mul(s))
        .is_none_or(|n| n > MAX_VOXELS)
    {
        return Err(format!("resample.size = {size:?} has more than {MAX_VOXELS} voxels"));
    }
    let graph = stage.network.graph(1, table.entries().len());
    if let Err(error) = graph.shapes(size) {
        return Err(format!("resample.size = {size:?} does not suit the network: {error}"));
    }
    if !(stage.inference.threshold > 0.0 && stage.inference.threshold < 1.0) {
        return Err(format!(
            "inference.threshold = {} is not between 0 and 1",
            stage.inference.threshold
        ));
    }
    for rule in &stage.postprocess {
        if let Keep::Named(names) = &rule.keep_largest
            && let Some(unknown) = names.iter().find(|n| table.by_name(n).is_none())
        {
            return Err(format!("keep_largest: \"{unknown}\" is no class of {}", table.name()));
        }
        if !(rule.min_volume_mm3 >= 0.0 && rule.min_volume_mm3.is_finite()) {
            return Err(format!("min_volume_mm3 = {} is not a volume", rule.min_volume_mm3));
        }
    }
    Ok(())
}

fn check_training(training: &TrainingSettings) -> Result<(), String> {
    if training.steps() == 0 || training.batch_size == 0 || training.validate_every == 0 {
        return Err("epochs, iterations_per_epoch, batch_size and validate_every must be at least 1".to_owned());
    }
    let loss = &training.loss;
    let values = [loss.dice, loss.focal, loss.smooth, loss.focal_alpha, loss.focal_gamma];
    if !(values.iter().all(|v| v.is_finite() && *v >= 0.0) && loss.dice + loss.focal > 0.0 && loss.smooth > 0.0) {
        return Err("loss: values must not be negative, a weight and smooth must be positive".to_owned());
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
            (("role = \"segment\"", "role = \"localise\""), "exactly one stage"),
            (("window_hu = [-325, 325]", "window_hu = [325, -325]"), "does not rise"),
            (("size = [160, 160, 160]", "size = [4000, 4000, 4000]"), "voxels"),
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
