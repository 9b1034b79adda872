//! A recipe as a page for people, Markdown.

use super::{
    Activation, Average, ChannelRule, Crop, Interpolation, Method, Mode, Normalise, Orient, PatchWeights, Phase,
    PhaseStage, Recipe, Resample, Restore, Role, SeparateZ, Stage, StageClasses, Supervision,
};
use crate::PipelineError;
use std::fmt::Write as _;
use viscera_image::{Convention, LabelTable};
use viscera_net::Counts;

impl Recipe {
    /// What the recipe does, stage by stage, in words and figures; generated, so it is what the recipe says.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] when it has no text form; [`PipelineError::Network`] when a network cannot be built.
    pub fn page(&self, labels: &LabelTable) -> Result<String, PipelineError> {
        let mut out = String::new();
        let mut line = |text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        line(&format!("# {}", self.recipe.name));
        line("");
        line("<!-- Made by `viscera recipe page`; do not edit. -->");
        line("");
        if !self.recipe.reference.is_empty() {
            let reference = &self.recipe.reference;
            line(&format!(
                "After {}.",
                reference.strip_prefix("After ").unwrap_or(reference)
            ));
            line("");
        }
        let classes: Vec<&str> = labels.entries().iter().map(|e| e.name.as_str()).collect();
        line(&format!("Classes ({}): {}.", labels.name(), classes.join(", ")));
        line("");
        line(&format!("Fingerprint of the recipe (SHA-256): `{}`.", self.hash()?));
        for (place, stage) in self.stages.iter().enumerate() {
            line("");
            line(&format!("## {}. {}", place + 1, stage.id));
            line("");
            for (what, text) in stage.facts(labels)? {
                line(&format!("- **{what}**: {text}."));
            }
        }
        line("");
        line("## Training");
        line("");
        if self.training.is_empty() {
            line("The recipe does not say how its networks are trained.");
        }
        if self.phases.is_empty() {
            self.phase_stages(None).iter().for_each(|part| line(&part.facts()));
        }
        for (number, phase) in self.phases.iter().enumerate() {
            line(&format!("{}. **{}**{}", number + 1, phase.id, phase.facts()));
            let parts = self.phase_stages(Some(phase));
            parts.iter().for_each(|part| line(&format!("   {}", part.facts())));
        }
        Ok(out)
    }
}

impl Phase {
    fn facts(&self) -> String {
        match (&self.pseudo_label, &self.labels) {
            (Some(label), _) => {
                let cases: Vec<&str> = label.cases.iter().map(|stream| stream.name()).collect();
                format!(": \"{}\" labels the {} cases", label.with, cases.join(" and "))
            }
            (None, Some(from)) => format!(", with the labels of \"{from}\""),
            (None, None) => String::new(),
        }
    }
}

impl PhaseStage {
    fn facts(&self) -> String {
        let training = &self.settings;
        let streams: Vec<String> = training
            .streams
            .iter()
            .map(|(s, n)| format!("{n} {}", s.name()))
            .collect();
        let streams = if streams.is_empty() {
            String::new()
        } else {
            format!(" ({})", streams.join(", "))
        };
        let from = self
            .start_from
            .as_ref()
            .map(|(phase, stage)| format!(", from the weights of {phase}/{stage}"));
        let teacher = match training.supervision {
            Supervision::MeanTeacher { decay, weight, .. } => {
                format!(", with a mean teacher (decay {decay}, weight {weight})")
            }
            Supervision::Supervised => String::new(),
        };
        format!(
            "- **{}** (`{}`): {} epochs of {} steps, {} samples a step{streams}, learning rate {}{}{teacher}.",
            self.stage.id,
            self.stage.network.arch(),
            training.epochs,
            training.iterations_per_epoch,
            training.batch_size,
            training.optimizer.lr(),
            from.unwrap_or_default()
        )
    }
}

impl Stage {
    fn facts(&self, labels: &LabelTable) -> Result<Vec<(&'static str, String)>, PipelineError> {
        let mut facts = Vec::new();
        let role = match self.role {
            Role::Localise => "finds where later stages look",
            Role::Segment => "gives labels; they lie over those of earlier stages",
            Role::Bare => "a network alone",
        };
        facts.push(("role", role.to_owned()));
        let classes = match &self.classes {
            StageClasses::All => "all".to_owned(),
            StageClasses::Union => "one: anything".to_owned(),
            StageClasses::Named(names) => names.join(", "),
        };
        facts.push(("classes", classes));
        let mut sees = match &self.roi {
            None => "the whole scan".to_owned(),
            Some(roi) => format!(
                "the box around what \"{}\" found, {} mm (z, y, x) larger on each side; the whole scan, with a warning, \
                 where it found nothing",
                roi.from,
                triple(roi.margin_mm)
            ),
        };
        if let Some(crop) = self.crop {
            let rest = match crop {
                Crop::NonZero => "the box of voxels that are not 0".to_owned(),
                Crop::AboveHu(hu) => format!("the box of voxels of at least {hu} HU"),
                Crop::MiddleSlices(n) => format!("the middle {n} slices"),
                Crop::MiddleMm(mm) => format!("the middle {mm} mm"),
            };
            let _ = write!(sees, "; of it {rest}");
        }
        let orient = match self.orient {
            Orient::Ras => "turned to RAS+",
            Orient::File => "as the voxels lie in the file",
        };
        facts.push(("sees", format!("{sees}, {orient}")));
        facts.push(("grid", grid(&self.resample)));
        facts.push(("intensities", intensities(&self.normalise)));
        facts.push(("network", self.network_facts(labels)?));
        facts.push(("inference", self.inference_facts()));
        let rules = self.postprocess.iter().filter_map(|rule| toml::to_string(rule).ok());
        let rules: Vec<String> = rules
            .map(|rule| format!("`{}`", rule.trim().replace('\n', ", ")))
            .collect();
        if !rules.is_empty() {
            facts.push(("clean-up", rules.join("; ")));
        }
        Ok(facts)
    }

    fn network_facts(&self, labels: &LabelTable) -> Result<String, PipelineError> {
        let failed = |source| crate::prepare::network_error(self, source);
        let classes = self.table(labels)?.entries().len();
        let outputs = self.inference.channels(classes);
        let mut text = format!("`{}`", self.network.arch());
        if let Ok(graph) = self.network.graph(self.normalise.channels(), outputs) {
            let size = self.network_size();
            let trained: Counts = graph.counts(size).map_err(failed)?;
            let run = self.inference_graph(&graph).map_err(failed)?;
            let macs = run.counts(size).map_err(failed)?.macs as f64 / 1e9;
            let _ = write!(
                text,
                ", {} channels out, {} parameters; {macs:.1} thousand million multiply-accumulates on {} voxels",
                outputs,
                trained.params,
                size.map(|n| n.to_string()).join("×")
            );
        }
        Ok(text)
    }

    fn inference_facts(&self) -> String {
        let inference = &self.inference;
        let mut text = match (inference.mode, inference.window) {
            (Mode::SlidingWindow, Some(window)) => format!(
                "sliding window, patches of {} voxels, step {}, {} weights",
                window.patch.map(|n| n.to_string()).join("×"),
                window.step,
                match window.weights {
                    PatchWeights::Uniform => "equal",
                    PatchWeights::Gaussian => "Gaussian",
                }
            ),
            _ => "the whole at once".to_owned(),
        };
        if inference.head > 0 {
            let _ = write!(text, "; reads head {}, enlarged", inference.head);
        }
        if !inference.mirror.is_empty() {
            let _ = write!(text, "; mirrored along {} axes", inference.mirror.len());
        }
        if inference.folds.len() > 1 {
            let _ = write!(text, "; mean of {} networks", inference.folds.len());
        }
        match (inference.activation, inference.threshold) {
            (Activation::Sigmoid, Some(t)) => {
                let _ = write!(text, "; sigmoid, a class from probability {t} on, the greatest wins");
            }
            _ => text.push_str("; softmax, the greatest wins"),
        }
        if inference.average == Average::Probabilities {
            text.push_str("; probabilities are averaged");
        }
        if let Some(floor) = inference.floor {
            let _ = write!(text, ", those below {floor} count as 0");
        }
        text.push_str(match (self.role, inference.restore) {
            (Role::Segment, Restore::Logits) => "; enlarged before they are decided",
            (Role::Segment, Restore::Labels) => "; labels are enlarged, by nearest neighbour",
            _ => "",
        });
        text
    }
}

fn triple(values: [f64; 3]) -> String {
    values.map(|v| v.to_string()).join(" × ")
}

fn grid(resample: &Resample) -> String {
    match resample {
        Resample::Size(fixed) => format!(
            "{} voxels, linear, {}",
            fixed.size.map(|n| n.to_string()).join("×"),
            match fixed.convention {
                Convention::AlignCorners => "corners aligned",
                Convention::HalfPixel => "half-pixel",
            }
        ),
        Resample::Spacing(grid) => {
            let mut text = format!(
                "{} mm (z, y, x); images {}, back {}",
                triple(grid.spacing_mm),
                way(&grid.image),
                way(&grid.logits)
            );
            if let Some(most) = grid.max_in_plane {
                let _ = write!(text, "; coarser where y or x would have more than {most} voxels");
            }
            text
        }
    }
}

fn way(way: &Interpolation) -> String {
    let mut text = match (way.method, way.order) {
        (Method::Spline, 0) => "nearest".to_owned(),
        (Method::Spline, 1) | (Method::Torch, _) => "linear".to_owned(),
        (Method::Spline, order) => format!("by B-splines of order {order}"),
        (Method::AlignCorners, _) => "linear with corners aligned".to_owned(),
    };
    match way.separate_z {
        SeparateZ::Never => {}
        SeparateZ::Always => text.push_str(", a coarse axis on its own"),
        SeparateZ::Auto => {
            let _ = write!(
                text,
                ", an axis {} times as coarse as others on its own",
                way.anisotropy
            );
        }
    }
    text
}

fn intensities(normalise: &Normalise) -> String {
    match normalise {
        Normalise::Window(w) => format!(
            "window {} to {} HU ({} resampling), then z-score of the case",
            w.window_hu[0],
            w.window_hu[1],
            if w.window_first { "before" } else { "after" }
        ),
        Normalise::Channels(channels) => {
            let rule = |rule: &ChannelRule| match rule {
                ChannelRule::Fixed { window, mean, std } => {
                    format!("window {} to {}, (x − {mean}) / {std}", window[0], window[1])
                }
                ChannelRule::Zscore { nonzero: false } => "z-score of the case".to_owned(),
                ChannelRule::Zscore { nonzero: true } => "z-score of what is not 0".to_owned(),
                ChannelRule::UnitRange => "scaled to 0 to 1".to_owned(),
                ChannelRule::Byte => "divided by 255".to_owned(),
                ChannelRule::None => "as they are".to_owned(),
            };
            let all: Vec<String> = channels.iter().map(rule).collect();
            format!("{}; before resampling", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docs(path: &str) -> String {
        format!("{}/../../docs/{path}", env!("CARGO_MANIFEST_DIR"))
    }

    fn written(path: &str, text: &str) {
        let path = docs(path);
        if std::env::var_os("VISCERA_WRITE_DOCS").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{path} is out of date; set VISCERA_WRITE_DOCS=1 and run this test again"
        );
    }

    #[test]
    fn every_recipe_has_its_page() {
        for name in Recipe::builtin_names() {
            let recipe = Recipe::builtin(name).unwrap();
            let page = recipe.page(&recipe.label_table().unwrap()).unwrap();
            written(&format!("recipes/{name}.md"), &page);
        }
    }

    #[test]
    fn the_schema_is_written_down() {
        let schema = serde_json::to_string_pretty(&Recipe::schema()).unwrap() + "\n";
        written("recipes/recipe.schema.json", &schema);
    }
}
