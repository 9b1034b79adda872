//! What a training minimises: the `loss` key of a `[training.ID]` table.

use super::Activation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a training minimises: `dice` and `focal` of each sigmoid channel for itself, or `terms` of a softmax.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawLoss", into = "RawLoss")]
#[schemars(with = "RawLoss")]
pub enum LossSettings {
    /// Each channel for itself.
    Channels(ChannelLoss),
    /// All channels together.
    Softmax(SoftmaxLoss),
}

/// Loss of sigmoid channels; a weight of 0 leaves a term out. Classes that a sample does not annotate have none.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelLoss {
    /// Weight of the Dice term, 1 − soft Dice with squared denominator.
    pub dice: f32,
    /// Weight of the focal term (Lin et al. 2017).
    pub focal: f32,
    /// Added to both sides of the Dice fraction, in voxels. With next to nothing a class that is annotated but absent from
    /// a sample teaches nothing; with about the smallest organ's size, false positives of it cost.
    pub smooth: f32,
    /// Whether Dice sums run over the whole batch.
    pub batch_dice: bool,
    /// Weight of foreground voxels in the focal term; background has 1 minus it.
    pub focal_alpha: f32,
    /// Exponent of the focal term.
    pub focal_gamma: f32,
}

impl Default for ChannelLoss {
    /// Dice alone.
    fn default() -> Self {
        Self {
            dice: 1.0,
            focal: 0.0,
            smooth: 1e-8,
            batch_dice: false,
            focal_alpha: 0.5,
            focal_gamma: 2.0,
        }
    }
}

/// Loss of a softmax over background and classes: the weighted sum of its terms.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftmaxLoss {
    /// Its terms.
    pub terms: Vec<LossTerm>,
    /// What samples teach that do not annotate every class.
    pub partial: Partial,
    /// Weight of each head of a network with deep supervision, the finest first; the labels of a coarser head are those of
    /// the nearest voxels. Empty: each head counts half of the finer one, the coarsest nothing, in sum 1 (nnU-Net).
    pub heads: Vec<f64>,
}

/// What samples teach that do not annotate every class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Partial {
    /// Classes that are not annotated are joined with the background: the sum of their probabilities should be high where
    /// nothing is labelled (Shi et al. 2021, marginal loss).
    #[default]
    Merge,
    /// Voxels without a label are left out.
    Ignore,
    /// Voxels without a label are taken for background.
    Background,
}

/// One term of a loss: a formula, its weight, and the samples that it is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Map<String, Value>")]
#[schemars(!try_from)]
pub struct LossTerm {
    /// The formula.
    #[serde(flatten)]
    pub formula: Formula,
    /// Its weight.
    pub weight: f64,
    /// The streams whose samples it sees; its means run over these alone. Without, all that have labels; for
    /// `pyramid_consistency` the unlabelled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<Stream>,
    /// Share r of the run over which the weight rises from 0.7 % to its full value, as exp(−5 (1 − t/r)²) (Laine and Aila
    /// 2017).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<f64>,
}

/// The keys that all terms have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    #[serde(default = "one")]
    weight: f64,
    #[serde(default)]
    streams: Vec<Stream>,
    ramp: Option<f64>,
}

/// All keys that are not common to all terms must be the formula's own: a flattened enum would let others pass.
impl TryFrom<Map<String, Value>> for LossTerm {
    type Error = serde_json::Error;

    fn try_from(map: Map<String, Value>) -> Result<Self, Self::Error> {
        let (common, formula) = map
            .into_iter()
            .partition(|(key, _)| ["weight", "streams", "ramp"].contains(&key.as_str()));
        let Common { weight, streams, ramp } = serde_json::from_value(Value::Object(common))?;
        Ok(Self {
            formula: serde_json::from_value(Value::Object(formula))?,
            weight,
            streams,
            ramp,
        })
    }
}

fn one() -> f64 {
    1.0
}

/// Formulas over p, the softmax of the logits, and y, the label. Those of single voxels are averaged over all voxels that
/// are not ignored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "term", rename_all = "snake_case", deny_unknown_fields)]
pub enum Formula {
    /// −ln p_y.
    CrossEntropy {},
    /// −(1 − p_y)^gamma ln p_y (Lin et al. 2017).
    Focal {
        /// The exponent.
        #[serde(default = "gamma")]
        gamma: f64,
    },
    /// (1 − p_y^q) / q (Zhang and Sabuncu 2018).
    GeneralisedCrossEntropy {
        /// Between cross-entropy (0) and mean absolute error (1).
        #[serde(default = "q")]
        q: f64,
    },
    /// alpha · cross-entropy + b · reverse cross-entropy with ln 0 := ln 10⁻⁴, which is 9.21 (1 − p_y) (Wang et al. 2019).
    SymmetricCrossEntropy {
        /// Weight of the cross-entropy.
        #[serde(default = "alpha")]
        alpha: f64,
        /// Weight of the reverse cross-entropy.
        #[serde(default = "one")]
        b: f64,
    },
    /// −(β + 1)/β (p_y^β − 1) + Σ_k p_k^(β + 1) (density power divergence, Akrami et al. 2020).
    BetaCrossEntropy {
        /// The exponent.
        #[serde(default = "beta")]
        beta: f64,
    },
    /// 1 − mean over classes of (2 Σpg + smooth) / (Σp + Σg + smooth), g = 1 where the label is the class. nnU-Net's is
    /// the same less the 1.
    Dice {
        /// Added to both sides of the fraction, in voxels.
        #[serde(default = "smooth")]
        smooth: f64,
        /// Whether sums run over all samples of the batch, rather than over each.
        #[serde(default)]
        batch: bool,
        /// Whether the background counts as a class.
        #[serde(default)]
        background: bool,
        /// Σp² and Σg² in the denominator.
        #[serde(default)]
        squared: bool,
    },
    /// Uncertainty-rectified pyramid consistency (Luo et al. 2021): the probabilities of several heads, all at the finest
    /// one's size, should agree with their mean. Needs no labels.
    PyramidConsistency {
        /// Number of heads, the finest first.
        #[serde(default = "heads")]
        heads: usize,
    },
}

fn gamma() -> f64 {
    2.0
}

fn q() -> f64 {
    0.7
}

fn alpha() -> f64 {
    0.01
}

fn beta() -> f64 {
    0.1
}

fn smooth() -> f64 {
    1e-5
}

fn heads() -> usize {
    4
}

impl Formula {
    /// Its name in recipes and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy {} => "cross_entropy",
            Self::Focal { .. } => "focal",
            Self::GeneralisedCrossEntropy { .. } => "generalised_cross_entropy",
            Self::SymmetricCrossEntropy { .. } => "symmetric_cross_entropy",
            Self::BetaCrossEntropy { .. } => "beta_cross_entropy",
            Self::Dice { .. } => "dice",
            Self::PyramidConsistency { .. } => "pyramid_consistency",
        }
    }

    fn can_be(&self) -> bool {
        let at_least_0 = |v: f64| v.is_finite() && v >= 0.0;
        match *self {
            Self::CrossEntropy {} => true,
            Self::Focal { gamma } => at_least_0(gamma),
            Self::GeneralisedCrossEntropy { q } => q > 0.0 && q <= 1.0,
            Self::SymmetricCrossEntropy { alpha, b } => at_least_0(alpha) && at_least_0(b),
            Self::BetaCrossEntropy { beta } => beta > 0.0 && beta <= 10.0,
            Self::Dice { smooth, .. } => smooth > 0.0 && smooth.is_finite(),
            Self::PyramidConsistency { heads } => heads >= 2,
        }
    }
}

/// Where the labels of a sample come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// A person labelled every class.
    Labelled,
    /// A person labelled some classes.
    Partial,
    /// A network did.
    Pseudo,
    /// Nobody did.
    Unlabelled,
}

impl Stream {
    /// Its name in recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Labelled => "labelled",
            Self::Partial => "partial",
            Self::Pseudo => "pseudo",
            Self::Unlabelled => "unlabelled",
        }
    }
}

impl LossTerm {
    /// Whether it sees samples of a stream.
    #[must_use]
    pub fn sees(&self, stream: Stream) -> bool {
        let consistency = matches!(self.formula, Formula::PyramidConsistency { .. });
        if self.streams.is_empty() {
            (stream == Stream::Unlabelled) == consistency
        } else {
            // Without labels there is nothing to compare with.
            self.streams.contains(&stream) && (consistency || stream != Stream::Unlabelled)
        }
    }

    /// Its weight when the share `done` (0 to 1) of the run is over.
    #[must_use]
    pub fn weight_at(&self, done: f64) -> f64 {
        let rise = match self.ramp {
            Some(ramp) if done < ramp => (-5.0 * (1.0 - done / ramp).powi(2)).exp(),
            _ => 1.0,
        };
        self.weight * rise
    }

    /// Its name in logs: the formula's, with the streams where they are given.
    #[must_use]
    pub fn name(&self) -> String {
        let streams: Vec<&str> = self.streams.iter().map(|stream| stream.name()).collect();
        let colon = if streams.is_empty() { "" } else { ":" };
        format!("{}{colon}{}", self.formula.name(), streams.join("+"))
    }
}

impl SoftmaxLoss {
    /// The weight of each of so many heads; `None` where the recipe's list has another length.
    #[must_use]
    pub fn head_weights(&self, heads: usize) -> Option<Vec<f64>> {
        if !self.heads.is_empty() {
            return (self.heads.len() == heads).then(|| self.heads.clone());
        }
        let counted = heads.max(2) - 1;
        let mut weights: Vec<f64> = (0..heads)
            .map(|i| if i < counted { 0.5f64.powi(i as i32) } else { 0.0 })
            .collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        Some(weights)
    }
}

impl LossSettings {
    /// Whether some term sees samples of a stream.
    #[must_use]
    pub fn sees(&self, stream: Stream) -> bool {
        match self {
            Self::Channels(_) => stream != Stream::Unlabelled,
            Self::Softmax(loss) => loss.terms.iter().any(|term| term.sees(stream)),
        }
    }

    /// Checks values, and that the loss suits the stage's activation.
    pub(super) fn check(&self, activation: Activation) -> Result<(), String> {
        match (self, activation) {
            (Self::Channels(loss), Activation::Sigmoid) => {
                let values = [loss.dice, loss.focal, loss.smooth, loss.focal_alpha, loss.focal_gamma];
                let fits = values.iter().all(|v| v.is_finite() && *v >= 0.0);
                if !(fits && loss.dice + loss.focal > 0.0 && loss.smooth > 0.0) {
                    return Err("loss: values must not be negative, a weight and smooth must be positive".to_owned());
                }
            }
            (Self::Softmax(loss), Activation::Softmax) => loss.check()?,
            (Self::Channels(_), Activation::Softmax) => {
                return Err(
                    "loss: a softmax needs `terms`, as `loss = { terms = [{ term = \"cross_entropy\" }] }`".into(),
                );
            }
            (Self::Softmax(_), Activation::Sigmoid) => {
                return Err("loss: `terms` need activation = \"softmax\"; a sigmoid has `dice` and `focal`".into());
            }
        }
        Ok(())
    }
}

impl SoftmaxLoss {
    fn check(&self) -> Result<(), String> {
        if self.terms.is_empty() {
            return Err("loss.terms is empty".to_owned());
        }
        for term in &self.terms {
            let name = term.name();
            if !(term.weight >= 0.0 && term.weight.is_finite() && term.formula.can_be()) {
                return Err(format!("loss: the term {term:?} cannot be"));
            }
            if term.ramp.is_some_and(|r| !(r > 0.0 && r <= 1.0)) {
                return Err(format!("loss: ramp of {name} must lie in 0 < r ≤ 1"));
            }
            if !(term.streams.is_empty() || term.streams.iter().any(|&s| term.sees(s))) {
                return Err(format!("loss: {name} sees no sample that it can use"));
            }
            if self.terms.iter().filter(|t| t.name() == name).count() > 1 {
                return Err(format!("loss: the term {name} is there twice"));
            }
        }
        if !self.terms.iter().any(|t| t.weight > 0.0) {
            return Err("loss: a weight must be positive".to_owned());
        }
        let fits = self.heads.iter().all(|w| *w >= 0.0 && w.is_finite());
        if !fits || (!self.heads.is_empty() && self.heads.iter().sum::<f64>() <= 0.0) {
            return Err(format!("loss.heads = {:?} cannot be", self.heads));
        }
        Ok(())
    }
}

/// All keys of `loss`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLoss {
    #[serde(skip_serializing_if = "Option::is_none")]
    dice: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    focal: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    smooth: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_dice: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    focal_alpha: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    focal_gamma: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<Partial>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heads: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<Vec<LossTerm>>,
}

impl TryFrom<RawLoss> for LossSettings {
    type Error = &'static str;

    fn try_from(raw: RawLoss) -> Result<Self, Self::Error> {
        let base = ChannelLoss::default();
        match raw {
            RawLoss {
                dice: Some(dice),
                terms: None,
                partial: None,
                heads: None,
                ..
            } => Ok(Self::Channels(ChannelLoss {
                dice,
                focal: raw.focal.unwrap_or(base.focal),
                smooth: raw.smooth.unwrap_or(base.smooth),
                batch_dice: raw.batch_dice.unwrap_or(base.batch_dice),
                focal_alpha: raw.focal_alpha.unwrap_or(base.focal_alpha),
                focal_gamma: raw.focal_gamma.unwrap_or(base.focal_gamma),
            })),
            RawLoss {
                dice: None,
                focal: None,
                smooth: None,
                batch_dice: None,
                focal_alpha: None,
                focal_gamma: None,
                terms: Some(terms),
                partial,
                heads,
            } => Ok(Self::Softmax(SoftmaxLoss {
                terms,
                partial: partial.unwrap_or_default(),
                heads: heads.unwrap_or_default(),
            })),
            _ => Err(
                "loss has either dice (with focal, smooth, batch_dice, focal_alpha, focal_gamma), or terms (with \
                 partial, heads)",
            ),
        }
    }
}

impl From<LossSettings> for RawLoss {
    fn from(loss: LossSettings) -> Self {
        let none = Self {
            dice: None,
            focal: None,
            smooth: None,
            batch_dice: None,
            focal_alpha: None,
            focal_gamma: None,
            partial: None,
            heads: None,
            terms: None,
        };
        match loss {
            LossSettings::Channels(loss) => Self {
                dice: Some(loss.dice),
                focal: Some(loss.focal),
                smooth: Some(loss.smooth),
                batch_dice: Some(loss.batch_dice),
                focal_alpha: Some(loss.focal_alpha),
                focal_gamma: Some(loss.focal_gamma),
                ..none
            },
            LossSettings::Softmax(loss) => Self {
                partial: Some(loss.partial),
                heads: Some(loss.heads),
                terms: Some(loss.terms),
                ..none
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LossSettings, String> {
        #[derive(Deserialize)]
        struct Table {
            loss: LossSettings,
        }
        toml::from_str(text).map(|t: Table| t.loss).map_err(|e| e.to_string())
    }

    #[test]
    fn terms_have_their_defaults_and_stay_the_same_when_written() {
        let text = r#"loss = { terms = [
            { term = "cross_entropy" },
            { term = "dice", batch = true },
            { term = "generalised_cross_entropy", weight = 0.5, streams = ["pseudo"] },
            { term = "pyramid_consistency", weight = 0.1, ramp = 0.2 },
        ] }"#;
        let loss = read(text).unwrap();
        assert_eq!(loss.check(Activation::Softmax), Ok(()));
        assert!(loss.check(Activation::Sigmoid).is_err() && loss.sees(Stream::Unlabelled));
        let LossSettings::Softmax(terms) = &loss else { panic!() };
        assert_eq!(terms.terms[2].formula, Formula::GeneralisedCrossEntropy { q: 0.7 });
        assert_eq!(terms.terms[2].name(), "generalised_cross_entropy:pseudo");
        let seen = |t: usize| {
            [Stream::Labelled, Stream::Partial, Stream::Pseudo, Stream::Unlabelled].map(|s| terms.terms[t].sees(s))
        };
        assert_eq!(seen(0), [true, true, true, false]);
        assert_eq!(seen(2), [false, false, true, false]);
        assert_eq!(seen(3), [false, false, false, true]);
        // A's ramp: 0.1 exp(−5 (1 − e/100)²) of 500 epochs.
        assert!((terms.terms[3].weight_at(0.1) - 0.1 * (-1.25f64).exp()).abs() < 1e-12);
        assert!((terms.terms[3].weight_at(0.5) - 0.1).abs() < 1e-12);

        #[derive(Serialize)]
        struct Table<'a> {
            loss: &'a LossSettings,
        }
        assert_eq!(read(&toml::to_string(&Table { loss: &loss }).unwrap()).unwrap(), loss);
    }

    #[test]
    fn heads_count_as_published() {
        let loss = |heads: Vec<f64>| SoftmaxLoss {
            terms: Vec::new(),
            partial: Partial::Merge,
            heads,
        };
        let halving = loss(Vec::new());
        let want = [8.0, 4.0, 2.0, 1.0, 0.0].map(|w| w / 15.0);
        assert!(
            halving
                .head_weights(5)
                .unwrap()
                .iter()
                .zip(want)
                .all(|(a, b)| (a - b).abs() < 1e-12)
        );
        assert_eq!(halving.head_weights(1), Some(vec![1.0]));
        assert_eq!(loss(vec![1.0, 0.5]).head_weights(3), None);
    }

    #[test]
    fn losses_that_cannot_be_are_named() {
        for (text, part) in [
            ("loss = { focal = 1.0 }", "either dice"),
            ("loss = { dice = 1.0, terms = [] }", "either dice"),
            ("loss = { terms = [{ term = \"lovasz\" }] }", "lovasz"),
            (
                "loss = { terms = [{ term = \"cross_entropy\", q = 0.7 }] }",
                "unknown field",
            ),
            ("loss = { terms = [{ term = \"dice\", smoth = 1.0 }] }", "unknown field"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.contains(part), "{found}");
        }
        for text in [
            "loss = { terms = [] }",
            "loss = { terms = [{ term = \"generalised_cross_entropy\", q = 0.0 }] }",
            "loss = { terms = [{ term = \"dice\" }, { term = \"dice\" }] }",
            "loss = { terms = [{ term = \"dice\", streams = [\"unlabelled\"] }] }",
            "loss = { terms = [{ term = \"dice\", ramp = 2.0 }] }",
            "loss = { terms = [{ term = \"dice\" }], heads = [0.0] }",
        ] {
            assert!(read(text).unwrap().check(Activation::Softmax).is_err(), "{text}");
        }
    }
}
