//! The rules by which the FLARE challenges score a case, quirks included.

use serde::{Deserialize, Serialize};

/// A FLARE challenge whose rules to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlareEdition {
    /// 2021: liver, kidneys, spleen, pancreas (ids 1 to 4), all at 1 mm.
    Flare21,
    /// 2022: 13 organs (ids 1 to 13).
    Flare22,
    /// 2023: as 2022, and the lesion (id 14).
    Flare23,
}

/// Which FLARE rules to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlareOptions {
    /// The challenge.
    pub edition: FlareEdition,
    /// Keeps the last labelled slice of aorta, vena cava and oesophagus, which the official scripts leave out by an
    /// off-by-one. Such scores do not compare with published ones.
    pub inclusive: bool,
}

/// The score of one class by a FLARE challenge's rules, rounded to four decimals as its script does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FlareScore {
    /// Dice's coefficient, 0 to 1.
    #[serde(rename = "FLARE_DSC")]
    pub dsc: f64,
    /// Surface Dice at the challenge's tolerance, 0 to 1.
    #[serde(rename = "FLARE_NSD")]
    pub nsd: f64,
}
