//! Moves the border of an organ to where the scan shows it.
//!
//! A network that sees a scan at 3 or 4 mm places a border to within about half of that; the scan itself shows it to within
//! its own voxels, wherever the organ is brighter than what lies beside it.

use crate::phantom::blur;
use crate::{Box3, ImageError, LabelMap, bounding_box};
use rayon::prelude::*;

/// Standard deviation of the blur that takes the noise off before voxels are judged, mm.
const BLUR_MM: f64 = 0.8;
/// Brightness that is told apart, HU.
const LEAST_HU: i32 = -1024;
const MOST_HU: i32 = 3071;

/// How [`fit_border`] judges voxels, by the median HU of the organ.
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
/// `hu([z, y, x])` is the scan on the label map's grid; what is not finite counts as air. What lies outside the grid is
/// unknown and moves nothing. The same on any number of threads.
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
    let spacing = labels.geometry().spacing;
    let shape = labels.shape();
    // A millionth, so that two voxels of 1 mm are 2 mm whatever the file's rounding.
    let steps: [usize; 3] = std::array::from_fn(|a| ((fit.radius_mm / spacing[a] + 1e-6) as usize).min(shape[a]));
    let Some(found) = bounding_box(labels, |v| v == class) else {
        return Ok([0; 2]);
    };
    let room = steps.map(|n| n + 1);
    let region = Box3 {
        start: std::array::from_fn(|a| found.start[a].saturating_sub(room[a])),
        end: std::array::from_fn(|a| (found.end[a] + room[a]).min(shape[a])),
    };
    let mut part = Part::new(labels, class, hu, region)?;
    let median = part.median();
    let dark = median - fit.darker_hu;
    let removed = part.spread(State::Background, &steps, |state, hu| {
        state == State::Class && hu < dark
    });
    let alike = median - fit.within_hu..=median + fit.within_hu;
    let added = part.spread(State::Class, &steps, |state, hu| {
        state == State::Background && hu > fit.above_hu && alike.contains(&hu)
    });
    part.write(labels, class);
    Ok([removed, added])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Class,
    Background,
    Other,
}

/// A box of a label map and of its scan.
struct Part {
    region: Box3,
    shape: [usize; 3],
    hu: Vec<f32>,
    state: Vec<State>,
}

impl Part {
    fn new(
        labels: &LabelMap,
        class: u8,
        hu: &(dyn Fn([usize; 3]) -> f32 + Sync),
        region: Box3,
    ) -> Result<Self, ImageError> {
        let shape = region.shape();
        let [_, ny, nx] = shape;
        let mut values = crate::voxel::allocate::<f32>(shape.iter().product())?;
        values.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
            let [z, y] = [region.start[0] + row / ny, region.start[1] + row % ny];
            for (x, value) in line.iter_mut().enumerate() {
                let hu = hu([z, y, region.start[2] + x]);
                *value = if hu.is_finite() { hu } else { LEAST_HU as f32 };
            }
        });
        for axis in 0..3 {
            blur(
                &mut values,
                shape,
                axis,
                (BLUR_MM / labels.geometry().spacing[axis]) as f32,
            );
        }
        let state = (0..shape[0] * ny).flat_map(|row| {
            let at = labels.offset([region.start[0] + row / ny, region.start[1] + row % ny, region.start[2]]);
            labels.data()[at..at + nx].iter().map(|&label| match label {
                l if l == class => State::Class,
                0 => State::Background,
                _ => State::Other,
            })
        });
        Ok(Self {
            region,
            shape,
            hu: values,
            state: state.collect(),
        })
    }

    /// Median HU of the class, to the next whole number.
    fn median(&self) -> f32 {
        let mut counts = vec![0usize; (MOST_HU - LEAST_HU + 1) as usize];
        let voxels = self.hu.iter().zip(&self.state).filter(|(_, s)| **s == State::Class);
        for (hu, _) in voxels {
            counts[(hu.round() as i32).clamp(LEAST_HU, MOST_HU).abs_diff(LEAST_HU) as usize] += 1;
        }
        let half = counts.iter().sum::<usize>().div_ceil(2);
        let mut sum = 0;
        let place = counts.iter().position(|n| {
            sum += n;
            sum >= half
        });
        place.unwrap_or(0) as f32 + LEAST_HU as f32
    }

    /// Lets `into` spread from where it is to neighbours along the axes that `may` change, as many layers along each axis as
    /// `steps` says; how many voxels changed. Where `into` is the background, other classes count as it.
    fn spread(&mut self, into: State, steps: &[usize; 3], may: impl Fn(State, f32) -> bool + Sync) -> usize {
        let last = steps.iter().copied().max().unwrap_or(0);
        let shape = self.shape;
        let beside = |at: usize, layer: usize| neighbours(shape, at, steps.map(|n| layer <= n));
        let source = |state: State| state == into || (into == State::Background && state == State::Other);
        // The first layer looks at everything, the later ones at what the one before changed.
        let mut layer: Vec<usize> = (0..self.state.len())
            .into_par_iter()
            .filter(|&at| may(self.state[at], self.hu[at]) && beside(at, 1).any(|near| source(self.state[near])))
            .collect();
        let mut layers = Vec::new();
        let mut state = self.state.clone();
        for number in 2..=last + 1 {
            layer.iter().for_each(|&at| state[at] = into);
            if number > last || layer.is_empty() {
                layers.push(layer);
                break;
            }
            let near = layer.iter().flat_map(|&at| beside(at, number));
            let mut next: Vec<usize> = near.filter(|&at| may(state[at], self.hu[at])).collect();
            next.sort_unstable();
            next.dedup();
            layers.push(std::mem::replace(&mut layer, next));
        }
        self.state = state;
        layers.iter().map(Vec::len).sum()
    }

    fn write(&self, labels: &mut LabelMap, class: u8) {
        let [_, ny, nx] = self.shape;
        for (row, states) in self.state.chunks_exact(nx).enumerate() {
            let start = self.region.start;
            let at = labels.offset([start[0] + row / ny, start[1] + row % ny, start[2]]);
            for (label, state) in labels.data_mut()[at..at + nx].iter_mut().zip(states) {
                match state {
                    State::Class => *label = class,
                    State::Background => *label = 0,
                    State::Other => {}
                }
            }
        }
    }
}

/// The neighbours of a voxel along some axes, by their offsets.
fn neighbours([nz, ny, nx]: [usize; 3], at: usize, axes: [bool; 3]) -> impl Iterator<Item = usize> {
    let (index, stride) = ([at / (ny * nx), at / nx % ny, at % nx], [ny * nx, nx, 1]);
    let last = [nz - 1, ny - 1, nx - 1];
    (0..3).filter(move |&a| axes[a]).flat_map(move |a| {
        let low = (index[a] > 0).then(|| at - stride[a]);
        let high = (index[a] < last[a]).then(|| at + stride[a]);
        [low, high].into_iter().flatten()
    })
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
