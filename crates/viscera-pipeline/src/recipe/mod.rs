//! A method as data: the TOML that says which networks run on what, and how each was trained.
//!
//! A recipe has a `[recipe]` header, one `[[stage]]` per network in running order, a `[training.ID]` table per stage, and
//! `[[phase]]` tables where the training has several.
//! Unknown keys are errors. Triples are `[z, y, x]`; lengths are millimetres, intensities Hounsfield units.

mod classes;
mod grid;
mod inference;
mod loss;
mod network;
mod page;
mod parse;
mod phase;
mod postprocess;
#[cfg(test)]
pub(crate) mod sample;
mod schema;
mod stage;
mod supported;
mod training;
mod validate;

pub(crate) use classes::subset;
pub use classes::{StageClasses, UNION};
pub use grid::{
    ChannelRule, FixedSize, Interpolation, Method, Normalise, Resample, SeparateZ, SpacingGrid, WindowZScore, ZScore,
};
pub use inference::{Activation, Average, Inference, Mode, PatchWeights, Restore, SlidingWindow};
pub use loss::{ChannelLoss, Formula, LossSettings, LossTerm, Partial, SoftmaxLoss, Stream};
pub use network::{NetworkSpec, UnetPlan};
pub use phase::{Phase, PhaseStage, PseudoLabel, TrainingChanges};
pub use postprocess::{ClassList, Far, Fit, Growth, PostRule};
pub use stage::{Crop, Orient, RoiSpec, Role, Stage};
pub use training::{
    AdamSettings, Augment, Axis, Chance, IntensitySource, Kept, Mirror, OptimizerSettings, Profile, Schedule,
    Supervision, TrainingSettings,
};

use crate::PipelineError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use viscera_image::LabelTable;

/// Built-in recipes: name and text.
const BUILTIN: [(&str, &str); 6] = [
    (
        "efficientsegnet-small",
        include_str!("../../../../recipes/efficientsegnet-small.toml"),
    ),
    (
        "flare21-efficientsegnet",
        include_str!("../../../../recipes/flare21-efficientsegnet.toml"),
    ),
    (
        "flare22-attention-dmfnet",
        include_str!("../../../../recipes/flare22-attention-dmfnet.toml"),
    ),
    (
        "flare22-coarse-to-fine",
        include_str!("../../../../recipes/flare22-coarse-to-fine.toml"),
    ),
    ("flare23-stmt", include_str!("../../../../recipes/flare23-stmt.toml")),
    (
        "flare23-two-step",
        include_str!("../../../../recipes/flare23-two-step.toml"),
    ),
];

/// A whole method. [`Recipe::parse`], [`Recipe::load`] and [`Recipe::builtin`] validate it; one that is put together by
/// hand is checked by [`Recipe::validate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What it is.
    pub recipe: Header,
    /// The networks in running order.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
    /// How each stage is trained, by the stage's id.
    #[serde(default)]
    pub training: BTreeMap<String, TrainingSettings>,
    /// The phases of its training, in order; one phase of all stages if empty.
    #[serde(default, rename = "phase", skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
}

/// The `[recipe]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Name of the label table whose classes it finds: `flare13`, `flare14`, or the one in its model file.
    pub labels: String,
    /// What it takes.
    pub modality: Modality,
    /// Where it comes from, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reference: String,
}

/// Kind of scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// Computed tomography in Hounsfield units.
    Ct,
    /// Anything else, or several channels.
    Other,
}

impl Recipe {
    /// Parses and validates a recipe's text; `source` is its name or path, for errors.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] with the line, for text that is not TOML, unknown keys (with the nearest known one),
    /// wrong types, and values that contradict each other.
    pub fn parse(text: &str, source: &str) -> Result<Self, PipelineError> {
        let recipe = parse::parse(text, source)?;
        let table = recipe.label_table()?;
        validate::validate(&recipe, &table, source)?;
        Ok(recipe)
    }

    /// As [`Self::parse`], for a label table that comes with the recipe.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the table is not the one that the recipe names.
    pub fn parse_for(text: &str, source: &str, table: &LabelTable) -> Result<Self, PipelineError> {
        let recipe = parse::parse(text, source)?;
        validate::validate(&recipe, table, source)?;
        Ok(recipe)
    }

    /// Checks a recipe that was put together rather than parsed.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] for values that contradict each other or the label table.
    pub fn validate(&self, table: &LabelTable) -> Result<(), PipelineError> {
        validate::validate(self, table, &self.recipe.name)
    }

    /// Reads a recipe file.
    ///
    /// # Errors
    /// As [`Self::parse`], and [`PipelineError::File`].
    pub fn load(path: &Path) -> Result<Self, PipelineError> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// As [`Self::load`]; the recipe may also be for a data set's own classes, `own`, if it names that table.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_for(path: &Path, own: &LabelTable) -> Result<Self, PipelineError> {
        let source = path.display().to_string();
        let recipe = parse::parse(&read(path)?, &source)?;
        let table = recipe.label_table_or(own)?;
        validate::validate(&recipe, &table, &source)?;
        Ok(recipe)
    }

    /// The label table that the header names: a built-in one, or `own`.
    ///
    /// # Errors
    /// As [`Self::label_table`].
    pub fn label_table_or(&self, own: &LabelTable) -> Result<LabelTable, PipelineError> {
        if self.recipe.labels == own.name() {
            return Ok(own.clone());
        }
        self.label_table()
    }

    /// A built-in recipe.
    ///
    /// # Errors
    /// [`PipelineError::UnknownRecipe`] with the names there are.
    pub fn builtin(name: &str) -> Result<Self, PipelineError> {
        Self::parse(Self::builtin_text(name)?, name)
    }

    /// The text of a built-in recipe, with its comments.
    ///
    /// # Errors
    /// As [`Self::builtin`].
    pub fn builtin_text(name: &str) -> Result<&'static str, PipelineError> {
        BUILTIN
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, text)| *text)
            .ok_or_else(|| PipelineError::UnknownRecipe {
                name: name.to_owned(),
                known: Self::builtin_names().map(str::to_owned).collect(),
            })
    }

    /// Names of the built-in recipes.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// The label table that the header names.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] when there is no such table.
    pub fn label_table(&self) -> Result<LabelTable, PipelineError> {
        match self.recipe.labels.as_str() {
            "flare13" => Ok(LabelTable::flare13()),
            "flare14" => Ok(LabelTable::flare14()),
            other => Err(PipelineError::Recipe {
                recipe: self.recipe.name.clone(),
                line: None,
                reason: format!("there is no label table \"{other}\"; there are flare13, flare14"),
            }),
        }
    }

    /// The stage of an id.
    #[must_use]
    pub fn stage(&self, id: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.id == id)
    }

    /// The recipe as TOML in one fixed spelling: no comments, every default written out.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`] when a value has no TOML form (a NaN is refused before).
    pub fn canonical(&self) -> Result<String, PipelineError> {
        toml::to_string(self).map_err(|e| PipelineError::Recipe {
            recipe: self.recipe.name.clone(),
            line: None,
            reason: e.to_string(),
        })
    }

    /// SHA-256 of [`Self::canonical`], in hexadecimal: equal for recipes that say the same.
    ///
    /// # Errors
    /// As [`Self::canonical`].
    pub fn hash(&self) -> Result<String, PipelineError> {
        Ok(crate::hash::sha256_hex(self.canonical()?.as_bytes()))
    }
}

fn read(path: &Path) -> Result<String, PipelineError> {
    std::fs::read_to_string(path).map_err(|source| PipelineError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_text_says_the_same() {
        for name in Recipe::builtin_names() {
            let recipe = Recipe::builtin(name).unwrap();
            assert_eq!(recipe.recipe.name, name);
            let canonical = recipe.canonical().unwrap();
            let again = Recipe::parse(&canonical, name).unwrap();
            assert_eq!(again, recipe);
            assert_eq!(again.hash().unwrap(), recipe.hash().unwrap());
        }
    }

    #[test]
    fn hashes_of_built_in_recipes_stay() {
        // They stand in manifests of masks that were made long ago.
        let hash = |name: &str| Recipe::builtin(name).unwrap().hash().unwrap();
        assert!(hash("efficientsegnet-small").starts_with("19c2c034c77ad6bf"));
        assert!(hash("flare21-efficientsegnet").starts_with("770ec6fe7810570390"));
    }

    /// A recipe with all that nnU-Net's models need.
    const SLIDING: &str = r#"
[recipe]
name = "sliding"
labels = "flare13"
modality = "ct"

[[stage]]
id = "segment"
role = "segment"
orient = "file"
axes = [1, 0, 2]
crop = "non_zero"
normalise = { channels = [{ scheme = "fixed", window = [-100, 300], mean = 50, std = 80 }] }
inference = { mode = "sliding_window", activation = "softmax", window = { patch = [32, 32, 32], step = 0.5, weights = "gaussian" }, mirror = ["z", "x"], folds = ["0", "all"] }
[stage.resample]
spacing_mm = [2.5, 1, 1]
image = { method = "spline", order = 3, order_z = 0, separate_z = "auto", anisotropy = 3 }
logits = { method = "torch", order = 1, order_z = 0, separate_z = "never", anisotropy = 3 }
[stage.network]
arch = "residual_encoder_unet"
features = [4, 8]
kernels = [[1, 3, 3], [3, 3, 3]]
strides = [[1, 1, 1], [2, 2, 2]]
depths = [1, 2]
decoder_depths = [1]
conv_bias = true
norm_eps = 1e-5
norm_affine = true
slope = 0.01
dropout = 0.0
deep_supervision = true
"#;

    #[test]
    fn recipes_of_other_tools_survive_their_text() {
        let mut recipe = Recipe::parse(SLIDING, "s").unwrap();
        let again = Recipe::parse(&recipe.canonical().unwrap(), "s").unwrap();
        assert_eq!(again, recipe);
        assert_eq!(recipe.stages[0].network_size(), [32; 3]);
        recipe.check_supported().unwrap();
        recipe.stages[0].normalise = Normalise::Channels(vec![ChannelRule::None; 2]);
        let error = recipe.check_supported().unwrap_err().to_string();
        assert_eq!(
            error,
            "stage \"segment\" has several channels of image, which this version cannot carry out yet"
        );
        for name in Recipe::builtin_names() {
            let mut recipe = Recipe::builtin(name).unwrap();
            recipe.check_trainable().unwrap();
            // Cases are prepared in RAS+.
            recipe.stages.iter_mut().for_each(|stage| stage.orient = Orient::File);
            assert_eq!(recipe.check_trainable().is_err(), !recipe.training.is_empty(), "{name}");
        }
    }

    #[test]
    fn their_contradictions_are_named() {
        for (from, to, part) in [
            ("axes = [1, 0, 2]", "axes = [1, 1, 2]", "no order of 0, 1, 2"),
            ("crop = \"non_zero\"", "crop = \"nonzero\"", "did you mean `non_zero`?"),
            ("window = [-100, 300]", "window = [300, -100]", "cannot be"),
            ("std = 80", "std = 0", "cannot be"),
            ("std = 80", "std = nan", "cannot be"),
            (
                "spacing_mm = [2.5, 1, 1]",
                "spacing_mm = [2.5, 0, 1]",
                "between 0.01 and 100",
            ),
            (
                "spacing_mm",
                "size = [8, 8, 8]\nspacing_mm",
                "either size and convention",
            ),
            ("spacing_mm", "spacing", "did you mean `spacing_mm`?"),
            ("order = 3", "order = 9", "orders are 0 to 5"),
            (
                "activation = \"softmax\"",
                "activation = \"sigmoid\"",
                "lacks a threshold",
            ),
            ("step = 0.5", "step = 0", "0 < s ≤ 1"),
            (
                "patch = [32, 32, 32]",
                "patch = [32, 32, 31]",
                "does not suit the network",
            ),
            ("patch = [32, 32, 32]", "patch = [32, 32, 0]", "no voxel"),
            ("mode = \"sliding_window\"", "mode = \"whole_volume\"", "has no window"),
            ("mirror = [\"z\", \"x\"]", "mirror = [\"z\", \"z\"]", "an axis twice"),
            (
                "folds = [\"0\", \"all\"]",
                "folds = [\"0\", \"0\"]",
                "names are different",
            ),
            ("folds = [\"0\", \"all\"]", "folds = [\"../x\"]", "letters and digits"),
            ("depths = [1, 2]\n", "depths = [1, 2, 3]\n", "does not fit 2 levels"),
            ("features = [4, 8]", "features = [4, 80000]", "4096 channels"),
            ("role = \"segment\"", "role = \"localise\"", "its last stage must"),
            (
                "role = \"segment\"",
                "role = \"segment\"\nclasses = \"union\"",
                "names its classes",
            ),
            (
                "role = \"segment\"",
                "role = \"segment\"\nclasses = [\"heart\"]",
                "no class \"heart\"",
            ),
            (
                "role = \"segment\"",
                "role = \"segment\"\nclasses = \"some\"",
                "\"all\", \"union\" or a list",
            ),
            (
                "role = \"segment\"",
                "role = \"segment\"\nclasses = []",
                "classes names none",
            ),
            ("crop = \"non_zero\"", "crop = { middle_slices = 0 }", "cannot be"),
            ("crop = \"non_zero\"", "crop = { above_hu = nan }", "cannot be"),
            (
                "image = { method = \"spline\", order = 3",
                "image = { method = \"align_corners\", order = 3",
                "has order 1",
            ),
            (
                "logits = { method = \"torch\", order = 1",
                "logits = { method = \"spline\", order = 3",
                "orders are 0 and 1",
            ),
            (
                "activation = \"softmax\"",
                "activation = \"softmax\", floor = 0.1",
                "floor needs average",
            ),
            (
                "activation = \"softmax\"",
                "activation = \"softmax\", average = \"probabilities\", floor = 1.0",
                "not in 0 ≤ p < 1",
            ),
            (
                "activation = \"softmax\"",
                "activation = \"sigmoid\", threshold = 0.5, average = \"probabilities\"",
                "needs a softmax",
            ),
            (
                "activation = \"softmax\"",
                "activation = \"softmax\", head = 7",
                "inference.head = 7",
            ),
        ] {
            let text = SLIDING.replacen(from, to, 1);
            assert_ne!(text, SLIDING, "{from}");
            let error = Recipe::parse(&text, "s").unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn the_hash_sees_values_and_not_comments() {
        let text = Recipe::builtin_text("efficientsegnet-small").unwrap();
        let hash = |text: &str| Recipe::parse(text, "r").unwrap().hash().unwrap();
        assert_eq!(hash(text), hash(&format!("# more\n{text}")));
        assert_ne!(
            hash(text),
            hash(&text.replacen("margin_mm = [20, 20, 20]", "margin_mm = [20, 20, 21]", 1))
        );
    }
}
