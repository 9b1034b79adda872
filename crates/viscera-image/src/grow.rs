//! Completes an organ of which only a part was found, where the scan leaves no doubt.
//!
//! A network that knows few bodies may stop within an organ that lies where it never saw one. With contrast medium a kidney is
//! brighter than all soft tissue around it: region growing from what was found gives the rest.

use crate::judged::{BACKGROUND, CLASS, Judged, MEANT, OTHER, Scan, neighbours};
use crate::{Geometry, ImageError, LabelMap, Volume, morphology};

/// How [`grow_region`] judges voxels, by the median HU of what was found (without blur).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionGrowth {
    /// Nothing grows where the median is less than this: no contrast medium.
    pub least_hu: f32,
    /// Background whose HU is within this of the median may join,
    pub within_hu: f32,
    /// if it is brighter than this.
    pub above_hu: f32,
    /// Nothing grows through a neck that no ball of this radius passes, mm: vessels, touching bowel.
    pub neck_mm: f64,
    /// How far beyond the class's box it may grow, mm.
    pub reach_mm: f64,
    /// Nothing grows at all where the class would become larger than this many times itself: a leak.
    pub at_most: f64,
}

/// Adds to a class the background that looks like it and is joined to it without a narrow neck; other classes are left alone.
/// Gives the number of voxels added.
///
/// `hu([z, y, x])` is the scan on the label map's grid, judged after a blur of 0.8 mm; what is not finite counts as air. The
/// same on any number of threads.
///
/// # Errors
/// [`ImageError::BadParameter`] for a radius, reach or limit that is negative or not finite; [`ImageError::OutOfMemory`].
pub fn grow_region(
    labels: &mut LabelMap,
    class: u8,
    hu: &(dyn Fn([usize; 3]) -> f32 + Sync),
    growth: &RegionGrowth,
) -> Result<usize, ImageError> {
    let numbers = [
        ("neck_mm", growth.neck_mm),
        ("reach_mm", growth.reach_mm),
        ("at_most", growth.at_most),
    ];
    for (what, value) in numbers {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(ImageError::BadParameter { what, value });
        }
    }
    let (spacing, shape) = (labels.geometry().spacing, labels.shape());
    let room = std::array::from_fn(|a| ((growth.reach_mm / spacing[a] + 1e-6) as usize).min(shape[a]));
    let scan = Scan(hu);
    let median = scan.median(labels, class);
    if median < growth.least_hu {
        return Ok(0);
    }
    let alike = median - growth.within_hu..=median + growth.within_hu;
    let judge = |state: u8, hu: f32| state != OTHER && hu > growth.above_hu && alike.contains(&hu);
    let Some(mut part) = Judged::around(labels, class, room, &scan, judge)? else {
        return Ok(0);
    };

    // Balls roll from those that start in the class to all that they reach.
    let meant = part.state.iter().map(|s| u8::from(s & MEANT != 0)).collect();
    let mut core = Volume::new(Geometry::ras(part.shape, spacing), meant)?;
    morphology::erode(&mut core, 1, growth.neck_mm)?;
    let centres = core.data_mut();
    let mut front: Vec<usize> = (0..centres.len())
        .filter(|&at| centres[at] == 1 && part.state[at] == CLASS | MEANT)
        .collect();
    front.iter().for_each(|&at| centres[at] = 2);
    while let Some(at) = front.pop() {
        for near in neighbours(part.shape, at, [true; 3]) {
            if centres[near] == 1 {
                centres[near] = 2;
                front.push(near);
            }
        }
    }
    centres.iter_mut().for_each(|c| *c = u8::from(*c == 2));
    morphology::dilate(&mut core, 1, growth.neck_mm)?;

    let (mut before, mut added) = (0usize, 0usize);
    for (state, &covered) in part.state.iter_mut().zip(core.data()) {
        before += usize::from(*state & !MEANT == CLASS);
        if *state == BACKGROUND | MEANT && covered == 1 {
            *state = CLASS;
            added += 1;
        }
    }
    if (before + added) as f64 > growth.at_most * before as f64 {
        return Ok(0);
    }
    part.write(labels, class);
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: RegionGrowth = RegionGrowth {
        least_hu: 130.0,
        within_hu: 60.0,
        above_hu: 110.0,
        neck_mm: 3.0,
        reach_mm: 40.0,
        at_most: 2.0,
    };
    const SHAPE: [usize; 3] = [40, 50, 60];
    const SPACING: [f64; 3] = [2.0, 1.0, 1.0];

    /// A kidney (an ellipsoid of `hu`) with a vein 4 mm wide from it along x to a large vessel of the same brightness; found
    /// is what lies on this side of y = `cut` mm.
    fn scene(hu: f32, cut: f64) -> (LabelMap, Vec<f32>, Vec<bool>) {
        let mut labels = LabelMap::filled(Geometry::ras(SHAPE, SPACING), 0).unwrap();
        let (mut scan, mut kidney) = (vec![-100f32; labels.data().len()], vec![false; labels.data().len()]);
        for at in 0..scan.len() {
            let [z, y, x] = [(at / 3000) as f64 * 2.0, (at / 60 % 50) as f64, (at % 60) as f64];
            kidney[at] = ((z - 40.0) / 30.0).powi(2) + ((y - 25.0) / 20.0).powi(2) + ((x - 18.0) / 12.0).powi(2) < 1.0;
            let vein = (z - 40.0).abs() <= 2.0 && (y - 25.0).abs() <= 2.0 && x > 18.0;
            let vessel = (y - 25.0).hypot(x - 50.0) < 8.0;
            if kidney[at] || vein || vessel {
                scan[at] = hu;
            }
            if kidney[at] && y < cut {
                labels.data_mut()[at] = 2;
            }
        }
        (labels, scan, kidney)
    }

    fn run(labels: &mut LabelMap, scan: &[f32], growth: &RegionGrowth) -> usize {
        let shape = labels.shape();
        grow_region(labels, 2, &|[z, y, x]| scan[(z * shape[1] + y) * shape[2] + x], growth).unwrap()
    }

    fn dice(labels: &LabelMap, kidney: &[bool]) -> f64 {
        let both = labels
            .data()
            .iter()
            .zip(kidney)
            .filter(|(l, k)| **l == 2 && **k)
            .count();
        let sizes = labels.data().iter().filter(|l| **l == 2).count() + kidney.iter().filter(|k| **k).count();
        2.0 * both as f64 / sizes as f64
    }

    #[test]
    fn the_rest_of_a_kidney_is_found_and_no_vessel() {
        let (mut labels, scan, kidney) = scene(200.0, 27.0);
        assert!(dice(&labels, &kidney) < 0.75);
        let added = run(&mut labels, &scan, &GROWTH);
        assert!(
            added > 5000 && dice(&labels, &kidney) > 0.96,
            "{added} {}",
            dice(&labels, &kidney)
        );
        // Beyond the first millimetres of the vein nothing is taken.
        assert!((0..labels.data().len()).all(|at| labels.data()[at] == 0 || at % 60 < 36));
        // Without a neck that stops it, the vessel comes along, which the limit sees.
        let leaks = RegionGrowth { neck_mm: 0.0, ..GROWTH };
        let (mut labels, ..) = scene(200.0, 27.0);
        let found = labels.clone();
        assert_eq!(run(&mut labels, &scan, &leaks), 0);
        assert_eq!(labels, found);
        assert!(run(&mut labels, &scan, &RegionGrowth { at_most: 9.0, ..leaks }) > added);
        assert!((0..labels.data().len()).any(|at| labels.data()[at] == 2 && at % 60 > 45));
    }

    #[test]
    fn nothing_grows_without_contrast_or_into_others_or_too_far() {
        let (mut labels, scan, _) = scene(120.0, 27.0);
        assert_eq!(run(&mut labels, &scan, &GROWTH), 0);
        let (mut labels, scan, kidney) = scene(200.0, 27.0);
        for (label, _) in labels
            .data_mut()
            .iter_mut()
            .zip(&kidney)
            .filter(|(l, k)| **k && **l == 0)
        {
            *label = 7;
        }
        let found = labels.clone();
        run(&mut labels, &scan, &GROWTH);
        let others = |labels: &LabelMap| labels.data().iter().filter(|l| **l == 7).count();
        assert_eq!(others(&labels), others(&found));
        let (mut labels, scan, _) = scene(200.0, 27.0);
        run(
            &mut labels,
            &scan,
            &RegionGrowth {
                reach_mm: 5.0,
                ..GROWTH
            },
        );
        assert!((0..labels.data().len()).all(|at| labels.data()[at] == 0 || at / 60 % 50 < 27 + 5));
    }

    #[test]
    fn strange_input_is_an_error_or_changes_nothing() {
        let (mut labels, mut scan, _) = scene(200.0, 27.0);
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            for growth in [
                RegionGrowth { neck_mm: bad, ..GROWTH },
                RegionGrowth {
                    reach_mm: bad,
                    ..GROWTH
                },
                RegionGrowth { at_most: bad, ..GROWTH },
            ] {
                assert!(grow_region(&mut labels, 2, &|_| 200.0, &growth).is_err());
            }
        }
        assert_eq!(grow_region(&mut labels, 9, &|_| 200.0, &GROWTH).unwrap(), 0);
        scan.iter_mut().step_by(7).for_each(|v| *v = f32::NAN);
        run(&mut labels, &scan, &GROWTH);
        let mut single = LabelMap::filled(Geometry::ras([1; 3], [1.0; 3]), 2).unwrap();
        assert_eq!(grow_region(&mut single, 2, &|_| 200.0, &GROWTH).unwrap(), 0);
    }
}
