//! Other bodies out of one: its structures grow, shrink and move, and all that lies between gives way.
//!
//! The way back from the new body to the old one is a smooth displacement on a coarse lattice. A structure grows along
//! the gradient of its blurred mask, so by about as many mm everywhere on its surface, and moves with what is near it.

use super::draw::Draw;
use super::scan::blur;
use super::tissue::Tissue;
use crate::voxel::allocate;
use crate::{Geometry, ImageError, LabelMap, Volume};
use rayon::prelude::*;

/// Between the lattice's points, mm.
const STEP_MM: f32 = 6.0;
/// Most points along an axis; wider bodies get a wider step.
const MOST_POINTS: usize = 128;
/// Most change of the displacement per mm; below 1, so that nothing folds over.
const MOST_STRAIN: f32 = 0.7;
/// Structures thinner than this (mm, the radius of a ball or tube of their shape) are carried along only.
const LEAST_RADIUS_MM: f32 = 2.0;

/// A label map of structures, and its scan where there is one, with each structure's size and place changed at random.
///
/// `tissues[id]` is the tissue of each id, as in [`super::Anatomy::new`]: bones and what has no tissue only follow the rest.
/// Three of four structures grow or shrink, by up to a third of their radius times `strength`, and move by about 5 mm
/// times `strength`. Labels are taken by nearest neighbour, the scan trilinearly; both lie on the grid they came on. The
/// same seed gives the same bits on any number of threads.
///
/// # Errors
/// [`ImageError::GridMismatch`] when scan and labels lie on other grids; [`ImageError::BadParameter`] for a strength
/// outside 0…2; [`ImageError::OutOfMemory`].
pub fn reshape(
    structures: &LabelMap,
    tissues: &[Option<Tissue>],
    image: Option<&Volume<f32>>,
    strength: f32,
    seed: u64,
) -> Result<(LabelMap, Option<Volume<f32>>), ImageError> {
    if !(0.0..=2.0).contains(&strength) {
        return Err(ImageError::BadParameter {
            what: "reshape",
            value: f64::from(strength),
        });
    }
    if let Some(image) = image {
        image.geometry().require_same_grid(structures.geometry())?;
    }
    if strength == 0.0 {
        return Ok((structures.clone(), image.cloned()));
    }
    let warp = Warp::draw(structures, tissues, strength, &mut Draw::new(seed, 21))?;
    let labels = warp.nearest(structures)?;
    let image = image.map(|image| warp.trilinear(image)).transpose()?;
    Ok((labels, image))
}

/// Displacement in mm, `[z, y, x]`, from each point of a lattice to where it came from.
struct Warp {
    shape: [usize; 3],
    /// Between two points along each axis, mm.
    step: [f32; 3],
    shift: [Vec<f32>; 3],
}

impl Warp {
    fn draw(
        structures: &LabelMap,
        tissues: &[Option<Tissue>],
        strength: f32,
        draw: &mut Draw,
    ) -> Result<Self, ImageError> {
        let geometry = structures.geometry();
        let extent: [f32; 3] =
            std::array::from_fn(|a| (geometry.shape[a].max(2) - 1) as f32 * geometry.spacing[a] as f32);
        let shape = extent.map(|mm| ((mm / STEP_MM).ceil() as usize + 1).clamp(2, MOST_POINTS));
        let step: [f32; 3] = std::array::from_fn(|a| extent[a] / (shape[a] - 1) as f32);
        let points = shape.iter().product();
        let mut warp = Self {
            shape,
            step,
            shift: std::array::from_fn(|_| vec![0.0; points]),
        };
        let radii = radii(structures);
        for (id, radius) in radii.iter().enumerate().skip(1) {
            let moves = match tissues.get(id).copied().flatten() {
                None | Some(Tissue::CorticalBone | Tissue::Marrow | Tissue::Disc | Tissue::Lung) => false,
                Some(_) => *radius >= LEAST_RADIUS_MM,
            };
            if !moves {
                continue;
            }
            // All draws are taken, so that one structure does not decide on the next.
            let (grows, most) = (draw.chance(0.75), (0.33 * radius).min(14.0));
            let growth = strength * draw.within(-most, most);
            let way: [f32; 3] = std::array::from_fn(|_| strength * draw.normal(0.0, 5.0));
            let mask = warp.mask(structures, id as u8);
            warp.push(&mask, 0.5 * radius, if grows { growth } else { 0.0 }, way);
        }
        let strain = warp.strain();
        if strain > MOST_STRAIN {
            let less = MOST_STRAIN / strain;
            warp.shift.iter_mut().flatten().for_each(|v| *v *= less);
        }
        Ok(warp)
    }

    /// Number of a structure's voxels nearest to each point.
    fn mask(&self, structures: &LabelMap, id: u8) -> Vec<f32> {
        let [ny, nx] = [structures.shape()[1], structures.shape()[2]];
        let mut mask = vec![0.0; self.shift[0].len()];
        let spacing = structures.geometry().spacing;
        let near = |a: usize, i: usize| (i as f32 * spacing[a] as f32 / self.step[a]).round() as usize;
        for (row, line) in structures.data().chunks_exact(nx).enumerate() {
            let at = (near(0, row / ny) * self.shape[1] + near(1, row % ny)) * self.shape[2];
            for (x, _) in line.iter().enumerate().filter(|(_, l)| **l == id) {
                mask[at + near(2, x)] += 1.0;
            }
        }
        mask
    }

    /// Adds one structure's growth and way, mm.
    fn push(&mut self, mask: &[f32], reach_mm: f32, growth: f32, way: [f32; 3]) {
        let smooth = |mm: f32| {
            let mut soft = mask.to_vec();
            for axis in 0..3 {
                blur(&mut soft, self.shape, axis, mm / self.step[axis]);
            }
            soft
        };
        let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, f32::max);
        let soft = smooth(reach_mm.max(9.0));
        let slopes: [Vec<f32>; 3] = std::array::from_fn(|axis| self.slope(&soft, axis));
        let length = |i: usize| slopes.iter().map(|s| s[i] * s[i]).sum::<f32>().sqrt();
        let steepest = most(&mut (0..soft.len()).map(length));
        let wide = smooth((2.0 * reach_mm).max(12.0));
        let top = most(&mut wide.iter().copied());
        if steepest <= 0.0 || top <= 0.0 {
            return;
        }
        for axis in 0..3 {
            // What grows outwards came from further inside.
            let values = self.shift[axis].iter_mut().zip(slopes[axis].iter().zip(&wide));
            values.for_each(|(shift, (slope, near))| *shift += growth * slope / steepest - way[axis] * near / top);
        }
    }

    /// Change per mm along an axis, by central differences; none at the border.
    fn slope(&self, values: &[f32], axis: usize) -> Vec<f32> {
        let [_, ny, nx] = self.shape;
        let stride = [ny * nx, nx, 1][axis];
        let change = |i: usize| match i / stride % self.shape[axis] {
            0 => 0.0,
            at if at + 1 == self.shape[axis] => 0.0,
            _ => (values[i + stride] - values[i - stride]) / (2.0 * self.step[axis]),
        };
        (0..values.len()).map(change).collect()
    }

    /// Largest change of the displacement from a point to the next, per mm: the sum over the axes of way, for one of shift.
    fn strain(&self) -> f32 {
        let [_, ny, nx] = self.shape;
        let strides = [ny * nx, nx, 1];
        let rows = self.shift.iter().map(|shift| {
            let at = |i: usize| -> f32 {
                let along = |axis: usize| {
                    let last = i / strides[axis] % self.shape[axis] + 1 == self.shape[axis];
                    let change = if last { 0.0 } else { shift[i + strides[axis]] - shift[i] };
                    change.abs() / self.step[axis]
                };
                (0..3).map(along).sum()
            };
            (0..shift.len()).map(at).fold(0f32, f32::max)
        });
        rows.fold(0f32, f32::max)
    }

    /// Source index of every voxel of a row `[z, y]`, handed to `put` with its x.
    fn row(&self, geometry: &Geometry, z: usize, y: usize, mut put: impl FnMut(usize, [f32; 3])) {
        let spacing = geometry.spacing.map(|s| s as f32);
        let place = |a: usize, i: usize| {
            let at = (i as f32 * spacing[a] / self.step[a]).min((self.shape[a] - 1) as f32);
            let low = (at as usize).min(self.shape[a] - 2);
            (low, at - low as f32)
        };
        let ((z0, fz), (y0, fy)) = (place(0, z), place(1, y));
        let [_, py, px] = self.shape;
        for x in 0..geometry.shape[2] {
            let (x0, fx) = place(2, x);
            let shift: [f32; 3] = std::array::from_fn(|a| {
                let line = |z: usize, y: usize| {
                    let at = (z * py + y) * px + x0;
                    let [low, high] = [self.shift[a][at], self.shift[a][at + 1]];
                    low + fx * (high - low)
                };
                let plane = |z: usize| line(z, y0) + fy * (line(z, y0 + 1) - line(z, y0));
                plane(z0) + fz * (plane(z0 + 1) - plane(z0))
            });
            let index = [z, y, x];
            put(x, std::array::from_fn(|a| index[a] as f32 + shift[a] / spacing[a]));
        }
    }

    fn nearest(&self, volume: &LabelMap) -> Result<LabelMap, ImageError> {
        let last = volume.shape().map(|n| (n - 1) as f32);
        self.walk(volume, |data, offset, at| {
            let index: [usize; 3] = std::array::from_fn(|a| at[a].clamp(0.0, last[a]).round() as usize);
            data[offset(index)]
        })
    }

    fn trilinear(&self, volume: &Volume<f32>) -> Result<Volume<f32>, ImageError> {
        let shape = volume.shape();
        self.walk(volume, |data, offset, at| {
            let place = |a: usize| {
                let at = at[a].clamp(0.0, (shape[a] - 1) as f32);
                let low = at as usize;
                (low, (low + 1).min(shape[a] - 1), at - low as f32)
            };
            let [(z0, z1, fz), (y0, y1, fy), (x0, x1, fx)] = [place(0), place(1), place(2)];
            let line = |z: usize, y: usize| {
                let [low, high] = [data[offset([z, y, x0])], data[offset([z, y, x1])]];
                low + fx * (high - low)
            };
            let plane = |z: usize| line(z, y0) + fy * (line(z, y1) - line(z, y0));
            plane(z0) + fz * (plane(z1) - plane(z0))
        })
    }

    /// A volume in which each voxel is what `take` finds at its source.
    fn walk<T: crate::Voxel>(
        &self,
        volume: &Volume<T>,
        take: impl Fn(&[T], &dyn Fn([usize; 3]) -> usize, [f32; 3]) -> T + Sync,
    ) -> Result<Volume<T>, ImageError> {
        let geometry = volume.geometry();
        let [_, ny, nx] = geometry.shape;
        let mut out = allocate(geometry.len())?;
        let offset = |[z, y, x]: [usize; 3]| (z * ny + y) * nx + x;
        out.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
            self.row(geometry, row / ny, row % ny, |x, at| {
                line[x] = take(volume.data(), &offset, at)
            });
        });
        Volume::new(geometry.clone(), out)
    }
}

/// Radius in mm of the ball that has each structure's ratio of volume to surface; a tube's comes out half as large again.
fn radii(structures: &LabelMap) -> Vec<f32> {
    let [nz, ny, nx] = structures.shape();
    let spacing = structures.geometry().spacing;
    let faces = [
        spacing[1] * spacing[2],
        spacing[0] * spacing[2],
        spacing[0] * spacing[1],
    ];
    let data = structures.data();
    let (mut volume, mut surface) = (vec![0f64; 256], vec![0f64; 256]);
    for (at, &label) in data.iter().enumerate() {
        volume[usize::from(label)] += spacing.iter().product::<f64>();
        let index = [at / (ny * nx), at / nx % ny, at % nx];
        for (axis, (stride, count)) in [(ny * nx, nz), (nx, ny), (1, nx)].into_iter().enumerate() {
            if index[axis] + 1 < count && data[at + stride] != label {
                surface[usize::from(label)] += faces[axis];
                surface[usize::from(data[at + stride])] += faces[axis];
            }
        }
    }
    // Stairs of voxels have one and a half times the surface of what they stand for.
    let radius = |(volume, surface): (&f64, &f64)| if *surface > 0.0 { 4.5 * volume / surface } else { 0.0 };
    volume.iter().zip(&surface).map(|pair| radius(pair) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ball (1) beside a rod (2), and a bone (3), in 2×3×3 mm voxels.
    fn body() -> LabelMap {
        let geometry = Geometry::ras([50, 40, 48], [2.0, 3.0, 3.0]);
        let mut labels = LabelMap::filled(geometry, 0).unwrap();
        let [_, ny, nx] = labels.shape();
        for (at, label) in labels.data_mut().iter_mut().enumerate() {
            let mm = [at / (ny * nx) * 2, at / nx % ny * 3, at % nx * 3].map(|c| c as f32);
            let apart = |p: [f32; 3]| (0..3).map(|a| (mm[a] - p[a]).powi(2)).sum::<f32>().sqrt();
            if apart([50.0, 60.0, 45.0]) < 27.0 {
                *label = 1;
            } else if apart([mm[0], 60.0, 105.0]) < 9.0 {
                *label = 2;
            } else if mm[1] < 12.0 {
                *label = 3;
            }
        }
        labels
    }

    const TISSUES: [Option<Tissue>; 4] = [
        None,
        Some(Tissue::Liver),
        Some(Tissue::Artery),
        Some(Tissue::CorticalBone),
    ];

    #[test]
    fn bodies_differ_in_size_and_place_and_nothing_is_torn() {
        let labels = body();
        let ball = |labels: &LabelMap| labels.data().iter().filter(|l| **l == 1).count() as f64;
        let mut sizes = Vec::new();
        for seed in 0..12 {
            let (other, _) = reshape(&labels, &TISSUES, None, 1.0, seed).unwrap();
            sizes.push(ball(&other) / ball(&labels));
            let found = crate::components(&other.map(|l| u8::from(l == 1))).unwrap();
            assert_eq!(found.list().len(), 1, "seed {seed}");
        }
        let (least, most) = sizes.iter().fold((f64::MAX, 0f64), |(a, b), &s| (a.min(s), b.max(s)));
        assert!(least < 0.85 && most > 1.15, "{sizes:?}");
        assert!(least > 0.25 && most < 3.0, "{sizes:?}");
        assert_eq!(reshape(&labels, &TISSUES, None, 0.0, 3).unwrap().0, labels);
        assert_eq!(
            reshape(&labels, &TISSUES, None, 1.0, 3).unwrap(),
            reshape(&labels, &TISSUES, None, 1.0, 3).unwrap()
        );
    }

    /// A scan that shows each voxel's own x: the new one must still rise along x, or the body would be folded.
    #[test]
    fn the_scan_moves_with_the_labels_and_nothing_folds() {
        let labels = body();
        let nx = labels.shape()[2];
        let ramp: Vec<f32> = (0..labels.data().len()).map(|at| (at % nx) as f32).collect();
        let ramp = Volume::new(labels.geometry().clone(), ramp).unwrap();
        let picture = labels.map(|l| 100.0 * f32::from(l == 1));
        for seed in 0..12 {
            let (_, moved) = reshape(&labels, &TISSUES, Some(&ramp), 2.0, seed).unwrap();
            for row in moved.unwrap().data().chunks_exact(nx) {
                // At the border many voxels come from the outermost one.
                let inside = row.windows(2).filter(|w| w[0] > 0.0 && w[1] < (nx - 1) as f32);
                assert!(inside.clone().all(|w| w[1] > w[0]), "seed {seed}: {row:?}");
            }
            let (other, moved) = reshape(&labels, &TISSUES, Some(&picture), 1.0, seed).unwrap();
            let shown = moved.unwrap();
            let pairs = other.data().iter().zip(shown.data());
            // Half bright is the border: linear and nearest agree on its side but for ties of corners.
            let wrong = pairs.filter(|(l, v)| (**l == 1) != (**v > 50.0)).count();
            let ball = other.data().iter().filter(|l| **l == 1).count();
            assert!(wrong * 12 < ball, "seed {seed}: {wrong} of {ball}");
        }
    }

    #[test]
    fn strange_input_is_an_error_or_left_as_it_is() {
        let labels = body();
        let other = Volume::filled(Geometry::ras([2, 2, 2], [1.0; 3]), 0f32).unwrap();
        assert!(matches!(
            reshape(&labels, &TISSUES, Some(&other), 1.0, 1),
            Err(ImageError::GridMismatch { .. })
        ));
        for strength in [-0.1, 2.5, f32::NAN] {
            assert!(matches!(
                reshape(&labels, &TISSUES, None, strength, 1),
                Err(ImageError::BadParameter { .. })
            ));
        }
        // One voxel, one slice, no structure that may move.
        for shape in [[1, 1, 1], [1, 9, 7], [3, 1, 2]] {
            let map = LabelMap::filled(Geometry::ras(shape, [3.0; 3]), 1).unwrap();
            assert_eq!(reshape(&map, &TISSUES, None, 1.0, 1).unwrap().0, map);
        }
    }
}
