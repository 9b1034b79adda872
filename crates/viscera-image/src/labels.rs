//! What the ids of a label map mean, and which of them a case annotates.

use crate::ImageError;
use serde::{Deserialize, Serialize};

/// One class: its id in label maps, its name, its colour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelEntry {
    /// Value in label maps, 1 to 255; 0 is background and has no entry.
    pub id: u8,
    /// Name in TotalSegmentator's style: lower case, words joined by `_`.
    pub name: String,
    /// Colour `[red, green, blue]` in pictures and viewers.
    pub rgb: [u8; 3],
}

impl LabelEntry {
    /// Whether the class lies inside organs rather than beside them: a tumour, lesion, metastasis or cyst, by its name.
    #[must_use]
    pub fn is_lesion(&self) -> bool {
        let words = ["tumour", "tumor", "lesion", "cancer", "metasta", "cyst"];
        let name = self.name.to_lowercase();
        words.iter().any(|word| name.contains(word))
    }
}

/// The classes of a label map, in rising order of id. Ids and names are unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTable", into = "RawTable")]
pub struct LabelTable {
    name: String,
    entries: Vec<LabelEntry>,
}

/// A table as files spell it: `name = "…"` and `[[label]]` with `id`, `name`, `rgb`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    name: String,
    label: Vec<LabelEntry>,
}

impl TryFrom<RawTable> for LabelTable {
    type Error = ImageError;

    fn try_from(raw: RawTable) -> Result<Self, ImageError> {
        Self::new(raw.name, raw.label)
    }
}

impl From<LabelTable> for RawTable {
    fn from(table: LabelTable) -> Self {
        Self {
            name: table.name,
            label: table.entries,
        }
    }
}

/// Names and colours of the FLARE challenges' classes; the id is the place plus one. FLARE22 has the first 13, FLARE23
/// adds the tumour. Right and left kidney, and right and left adrenal, have neighbouring hues.
const FLARE: [(&str, [u8; 3]); 14] = [
    ("liver", [190, 92, 66]),
    ("kidney_right", [250, 190, 60]),
    ("spleen", [150, 96, 190]),
    ("pancreas", [245, 150, 190]),
    ("aorta", [228, 46, 46]),
    ("inferior_vena_cava", [60, 100, 230]),
    ("adrenal_gland_right", [70, 215, 215]),
    ("adrenal_gland_left", [30, 150, 165]),
    ("gallbladder", [70, 180, 70]),
    ("esophagus", [176, 140, 100]),
    ("stomach", [255, 218, 170]),
    ("duodenum", [170, 225, 120]),
    ("kidney_left", [240, 135, 30]),
    ("tumour", [255, 255, 90]),
];

impl LabelTable {
    /// A table from entries in any order.
    ///
    /// # Errors
    /// [`ImageError::BadLabels`] when an id is 0, an id or a name comes twice, or a name is empty or "background".
    pub fn new(name: impl Into<String>, mut entries: Vec<LabelEntry>) -> Result<Self, ImageError> {
        let name = name.into();
        let bad = |reason: String| ImageError::BadLabels {
            table: name.clone(),
            reason,
        };
        entries.sort_by_key(|e| e.id);
        let mut names = std::collections::BTreeSet::new();
        let mut last = 0;
        for e in &entries {
            if e.id == 0 {
                return Err(bad(format!("\"{}\" has id 0, which is background", e.name)));
            }
            if e.id == last {
                return Err(bad(format!("id {} comes twice", e.id)));
            }
            if e.name.trim().is_empty() || e.name == "background" {
                return Err(bad(format!("id {} is named \"{}\"", e.id, e.name)));
            }
            if !names.insert(e.name.as_str()) {
                return Err(bad(format!("name \"{}\" comes twice", e.name)));
            }
            last = e.id;
        }
        Ok(Self { name, entries })
    }

    /// The 13 organs of FLARE22, ids 1 to 13 in the challenge's order.
    #[must_use]
    pub fn flare13() -> Self {
        Self::flare("flare13", 13)
    }

    /// The 13 organs and the tumour of FLARE23, ids 1 to 14.
    #[must_use]
    pub fn flare14() -> Self {
        Self::flare("flare14", 14)
    }

    fn flare(name: &str, classes: usize) -> Self {
        let entries = (1u8..).zip(FLARE).take(classes);
        Self {
            name: name.to_owned(),
            entries: entries
                .map(|(id, (name, rgb))| LabelEntry {
                    id,
                    name: name.to_owned(),
                    rgb,
                })
                .collect(),
        }
    }

    /// Name of the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The classes, rising by id.
    #[must_use]
    pub fn entries(&self) -> &[LabelEntry] {
        &self.entries
    }

    /// The class of an id, if there is one.
    #[must_use]
    pub fn by_id(&self, id: u8) -> Option<&LabelEntry> {
        let at = self.entries.binary_search_by_key(&id, |e| e.id).ok()?;
        self.entries.get(at)
    }

    /// The class of a name, if there is one.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&LabelEntry> {
        self.entries.iter().find(|e| e.name == name)
    }
}

/// A set of label ids: the classes that a case annotates.
///
/// A class outside the set is *not annotated*, which is not the same as absent: nothing is known about its voxels, so
/// losses and scores leave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AnnotatedClasses([u64; 4]);

impl AnnotatedClasses {
    /// No class: an unlabelled case.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every class of a table.
    #[must_use]
    pub fn all(table: &LabelTable) -> Self {
        table.entries().iter().map(|e| e.id).collect()
    }

    /// Adds a class.
    pub fn insert(&mut self, id: u8) {
        self.0[usize::from(id >> 6)] |= 1 << (id & 63);
    }

    /// Whether a class is annotated.
    #[must_use]
    pub fn contains(&self, id: u8) -> bool {
        self.0[usize::from(id >> 6)] >> (id & 63) & 1 == 1
    }

    /// Whether no class is annotated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Number of classes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ids, rising.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&id| self.contains(id))
    }
}

impl FromIterator<u8> for AnnotatedClasses {
    fn from_iter<I: IntoIterator<Item = u8>>(ids: I) -> Self {
        let mut set = Self::none();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flare_ids_follow_the_challenge() {
        let table = LabelTable::flare14();
        let lesions = table.entries().iter().filter(|e| e.is_lesion()).map(|e| e.id);
        assert_eq!(lesions.collect::<Vec<_>>(), [14]);
        for (id, name) in [
            (1, "liver"),
            (2, "kidney_right"),
            (6, "inferior_vena_cava"),
            (13, "kidney_left"),
            (14, "tumour"),
        ] {
            assert_eq!(table.by_id(id).map(|e| e.name.as_str()), Some(name));
            assert_eq!(table.by_name(name).map(|e| e.id), Some(id));
        }
        assert_eq!(LabelTable::flare13().entries(), &table.entries()[..13]);
        assert!(table.by_id(0).is_none() && table.by_id(15).is_none());
    }

    #[test]
    fn colours_can_be_told_apart() {
        let table = LabelTable::flare14();
        for (i, a) in table.entries().iter().enumerate() {
            for b in &table.entries()[i + 1..] {
                let distance: i32 = (0..3).map(|c| (i32::from(a.rgb[c]) - i32::from(b.rgb[c])).abs()).sum();
                assert!(distance > 60, "{} and {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn impossible_tables_are_refused() {
        let entry = |id, name: &str| LabelEntry {
            id,
            name: name.to_owned(),
            rgb: [0; 3],
        };
        for entries in [
            vec![entry(0, "liver")],
            vec![entry(1, "liver"), entry(1, "spleen")],
            vec![entry(1, "liver"), entry(2, "liver")],
            vec![entry(1, " ")],
            vec![entry(1, "background")],
        ] {
            assert!(matches!(
                LabelTable::new("t", entries),
                Err(ImageError::BadLabels { .. })
            ));
        }
        let sorted = LabelTable::new("t", vec![entry(9, "b"), entry(3, "a")]).expect("a good table");
        assert_eq!(sorted.by_id(3), Some(&entry(3, "a")));
    }

    #[test]
    fn sets_hold_every_id() {
        let ids = [0, 1, 63, 64, 127, 128, 255];
        let set: AnnotatedClasses = ids.into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), ids);
        assert_eq!(set.len(), 7);
        assert!(!set.contains(62) && !set.is_empty() && AnnotatedClasses::none().is_empty());
        assert_eq!(AnnotatedClasses::all(&LabelTable::flare13()).len(), 13);
    }
}
