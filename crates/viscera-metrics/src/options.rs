//! What to measure, and what stands for values that no mask defines.

use crate::FlareOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tolerance of the surface Dice in mm, per class id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tolerances {
    /// For classes without their own.
    pub default_mm: f64,
    /// Per class id.
    #[serde(default)]
    pub classes_mm: BTreeMap<u8, f64>,
}

impl Tolerances {
    /// One tolerance for all classes.
    #[must_use]
    pub fn uniform(mm: f64) -> Self {
        Self {
            default_mm: mm,
            classes_mm: BTreeMap::new(),
        }
    }

    /// The tolerance of a class in mm.
    #[must_use]
    pub fn of(&self, class: u8) -> f64 {
        self.classes_mm.get(&class).copied().unwrap_or(self.default_mm)
    }
}

impl Default for Tolerances {
    /// 2 mm for all: about one slice of a fine CT, and the usual choice where a data set names none.
    fn default() -> Self {
        Self::uniform(2.0)
    }
}

/// What stands for the scores of a class that is annotated but empty in both label maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyRule {
    /// Nothing: such a case has no score and no mean counts it. nnU-Net and `surface-distance` give NaN.
    #[default]
    Skip,
    /// The best value, as FLARE's scripts: Dice, Jaccard and surface Dice 1, distances 0.
    One,
}

/// What stands for the distances of a class that is empty in exactly one label map. (Overlaps and surface Dice are 0.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyDistance {
    /// Nothing: no mean counts it.
    #[default]
    Skip,
    /// Infinity, as the Hausdorff distances of `surface-distance`; `null` in JSON. Means become infinite.
    Infinite,
    /// The diagonal of the image, from outer corner to outer corner: no two surfaces in it lie farther apart.
    Diagonal,
}

/// What [`crate::CaseScore::measure`] measures, beyond overlaps and volumes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreOptions {
    /// Whether to measure distances of surfaces: surface Dice, Hausdorff, average distances.
    pub surface: bool,
    /// Tolerances of the surface Dice.
    pub tolerances: Tolerances,
    /// For classes that are empty in both label maps.
    pub both_empty: EmptyRule,
    /// For distances of classes that are empty in one label map.
    pub one_empty: EmptyDistance,
    /// Scores by a FLARE challenge's rules, beside the strict ones; `None` for no such scores.
    pub flare: Option<FlareOptions>,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            surface: true,
            tolerances: Tolerances::default(),
            both_empty: EmptyRule::default(),
            one_empty: EmptyDistance::default(),
            flare: None,
        }
    }
}
