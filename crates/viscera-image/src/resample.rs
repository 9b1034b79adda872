//! Separable resampling, linear or nearest, to a given shape.
//!
//! [`Convention`] says how two grids over one extent correspond. There is no anti-aliasing, as in PyTorch's `interpolate`
//! and SciPy's `zoom`, which are the oracles. Positions are computed in integers, so they are exact.

use crate::voxel::allocate;
use crate::{Box3, Geometry, ImageError, Intensity, Interpolator, Volume, Voxel, cropped_geometry};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How two grids over one extent correspond. Positions outside the outermost voxel centres take those voxels' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// The outer *edges* of the outermost voxels coincide: output position `d` samples input `(d + ½)·from/to − ½`
    /// (PyTorch `align_corners=False`, SciPy `grid_mode=True, mode="nearest"`).
    HalfPixel,
    /// The *centres* of the outermost voxels coincide: `d` samples `d·(from − 1)/(to − 1)`, a single output position
    /// input 0 (PyTorch `align_corners=True`, SciPy `grid_mode=False`).
    AlignCorners,
}

/// Where one output position samples its axis: `lo + weight · (hi − lo)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap {
    /// Lower input position.
    pub lo: usize,
    /// Upper input position: `lo + 1`, or `lo` where the weight is 0.
    pub hi: usize,
    /// Share of the upper input, `0.0..1.0`.
    pub weight: f32,
}

/// The taps of linear interpolation along one axis, one per output position.
///
/// ```
/// use viscera_image::{AxisTable, Convention};
/// let table = AxisTable::linear(3, 5, Convention::AlignCorners)?;
/// let tap = table.taps()[1];
/// assert_eq!((tap.lo, tap.hi, tap.weight), (0, 1, 0.5));
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AxisTable {
    from: usize,
    taps: Vec<Tap>,
}

impl AxisTable {
    /// Taps that bring an axis of `from` positions to `to` positions.
    ///
    /// # Errors
    /// [`ImageError::EmptyAxis`] when one of the two is zero; [`ImageError::OutOfMemory`].
    pub fn linear(from: usize, to: usize, convention: Convention) -> Result<Self, ImageError> {
        let mut taps = allocate_axis(from, to)?;
        let (n, m) = (from as u128, to as u128);
        taps.extend((0..m).map(|d| {
            // The sampled position as a fraction.
            let (numerator, denominator) = match convention {
                Convention::HalfPixel => (((2 * d + 1) * n).saturating_sub(m), 2 * m),
                Convention::AlignCorners if m == 1 => (0, 1),
                Convention::AlignCorners => (d * (n - 1), m - 1),
            };
            let lo = (numerator / denominator) as usize;
            let rest = numerator % denominator;
            if lo + 1 >= from || rest == 0 {
                let lo = lo.min(from - 1);
                return Tap {
                    lo,
                    hi: lo,
                    weight: 0.0,
                };
            }
            let weight = (rest as f64 / denominator as f64) as f32;
            Tap { lo, hi: lo + 1, weight }
        }));
        Ok(Self { from, taps })
    }

    /// Length of the input axis.
    #[must_use]
    pub fn from_len(&self) -> usize {
        self.from
    }

    /// One tap per output position, in order; `lo` never falls.
    #[must_use]
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// One tap of weight 1 per output position, the nearest input position, half-pixel.
    ///
    /// Of two equally near ones exact arithmetic takes the upper one; SciPy (`order=0`) and PyTorch (`nearest-exact`)
    /// round in double and single precision and so may come out below it, and so does this table: a tie on the slices of
    /// a scan is a whole slice.
    pub(crate) fn nearest(from: usize, to: usize, interpolator: Interpolator) -> Result<Self, ImageError> {
        let mut taps = allocate_axis(from, to)?;
        taps.extend((0..to).map(|d| {
            let at = match interpolator {
                Interpolator::Spline { .. } => {
                    ((from as f64 / to as f64 * (d as f64 + 0.5) - 0.5) + 0.5).floor() as usize
                }
                Interpolator::Torch => ((d as f32 + 0.5) * (from as f32 / to as f32)) as usize,
            };
            let lo = at.min(from - 1);
            Tap {
                lo,
                hi: lo,
                weight: 0.0,
            }
        }));
        Ok(Self { from, taps })
    }

    pub(crate) fn is_identity(&self) -> bool {
        self.taps.len() == self.from && self.taps.iter().enumerate().all(|(i, t)| t.lo == i && t.weight == 0.0)
    }

    /// The input positions that the taps touch, rising, and the same table over that list alone.
    pub(crate) fn compacted(&self) -> (Vec<usize>, Self) {
        let mut used: Vec<usize> = Vec::new();
        for tap in &self.taps {
            for at in [tap.lo, tap.hi] {
                if used.last().is_none_or(|&last| last < at) {
                    used.push(at);
                }
            }
        }
        let place = |at: usize| used.partition_point(|&u| u < at);
        let taps = self
            .taps
            .iter()
            .map(|t| Tap {
                lo: place(t.lo),
                hi: place(t.hi),
                ..*t
            })
            .collect();
        let from = used.len();
        (used, Self { from, taps })
    }
}

/// For each of `to` output positions the nearest of `from` input positions, the upper one of two equally near (PyTorch
/// `nearest-exact`, SciPy `order=0`).
///
/// # Errors
/// [`ImageError::EmptyAxis`] when one of the two is zero; [`ImageError::OutOfMemory`].
pub fn nearest_positions(from: usize, to: usize, convention: Convention) -> Result<Vec<usize>, ImageError> {
    let mut positions = allocate_axis(from, to)?;
    let (n, m) = (from as u128, to as u128);
    positions.extend((0..m).map(|d| {
        let at = match convention {
            Convention::HalfPixel => (2 * d + 1) * n / (2 * m),
            Convention::AlignCorners if m == 1 => 0,
            Convention::AlignCorners => (2 * d * (n - 1) + (m - 1)) / (2 * (m - 1)),
        };
        at as usize
    }));
    Ok(positions)
}

fn allocate_axis<T>(from: usize, to: usize) -> Result<Vec<T>, ImageError> {
    if from == 0 || to == 0 {
        return Err(ImageError::EmptyAxis { from, to });
    }
    let mut axis = Vec::new();
    axis.try_reserve_exact(to).map_err(|_| ImageError::OutOfMemory {
        bytes: to.saturating_mul(size_of::<T>()),
    })?;
    Ok(axis)
}

/// The shape `round(spacing_old / spacing_new · shape)`, ties to even as in Python, at least 1 per axis (nnU-Net's rule).
///
/// # Errors
/// [`ImageError::BadGeometry`] when `spacing` (mm) is not positive and finite, or gives a grid too large to be.
pub fn shape_for_spacing(geometry: &Geometry, spacing: [f64; 3]) -> Result<[usize; 3], ImageError> {
    let shape = std::array::from_fn(|a| {
        let extent = geometry.spacing[a] / spacing[a] * geometry.shape[a] as f64;
        extent.round_ties_even().max(1.0) as usize
    });
    // The new grid's own check speaks of the spacing that was asked for.
    Geometry {
        shape,
        spacing,
        ..geometry.clone()
    }
    .validate()?;
    Ok(shape)
}

/// The grid after resampling to `shape`: the exact places of the sampled points.
///
/// An axis of one voxel has no two centres to align: from one voxel, align-corners spreads the new voxels as half-pixel
/// does; to one voxel, the new one lies on the first old one (as the libraries sample it) and is as thick as all of them.
///
/// # Errors
/// [`ImageError::BadGeometry`] when `shape` has a zero or is too large.
pub fn resampled_geometry(
    source: &Geometry,
    shape: [usize; 3],
    convention: Convention,
) -> Result<Geometry, ImageError> {
    let mut first = [0.0; 3];
    let mut spacing = source.spacing;
    for a in 0..3 {
        let (from, to) = (source.shape[a], shape[a]);
        let edges = from as f64 / to as f64;
        spacing[a] *= match convention {
            Convention::AlignCorners if from > 1 && to > 1 => (from - 1) as f64 / (to - 1) as f64,
            _ => edges,
        };
        if convention == Convention::HalfPixel || from == 1 {
            first[a] = 0.5 * edges - 0.5;
        }
    }
    let geometry = Geometry {
        shape,
        spacing,
        origin: source.world_of(first),
        direction: source.direction,
    };
    geometry.validate()?;
    Ok(geometry)
}

/// Linear resampling of intensities to `shape`, in `f32`.
///
/// Axes are treated one after the other in the order that costs least, and rows that no axis needs are never read. An unchanged shape gives the same values bit for bit; so does a constant volume. Tested against PyTorch's
/// `interpolate` and SciPy's `zoom`.
///
/// ```
/// use viscera_image::{resample_linear, Convention, Geometry, Volume};
/// let volume = Volume::new(Geometry::ras([1, 1, 2], [1.0; 3]), vec![0i16, 10])?;
/// let finer = resample_linear(&volume, [1, 1, 4], Convention::HalfPixel)?;
/// assert_eq!(finer.data(), [0.0, 2.5, 7.5, 10.0]);
/// assert_eq!(finer.geometry().origin, [-0.25, 0.0, 0.0]);
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
///
/// # Errors
/// [`ImageError::BadGeometry`] when `shape` has a zero or is too large; [`ImageError::OutOfMemory`].
pub fn resample_linear<T: Intensity>(
    volume: &Volume<T>,
    shape: [usize; 3],
    convention: Convention,
) -> Result<Volume<f32>, ImageError> {
    resample_linear_part(volume, &Box3::whole(volume.shape()), shape, convention, |v| v)
}

/// As [`resample_linear`], of a box of a volume, each voxel changed by `value` before it is interpolated; the result is
/// that of cutting, changing and resampling, without their copies.
///
/// # Errors
/// [`ImageError::BadBox`] when the box does not fit; those of [`resample_linear`].
pub fn resample_linear_part<T: Intensity>(
    volume: &Volume<T>,
    part: &Box3,
    shape: [usize; 3],
    convention: Convention,
    value: impl Fn(f32) -> f32 + Sync,
) -> Result<Volume<f32>, ImageError> {
    let source = cropped_geometry(volume.geometry(), part)?;
    let geometry = resampled_geometry(&source, shape, convention)?;
    let from = part.shape();
    let [_, height, width] = volume.shape();
    let rows = Rows {
        data: volume.data(),
        plane: height * width,
        row: width,
        start: (part.start[0] * height + part.start[1]) * width + part.start[2],
        len: from[2],
    };
    let table = |a: usize| AxisTable::linear(from[a], shape[a], convention);
    let data = interpolate_rows(&rows, from, &[table(0)?, table(1)?, table(2)?], value)?;
    Ok(Volume::from_valid(geometry, data))
}

/// Interpolates voxels of a grid of `from` along all axes that change.
pub(crate) fn interpolate<T: Intensity>(
    data: &[T],
    from: [usize; 3],
    tables: &[AxisTable; 3],
) -> Result<Vec<f32>, ImageError> {
    interpolate_rows(&Rows::of(data, from), from, tables, |v| v)
}

fn interpolate_rows<T: Intensity>(
    source: &Rows<'_, T>,
    from: [usize; 3],
    tables: &[AxisTable; 3],
    value: impl Fn(f32) -> f32 + Sync,
) -> Result<Vec<f32>, ImageError> {
    let order = cheapest_order(tables);
    let Some((&first, rest)) = order.split_first() else {
        let mut data = allocate::<f32>(from.iter().product())?;
        data.par_chunks_mut(from[2]).enumerate().for_each(|(row, out)| {
            let from_row = source.at(row / from[1], row % from[1]);
            out.iter_mut().zip(from_row).for_each(|(o, v)| *o = value(v.to_f32()));
        });
        return Ok(data);
    };

    // Rows (z, y) that the passes after the first will look at.
    let mut rows: [Vec<usize>; 2] = [(0..from[0]).collect(), (0..from[1]).collect()];
    let mut tables = tables.clone();
    for &axis in rest.iter().filter(|&&axis| axis < 2) {
        (rows[axis], tables[axis]) = tables[axis].compacted();
    }
    let (mut data, mut current) = pass(source, first, &tables[first].taps, &rows, value)?;
    for &axis in rest {
        let rows = [(0..current[0]).collect(), (0..current[1]).collect()];
        (data, current) = pass(&Rows::of(&data, current), axis, &tables[axis].taps, &rows, |v| v)?;
    }
    Ok(data)
}

/// The axes to interpolate along, in the order that costs least. Axes that do not change are left out.
fn cheapest_order(tables: &[AxisTable; 3]) -> Vec<usize> {
    // Within a row values are picked one by one; whole rows are combined with wide instructions.
    const COST: [usize; 3] = [1, 1, 4];
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    // Before its own pass an axis has the rows that the pass will use; along x all values are taken.
    let before: Vec<usize> = (0..3)
        .map(|a| {
            if a < 2 {
                tables[a].compacted().0.len()
            } else {
                tables[a].from
            }
        })
        .collect();
    let cost = |order: &[usize]| {
        let mut shape = before.clone();
        let mut total = 0usize;
        for &axis in order {
            shape[axis] = tables[axis].taps.len();
            let voxels = shape.iter().fold(COST[axis], |n, &s| n.saturating_mul(s));
            total = total.saturating_add(voxels);
        }
        total
    };
    ORDERS
        .iter()
        .map(|order| {
            order
                .iter()
                .copied()
                .filter(|&a| !tables[a].is_identity())
                .collect::<Vec<_>>()
        })
        .min_by_key(|order| cost(order))
        .unwrap_or_default()
}

/// The rows along x of a box of voxels.
struct Rows<'a, T> {
    data: &'a [T],
    /// Voxels from slice to slice and from row to row.
    plane: usize,
    row: usize,
    /// The box's first voxel.
    start: usize,
    /// Voxels of a row.
    len: usize,
}

impl<'a, T> Rows<'a, T> {
    fn of(data: &'a [T], shape: [usize; 3]) -> Self {
        Self {
            data,
            plane: shape[1] * shape[2],
            row: shape[2],
            start: 0,
            len: shape[2],
        }
    }

    fn at(&self, z: usize, y: usize) -> &'a [T] {
        &self.data[self.start + z * self.plane + y * self.row..][..self.len]
    }
}

/// Interpolates along one axis; of the other axes among z and y, only the listed `rows` are taken.
fn pass<T: Intensity>(
    source: &Rows<'_, T>,
    axis: usize,
    taps: &[Tap],
    rows: &[Vec<usize>; 2],
    value: impl Fn(f32) -> f32 + Sync,
) -> Result<(Vec<f32>, [usize; 3]), ImageError> {
    let mut to = [rows[0].len(), rows[1].len(), source.len];
    to[axis] = taps.len();
    let [_, ny, nx] = to;
    let read = |v: &T| value(v.to_f32());
    let mut out = allocate::<f32>(to.iter().product())?;
    out.par_chunks_mut(nx)
        .enumerate()
        .with_min_len(16)
        .for_each(|(row, out)| {
            let (z, y) = (row / ny, row % ny);
            let (lower, upper, weight) = match axis {
                0 => (
                    source.at(taps[z].lo, rows[1][y]),
                    source.at(taps[z].hi, rows[1][y]),
                    taps[z].weight,
                ),
                1 => (
                    source.at(rows[0][z], taps[y].lo),
                    source.at(rows[0][z], taps[y].hi),
                    taps[y].weight,
                ),
                _ => {
                    let source = source.at(rows[0][z], rows[1][y]);
                    for (o, tap) in out.iter_mut().zip(taps) {
                        *o = lerp(read(&source[tap.lo]), read(&source[tap.hi]), tap.weight);
                    }
                    return;
                }
            };
            for ((o, a), b) in out.iter_mut().zip(lower).zip(upper) {
                *o = lerp(read(a), read(b), weight);
            }
        });
    Ok((out, to))
}

/// Exact where both are equal or the weight is 0.
fn lerp(a: f32, b: f32, weight: f32) -> f32 {
    a + weight * (b - a)
}

/// Nearest-neighbour resampling to `shape`: the way for label maps, and for anything else that must not be mixed.
///
/// # Errors
/// [`ImageError::BadGeometry`] when `shape` has a zero or is too large; [`ImageError::OutOfMemory`].
pub fn resample_nearest<T: Voxel>(
    volume: &Volume<T>,
    shape: [usize; 3],
    convention: Convention,
) -> Result<Volume<T>, ImageError> {
    let geometry = resampled_geometry(volume.geometry(), shape, convention)?;
    let from = volume.shape();
    let zs = nearest_positions(from[0], shape[0], convention)?;
    let ys = nearest_positions(from[1], shape[1], convention)?;
    let xs = nearest_positions(from[2], shape[2], convention)?;
    let mut data = allocate::<T>(geometry.len())?;
    let [_, ny, nx] = shape;
    data.par_chunks_mut(nx)
        .enumerate()
        .with_min_len(16)
        .for_each(|(row, out)| {
            let start = (zs[row / ny] * from[1] + ys[row % ny]) * from[2];
            let source = &volume.data()[start..start + from[2]];
            if nx == from[2] {
                out.copy_from_slice(source);
            } else {
                for (o, &x) in out.iter_mut().zip(&xs) {
                    *o = source[x];
                }
            }
        });
    Ok(Volume::from_valid(geometry, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_changed_and_resampled() {
        let shape = [5, 7, 9];
        let values = (0..315).map(|i| ((i * 7919) % 400) as i16 - 200).collect();
        let volume = Volume::new(Geometry::ras(shape, [3.0, 1.0, 0.5]), values).unwrap();
        let part = Box3 {
            start: [1, 0, 2],
            end: [4, 6, 9],
        };
        for to in [[3, 6, 7], [2, 9, 7], [6, 5, 4]] {
            let cut = crate::crop(&volume, &part)
                .unwrap()
                .map(|v| f32::from(v).clamp(-50.0, 60.5) / 2.0);
            let expected = resample_linear(&cut, to, Convention::HalfPixel).unwrap();
            let value = |v: f32| v.clamp(-50.0, 60.5) / 2.0;
            let found = resample_linear_part(&volume, &part, to, Convention::HalfPixel, value).unwrap();
            assert_eq!(found, expected);
        }
    }

    use proptest::prelude::*;

    const BOTH: [Convention; 2] = [Convention::HalfPixel, Convention::AlignCorners];

    fn volume(shape: [usize; 3]) -> Volume<f32> {
        let geometry = Geometry::ras(shape, [3.0, 0.7, 0.9]);
        // Reproducible, far from smooth.
        let data = (0..geometry.len())
            .map(|i| ((i * 7919) % 1013) as f32 - 500.0)
            .collect();
        Volume::new(geometry, data).unwrap()
    }

    #[test]
    fn impossible_targets_are_errors() {
        let v = volume([2, 3, 4]);
        for convention in BOTH {
            assert!(matches!(
                resample_linear(&v, [2, 0, 4], convention),
                Err(ImageError::BadGeometry { .. })
            ));
            // More than any machine has, though the number of voxels is a fair one.
            let huge = [1 << 19, 1 << 19, 1 << 17];
            assert!(matches!(
                resample_nearest(&v, huge, convention),
                Err(ImageError::OutOfMemory { .. })
            ));
            assert!(AxisTable::linear(0, 3, convention).is_err());
            assert!(nearest_positions(3, 0, convention).is_err());
        }
    }

    #[test]
    fn shape_follows_the_spacing() {
        let geometry = Geometry::ras([100, 512, 3], [5.0, 0.7, 0.7]);
        assert_eq!(shape_for_spacing(&geometry, [2.0, 1.5, 9.0]).unwrap(), [250, 239, 1]);
        // Halves go to the even side, as Python's round does.
        let halves = Geometry::ras([5, 7, 9], [1.0; 3]);
        assert_eq!(shape_for_spacing(&halves, [2.0; 3]).unwrap(), [2, 4, 4]);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300] {
            assert!(shape_for_spacing(&geometry, [1.0, bad, 1.0]).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_read_may_be_anything() {
        // Half-pixel 9 to 3 reads the middles 1, 4, 7 only; a NaN elsewhere must not leak through a weight of 0.
        let mut v = volume([9, 9, 9]);
        for (i, value) in v.data_mut().iter_mut().enumerate() {
            if [i / 81, i / 9 % 9, i % 9].iter().any(|p| p % 3 != 1) {
                *value = f32::NAN;
            }
        }
        let out = resample_linear(&v, [3, 3, 3], Convention::HalfPixel).unwrap();
        assert!(out.data().iter().all(|v| v.is_finite()));
    }

    proptest! {
        #[test]
        fn same_shape_is_the_identity(shape in [1usize..7, 1usize..7, 1usize..40]) {
            let v = volume(shape);
            for convention in BOTH {
                prop_assert_eq!(&resample_linear(&v, shape, convention).unwrap(), &v);
                prop_assert_eq!(&resample_nearest(&v, shape, convention).unwrap(), &v);
            }
        }

        #[test]
        fn constants_stay(from in [1usize..7, 1usize..7, 1usize..7], to in [1usize..9, 1usize..9, 1usize..9]) {
            let v = Volume::filled(Geometry::ras(from, [1.0; 3]), 0.1f32).unwrap();
            for convention in BOTH {
                let out = resample_linear(&v, to, convention).unwrap();
                prop_assert!(out.data().iter().all(|&v| v == 0.1));
            }
        }

        /// A volume that equals a linear function of the world stays that function inside: values and grid agree.
        #[test]
        fn linear_functions_of_the_world_stay(
            from in [2usize..9, 2usize..9, 2usize..9],
            to in [2usize..13, 2usize..13, 2usize..13],
        ) {
            let (s, c) = 0.4f64.sin_cos();
            let mut geometry = Geometry::ras(from, [2.0, 0.8, 0.6]);
            geometry.origin = [5.0, -9.0, 3.0];
            geometry.direction = [[0.0, -s, c], [0.0, c, s], [-1.0, 0.0, 0.0]];
            let plane = |g: &Geometry, i: usize| {
                let index = [i / (g.shape[1] * g.shape[2]), i / g.shape[2] % g.shape[1], i % g.shape[2]];
                let world = g.world_of(index.map(|v| v as f64));
                (world[0] + 2.0 * world[1] - 3.0 * world[2], world)
            };
            let data = (0..geometry.len()).map(|i| plane(&geometry, i).0 as f32).collect();
            let v = Volume::new(geometry.clone(), data).unwrap();
            for convention in BOTH {
                let out = resample_linear(&v, to, convention).unwrap();
                for (i, &value) in out.data().iter().enumerate() {
                    let (expected, world) = plane(out.geometry(), i);
                    let index = geometry.index_of(world);
                    // Outside the outermost centres half-pixel clamps.
                    if (0..3).all(|a| index[a] > -1e-9 && index[a] < (from[a] - 1) as f64 + 1e-9) {
                        prop_assert!((f64::from(value) - expected).abs() < 1e-3, "{convention:?} at {i}");
                    }
                }
            }
        }

        /// Nearest is the closest position, by the definition of the convention.
        #[test]
        fn nearest_is_nearest(from in 1usize..50, to in 1usize..50) {
            for convention in BOTH {
                let positions = nearest_positions(from, to, convention).unwrap();
                let table = AxisTable::linear(from, to, convention).unwrap();
                for (position, tap) in positions.iter().zip(table.taps()) {
                    let at = tap.lo as f32 + tap.weight;
                    prop_assert!(*position < from);
                    prop_assert!((*position as f32 - at).abs() <= 0.5 + 1e-5);
                }
            }
        }
    }
}
