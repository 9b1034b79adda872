//! Rules that clean a label map: one inline table each, named by its first key.

use super::Axis;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use viscera_image::LabelTable;

/// Largest radius of a ball in mm, and most components kept: far above what helps.
const MAX_RADIUS_MM: f64 = 50.0;
const MAX_KEPT: usize = 10_000;

/// A rule that cleans a label map. Components have 26 neighbours; volumes, radii and distances are those of the label map's
/// real spacing; what is removed becomes background.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawRule", into = "RawRule")]
#[schemars(with = "RawRule")]
pub enum PostRule {
    /// `keep_largest`: of each class only its largest components stay, and of these only those large enough.
    KeepLargest {
        /// The classes; others are left alone.
        classes: ClassList,
        /// How many stay of each: key `k`, 1 without.
        k: usize,
        /// They go too unless they are larger than this.
        min_volume_mm3: f64,
    },
    /// `remove_small`: components of several classes together that are not large enough go.
    RemoveSmall {
        /// The classes; others are left alone.
        classes: ClassList,
        /// Components stay when they are larger than this.
        min_volume_mm3: f64,
        /// And at most so many stay, the largest of all these classes.
        at_most: Option<usize>,
    },
    /// `remove_far`: components of everything that is labelled, whatever the classes, go where their centroid lies far from
    /// a place in the body.
    RemoveFar(Far),
    /// `fit_border`: the border moves to where the scan shows it. Only in stages that segment.
    FitBorder(Fit),
    /// `grow_region`: what looks like a class, and is joined to it, joins it. Only in stages that segment.
    GrowRegion(Growth),
    /// `erase`: classes that have done their work.
    Erase {
        /// The classes.
        classes: ClassList,
    },
    /// `fill_holes`: background that a class encloses becomes that class.
    FillHoles {
        /// The classes, one after the other.
        classes: ClassList,
        /// Slice by slice (across z) instead of in the volume.
        slicewise: bool,
    },
    /// `open`: what no ball inside a class reaches goes.
    Open {
        /// The classes, one after the other.
        classes: ClassList,
        /// Radius of the ball.
        radius_mm: f64,
    },
    /// `close`: background that no ball outside a class reaches becomes that class.
    Close {
        /// The classes, one after the other.
        classes: ClassList,
        /// Radius of the ball.
        radius_mm: f64,
    },
}

/// How a border follows the scan: the table of `fit_border`. HU are those of the scan after a blur of 0.8 mm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// The classes, one after the other; of even brightness, such as liver and spleen.
    pub classes: ClassList,
    /// What is darker than the class's median by more than this goes.
    pub darker_hu: f32,
    /// Background within this of the median joins,
    pub within_hu: f32,
    /// if it is brighter than this: without contrast medium organs look like muscle.
    pub above_hu: f32,
    /// How far the border may move along each axis; where slices are thicker, it stays.
    pub radius_mm: f64,
}

/// How a class grows by the scan: the table of `grow_region`. HU are those of the scan after a blur of 0.8 mm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// The classes, one after the other; brighter than what lies around them, such as kidneys with contrast medium.
    pub classes: ClassList,
    /// Nothing grows where the class's median is less than this.
    pub least_hu: f32,
    /// Background within this of the median joins,
    pub within_hu: f32,
    /// if it is brighter than this.
    pub above_hu: f32,
    /// Nothing grows through a neck that no ball of this radius passes.
    pub neck_mm: f64,
    /// How far beyond the class's box it may grow.
    pub reach_mm: f64,
    /// Nothing grows where the class would become larger than this many times itself.
    pub at_most: f64,
}

/// What is too far: the table of `remove_far`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Far {
    /// The place is the mean of the centroids of the largest component of each of these classes. ClassList that are missing
    /// are left out; where all are, the rule does nothing.
    pub from: Vec<String>,
    /// Along this axis only; in all three without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<Axis>,
    /// A component goes when its distance is greater.
    pub distance_mm: f64,
}

/// All keys of a rule.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_largest: Option<ClassList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_small: Option<ClassList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_far: Option<Far>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fit_border: Option<Fit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grow_region: Option<Growth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    erase: Option<ClassList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fill_holes: Option<ClassList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<ClassList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<ClassList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_volume_mm3: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slicewise: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    radius_mm: Option<f64>,
}

impl RawRule {
    /// The keys that are there.
    fn keys(&self) -> Vec<&'static str> {
        [
            ("keep_largest", self.keep_largest.is_some()),
            ("remove_small", self.remove_small.is_some()),
            ("remove_far", self.remove_far.is_some()),
            ("fit_border", self.fit_border.is_some()),
            ("grow_region", self.grow_region.is_some()),
            ("erase", self.erase.is_some()),
            ("fill_holes", self.fill_holes.is_some()),
            ("open", self.open.is_some()),
            ("close", self.close.is_some()),
            ("k", self.k.is_some()),
            ("min_volume_mm3", self.min_volume_mm3.is_some()),
            ("at_most", self.at_most.is_some()),
            ("slicewise", self.slicewise.is_some()),
            ("radius_mm", self.radius_mm.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, there)| there.then_some(key))
        .collect()
    }
}

impl TryFrom<RawRule> for PostRule {
    type Error = String;

    fn try_from(mut raw: RawRule) -> Result<Self, String> {
        let lacks = |key: &str| format!("a rule of postprocess lacks the key {key}");
        let rule = if let Some(classes) = raw.keep_largest.take() {
            Self::KeepLargest {
                classes,
                k: raw.k.take().unwrap_or(1),
                min_volume_mm3: raw.min_volume_mm3.take().unwrap_or(0.0),
            }
        } else if let Some(classes) = raw.remove_small.take() {
            Self::RemoveSmall {
                classes,
                min_volume_mm3: raw.min_volume_mm3.take().ok_or_else(|| lacks("min_volume_mm3"))?,
                at_most: raw.at_most.take(),
            }
        } else if let Some(far) = raw.remove_far.take() {
            Self::RemoveFar(far)
        } else if let Some(fit) = raw.fit_border.take() {
            Self::FitBorder(fit)
        } else if let Some(growth) = raw.grow_region.take() {
            Self::GrowRegion(growth)
        } else if let Some(classes) = raw.erase.take() {
            Self::Erase { classes }
        } else if let Some(classes) = raw.fill_holes.take() {
            Self::FillHoles {
                classes,
                slicewise: raw.slicewise.take().unwrap_or(false),
            }
        } else if let Some(classes) = raw.open.take() {
            Self::Open {
                classes,
                radius_mm: raw.radius_mm.take().ok_or_else(|| lacks("radius_mm"))?,
            }
        } else if let Some(classes) = raw.close.take() {
            Self::Close {
                classes,
                radius_mm: raw.radius_mm.take().ok_or_else(|| lacks("radius_mm"))?,
            }
        } else {
            return Err(lacks(
                "keep_largest, remove_small, remove_far, fit_border, grow_region, erase, fill_holes, open or close",
            ));
        };
        match raw.keys().first() {
            Some(key) => Err(format!("the rule {} of postprocess has no key {key}", rule.name())),
            None => Ok(rule),
        }
    }
}

impl From<PostRule> for RawRule {
    fn from(rule: PostRule) -> Self {
        let mut raw = Self::default();
        match rule {
            PostRule::KeepLargest {
                classes,
                k,
                min_volume_mm3,
            } => {
                raw.keep_largest = Some(classes);
                raw.k = (k != 1).then_some(k);
                raw.min_volume_mm3 = Some(min_volume_mm3);
            }
            PostRule::RemoveSmall {
                classes,
                min_volume_mm3,
                at_most,
            } => {
                raw.remove_small = Some(classes);
                raw.min_volume_mm3 = Some(min_volume_mm3);
                raw.at_most = at_most;
            }
            PostRule::RemoveFar(far) => raw.remove_far = Some(far),
            PostRule::FitBorder(fit) => raw.fit_border = Some(fit),
            PostRule::GrowRegion(growth) => raw.grow_region = Some(growth),
            PostRule::Erase { classes } => raw.erase = Some(classes),
            PostRule::FillHoles { classes, slicewise } => {
                raw.fill_holes = Some(classes);
                raw.slicewise = slicewise.then_some(true);
            }
            PostRule::Open { classes, radius_mm } => {
                raw.open = Some(classes);
                raw.radius_mm = Some(radius_mm);
            }
            PostRule::Close { classes, radius_mm } => {
                raw.close = Some(classes);
                raw.radius_mm = Some(radius_mm);
            }
        }
        raw
    }
}

impl PostRule {
    /// Its key in recipes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeepLargest { .. } => "keep_largest",
            Self::RemoveSmall { .. } => "remove_small",
            Self::RemoveFar(_) => "remove_far",
            Self::FitBorder(_) => "fit_border",
            Self::GrowRegion(_) => "grow_region",
            Self::Erase { .. } => "erase",
            Self::FillHoles { .. } => "fill_holes",
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
        }
    }

    /// Whether it looks at the scan's own voxels, not only at labels.
    #[must_use]
    pub fn sees_scan(&self) -> bool {
        matches!(self, Self::FitBorder(_) | Self::GrowRegion(_))
    }

    /// Checks its numbers, and its classes against those there are.
    pub(super) fn check(&self, table: &LabelTable) -> Result<(), String> {
        let name = self.name();
        let volume = |v: f64| match v >= 0.0 && v.is_finite() {
            true => Ok(()),
            false => Err(format!("{name}: min_volume_mm3 = {v} is not a volume")),
        };
        let number = |key: &str, n: usize| match (1..=MAX_KEPT).contains(&n) {
            true => Ok(()),
            false => Err(format!("{name}: {key} = {n} is not between 1 and {MAX_KEPT}")),
        };
        let apart = |key: &str, hu: f32| match hu >= 0.0 && hu.is_finite() {
            true => Ok(()),
            false => Err(format!("{name}: {key} = {hu} is no difference of HU")),
        };
        let bright = |key: &str, hu: f32| match hu.is_finite() {
            true => Ok(()),
            false => Err(format!("{name}: {key} = {hu} is no HU")),
        };
        let radius = |key: &str, mm: f64| match mm > 0.0 && mm <= MAX_RADIUS_MM {
            true => Ok(()),
            false => Err(format!("{name}: {key} = {mm} is not in 0 < r ≤ {MAX_RADIUS_MM}")),
        };
        let classes = match self {
            Self::KeepLargest {
                classes,
                k,
                min_volume_mm3,
            } => {
                volume(*min_volume_mm3)?;
                number("k", *k)?;
                classes.names()
            }
            Self::RemoveSmall {
                classes,
                min_volume_mm3,
                at_most,
            } => {
                volume(*min_volume_mm3)?;
                at_most.map_or(Ok(()), |n| number("at_most", n))?;
                classes.names()
            }
            Self::RemoveFar(far) => {
                if !(far.distance_mm > 0.0 && far.distance_mm.is_finite()) {
                    return Err(format!("{name}: distance_mm = {} is not a distance", far.distance_mm));
                }
                if far.from.is_empty() {
                    return Err(format!("{name}: from names no class"));
                }
                &far.from
            }
            Self::FitBorder(fit) => {
                apart("darker_hu", fit.darker_hu)?;
                apart("within_hu", fit.within_hu)?;
                bright("above_hu", fit.above_hu)?;
                radius("radius_mm", fit.radius_mm)?;
                fit.classes.names()
            }
            Self::GrowRegion(growth) => {
                apart("within_hu", growth.within_hu)?;
                bright("above_hu", growth.above_hu)?;
                bright("least_hu", growth.least_hu)?;
                radius("neck_mm", growth.neck_mm)?;
                radius("reach_mm", growth.reach_mm)?;
                if !(growth.at_most >= 1.0 && growth.at_most.is_finite()) {
                    return Err(format!("{name}: at_most = {} is not a number from 1", growth.at_most));
                }
                growth.classes.names()
            }
            Self::Open { classes, radius_mm } | Self::Close { classes, radius_mm } => {
                radius("radius_mm", *radius_mm)?;
                classes.names()
            }
            Self::Erase { classes } | Self::FillHoles { classes, .. } => classes.names(),
        };
        match classes.iter().find(|n| table.by_name(n).is_none()) {
            Some(unknown) => Err(format!("{name}: \"{unknown}\" is no class of {}", table.name())),
            None => Ok(()),
        }
    }
}

/// ClassList that a rule speaks of: `"all"` or a list of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassList {
    /// Every class.
    All,
    /// The classes named.
    Named(Vec<String>),
}

impl ClassList {
    /// Whether a class is meant.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|n| n == name),
        }
    }

    fn names(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Named(names) => names,
        }
    }
}

impl Serialize for ClassList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ClassList;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"all\" or a list of class names")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClassList, E> {
                match text {
                    "all" => Ok(ClassList::All),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<ClassList, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(ClassList::Named(names))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use crate::Recipe;

    /// The small recipe with other rules of its last stage.
    fn recipe(rules: &str) -> Result<Recipe, String> {
        let text = Recipe::builtin_text("efficientsegnet-small").unwrap();
        let at = text.rfind("postprocess = [").unwrap();
        let end = at + text[at..].find("\n]\n").unwrap() + 3;
        let text = format!("{}postprocess = [{rules}]\n{}", &text[..at], &text[end..]);
        Recipe::parse(&text, "r").map_err(|e| e.to_string())
    }

    #[test]
    fn every_rule_survives_its_canonical_text() {
        let rules = r#"
            { keep_largest = ["spleen", "aorta"], k = 2, min_volume_mm3 = 5 },
            { remove_small = "all", min_volume_mm3 = 1000, at_most = 30 },
            { remove_far = { from = ["liver"], axis = "z", distance_mm = 170 } },
            { remove_far = { from = ["aorta", "inferior_vena_cava"], distance_mm = 170 } },
            { fit_border = { classes = ["liver"], darker_hu = 90, within_hu = 35, above_hu = 75, radius_mm = 2 } },
            { grow_region = { classes = "all", least_hu = 130, within_hu = 60, above_hu = 110, neck_mm = 3, reach_mm = 30, at_most = 2 } },
            { erase = ["adrenal_gland_left"] },
            { fill_holes = "all", slicewise = true },
            { open = ["liver"], radius_mm = 2 },
            { close = ["liver"], radius_mm = 2.5 }"#;
        let first = recipe(rules).unwrap();
        assert_eq!(first.stages[1].postprocess.len(), 10);
        let again = Recipe::parse(&first.canonical().unwrap(), "r").unwrap();
        assert_eq!(again, first);
    }

    #[test]
    fn a_stage_that_localises_has_no_scan_to_fit_to() {
        let text = Recipe::builtin_text("efficientsegnet-small").unwrap();
        let first = "{ keep_largest = \"all\", min_volume_mm3 = 1000 }";
        assert!(text.contains(first));
        for rule in [
            "fit_border = { classes = \"all\", darker_hu = 90, within_hu = 35, above_hu = 65, radius_mm = 2 }",
            "grow_region = { classes = \"all\", least_hu = 1, within_hu = 1, above_hu = 1, neck_mm = 1, reach_mm = 1, at_most = 2 }",
        ] {
            let changed = text.replacen(first, &format!("{{ {rule} }}"), 1);
            let error = Recipe::parse(&changed, "r").unwrap_err().to_string();
            let name = rule.split_once(' ').unwrap().0;
            assert!(error.contains(&format!("{name} looks at the scan")), "{error}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        for (rules, part) in [
            ("{ keep_larges = \"all\" }", "did you mean `keep_largest`?"),
            ("{ k = 2 }", "lacks the key keep_largest"),
            ("{ erase = \"all\", k = 2 }", "erase of postprocess has no key k"),
            (
                "{ keep_largest = \"all\", erase = \"all\" }",
                "keep_largest of postprocess has no key erase",
            ),
            ("{ open = \"all\" }", "lacks the key radius_mm"),
            ("{ open = \"all\", radius_mm = 0 }", "0 < r"),
            ("{ close = \"all\", radius_mm = 1000 }", "0 < r"),
            (
                "{ fit_border = { classes = \"all\", darker_hu = 90, within_hu = 35, above_hu = 75, radius_mm = 0 } }",
                "fit_border: radius_mm = 0",
            ),
            (
                "{ fit_border = { classes = \"all\", darker_hu = -1, within_hu = 35, above_hu = 75, radius_mm = 2 } }",
                "darker_hu = -1",
            ),
            (
                "{ grow_region = { classes = \"all\", least_hu = 1, within_hu = 1, above_hu = 1, neck_mm = 0, reach_mm = 1, at_most = 2 } }",
                "grow_region: neck_mm = 0",
            ),
            (
                "{ grow_region = { classes = \"all\", least_hu = 1, within_hu = 1, above_hu = 1, neck_mm = 1, reach_mm = 1, at_most = 0.5 } }",
                "grow_region: at_most = 0.5",
            ),
            (
                "{ grow_region = { classes = \"all\", least_hu = nan, within_hu = 1, above_hu = 1, neck_mm = 1, reach_mm = 1, at_most = 2 } }",
                "least_hu = NaN is no HU",
            ),
            (
                "{ grow_region = { classes = \"all\", least_hu = 1, within_hu = 1, above_hu = 1, neck_mm = 1, at_most = 2 } }",
                "missing field `reach_mm`",
            ),
            ("{ remove_small = \"all\" }", "lacks the key min_volume_mm3"),
            ("{ remove_small = \"all\", min_volume_mm3 = -1 }", "is not a volume"),
            (
                "{ remove_small = \"all\", min_volume_mm3 = 1, at_most = 0 }",
                "at_most = 0",
            ),
            ("{ keep_largest = \"all\", k = 0 }", "k = 0"),
            ("{ keep_largest = [\"livre\"] }", "is no class of flare13"),
            (
                "{ remove_far = { from = [\"livre\"], distance_mm = 1 } }",
                "is no class of flare13",
            ),
            ("{ remove_far = { from = [], distance_mm = 1 } }", "names no class"),
            (
                "{ remove_far = { from = [\"liver\"], distance_mm = 0 } }",
                "is not a distance",
            ),
            (
                "{ remove_far = { from = [\"liver\"], axes = \"z\", distance_mm = 1 } }",
                "did you mean `axis`?",
            ),
        ] {
            let error = recipe(rules).unwrap_err();
            assert!(error.contains(part), "{rules}: {error}");
        }
    }
}
