//! Names of classes as names of files.

use std::collections::BTreeSet;
use viscera_image::LabelEntry;

/// A file's name, without ending, for each class: the class's own name, which for the organs is TotalSegmentator's.
/// What cannot stand in a file's name on every system becomes `_`; names that would then be the same, or would take the
/// place of the statistics, get their id.
pub(super) fn file_names(classes: &[LabelEntry]) -> Vec<String> {
    // Some systems do not tell capitals apart.
    let mut taken: BTreeSet<String> = ["statistics".to_owned()].into();
    let name = |class: &LabelEntry| {
        let safe: String = class
            .name
            .chars()
            .take(100)
            .map(|c| {
                if c.is_alphanumeric() || "_-+ ()".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let safe = safe.trim().to_owned();
        if taken.insert(safe.to_lowercase()) {
            return safe;
        }
        let numbered = format!("{safe}.{}", class.id);
        taken.insert(numbered.to_lowercase());
        numbered
    };
    classes.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::LabelTable;

    #[test]
    fn organs_keep_their_names_and_others_stay_in_the_folder() {
        let organs = LabelTable::flare14();
        let names = file_names(organs.entries());
        assert!(names.iter().zip(organs.entries()).all(|(n, e)| *n == e.name));
        let wild = ["../../x", "a/b", "a\\b", "A_b", "statistics", "portal vein", "c:d"];
        let wild: Vec<LabelEntry> = (1..)
            .zip(wild)
            .map(|(id, name)| LabelEntry {
                id,
                name: name.to_owned(),
                rgb: [0; 3],
            })
            .collect();
        let expected = ["______x", "a_b", "a_b.3", "A_b.4", "statistics.5", "portal vein", "c_d"];
        assert_eq!(file_names(&wild), expected);
    }
}
