//! Moves the border of an organ to where the scan shows it.
//!
//! A network that sees a scan at 3 or 4 mm places a border to within about half of that; the scan itself shows it to within
//! its own voxels, wherever the organ is brighter than what lies beside it.

use crate::judged::{BACKGROUND, CLASS, Judged, MEANT, OTHER, Scan, neighbours};
use crate::{ImageError, LabelMap};
use rayon::prelude::*;

/// How [`fit_border`] judges voxels, by the median HU of the organ (as the network found it, without blur).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BorderFit {
    /// What is darker than the median by more than this goes (partial volume with fat or air).
    pub darker_hu: f32,
    /// Background whose HU is within this of the median joins,
    pub within_hu: f32,
    /// but only if it is brighter than this, so that an organ without contrast medium does not grow into muscle.
    pub above_hu: f32,
    /// How far the border may move along each axis, mm; axes with thicker slices stay as they are.
    pub radius_mm: f64,
}

/// Takes dark voxels off the border of a class, layer by layer, then adds background that looks like it; other classes are
/// left alone. Gives the numbers of voxels removed and added.
///
/// `hu([z, y, x])` is the scan on the label map's grid, judged after a blur of 0.8 mm; what is not finite counts as air. What
/// lies outside the grid is unknown and moves nothing. The same on any number of threads.
///
/// # Errors
/// [`ImageError::BadParameter`] for a radius that is not positive and finite; [`ImageError::OutOfMemory`].
pub fn fit_border(
    labels: &mut LabelMap,
    class: u8,
    hu: &(dyn Fn([usize; 3]) -> f32 + Sync),
    fit: &BorderFit,
) -> Result<[usize; 2], ImageError> {
    if !(fit.radius_mm > 0.0 && fit.radius_mm.is_finite()) {
        return Err(ImageError::BadParameter {
            what: "radius_mm",
            value: fit.radius_mm,
        });
    }
    let (spacing, shape) = (labels.geometry().spacing, labels.shape());
    // A millionth, so that two voxels of 1 mm are 2 mm whatever the file's rounding.
    let steps: [usize; 3] = std::array::from_fn(|a| ((fit.radius_mm / spacing[a] + 1e-6) as usize).min(shape[a]));
    let scan = Scan(hu);
    let median = scan.median(labels, class);
    let dark = median - fit.darker_hu;
    let alike = median - fit.within_hu..=median + fit.within_hu;
    let judge = |state: u8, hu: f32| match state {
        CLASS => hu < dark,
        BACKGROUND => hu > fit.above_hu && alike.contains(&hu),
        _ => false,
    };
    let Some(mut part) = Judged::around(labels, class, steps.map(|n| n + 1), &scan, judge)? else {
        return Ok([0; 2]);
    };
    let removed = spread(&mut part, CLASS, BACKGROUND, &steps);
    let added = spread(&mut part, BACKGROUND, CLASS, &steps);
    part.write(labels, class);
    Ok([removed, added])
}

/// Lets `into` spread from where it is to neighbours along the axes that are `from` and meant, as many layers along
/// each axis as `steps` says; how many voxels changed. Where `into` is the background, other classes count as it.
fn spread(part: &mut Judged, from: u8, into: u8, steps: &[usize; 3]) -> usize {
    let last = steps.iter().copied().max().unwrap_or(0);
    let shape = part.shape;
    let beside = |at: usize, layer: usize| neighbours(shape, at, steps.map(|n| layer <= n));
    let source = |state: u8| state & !MEANT == into || (into == BACKGROUND && state & !MEANT == OTHER);
    let state = &part.state;
    // The first layer looks at everything, the later ones at what the one before changed.
    let mut layer: Vec<usize> = (0..state.len())
        .into_par_iter()
        .filter(|&at| state[at] == from | MEANT && beside(at, 1).any(|near| source(state[near])))
        .collect();
    let mut changed = 0;
    for number in 2..=last + 1 {
        changed += layer.len();
        layer.iter().for_each(|&at| part.state[at] = into);
        if number > last || layer.is_empty() {
            break;
        }
        let near = layer.iter().flat_map(|&at| beside(at, number));
        let mut next: Vec<usize> = near.filter(|&at| part.state[at] == from | MEANT).collect();
        next.sort_unstable();
        next.dedup();
        layer = next;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;

    const FIT: BorderFit = BorderFit {
        darker_hu: 90.0,
        within_hu: 35.0,
        above_hu: 75.0,
        radius_mm: 2.0,
    };

    const RADIUS: f64 = 14.0;

    /// A ball of an organ in fat on a grid of 1 mm, beside a muscle of 60 HU, and the labels of a network that saw it
    /// `shift` mm away along x.
    fn scene(shift: f64, organ: f32) -> (LabelMap, Vec<f32>) {
        let mut labels = LabelMap::filled(Geometry::ras([60; 3], [1.0; 3]), 0).unwrap();
        let mut hu = vec![-100.0; labels.data().len()];
        for at in 0..hu.len() {
            let [z, y, x] = [at / 3600, at / 60 % 60, at % 60].map(|i| i as f64 - 30.0);
            let inside = |x: f64| (z * z + y * y + x * x).sqrt() < RADIUS;
            if inside(x) {
                hu[at] = organ;
            } else if y > 8.0 {
                hu[at] = 60.0;
            }
            if inside(x - shift) {
                labels.data_mut()[at] = 1;
            }
        }
        (labels, hu)
    }

    fn run(labels: &mut LabelMap, hu: &[f32], fit: &BorderFit) -> [usize; 2] {
        let shape = labels.shape();
        fit_border(labels, 1, &|[z, y, x]| hu[(z * shape[1] + y) * shape[2] + x], fit).unwrap()
    }

    fn count(labels: &LabelMap, class: u8) -> usize {
        labels.data().iter().filter(|l| **l == class).count()
    }

    fn dice(labels: &LabelMap) -> f64 {
        let (truth, _) = scene(0.0, 0.0);
        let pairs = labels.data().iter().zip(truth.data());
        let both = pairs.filter(|(a, b)| **a == 1 && **b == 1).count();
        2.0 * both as f64 / (count(labels, 1) + count(&truth, 1)) as f64
    }

    #[test]
    fn a_shifted_mask_goes_back_and_only_as_far_as_it_may() {
        for (shift, before, after) in [(2.0, 0.90, 0.95), (5.0, 0.75, 0.83)] {
            let (mut labels, hu) = scene(shift, 110.0);
            assert!(dice(&labels) < before);
            let [removed, added] = run(&mut labels, &hu, &FIT);
            assert!(dice(&labels) > after, "{shift}: {}", dice(&labels));
            assert!(removed > 300 && added > 300, "{removed} {added}");
        }
        // Five away, no more than two of them are mended.
        let (mut labels, hu) = scene(5.0, 110.0);
        run(&mut labels, &hu, &FIT);
        assert!(dice(&labels) < 0.93);
        // Slices too thick to move a border by.
        let (mut labels, hu) = scene(2.0, 110.0);
        assert_eq!(run(&mut labels, &hu, &BorderFit { radius_mm: 0.9, ..FIT }), [0, 0]);
    }

    #[test]
    fn without_contrast_nothing_grows_into_muscle_and_other_classes_stay() {
        let (mut labels, hu) = scene(0.0, 58.0);
        let [removed, added] = run(&mut labels, &hu, &FIT);
        assert!(added == 0 && removed * 50 < count(&labels, 1), "{removed} {added}");
        assert!(run(&mut labels, &hu, &BorderFit { above_hu: 0.0, ..FIT })[1] > 300);
        // The missing part belongs to another organ already; the fat beside it still goes.
        let (mut labels, hu) = scene(2.0, 110.0);
        for (label, _) in labels
            .data_mut()
            .iter_mut()
            .zip(&hu)
            .filter(|(l, v)| **l == 0 && **v == 110.0)
        {
            *label = 3;
        }
        let others = count(&labels, 3);
        let [removed, added] = run(&mut labels, &hu, &FIT);
        // What is added are voxels of fat that the blur made as bright.
        assert!(removed > 300 && added * 20 < removed, "{removed} {added}");
        assert_eq!(count(&labels, 3), others);
    }

    #[test]
    fn strange_input_is_an_error_or_changes_nothing() {
        let (mut labels, mut hu) = scene(2.0, 110.0);
        for radius_mm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let fit = BorderFit { radius_mm, ..FIT };
            assert!(fit_border(&mut labels, 1, &|_| 0.0, &fit).is_err());
        }
        assert_eq!(fit_border(&mut labels, 7, &|_| 0.0, &FIT).unwrap(), [0, 0]);
        // A scan with holes, a mask at the border of the grid, one voxel.
        hu.iter_mut().step_by(7).for_each(|v| *v = f32::NAN);
        run(&mut labels, &hu, &FIT);
        labels.data_mut().fill(1);
        assert_eq!(fit_border(&mut labels, 1, &|_| 100.0, &FIT).unwrap(), [0, 0]);
        let mut single = LabelMap::filled(Geometry::ras([1; 3], [1.0; 3]), 1).unwrap();
        assert_eq!(
            fit_border(
                &mut single,
                1,
                &|_| f32::NAN,
                &BorderFit {
                    radius_mm: 1e300,
                    ..FIT
                }
            )
            .unwrap(),
            [0, 0]
        );
    }
}
