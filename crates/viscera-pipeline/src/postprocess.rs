//! Carries out the rules that clean a label map, and keeps account of what each changed.

use crate::PipelineError;
use crate::recipe::{Axis, ClassList, Far, PostRule, Stage};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use viscera_image::{BorderFit, Component, Components, LabelMap, LabelTable, RegionGrowth, components};
use viscera_image::{fit_border, grow_region, morphology};

/// What one rule of a stage changed of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Removed {
    /// The stage's id.
    pub stage: String,
    /// Place of the rule in the stage's list, from 1.
    pub place: usize,
    /// The rule's key in the recipe.
    pub rule: &'static str,
    /// Name of the class.
    pub organ: String,
    /// Components that were removed as a whole; 0 for rules that take voxels off components.
    pub components: usize,
    /// Voxels that were removed.
    pub voxels: usize,
    /// Their volume in ml.
    pub volume_ml: f64,
    /// Voxels of the background that became this class.
    #[serde(skip_serializing_if = "is_zero")]
    pub added_voxels: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The scan on the label map's grid: HU at an index `[z, y, x]`.
pub type HuAt<'a> = &'a (dyn Fn([usize; 3]) -> f32 + Sync);

/// Components, voxels removed and voxels added per class.
type Account = BTreeMap<u8, [usize; 3]>;

/// Applies a stage's rules in order; volumes and distances are those of the label map's real spacing, and axis z is the
/// label map's axis 0.
///
/// Of components of equal size the one that comes first in (z, y, x) order stays. The reports come in the order of the
/// rules, then of the ids.
///
/// # Errors
/// [`PipelineError::Image`] for a grid of 2³² voxels or more, or a radius that is none.
///
/// Rules that look at the scan do nothing without one.
pub fn clean(
    labels: &mut LabelMap,
    scan: Option<HuAt<'_>>,
    stage: &Stage,
    table: &LabelTable,
) -> Result<Vec<Removed>, PipelineError> {
    let voxel_ml = labels.geometry().voxel_volume_mm3() / 1000.0;
    let mut work = Work {
        labels,
        scan,
        table,
        found: None,
    };
    let mut removed = Vec::new();
    for (i, rule) in stage.postprocess.iter().enumerate() {
        let account = work.apply(rule)?;
        removed.extend(table.entries().iter().filter_map(|class| {
            let [components, voxels, added_voxels] = *account.get(&class.id)?;
            (voxels + added_voxels > 0).then(|| Removed {
                stage: stage.id.clone(),
                place: i + 1,
                rule: rule.name(),
                organ: class.name.clone(),
                components,
                voxels,
                volume_ml: voxels as f64 * voxel_ml,
                added_voxels,
            })
        }));
    }
    Ok(removed)
}

struct Work<'a> {
    labels: &'a mut LabelMap,
    scan: Option<HuAt<'a>>,
    table: &'a LabelTable,
    /// The components and which of them are still there, as long as only whole components go.
    found: Option<(Components, Vec<bool>)>,
}

impl Work<'_> {
    fn apply(&mut self, rule: &PostRule) -> Result<Account, PipelineError> {
        let voxel_mm3 = self.labels.geometry().voxel_volume_mm3();
        let is_large = |c: &Component, least: f64| c.voxels as f64 * voxel_mm3 > least;
        match rule {
            PostRule::KeepLargest {
                classes,
                k,
                min_volume_mm3,
            } => {
                let mut goes = Vec::new();
                for class in self.ids(classes) {
                    let pieces = self.by_size(|c| c.label == class)?;
                    let kept = |(rank, c): (usize, &Component)| rank < *k && is_large(c, *min_volume_mm3);
                    goes.extend(
                        pieces
                            .iter()
                            .enumerate()
                            .filter(|(i, p)| !kept((*i, &p.1)))
                            .map(|(_, p)| p.0),
                    );
                }
                self.remove(&goes)
            }
            PostRule::RemoveSmall {
                classes,
                min_volume_mm3,
                at_most,
            } => {
                let ids = self.ids(classes);
                let pieces = self.by_size(|c| ids.contains(&c.label))?;
                let most = at_most.unwrap_or(usize::MAX);
                let kept = |rank: usize, c: &Component| rank < most && is_large(c, *min_volume_mm3);
                let goes = pieces.iter().enumerate().filter(|(i, p)| !kept(*i, &p.1));
                self.remove(&goes.map(|(_, p)| p.0).collect::<Vec<_>>())
            }
            PostRule::RemoveFar(far) => self.remove_far(far),
            PostRule::FitBorder(rule) => {
                let Some(scan) = self.scan else {
                    return Ok(Account::new());
                };
                let fit = BorderFit {
                    darker_hu: rule.darker_hu,
                    within_hu: rule.within_hu,
                    above_hu: rule.above_hu,
                    radius_mm: rule.radius_mm,
                };
                self.reshape(&rule.classes, |labels, id| {
                    let [removed, added] = fit_border(labels, id, scan, &fit)?;
                    Ok([0, removed, added])
                })
            }
            PostRule::GrowRegion(rule) => {
                let Some(scan) = self.scan else {
                    return Ok(Account::new());
                };
                let growth = RegionGrowth {
                    least_hu: rule.least_hu,
                    within_hu: rule.within_hu,
                    above_hu: rule.above_hu,
                    neck_mm: rule.neck_mm,
                    reach_mm: rule.reach_mm,
                    at_most: rule.at_most,
                };
                self.reshape(&rule.classes, |labels, id| {
                    Ok([0, 0, grow_region(labels, id, scan, &growth)?])
                })
            }
            PostRule::Erase { classes } => {
                let ids = self.ids(classes);
                let goes = self.by_size(|c| ids.contains(&c.label))?;
                self.remove(&goes.iter().map(|p| p.0).collect::<Vec<_>>())
            }
            PostRule::FillHoles { classes, slicewise } => self.reshape(classes, |labels, id| {
                Ok([0, 0, morphology::fill_holes(labels, id, *slicewise)])
            }),
            PostRule::Open { classes, radius_mm } => self.reshape(classes, |labels, id| {
                Ok([0, morphology::open(labels, id, *radius_mm)?, 0])
            }),
            PostRule::Close { classes, radius_mm } => self.reshape(classes, |labels, id| {
                Ok([0, 0, morphology::close(labels, id, *radius_mm)?])
            }),
        }
    }

    fn ids(&self, classes: &ClassList) -> Vec<u8> {
        let entries = self.table.entries().iter().filter(|e| classes.contains(&e.name));
        entries.map(|e| e.id).collect()
    }

    fn found(&mut self) -> Result<&mut (Components, Vec<bool>), PipelineError> {
        let found = match self.found.take() {
            Some(found) => found,
            None => {
                let found = components(self.labels)?;
                let there = vec![true; found.list().len()];
                (found, there)
            }
        };
        Ok(self.found.insert(found))
    }

    /// The places and copies of the components that are there and wanted, the largest first.
    fn by_size(&mut self, wanted: impl Fn(&Component) -> bool) -> Result<Vec<(usize, Component)>, PipelineError> {
        let (found, there) = self.found()?;
        let pieces = found.list().iter().enumerate().filter(|(i, c)| there[*i] && wanted(c));
        let mut pieces: Vec<(usize, Component)> = pieces.map(|(i, c)| (i, c.clone())).collect();
        // Stable: of equal sizes the first stays first.
        pieces.sort_by_key(|(_, c)| Reverse(c.voxels));
        Ok(pieces)
    }

    /// Removes the components at these places.
    fn remove(&mut self, goes: &[usize]) -> Result<Account, PipelineError> {
        let mut account = Account::new();
        if goes.is_empty() {
            return Ok(account);
        }
        self.found()?;
        let Some((found, there)) = &mut self.found else {
            return Ok(account);
        };
        goes.iter().for_each(|&i| there[i] = false);
        let mut verdicts = there.iter();
        found.retain(self.labels, |_| verdicts.next().copied().unwrap_or(true))?;
        for &i in goes {
            let component = &found.list()[i];
            let entry = account.entry(component.label).or_default();
            entry[0] += 1;
            entry[1] += component.voxels;
        }
        Ok(account)
    }

    fn remove_far(&mut self, far: &Far) -> Result<Account, PipelineError> {
        let mut places = Vec::new();
        for name in &far.from {
            let id = self.table.by_name(name).map_or(0, |e| e.id);
            places.extend(self.by_size(|c| c.label == id)?.first().map(|(_, c)| c.centroid));
        }
        if places.is_empty() {
            return Ok(Account::new());
        }
        let place: [f64; 3] = std::array::from_fn(|a| places.iter().map(|p| p[a]).sum::<f64>() / places.len() as f64);
        let spacing = self.labels.geometry().spacing;
        let axes = match far.axis {
            Some(Axis::Z) => 0..1,
            Some(Axis::Y) => 1..2,
            Some(Axis::X) => 2..3,
            None => 0..3,
        };
        let is_far = |c: &Component| {
            let mm = axes.clone().map(|a| (c.centroid[a] - place[a]) * spacing[a]);
            mm.map(|d| d * d).sum::<f64>().sqrt() > far.distance_mm
        };
        // Whatever touches is one piece here, and all of each class's components in it go together.
        let pieces = components(&self.labels.map(|v| u8::from(v != 0)))?;
        let goes: Vec<bool> = pieces.list().iter().map(is_far).collect();
        let mut far_away = vec![false; self.labels.data().len()];
        let runs = pieces.runs().filter(|(piece, _)| goes[*piece]);
        runs.for_each(|(_, run)| far_away[run].fill(true));
        let (found, there) = self.found()?;
        let mut gone: Vec<usize> = found
            .runs()
            .filter(|(i, run)| there[*i] && far_away[run.start])
            .map(|(i, _)| i)
            .collect();
        gone.sort_unstable();
        gone.dedup();
        self.remove(&gone)
    }

    /// A rule that changes the shape of each class.
    fn reshape(
        &mut self,
        classes: &ClassList,
        rule: impl Fn(&mut LabelMap, u8) -> Result<[usize; 3], PipelineError>,
    ) -> Result<Account, PipelineError> {
        let mut account = Account::new();
        for id in self.ids(classes) {
            account.insert(id, rule(self.labels, id)?);
        }
        self.found = None;
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use crate::recipe::{Fit, Growth};
    use proptest::prelude::*;
    use viscera_image::{Geometry, Volume};

    fn stage(rules: Vec<PostRule>) -> Stage {
        let mut stage = Recipe::builtin("efficientsegnet-small").unwrap().stages.remove(1);
        stage.postprocess = rules;
        stage
    }

    fn largest(classes: ClassList, k: usize, min_volume_mm3: f64) -> PostRule {
        PostRule::KeepLargest {
            classes,
            k,
            min_volume_mm3,
        }
    }

    fn named(names: &[&str]) -> ClassList {
        ClassList::Named(names.iter().map(|n| (*n).to_owned()).collect())
    }

    /// A rule that looks at the scan sees each voxel's own, and does nothing without one.
    #[test]
    fn borders_follow_the_scan() {
        let table = LabelTable::flare13();
        let mut labels = Volume::filled(Geometry::ras([9, 20, 30], [1.0; 3]), 0u8).unwrap();
        for at in 0..labels.data().len() {
            // The liver's label reaches from x = 10 to 20; the scan shows it from 11 to 21.
            labels.data_mut()[at] = u8::from((10..20).contains(&(at % 30)));
        }
        let rule = PostRule::FitBorder(Fit {
            classes: named(&["liver"]),
            darker_hu: 60.0,
            within_hu: 40.0,
            above_hu: 50.0,
            radius_mm: 1.0,
        });
        let before = labels.clone();
        assert!(
            clean(&mut labels, None, &stage(vec![rule.clone()]), &table)
                .unwrap()
                .is_empty()
        );
        assert_eq!(labels, before);
        let hu = |[_, _, x]: [usize; 3]| if (11..21).contains(&x) { 110.0 } else { -100.0 };
        let removed = clean(&mut labels, Some(&hu), &stage(vec![rule]), &table).unwrap();
        assert_eq!(
            (removed.len(), removed[0].rule, removed[0].organ.as_str()),
            (1, "fit_border", "liver")
        );
        assert_eq!((removed[0].components, removed[0].voxels), (0, 9 * 20));
        let row: Vec<usize> = (0..30).filter(|x| labels.data()[*x] == 1).collect();
        // The blur of the scan leaves the outermost voxel as it is.
        assert_eq!(row, (11..20).collect::<Vec<_>>());
    }

    #[test]
    fn regions_grow_by_the_scan() {
        let table = LabelTable::flare13();
        let mut labels = Volume::filled(Geometry::ras([20, 20, 30], [1.0; 3]), 0u8).unwrap();
        let kidney = |at: usize| (4..24).contains(&(at % 30)) && (4..16).contains(&(at / 30 % 20));
        for at in (0..labels.data().len()).filter(|&at| kidney(at) && at % 30 < 12) {
            labels.data_mut()[at] = 2;
        }
        let rule = PostRule::GrowRegion(Growth {
            classes: named(&["kidney_right"]),
            least_hu: 130.0,
            within_hu: 60.0,
            above_hu: 110.0,
            neck_mm: 3.0,
            reach_mm: 40.0,
            at_most: 3.0,
        });
        let before = labels.clone();
        let hu = |[z, y, x]: [usize; 3]| if kidney((z * 20 + y) * 30 + x) { 200.0 } else { -100.0 };
        assert!(
            clean(&mut labels, None, &stage(vec![rule.clone()]), &table)
                .unwrap()
                .is_empty()
        );
        assert_eq!(labels, before);
        let removed = clean(&mut labels, Some(&hu), &stage(vec![rule]), &table).unwrap();
        assert_eq!(
            (removed.len(), removed[0].rule, removed[0].voxels),
            (1, "grow_region", 0)
        );
        let middle: Vec<usize> = (0..30)
            .filter(|x| labels.data()[(10 * 20 + 10) * 30 + x] == 2)
            .collect();
        // The blur of the scan leaves the outermost voxel out.
        assert_eq!(middle, (4..23).collect::<Vec<_>>());
    }

    fn row(values: &[u8], spacing: [f64; 3]) -> LabelMap {
        Volume::new(Geometry::ras([1, 1, values.len()], spacing), values.to_vec()).unwrap()
    }

    #[test]
    fn the_largest_of_each_class_stays_if_it_is_large_enough() {
        // Liver: 3 and 1 voxels; right kidney: 2 voxels, too small at 5 mm³ each against 10 mm³.
        let mut labels = row(&[1, 1, 1, 0, 1, 0, 2, 2, 0, 3], [5.0, 1.0, 1.0]);
        let table = LabelTable::flare13();
        let rules = vec![largest(named(&["liver", "kidney_right"]), 1, 10.0)];
        let removed = clean(&mut labels, None, &stage(rules), &table).unwrap();
        assert_eq!(labels.data(), [1, 1, 1, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(removed.len(), 2);
        assert_eq!((removed[0].organ.as_str(), removed[0].voxels), ("liver", 1));
        assert_eq!((removed[1].organ.as_str(), removed[1].voxels), ("kidney_right", 2));
        assert_eq!((removed[1].rule, removed[1].place), ("keep_largest", 1));
        assert!((removed[1].volume_ml - 0.01).abs() < 1e-12);
    }

    #[test]
    fn of_two_equal_ones_the_first_stays_and_rules_add_up() {
        let mut labels = row(&[1, 1, 0, 1, 1], [1.0; 3]);
        let table = LabelTable::flare13();
        let rules = vec![largest(ClassList::All, 1, 0.0), largest(ClassList::All, 1, 1.0)];
        clean(&mut labels, None, &stage(rules.clone()), &table).unwrap();
        assert_eq!(labels.data(), [1, 1, 0, 0, 0]);
        let rules = vec![rules[0].clone(), largest(ClassList::All, 1, 2.0)];
        let removed = clean(&mut labels, None, &stage(rules), &table).unwrap();
        assert_eq!(labels.data(), [0; 5]);
        assert_eq!((removed.len(), removed[0].place), (1, 2));
    }

    #[test]
    fn two_pieces_may_stay() {
        let mut labels = row(&[3, 0, 3, 3, 0, 3, 3, 3, 0, 1], [1.0; 3]);
        let rules = vec![largest(named(&["spleen"]), 2, 0.0)];
        clean(&mut labels, None, &stage(rules), &LabelTable::flare13()).unwrap();
        assert_eq!(labels.data(), [0, 0, 3, 3, 0, 3, 3, 3, 0, 1]);
    }

    #[test]
    fn small_ones_are_counted_over_all_classes_together() {
        let all = [1, 1, 1, 0, 2, 2, 0, 3, 0, 2, 2, 2, 2];
        let rule = |at_most| PostRule::RemoveSmall {
            classes: ClassList::All,
            min_volume_mm3: 1.0,
            at_most,
        };
        let cleaned = |at_most| {
            let mut labels = row(&all, [1.0; 3]);
            clean(&mut labels, None, &stage(vec![rule(at_most)]), &LabelTable::flare13()).unwrap();
            labels.into_parts().1
        };
        assert_eq!(cleaned(None), [1, 1, 1, 0, 2, 2, 0, 0, 0, 2, 2, 2, 2]);
        assert_eq!(cleaned(Some(2)), [1, 1, 1, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2]);
        assert_eq!(cleaned(Some(1)), [0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2]);
    }

    #[test]
    fn what_is_far_from_the_liver_goes_and_nothing_without_one() {
        // z in steps of 10 mm: the liver's largest piece at 3 to 5; spleen and stomach touch at 9 and 10, pancreas at 0.
        let column = vec![4, 0, 0, 1, 1, 1, 0, 1, 0, 3, 11, 0, 0];
        let grid = Geometry::ras([13, 1, 1], [10.0, 1.0, 1.0]);
        let far = |distance_mm, from: &[&str]| {
            let mut labels = Volume::new(grid.clone(), column.clone()).unwrap();
            let rule = PostRule::RemoveFar(Far {
                from: from.iter().map(|n| (*n).to_owned()).collect(),
                axis: Some(Axis::Z),
                distance_mm,
            });
            let removed = clean(&mut labels, None, &stage(vec![rule]), &LabelTable::flare13()).unwrap();
            (labels.into_parts().1, removed)
        };
        // Their common centroid lies 55 mm above that of the liver, which lies at 4.
        assert_eq!(far(56.0, &["liver"]).0, column);
        let (labels, removed) = far(54.0, &["liver"]);
        assert_eq!(labels, [4, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0]);
        let organs: Vec<_> = removed.iter().map(|r| (r.organ.as_str(), r.components)).collect();
        assert_eq!(organs, [("spleen", 1), ("stomach", 1)]);
        assert_eq!(far(1.0, &["aorta"]).0, column);
        // Of two classes the one that is there; the middle between 4 and 9 is 6.5.
        assert_eq!(far(54.0, &["liver", "aorta"]).0[9], 0);
        assert_eq!(far(31.0, &["liver", "spleen"]).0[9], 3);
        // In three axes the same here.
        let mut labels = Volume::new(grid.clone(), column.clone()).unwrap();
        let rule = PostRule::RemoveFar(Far {
            from: vec!["liver".to_owned()],
            axis: None,
            distance_mm: 54.0,
        });
        clean(&mut labels, None, &stage(vec![rule]), &LabelTable::flare13()).unwrap();
        assert_eq!(labels.data()[9..11], [0, 0]);
    }

    prop_compose! {
        fn rules()(kind in 0usize..7, k in 1usize..4, mm in 0.5f64..6.0, flag in prop::bool::ANY) -> PostRule {
            let classes = if flag { ClassList::All } else { named(&["liver", "spleen"]) };
            match kind {
                0 => largest(classes, k, mm),
                1 => PostRule::RemoveSmall { classes, min_volume_mm3: mm, at_most: flag.then_some(k) },
                2 => PostRule::RemoveFar(Far { from: vec!["liver".to_owned()], axis: None, distance_mm: mm }),
                3 => PostRule::Erase { classes: named(&["spleen"]) },
                4 => PostRule::FillHoles { classes, slicewise: flag },
                5 => PostRule::Open { classes, radius_mm: mm / 3.0 },
                _ => PostRule::Close { classes, radius_mm: mm / 3.0 },
            }
        }
    }

    proptest! {
        /// Whatever the rules are, the account explains every voxel, and a list does what its rules do one by one.
        #[test]
        fn the_account_explains_every_voxel(
            rules in prop::collection::vec(rules(), 1..5),
            data in prop::collection::vec(prop::sample::select(vec![0u8, 0, 1, 1, 2, 3]), 5 * 6 * 7),
        ) {
            let table = LabelTable::flare13();
            let before = Volume::new(Geometry::ras([5, 6, 7], [2.0, 1.0, 0.8]), data).unwrap();
            let mut after = before.clone();
            let removed = clean(&mut after, None, &stage(rules.clone()), &table).unwrap();
            let count = |labels: &LabelMap, id: u8| labels.data().iter().filter(|&&v| v == id).count();
            for class in table.entries() {
                let mine = removed.iter().filter(|r| r.organ == class.name);
                let (gone, came) = mine.fold((0, 0), |(g, c), r| (g + r.voxels, c + r.added_voxels));
                prop_assert_eq!(count(&before, class.id) + came, count(&after, class.id) + gone);
            }
            let mut single = before;
            for rule in rules {
                clean(&mut single, None, &stage(vec![rule]), &table).unwrap();
            }
            prop_assert_eq!(single, after);
        }
    }
}
