//! Rules on connected components (26 neighbours) that clean a label map.

use crate::PipelineError;
use crate::recipe::Stage;
use serde::Serialize;
use std::collections::BTreeMap;
use viscera_image::{LabelMap, LabelTable, components};

/// What the rules of a stage removed of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Removed {
    /// The stage's id.
    pub stage: String,
    /// Name of the class.
    pub organ: String,
    /// Components removed because a larger one of the class was kept.
    pub smaller: Pieces,
    /// Largest components removed because they were smaller than the rule's least volume.
    pub too_small: Pieces,
}

/// Some components.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Pieces {
    /// How many.
    pub components: usize,
    /// Their voxels.
    pub voxels: usize,
    /// Their volume in ml.
    pub volume_ml: f64,
}

impl Pieces {
    fn add(&mut self, voxels: usize, voxel_mm3: f64) {
        self.components += 1;
        self.voxels += voxels;
        self.volume_ml = self.voxels as f64 * voxel_mm3 / 1000.0;
    }
}

/// Applies a stage's rules in order; volumes are those of the label map's real spacing.
///
/// Of components of equal size the one that comes first in (z, y, x) order stays.
///
/// # Errors
/// [`PipelineError::Image`] for a grid of 2³² voxels or more.
pub fn clean(labels: &mut LabelMap, stage: &Stage, table: &LabelTable) -> Result<Vec<Removed>, PipelineError> {
    if stage.postprocess.is_empty() {
        return Ok(Vec::new());
    }
    let voxel_mm3 = labels.geometry().voxel_volume_mm3();
    // No rule changes which voxels of another class hang together, and after the first rule on a class it has one
    // component at most, so one labelling serves all rules.
    let found = components(labels)?;
    let mut kept: Vec<bool> = vec![true; found.list().len()];
    let mut removed: BTreeMap<u8, Removed> = BTreeMap::new();
    for rule in &stage.postprocess {
        for class in table.entries().iter().filter(|e| rule.keep_largest.contains(&e.name)) {
            let mut pieces: Vec<usize> = (0..kept.len())
                .filter(|&i| kept[i] && found.list()[i].label == class.id)
                .collect();
            // Stable: of equal sizes the first stays first.
            pieces.sort_by_key(|&i| std::cmp::Reverse(found.list()[i].voxels));
            for (rank, &i) in pieces.iter().enumerate() {
                let voxels = found.list()[i].voxels;
                let too_small = voxels as f64 * voxel_mm3 <= rule.min_volume_mm3;
                if rank == 0 && !too_small {
                    continue;
                }
                kept[i] = false;
                let record = removed.entry(class.id).or_insert_with(|| Removed {
                    stage: stage.id.clone(),
                    organ: class.name.clone(),
                    smaller: Pieces::default(),
                    too_small: Pieces::default(),
                });
                let pieces = if rank == 0 {
                    &mut record.too_small
                } else {
                    &mut record.smaller
                };
                pieces.add(voxels, voxel_mm3);
            }
        }
    }
    let mut verdicts = kept.into_iter();
    found.retain(labels, |_| verdicts.next().unwrap_or(true))?;
    Ok(removed.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use crate::recipe::{Keep, PostRule};
    use viscera_image::{Geometry, Volume};

    fn stage(rules: Vec<PostRule>) -> Stage {
        let mut stage = Recipe::builtin("efficientsegnet-small").unwrap().stages.remove(1);
        stage.postprocess = rules;
        stage
    }

    fn rule(keep_largest: Keep, min_volume_mm3: f64) -> PostRule {
        PostRule {
            keep_largest,
            min_volume_mm3,
        }
    }

    #[test]
    fn the_largest_of_each_class_stays_if_it_is_large_enough() {
        // Liver: 3 and 1 voxels; right kidney: 2 voxels, too small at 5 mm³ each against 10 mm³.
        let row = vec![1, 1, 1, 0, 1, 0, 2, 2, 0, 3];
        let grid = Geometry::ras([1, 1, 10], [5.0, 1.0, 1.0]);
        let mut labels = Volume::new(grid, row).unwrap();
        let table = LabelTable::flare13();
        let rules = vec![rule(Keep::Named(vec!["liver".into(), "kidney_right".into()]), 10.0)];
        let removed = clean(&mut labels, &stage(rules), &table).unwrap();
        assert_eq!(labels.data(), [1, 1, 1, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(removed.len(), 2);
        assert_eq!((removed[0].organ.as_str(), removed[0].smaller.voxels), ("liver", 1));
        assert_eq!(
            (removed[1].organ.as_str(), removed[1].too_small.voxels),
            ("kidney_right", 2)
        );
        assert!((removed[1].too_small.volume_ml - 0.01).abs() < 1e-12);
    }

    #[test]
    fn of_two_equal_ones_the_first_stays_and_rules_add_up() {
        let mut labels = Volume::new(Geometry::ras([1, 1, 5], [1.0; 3]), vec![1, 1, 0, 1, 1]).unwrap();
        let table = LabelTable::flare13();
        let rules = vec![rule(Keep::All, 0.0), rule(Keep::All, 1.0)];
        clean(&mut labels, &stage(rules.clone()), &table).unwrap();
        assert_eq!(labels.data(), [1, 1, 0, 0, 0]);
        let mut rules = rules;
        rules[1].min_volume_mm3 = 2.0;
        clean(&mut labels, &stage(rules), &table).unwrap();
        assert_eq!(labels.data(), [0; 5]);
    }
}
