//! Other bodies out of one: its structures grow, shrink and move, and all that lies between gives way.
//!
//! The way back from the new body to the old one is a smooth displacement on a coarse lattice. A structure grows along
//! the gradient of its blurred mask, so by about as many mm everywhere on its surface, and moves with what is near it.

use super::draw::Draw;
use super::tissue::Tissue;
use crate::blur::blur;
use crate::voxel::allocate;
use crate::{Geometry, ImageError, LabelMap, Volume};
use rayon::prelude::*;

/// Between the lattice's points, mm.
const STEP_MM: f32 = 6.0;
/// Most points along an axis; wider bodies get a wider step.
const MOST_POINTS: usize = 128;
/// Most change of the flow per mm, of which a length can become the exponential or its inverse,
const MOST_STRAIN: f32 = 1.5;
/// and of one step along it; well below 1, so that nothing folds over.
const STEP_STRAIN: f32 = 0.25;
/// Structures thinner than this (mm, the radius of a ball or tube of their shape) are carried along only.
const LEAST_RADIUS_MM: f32 = 2.0;
/// Standard deviation of the angle by which a structure turns about each axis, radians,
const TURN: f32 = 0.4;
/// and how far that may move what lies at its ends, mm.
const MOST_TURN_MM: f32 = 28.0;

/// A label map of structures, and its scan where there is one, with each structure's size, place and direction changed at
/// random.
///
/// `tissues[id]` is the tissue of each id, as in [`super::Anatomy::new`]: bones and what has no tissue only follow the rest.
/// Three of four structures grow or shrink, by up to a third of their radius times `strength`, move by about 5 mm times
/// `strength`, and turn about their centre, by about 20 degrees times `strength` unless they are long: no end moves by more
/// than 28 mm times `strength`. Labels are taken by nearest neighbour, the scan trilinearly; both lie on the grid they came on. The
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

/// How a structure moves: by `way` (mm), and about an axis through `centre` (mm) that `turn` (radians, small) lies along.
struct Pose {
    way: [f32; 3],
    turn: [f32; 3],
    centre: [f32; 3],
}

impl Pose {
    /// How far a point moves, mm; turned as far as a tangent goes, so that it grows by the way by a few per cent.
    fn moves(&self, mm: [f32; 3]) -> [f32; 3] {
        let arm: [f32; 3] = std::array::from_fn(|a| mm[a] - self.centre[a]);
        let axes = |a: usize| ((a + 1) % 3, (a + 2) % 3);
        std::array::from_fn(|a| {
            let (b, c) = axes(a);
            self.way[a] + self.turn[b] * arm[c] - self.turn[c] * arm[b]
        })
    }
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
            let turn: [f32; 3] = std::array::from_fn(|_| draw.normal(0.0, TURN));
            let mask = warp.mask(structures, id as u8);
            let pose = warp.pose(&mask, way, turn, strength);
            warp.push(&mask, 0.5 * radius, if grows { growth } else { 0.0 }, &pose);
        }
        warp.follow();
        Ok(warp)
    }

    /// Takes what the structures add up to for a steady flow, and follows it for a unit of time, by halving it until a step
    /// is small and composing that with itself (Arsigny et al. 2006): however large, what comes out can be undone.
    fn follow(&mut self) {
        let strain = self.strain();
        let halvings = (strain.min(MOST_STRAIN) / STEP_STRAIN).log2().ceil().max(0.0);
        let scale = (MOST_STRAIN / strain).min(1.0) * (-halvings).exp2();
        self.shift.iter_mut().flatten().for_each(|v| *v *= scale);
        for _ in 0..halvings as usize {
            let twice = |i: usize| {
                let first: [f32; 3] = std::array::from_fn(|a| self.shift[a][i]);
                let mm = self.mm(i);
                let second = self.at(std::array::from_fn(|a| mm[a] + first[a]));
                std::array::from_fn::<f32, 3, _>(|a| first[a] + second[a])
            };
            let shift: Vec<[f32; 3]> = (0..self.shift[0].len()).into_par_iter().map(twice).collect();
            for (axis, values) in self.shift.iter_mut().enumerate() {
                values.iter_mut().zip(&shift).for_each(|(v, all)| *v = all[axis]);
            }
        }
    }

    /// Displacement at a place (mm), trilinear; outside the lattice that of its border.
    fn at(&self, mm: [f32; 3]) -> [f32; 3] {
        let [(z0, fz), (y0, fy), (x0, fx)] = std::array::from_fn(|a| self.place(a, mm[a]));
        let [_, py, px] = self.shape;
        std::array::from_fn(|a| {
            let line = |z: usize, y: usize| {
                let at = (z * py + y) * px + x0;
                let [low, high] = [self.shift[a][at], self.shift[a][at + 1]];
                low + fx * (high - low)
            };
            let plane = |z: usize| line(z, y0) + fy * (line(z, y0 + 1) - line(z, y0));
            plane(z0) + fz * (plane(z0 + 1) - plane(z0))
        })
    }

    /// The point below a place (mm) along an axis, and how far it is from there to the next.
    fn place(&self, axis: usize, mm: f32) -> (usize, f32) {
        let at = (mm / self.step[axis]).clamp(0.0, (self.shape[axis] - 1) as f32);
        let low = (at as usize).min(self.shape[axis] - 2);
        (low, at - low as f32)
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

    /// Way and turn of a structure of this mask, the turn cut where it would move the structure's ends too far.
    fn pose(&self, mask: &[f32], way: [f32; 3], turn: [f32; 3], strength: f32) -> Pose {
        let (mut sum, mut first, mut second) = (0f64, [0f64; 3], [0f64; 3]);
        for (i, &weight) in mask.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            let (weight, mm) = (f64::from(weight), self.mm(i));
            sum += weight;
            for axis in 0..3 {
                first[axis] += weight * f64::from(mm[axis]);
                second[axis] += weight * f64::from(mm[axis]).powi(2);
            }
        }
        let centre = first.map(|v| v / sum.max(1.0));
        let spread: [f64; 3] = std::array::from_fn(|a| (second[a] / sum.max(1.0) - centre[a].powi(2)).max(0.0));
        let turn = std::array::from_fn(|a| {
            // A structure's ends lie about two standard deviations from its centre.
            let arm = 2.0 * (spread[(a + 1) % 3] + spread[(a + 2) % 3]).sqrt() as f32;
            let most = MOST_TURN_MM / arm.max(MOST_TURN_MM);
            strength * turn[a].clamp(-most, most)
        });
        let centre = centre.map(|c| c as f32);
        Pose { way, turn, centre }
    }

    /// Place of a point, mm.
    fn mm(&self, i: usize) -> [f32; 3] {
        let [_, ny, nx] = self.shape;
        let index = [i / (ny * nx), i / nx % ny, i % nx];
        std::array::from_fn(|a| index[a] as f32 * self.step[a])
    }

    /// Adds one structure's growth (mm) and pose.
    fn push(&mut self, mask: &[f32], reach_mm: f32, growth: f32, pose: &Pose) {
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
        for i in (0..wide.len()).filter(|&i| wide[i] > 0.0) {
            let moved = pose.moves(self.mm(i));
            for axis in 0..3 {
                // What grows outwards came from further inside.
                let grown = growth * slopes[axis][i] / steepest;
                self.shift[axis][i] += grown - moved[axis] * wide[i] / top;
            }
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
        for x in 0..geometry.shape[2] {
            let index = [z, y, x].map(|i| i as f32);
            let shift = self.at(std::array::from_fn(|a| index[a] * spacing[a]));
            put(x, std::array::from_fn(|a| index[a] + shift[a] / spacing[a]));
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

    /// A kidney stands upright and is flat: seen from above, its long side must point elsewhere in other bodies.
    #[test]
    fn structures_turn_about_their_centre() {
        let mut labels = LabelMap::filled(Geometry::ras([60, 60, 60], [2.0; 3]), 0).unwrap();
        for (at, label) in labels.data_mut().iter_mut().enumerate() {
            let [z, y, x] = [at / 3600, at / 60 % 60, at % 60].map(|i| i as f32 * 2.0 - 59.0);
            *label = u8::from((z / 50.0).powi(2) + (y / 30.0).powi(2) + (x / 18.0).powi(2) < 1.0);
        }
        let angle = |labels: &LabelMap| {
            let voxels = labels.data().iter().enumerate().filter(|(_, l)| **l == 1);
            let points: Vec<[f64; 2]> = voxels.map(|(i, _)| [(i / 60 % 60) as f64, (i % 60) as f64]).collect();
            let mean = [0, 1].map(|a| points.iter().map(|p| p[a]).sum::<f64>() / points.len() as f64);
            let moment = |a: usize, b: usize| points.iter().map(|p| (p[a] - mean[a]) * (p[b] - mean[b])).sum::<f64>();
            0.5 * (2.0 * moment(0, 1)).atan2(moment(0, 0) - moment(1, 1)).to_degrees()
        };
        assert!(angle(&labels).abs() < 0.1);
        let turned: Vec<f64> = (0..16)
            .map(|seed| angle(&reshape(&labels, &TISSUES[..2], None, 1.0, seed).unwrap().0))
            .collect();
        let strong = turned.iter().filter(|a| a.abs() > 12.0).count();
        assert!((3..=13).contains(&strong), "{turned:?}");
        assert!(
            turned.iter().any(|a| *a > 12.0) && turned.iter().any(|a| *a < -12.0),
            "{turned:?}"
        );
        assert!(turned.iter().all(|a| a.abs() < 45.0), "{turned:?}");
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
