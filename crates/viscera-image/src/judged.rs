//! The voxels of a class and around it, judged by their brightness in the scan.

use crate::blur::blur;
use crate::{Box3, Geometry, ImageError, LabelMap, bounding_box};
use rayon::prelude::*;

/// Standard deviation of the blur that takes the noise off before voxels are judged, mm.
const BLUR_MM: f64 = 0.8;
/// Slices that are blurred at a time, so that the scan is never held as a whole.
const SLAB: usize = 12;
/// Brightness that is told apart, HU.
const LEAST_HU: i32 = -1024;
const MOST_HU: i32 = 3071;

/// What a voxel is: the class, background, or another class;
pub(crate) const CLASS: u8 = 0;
pub(crate) const BACKGROUND: u8 = 1;
pub(crate) const OTHER: u8 = 2;
/// and a bit for those that were judged to be meant.
pub(crate) const MEANT: u8 = 4;

/// HU at an index `[z, y, x]` of the label map's grid; what is not finite counts as air.
pub(crate) struct Scan<'a>(pub(crate) &'a (dyn Fn([usize; 3]) -> f32 + Sync));

impl Scan<'_> {
    fn hu(&self, at: [usize; 3]) -> f32 {
        let hu = (self.0)(at);
        if hu.is_finite() { hu } else { LEAST_HU as f32 }
    }

    /// Median HU of a class (0 where it is empty), without blur, to the next whole number.
    pub(crate) fn median(&self, labels: &LabelMap, class: u8) -> f32 {
        let Some(found) = bounding_box(labels, |v| v == class) else {
            return 0.0;
        };
        let counted = (found.start[0]..found.end[0]).into_par_iter().map(|z| {
            let mut counts = vec![0usize; (MOST_HU - LEAST_HU + 1) as usize];
            for y in found.start[1]..found.end[1] {
                let row = labels.offset([z, y, 0]);
                for x in (found.start[2]..found.end[2]).filter(|x| labels.data()[row + x] == class) {
                    let hu = self.hu([z, y, x]).round() as i32;
                    counts[hu.clamp(LEAST_HU, MOST_HU).abs_diff(LEAST_HU) as usize] += 1;
                }
            }
            counts
        });
        let sum = |mut a: Vec<usize>, b: Vec<usize>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        let counts = counted.reduce_with(sum).unwrap_or_default();
        let half = counts.iter().sum::<usize>().div_ceil(2);
        let mut sum = 0;
        let place = counts.iter().position(|n| {
            sum += n;
            sum >= half
        });
        place.unwrap_or(0) as f32 + LEAST_HU as f32
    }
}

/// A box of a label map, one byte a voxel.
pub(crate) struct Judged {
    pub(crate) region: Box3,
    pub(crate) shape: [usize; 3],
    pub(crate) state: Vec<u8>,
}

impl Judged {
    /// The class's box and so many voxels more along each axis, as far as the grid goes; `None` where there is no such class.
    /// `judge` says of a voxel's state and blurred HU whether it is meant.
    pub(crate) fn around(
        labels: &LabelMap,
        class: u8,
        room: [usize; 3],
        scan: &Scan<'_>,
        judge: impl Fn(u8, f32) -> bool + Sync,
    ) -> Result<Option<Self>, ImageError> {
        let Some(found) = bounding_box(labels, |v| v == class) else {
            return Ok(None);
        };
        let region = Box3 {
            start: std::array::from_fn(|a| found.start[a].saturating_sub(room[a])),
            end: std::array::from_fn(|a| found.end[a].saturating_add(room[a]).min(labels.shape()[a])),
        };
        let shape = region.shape();
        let [nz, ny, nx] = shape;
        let sigma = labels.geometry().spacing.map(|mm| (BLUR_MM / mm) as f32);
        let halo = halo(labels.geometry());
        let mut state = crate::voxel::allocate::<u8>(shape.iter().product())?;
        for first in (0..nz).step_by(SLAB) {
            let last = (first + SLAB).min(nz);
            let (below, above) = (first.saturating_sub(halo), (last + halo).min(nz));
            let mut hu = crate::voxel::allocate::<f32>((above - below) * ny * nx)?;
            hu.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
                let [z, y] = [region.start[0] + below + row / ny, region.start[1] + row % ny];
                let values = line.iter_mut().enumerate();
                values.for_each(|(x, value)| *value = scan.hu([z, y, region.start[2] + x]));
            });
            for axis in 0..3 {
                blur(&mut hu, [above - below, ny, nx], axis, sigma[axis]);
            }
            let rows = state[first * ny * nx..last * ny * nx].par_chunks_mut(nx).enumerate();
            rows.for_each(|(row, states)| {
                let [z, y] = [region.start[0] + first + row / ny, region.start[1] + row % ny];
                let at = labels.offset([z, y, region.start[2]]);
                let hu = &hu[((first - below) * ny + row) * nx..];
                for (state, (&label, &hu)) in states.iter_mut().zip(labels.data()[at..].iter().zip(hu)) {
                    *state = match label {
                        l if l == class => CLASS,
                        0 => BACKGROUND,
                        _ => OTHER,
                    };
                    if judge(*state, hu) {
                        *state |= MEANT;
                    }
                }
            });
        }
        Ok(Some(Self { region, shape, state }))
    }

    /// Puts the class and the background back, as they have become.
    pub(crate) fn write(&self, labels: &mut LabelMap, class: u8) {
        let [_, ny, nx] = self.shape;
        for (row, states) in self.state.chunks_exact(nx).enumerate() {
            let start = self.region.start;
            let at = labels.offset([start[0] + row / ny, start[1] + row % ny, start[2]]);
            for (label, state) in labels.data_mut()[at..at + nx].iter_mut().zip(states) {
                match state & !MEANT {
                    CLASS => *label = class,
                    BACKGROUND => *label = 0,
                    _ => {}
                }
            }
        }
    }
}

/// Slices beyond a slab that its blur looks at, at most.
fn halo(grid: &Geometry) -> usize {
    (3.0 * BLUR_MM / grid.spacing[0]).ceil().min(grid.shape[0] as f64) as usize
}

/// Most bytes that [`crate::fit_border`] and [`crate::grow_region`] hold beside their arguments, on a grid that the class
/// fills.
#[must_use]
pub fn scan_rule_bytes(grid: &Geometry) -> u64 {
    let [nz, ny, nx] = grid.shape.map(|n| n as u64);
    let slab = nz.min((SLAB + 2 * halo(grid)) as u64);
    // Two bytes for each voxel; a slab of the scan, and once more while it is blurred.
    [2 * nz + 2 * 4 * slab, ny, nx].into_iter().fold(1, u64::saturating_mul)
}

/// The neighbours of a voxel along some axes, by their offsets.
pub(crate) fn neighbours([nz, ny, nx]: [usize; 3], at: usize, axes: [bool; 3]) -> impl Iterator<Item = usize> {
    let (index, stride) = ([at / (ny * nx), at / nx % ny, at % nx], [ny * nx, nx, 1]);
    let last = [nz - 1, ny - 1, nx - 1];
    (0..3).filter(move |&a| axes[a]).flat_map(move |a| {
        let low = (index[a] > 0).then(|| at - stride[a]);
        let high = (index[a] < last[a]).then(|| at + stride[a]);
        [low, high].into_iter().flatten()
    })
}
