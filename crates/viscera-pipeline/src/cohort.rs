//! A cohort as data: phantoms of several centres, some labelled, some in part, some not at all, some held out.
//!
//! A TOML file says how many of which kind each centre has and how its scans look; `docs/phantoms.md` has the keys.

use crate::PipelineError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use viscera_image::phantom::PhantomConfig;
use viscera_image::{AnnotatedClasses, LabelTable};

/// Built-in cohorts: name and text.
const BUILTIN: [(&str, &str); 3] = [
    ("ablation", include_str!("../../../cohorts/ablation.toml")),
    ("lesions", include_str!("../../../cohorts/lesions.toml")),
    ("mini", include_str!("../../../cohorts/mini.toml")),
];

/// Patients of a seed; those of neighbouring seeds have other numbers, so that two cohorts share no patient.
const PATIENTS: u64 = 1_000_000;
/// Most centres of a cohort.
const MOST_CENTRES: usize = 25;
/// Most cases of a centre for one use, so that all uses of all centres have patients of their own.
const MOST_CASES: usize = 10_000;

/// Phantoms of several centres.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// The same seed gives the same files.
    pub seed: u64,
    /// Where the scans come from. A centre's patients depend on its place in this list.
    #[serde(rename = "centre")]
    pub centres: Vec<Centre>,
}

/// A hospital or scanner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Centre {
    /// Letters, digits, `-` and `_`: the beginning of its cases' names.
    pub name: String,
    /// Training cases with all classes labelled.
    #[serde(default)]
    pub labelled: usize,
    /// Training cases with some classes labelled: those of `annotates`.
    #[serde(default)]
    pub partial: usize,
    /// Training cases without a label map.
    #[serde(default)]
    pub unlabelled: usize,
    /// Cases that are held out, with all classes labelled.
    #[serde(default)]
    pub test: usize,
    /// What partly labelled cases annotate: names of classes, or several such lists, which the cases take in turn.
    #[serde(default)]
    pub annotates: ClassLists,
    /// Share of tumours that the label maps to train on miss, 0…1; see [`viscera_image::phantom::overlook_tumours`].
    #[serde(default)]
    pub missed_lesions: f32,
    /// How its scans and patients differ from the default phantom.
    #[serde(default)]
    pub phantom: PhantomConfig,
}

/// One list of class names, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "names of classes, as [\"liver\", \"spleen\"], or several such lists"
)]
pub enum ClassLists {
    /// All cases annotate the same.
    One(Vec<String>),
    /// Cases take the lists in turn.
    InTurn(Vec<Vec<String>>),
}

impl Default for ClassLists {
    fn default() -> Self {
        Self::One(Vec::new())
    }
}

impl ClassLists {
    fn lists(&self) -> &[Vec<String>] {
        match self {
            Self::One(list) => std::slice::from_ref(list),
            Self::InTurn(lists) => lists,
        }
    }
}

/// What a case of a cohort is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// To train on, with all classes labelled.
    Labelled,
    /// To train on, with some classes labelled.
    Partial,
    /// To train on, without a label map.
    Unlabelled,
    /// Held out.
    Test,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Labelled, Self::Partial, Self::Unlabelled, Self::Test];

    /// As files spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Labelled => "labelled",
            Self::Partial => "partial",
            Self::Unlabelled => "unlabelled",
            Self::Test => "test",
        }
    }
}

/// One case of a cohort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CohortCase {
    /// `CENTRE_NUMBER` for a labelled case, else `CENTRE_USE_NUMBER`.
    pub name: String,
    /// Its centre's name.
    pub centre: String,
    /// What it is for.
    #[serde(rename = "use")]
    pub usage: Use,
    /// The classes that its label map annotates, by name; none for an unlabelled case.
    pub annotates: Vec<String>,
    /// The phantom's seed.
    pub seed: u64,
    /// The centre's place in the cohort.
    #[serde(skip)]
    pub(crate) place: usize,
}

impl Cohort {
    /// The cohort that is a plain data set: labelled cases `phantom_SEED_NUMBER` of one centre.
    #[must_use]
    pub fn plain(cases: usize, seed: u64, phantom: PhantomConfig) -> Self {
        let centre = Centre {
            name: format!("phantom_{seed}"),
            labelled: cases,
            partial: 0,
            unlabelled: 0,
            test: 0,
            annotates: ClassLists::default(),
            missed_lesions: 0.0,
            phantom,
        };
        Self {
            seed,
            centres: vec![centre],
        }
    }

    /// Parses and checks a cohort's text; `source` is its name or path, for errors.
    ///
    /// # Errors
    /// [`PipelineError::PhantomConfig`] for text that is not TOML, unknown keys and wrong types, [`PipelineError::Cohort`]
    /// as [`Self::validate`].
    pub fn parse(text: &str, source: &Path) -> Result<Self, PipelineError> {
        let cohort: Self = toml::from_str(text).map_err(|error| PipelineError::PhantomConfig {
            path: source.to_owned(),
            source: error,
        })?;
        cohort.validate()?;
        Ok(cohort)
    }

    /// Reads a cohort's file.
    ///
    /// # Errors
    /// As [`Self::parse`], and [`PipelineError::File`].
    pub fn load(path: &Path) -> Result<Self, PipelineError> {
        let text = std::fs::read_to_string(path).map_err(|source| PipelineError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// A built-in cohort.
    ///
    /// # Errors
    /// [`PipelineError::UnknownCohort`] with the names there are.
    pub fn builtin(name: &str) -> Result<Self, PipelineError> {
        let found = BUILTIN.iter().find(|(known, _)| *known == name);
        let (_, text) = found.ok_or_else(|| PipelineError::UnknownCohort {
            name: name.to_owned(),
            known: Self::builtin_names().map(str::to_owned).collect(),
        })?;
        Self::parse(text, Path::new(name))
    }

    /// Names of the built-in cohorts.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    /// [`PipelineError::Cohort`] with the centre to blame: a name that cannot begin a file's, partly labelled cases without
    /// classes (or the reverse), classes that there are not, shares outside 0…1, too many centres or cases, numbers of
    /// phantoms that cannot be.
    pub fn validate(&self) -> Result<(), PipelineError> {
        let fail = |centre: &str, reason: String| {
            let centre = centre.to_owned();
            Err(PipelineError::Cohort { centre, reason })
        };
        if self.centres.len() > MOST_CENTRES {
            return fail("", format!("{} centres; at most {MOST_CENTRES}", self.centres.len()));
        }
        let table = LabelTable::flare14();
        for centre in &self.centres {
            let name = centre.name.as_str();
            let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || !name.chars().all(good) {
                return fail(name, "a name has letters, digits, - and _ alone".to_owned());
            }
            let most = Use::ALL.into_iter().map(|usage| centre.count(usage)).max().unwrap_or(0);
            if most > MOST_CASES && !self.is_plain() {
                return fail(name, format!("{most} cases; at most {MOST_CASES} for one use"));
            }
            let lists = centre.annotates.lists();
            let empty = lists.is_empty() || lists.iter().any(Vec::is_empty);
            if centre.partial > 0 && empty {
                return fail(name, "has partial cases, but annotates names no class".to_owned());
            }
            if centre.partial == 0 && !empty {
                return fail(
                    name,
                    "annotates names classes, but there are no partial cases".to_owned(),
                );
            }
            if let Some(class) = lists.iter().flatten().find(|class| table.by_name(class).is_none()) {
                let known: Vec<&str> = table.entries().iter().map(|e| e.name.as_str()).collect();
                return fail(
                    name,
                    format!("there is no class \"{class}\"; there are {}", known.join(", ")),
                );
            }
            if !(0.0..=1.0).contains(&centre.missed_lesions) {
                return fail(name, format!("missed_lesions = {} is no share", centre.missed_lesions));
            }
            if let Err(error) = centre.phantom.validate() {
                return fail(name, error.to_string());
            }
        }
        let mut names = BTreeSet::new();
        for case in self.cases() {
            // Some file systems do not tell letters by their case.
            if !names.insert(case.name.to_ascii_lowercase()) {
                return fail(&case.centre, format!("two cases have the name \"{}\"", case.name));
            }
        }
        Ok(())
    }

    /// Whether it is a data set without anything to tell apart: one centre with labelled cases alone, and no tumour missed.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        match self.centres.as_slice() {
            [c] => c.partial + c.unlabelled + c.test == 0 && c.missed_lesions == 0.0,
            _ => false,
        }
    }

    /// All cases: by centre, then by use.
    #[must_use]
    pub fn cases(&self) -> Vec<CohortCase> {
        let mut cases = Vec::new();
        for (place, centre) in self.centres.iter().enumerate() {
            for (rank, usage) in Use::ALL.into_iter().enumerate() {
                // Patients of their own for each use, so that one more case here changes none there.
                let first = (place * Use::ALL.len() + rank) * MOST_CASES;
                for number in 0..centre.count(usage) {
                    let seed = self.seed.wrapping_mul(PATIENTS).wrapping_add((first + number) as u64);
                    let name = match usage {
                        Use::Labelled => format!("{}_{number:04}", centre.name),
                        other => format!("{}_{}_{number:04}", centre.name, other.name()),
                    };
                    cases.push(CohortCase {
                        name,
                        centre: centre.name.clone(),
                        usage,
                        annotates: centre.annotated(usage, number),
                        seed,
                        place,
                    });
                }
            }
        }
        cases
    }
}

impl Centre {
    /// How many cases it has for a use.
    #[must_use]
    pub fn count(&self, usage: Use) -> usize {
        match usage {
            Use::Labelled => self.labelled,
            Use::Partial => self.partial,
            Use::Unlabelled => self.unlabelled,
            Use::Test => self.test,
        }
    }

    /// Names of the classes that a case annotates, in the table's order.
    fn annotated(&self, usage: Use, number: usize) -> Vec<String> {
        let table = LabelTable::flare14();
        let lists = self.annotates.lists();
        let named = |name: &str| match usage {
            Use::Labelled | Use::Test => true,
            Use::Partial => lists
                .iter()
                .cycle()
                .nth(number)
                .is_some_and(|l| l.iter().any(|n| n == name)),
            Use::Unlabelled => false,
        };
        let entries = table.entries().iter();
        entries.map(|e| e.name.clone()).filter(|name| named(name)).collect()
    }
}

impl CohortCase {
    /// The ids of the classes that its label map annotates.
    pub(crate) fn classes(&self, table: &LabelTable) -> AnnotatedClasses {
        let entries = self.annotates.iter().filter_map(|name| table.by_name(name));
        entries.map(|entry| entry.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
seed = 3
[[centre]]
name = "a"
labelled = 2
partial = 3
annotates = [["liver"], ["tumour", "spleen"]]
[[centre]]
name = "b"
unlabelled = 1
test = 2
missed_lesions = 0.5
[centre.phantom]
phase = "native"
noise_hu = [5, 9]
"#;

    fn parse(text: &str) -> Result<Cohort, PipelineError> {
        Cohort::parse(text, Path::new("c.toml"))
    }

    /// A message with its causes.
    fn error(from: &str, to: &str) -> String {
        assert!(TEXT.contains(from), "{from}");
        let error = parse(&TEXT.replacen(from, to, 1)).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    }

    #[test]
    fn cases_have_names_classes_and_patients_of_their_own() {
        let cases = parse(TEXT).unwrap().cases();
        let names: Vec<&str> = cases.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "a_0000",
                "a_0001",
                "a_partial_0000",
                "a_partial_0001",
                "a_partial_0002",
                "b_unlabelled_0000",
                "b_test_0000",
                "b_test_0001"
            ]
        );
        let annotated: Vec<usize> = cases.iter().map(|c| c.annotates.len()).collect();
        assert_eq!(annotated, [14, 14, 1, 2, 1, 0, 14, 14]);
        assert_eq!(cases[3].annotates, ["spleen", "tumour"]);
        let seeds: BTreeSet<u64> = cases.iter().map(|c| c.seed).collect();
        assert_eq!(seeds.len(), cases.len());
        // A plain set keeps the patients it always had.
        assert_eq!((cases[1].seed, cases[0].seed), (3_000_001, 3_000_000));
        let plain = Cohort::plain(2, 7, PhantomConfig::default());
        assert_eq!(
            (plain.cases()[1].name.as_str(), plain.is_plain()),
            ("phantom_7_0001", true)
        );

        // One case more changes no other.
        let more = parse(&TEXT.replacen("labelled = 2", "labelled = 3", 1))
            .unwrap()
            .cases();
        assert_eq!(more.len(), 9);
        assert!(cases.iter().all(|case| more.contains(case)));
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        for (from, to, parts) in [
            ("partial = 3", "partail = 3", ["c.toml", "partail"]),
            ("noise_hu", "noise_uh", ["c.toml", "noise_uh"]),
            ("seed = 3", "sede = 3", ["c.toml", "sede"]),
            ("[[\"liver\"]", "[3, [\"liver\"]", ["c.toml", "names of classes"]),
            ("\"liver\"", "\"livre\"", ["\"a\"", "livre"]),
            ("name = \"b\"", "name = \"../b\"", ["../b", "letters"]),
            ("name = \"b\"", "name = \"A\"\nlabelled = 1", ["\"A\"", "two cases"]),
            (
                "annotates = [[\"liver\"], [\"tumour\", \"spleen\"]]",
                "",
                ["\"a\"", "no class"],
            ),
            ("partial = 3", "", ["\"a\"", "no partial cases"]),
            ("0.5", "1.5", ["\"b\"", "1.5"]),
            ("[5, 9]", "[9, 5]", ["\"b\"", "noise_hu"]),
            ("test = 2", "test = 20000", ["\"b\"", "20000"]),
        ] {
            let message = error(from, to);
            assert!(parts.iter().all(|part| message.contains(part)), "{to}: {message}");
        }
    }

    #[test]
    fn the_built_in_cohorts_have_labels_and_unseen_centres() {
        for name in Cohort::builtin_names() {
            let cohort = Cohort::builtin(name).unwrap();
            for usage in Use::ALL {
                assert!(
                    name == "lesions" || cohort.centres.iter().any(|c| c.count(usage) > 0),
                    "{name}: {}",
                    usage.name()
                );
            }
            let unseen = |c: &&Centre| c.test > 0 && c.labelled + c.partial + c.unlabelled == 0;
            assert!(cohort.centres.iter().any(|c| unseen(&c)), "{name}");
            // Whatever is not labelled in full somewhere cannot be learnt.
            assert!(
                cohort
                    .cases()
                    .iter()
                    .any(|c| c.usage == Use::Labelled && c.annotates.len() == 14)
            );
        }
        let message = Cohort::builtin("maxi").unwrap_err().to_string();
        assert!(message.contains("maxi") && message.contains("mini"), "{message}");
    }
}
