//! Trainings in several phases: the `[[phase]]` tables.
//!
//! A phase trains stages, or lets what an earlier one trained label cases for a later one. Without phases, every stage that
//! has a `[training.ID]` table is trained once.

use super::{
    Augment, IntensitySource, LossSettings, NetworkSpec, OptimizerSettings, Recipe, Schedule, Stage, Stream,
    Supervision, TrainingSettings,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A `[[phase]]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Unique name; it is the name of the phase's folder in a run.
    pub id: String,
    /// Ids of the stages that it trains, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train: Vec<String>,
    /// Where weights start, by stage: `"PHASE"` or `"PHASE/STAGE"` of an earlier one; fresh without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub start_from: BTreeMap<String, String>,
    /// Id of an earlier phase whose labels its cases have where nobody else labelled them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// What it does instead of training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudo_label: Option<PseudoLabel>,
    /// Networks other than the stage's own, by stage: a large teacher of a small student.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub network: BTreeMap<String, NetworkSpec>,
    /// What it changes in `[training.ID]`, by stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub training: BTreeMap<String, TrainingChanges>,
}

/// Cases labelled by a trained network. Classes that a person annotated in a case stay as they are (Self-training of
/// FLARE23: what is predicted of them is erased, then the annotation is laid over the rest).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PseudoLabel {
    /// Id of the earlier phase whose networks label. Stages that it does not train come from the phases before it.
    pub with: String,
    /// Which cases: those that a person labelled in part, those that nobody labelled.
    #[serde(default = "both")]
    pub cases: Vec<Stream>,
    /// Cases are left out whose organs' mean confidence is lower, 0 to 1.
    #[serde(default)]
    pub least_confidence: f64,
}

fn both() -> Vec<Stream> {
    vec![Stream::Partial, Stream::Unlabelled]
}

macro_rules! changes {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// What a phase changes in a stage's `[training.ID]` table: keys that are there replace the table's.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct TrainingChanges {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl TrainingChanges {
            /// The table with these changes.
            #[must_use]
            pub fn apply(&self, table: &TrainingSettings) -> TrainingSettings {
                let mut changed = table.clone();
                $(
                    if let Some(value) = &self.$field {
                        changed.$field = value.clone().into();
                    }
                )*
                changed
            }
        }
    };
}

changes! {
    /// Which kind of supervision.
    supervision: Supervision,
    /// What it minimises.
    loss: LossSettings,
    /// The optimiser.
    optimizer: OptimizerSettings,
    /// How the learning rate falls.
    schedule: Schedule,
    /// Share of the run over which the learning rate rises.
    warmup: f64,
    /// Epochs.
    epochs: u64,
    /// Optimiser steps per epoch.
    iterations_per_epoch: u64,
    /// Samples per batch.
    batch_size: usize,
    /// Batches of one optimiser step.
    accumulate: u64,
    /// Samples per batch of each stream.
    streams: BTreeMap<Stream, usize>,
    /// Random changes of the samples.
    augment: Augment,
    /// Epochs at the end without random changes.
    plain_epochs: u64,
    /// Share of the patches that show foreground.
    foreground_share: f64,
    /// Where the constants of `normalise` come from.
    intensities: IntensitySource,
    /// Seed.
    seed: u64,
    /// Longest gradient.
    clip_norm: f32,
    /// Decay per step of the moving average of the weights.
    ema: f32,
    /// Epochs between validations.
    validate_every: u64,
    /// Spacing in mm at which cases are prepared.
    cache_spacing_mm: f64,
}

/// One training of one stage: as `[training.ID]` and its phase have it.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseStage {
    /// The stage, with the network that it has in this phase.
    pub stage: Stage,
    /// How it is trained.
    pub settings: TrainingSettings,
    /// Phase and stage whose weights it starts from.
    pub start_from: Option<(String, String)>,
}

impl Recipe {
    /// What a phase trains; all stages with a `[training.ID]` table for a recipe without phases (`None`). Stages without
    /// such a table are left out; validation makes sure that there are none.
    #[must_use]
    pub fn phase_stages(&self, phase: Option<&Phase>) -> Vec<PhaseStage> {
        let Some(phase) = phase else {
            let plain = |stage: &Stage| {
                Some(PhaseStage {
                    stage: stage.clone(),
                    settings: self.training.get(&stage.id)?.clone(),
                    start_from: None,
                })
            };
            return self.stages.iter().filter_map(plain).collect();
        };
        let of = |id: &String| {
            let mut stage = self.stage(id)?.clone();
            let table = self.training.get(id)?;
            if let Some(network) = phase.network.get(id) {
                stage.network = network.clone();
            }
            let settings = phase.training.get(id).map_or_else(|| table.clone(), |c| c.apply(table));
            let start_from = phase.start_from.get(id).map(|from| match from.split_once('/') {
                Some((phase, stage)) => (phase.to_owned(), stage.to_owned()),
                None => (from.clone(), id.clone()),
            });
            Some(PhaseStage {
                stage,
                settings,
                start_from,
            })
        };
        phase.train.iter().filter_map(of).collect()
    }

    /// The phases up to one, itself included; all for an id that there is not.
    #[must_use]
    pub fn phases_to(&self, id: &str) -> &[Phase] {
        let count = self
            .phases
            .iter()
            .position(|p| p.id == id)
            .map_or(self.phases.len(), |at| at + 1);
        &self.phases[..count]
    }

    /// Checks the phases against the stages and each other.
    pub(super) fn check_phases(&self) -> Result<(), String> {
        for (at, phase) in self.phases.iter().enumerate() {
            let fail = |reason: String| Err(format!("phase {}: {reason}", phase.id));
            let earlier = &self.phases[..at];
            let named = |id: &str| earlier.iter().find(|p| p.id == id);
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if phase.id.is_empty() || !phase.id.chars().all(plain) || named(&phase.id).is_some() {
                return fail("its id has other signs than letters, digits, - and _, or is another phase's".to_owned());
            }
            if let Some(id) = phase.train.iter().find(|id| !self.training.contains_key(*id)) {
                return fail(format!(
                    "trains \"{id}\", which is no stage with a [training.{id}] table"
                ));
            }
            if phase.train.iter().collect::<BTreeSet<_>>().len() != phase.train.len() {
                return fail("trains a stage twice".to_owned());
            }
            let keys = phase
                .start_from
                .keys()
                .chain(phase.network.keys())
                .chain(phase.training.keys());
            if let Some(id) = keys.into_iter().find(|id| !phase.train.contains(id)) {
                return fail(format!("speaks of \"{id}\", which it does not train"));
            }
            for part in self.phase_stages(Some(phase)) {
                if let Some((from, stage)) = part.start_from
                    && named(&from).is_none_or(|p| !p.train.contains(&stage))
                {
                    return fail(format!("starts from {from}/{stage}, which no earlier phase trains"));
                }
            }
            if let Some(from) = &phase.labels
                && named(from).is_none_or(|p| p.pseudo_label.is_none())
            {
                return fail(format!("labels = \"{from}\" is no earlier phase that labels"));
            }
            match &phase.pseudo_label {
                None if phase.train.is_empty() => return fail("neither trains nor labels".to_owned()),
                None => {}
                Some(_) if !phase.train.is_empty() => {
                    return fail("trains and labels; these are two phases".to_owned());
                }
                Some(label) => {
                    if named(&label.with).is_none_or(|p| p.train.is_empty()) {
                        return fail(format!("with = \"{}\" is no earlier phase that trains", label.with));
                    }
                    if !label.cases.iter().all(|c| both().contains(c)) || label.cases.is_empty() {
                        return fail("cases can be partial and unlabelled".to_owned());
                    }
                    if !(0.0..=1.0).contains(&label.least_confidence) {
                        return fail(format!(
                            "least_confidence = {} is not between 0 and 1",
                            label.least_confidence
                        ));
                    }
                }
            }
        }
        for stage in self.stages.iter().filter(|_| !self.phases.is_empty()) {
            let last = self.phases.iter().rfind(|p| p.train.contains(&stage.id));
            if self.training.contains_key(&stage.id) && last.is_none_or(|p| p.network.contains_key(&stage.id)) {
                return Err(format!(
                    "no phase trains stage \"{}\" last with its own network",
                    stage.id
                ));
            }
        }
        Ok(())
    }
}
