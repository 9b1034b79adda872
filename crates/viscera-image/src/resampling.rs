//! Resampling as nnU-Net does it (`default_resampling` and `resample_torch` of nnunetv2 2.8.1): splines with clipping, and
//! a coarse axis on its own. Grids correspond by their outer faces (half-pixel).

use crate::resample::interpolate;
use crate::spline::{SplineTable, spline_pass};
use crate::voxel::allocate;
use crate::{AxisTable, Convention, ImageError, Intensity, Volume, resampled_geometry};
use rayon::prelude::*;

/// Whose interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolator {
    /// B-splines with prefilter, as scikit-image's `resize` (mode `edge`, no anti-aliasing): the result is clipped to the
    /// range of the input, or of each slice of it where an axis is separate. The separate axis as SciPy's
    /// `map_coordinates` (mode `nearest`), without clipping.
    Spline {
        /// Order of the spline, 0 nearest, 1 linear, at most 5.
        order: u8,
        /// The same along the separate axis.
        order_separate: u8,
    },
    /// As PyTorch's `interpolate`: linear without align-corners, the separate axis by `nearest-exact`.
    Torch,
}

/// How a volume comes to another shape over the same extent.
///
/// ```
/// use viscera_image::{Geometry, Interpolator, Resampling, Volume, separate_axis};
/// let slices = Volume::new(Geometry::ras([1, 1, 4], [5.0, 1.0, 1.0]), vec![0i16, 10, 10, 0])?;
/// let interpolator = Interpolator::Spline { order: 3, order_separate: 0 };
/// let separate = separate_axis(None, 3.0, [5.0, 1.0, 1.0], [1.0; 3]);
/// assert_eq!(separate, Some(0));
/// let fine = Resampling { interpolator, separate }.resample(&slices, [5, 1, 8])?;
/// assert_eq!(fine.shape(), [5, 1, 8]);
/// assert!(fine.data().iter().all(|v| (0.0..=10.0).contains(v))); // the spline alone would go beyond
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// Whose interpolation.
    pub interpolator: Interpolator,
    /// The axis that is interpolated on its own, after the other two: see [`separate_axis`].
    pub separate: Option<usize>,
}

/// The axis that nnU-Net interpolates on its own, from the spacings (mm) before and after.
///
/// `always` is `Some(false)` for never, `Some(true)` for the axis of the largest spacing before, and `None` for the axis of
/// the largest spacing before, or else after, where the largest spacing is more than `anisotropy` times the smallest.
/// Where two axes are equally coarse, none is separate.
#[must_use]
pub fn separate_axis(always: Option<bool>, anisotropy: f64, before: [f64; 3], after: [f64; 3]) -> Option<usize> {
    let largest = |spacing: [f64; 3]| spacing.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let is_anisotropic = |spacing: &[f64; 3]| {
        let smallest = spacing.iter().copied().fold(f64::INFINITY, f64::min);
        largest(*spacing) / smallest > anisotropy
    };
    let spacing = match always {
        Some(false) => None,
        Some(true) => Some(before),
        None => [before, after].into_iter().find(is_anisotropic),
    }?;
    let mut coarsest = (0..3).filter(|&a| largest(spacing) / spacing[a] == 1.0);
    coarsest.next().filter(|_| coarsest.next().is_none())
}

impl Resampling {
    /// The taps along one axis, or `None` where the order is above linear and several taps with a prefilter are needed.
    ///
    /// # Errors
    /// [`ImageError::EmptyAxis`] when one of the two lengths is zero; [`ImageError::OutOfMemory`].
    pub fn axis_table(&self, axis: usize, from: usize, to: usize) -> Result<Option<AxisTable>, ImageError> {
        Ok(match self.order(axis) {
            0 => Some(AxisTable::nearest(from, to, self.interpolator)?),
            1 => Some(AxisTable::linear(from, to, Convention::HalfPixel)?),
            _ => None,
        })
    }

    /// Resamples intensities to `shape`, in `f32`.
    ///
    /// An axis whose length stays is left as it is. Agrees with nnU-Net within 10⁻⁵ of the range of the values; the result
    /// does not depend on the number of threads. Beyond input and result it takes at most one more volume of `f32`, of the
    /// size between two axes.
    ///
    /// # Errors
    /// [`ImageError::BadParameter`] for an order above 5 or an axis above 2; [`ImageError::BadGeometry`] when `shape` has a
    /// zero or is too large; [`ImageError::OutOfMemory`].
    pub fn resample<T: Intensity>(&self, volume: &Volume<T>, shape: [usize; 3]) -> Result<Volume<f32>, ImageError> {
        self.check()?;
        let geometry = resampled_geometry(volume.geometry(), shape, Convention::HalfPixel)?;
        let (data, from) = (volume.data(), volume.shape());
        let data = match self.separate {
            // Linear interpolation of one axis after the other is the same in any order.
            _ if (0..3).all(|a| self.order(a) < 2) => interpolate(data, from, &self.tables(from, shape)?)?,
            None => self.planes(data, from, shape)?,
            Some(axis) => self.planes_then_axis(data, from, shape, axis)?,
        };
        Ok(Volume::from_valid(geometry, data))
    }

    /// The order of interpolation along an axis: 0 nearest, 1 linear.
    fn order(&self, axis: usize) -> u8 {
        match (self.interpolator, self.separate == Some(axis)) {
            (Interpolator::Spline { order, .. }, false) => order,
            (Interpolator::Spline { order_separate, .. }, true) => order_separate,
            (Interpolator::Torch, separate) => u8::from(!separate),
        }
    }

    fn check(&self) -> Result<(), ImageError> {
        let order = (0..3).map(|a| self.order(a)).max().unwrap_or(0);
        let bad = |what, value| Err(ImageError::BadParameter { what, value });
        match self.separate {
            Some(axis) if axis > 2 => bad("separate axis", axis as f64),
            _ if order > 5 => bad("order of interpolation", f64::from(order)),
            _ => Ok(()),
        }
    }

    /// The tables of axes of order 0 or 1; of the other axes the lengths are taken to stay.
    fn tables(&self, from: [usize; 3], to: [usize; 3]) -> Result<[AxisTable; 3], ImageError> {
        let table = |a: usize| match self.axis_table(a, from[a], to[a])? {
            Some(table) => Ok(table),
            None => AxisTable::linear(from[a], from[a], Convention::HalfPixel),
        };
        Ok([table(0)?, table(1)?, table(2)?])
    }

    /// The separate axis after the others.
    fn planes_then_axis<T: Intensity>(
        &self,
        data: &[T],
        from: [usize; 3],
        to: [usize; 3],
        axis: usize,
    ) -> Result<Vec<f32>, ImageError> {
        let mut between = to;
        between[axis] = from[axis];
        let Some(table) = self.axis_table(axis, from[axis], to[axis])? else {
            let data = self.planes(data, from, between)?;
            if from[axis] == to[axis] {
                return Ok(data);
            }
            let table = SplineTable::new(self.order(axis), from[axis], to[axis]);
            return Ok(spline_pass(&data, between, axis, &table)?.0);
        };
        // Slices that the axis skips are left out at once.
        let (used, table) = table.compacted();
        let planes = if used.len() < from[axis] {
            let mut fewer = from;
            fewer[axis] = used.len();
            between[axis] = used.len();
            self.planes(&slices(data, from, axis, &used)?, fewer, between)?
        } else {
            self.planes(data, from, between)?
        };
        if table.is_identity() {
            return Ok(planes);
        }
        let mut tables = self.tables(between, between)?;
        tables[axis] = table;
        interpolate(&planes, between, &tables)
    }

    /// All axes but the separate one, whose length is the same in `from` and `to`.
    fn planes<T: Intensity>(&self, data: &[T], from: [usize; 3], to: [usize; 3]) -> Result<Vec<f32>, ImageError> {
        // Those that shrink most come first. Splines pass through their samples, so an axis that stays needs nothing.
        let mut axes: Vec<usize> = (0..3).filter(|&a| from[a] != to[a]).collect();
        axes.sort_by(|&a, &b| (to[a] * from[b]).cmp(&(to[b] * from[a])));
        let is_spline = axes.iter().any(|&a| self.order(a) > 1);
        let (Some((&first, rest)), true) = (axes.split_first(), is_spline) else {
            return interpolate(data, from, &self.tables(from, to)?);
        };
        let table = |a: usize| SplineTable::new(self.order(a), from[a], to[a]);
        let (mut out, mut shape) = spline_pass(data, from, first, &table(first))?;
        for &axis in rest {
            (out, shape) = spline_pass(&out, shape, axis, &table(axis))?;
        }
        clip(&mut out, shape, &ranges(data, from, self.separate), self.separate);
        Ok(out)
    }
}

/// The listed slices across an axis.
fn slices<T: Intensity>(data: &[T], shape: [usize; 3], axis: usize, used: &[usize]) -> Result<Vec<T>, ImageError> {
    let mut to = shape;
    to[axis] = used.len();
    let mut out = allocate::<T>(to.iter().product())?;
    out.par_chunks_mut(to[2]).enumerate().for_each(|(row, out)| {
        let mut at = [row / to[1], row % to[1]];
        if axis < 2 {
            at[axis] = used[at[axis]];
        }
        let source = &data[(at[0] * shape[1] + at[1]) * shape[2]..][..shape[2]];
        if axis < 2 {
            out.copy_from_slice(source);
        } else {
            for (o, &x) in out.iter_mut().zip(used) {
                *o = source[x];
            }
        }
    });
    Ok(out)
}

/// Smallest and largest value.
type Range = [f32; 2];

const NOTHING: Range = [f32::INFINITY, f32::NEG_INFINITY];

fn widen(range: &mut Range, other: Range) {
    *range = [range[0].min(other[0]), range[1].max(other[1])];
}

/// The range of each slice across an axis, or of everything. NaN is left out.
fn ranges<T: Intensity>(data: &[T], shape: [usize; 3], axis: Option<usize>) -> Vec<Range> {
    let count = axis.map_or(1, |a| shape[a]);
    let of_plane = |(z, plane): (usize, &[T])| {
        let mut found = vec![NOTHING; count];
        for (y, row) in plane.chunks_exact(shape[2]).enumerate() {
            let mut all = NOTHING;
            for (x, value) in row.iter().map(|v| v.to_f32()).enumerate() {
                match axis {
                    Some(2) => widen(&mut found[x], [value; 2]),
                    _ => widen(&mut all, [value; 2]),
                }
            }
            match axis {
                None => widen(&mut found[0], all),
                Some(0) => widen(&mut found[z], all),
                Some(1) => widen(&mut found[y], all),
                Some(_) => {}
            }
        }
        found
    };
    data.par_chunks(shape[1] * shape[2]).enumerate().map(of_plane).reduce(
        || vec![NOTHING; count],
        |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| widen(a, b));
            a
        },
    )
}

/// Sets what lies beyond the range of its slice to that range's end.
fn clip(data: &mut [f32], shape: [usize; 3], ranges: &[Range], axis: Option<usize>) {
    let within = |value: &mut f32, range: &Range| *value = value.max(range[0]).min(range[1]);
    data.par_chunks_mut(shape[2])
        .enumerate()
        .with_min_len(16)
        .for_each(|(row, values)| {
            let range = match axis {
                None => &ranges[0],
                Some(0) => &ranges[row / shape[1]],
                Some(1) => &ranges[row % shape[1]],
                Some(_) => {
                    values.iter_mut().zip(ranges).for_each(|(v, range)| within(v, range));
                    return;
                }
            };
            values.iter_mut().for_each(|v| within(v, range));
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;
    use proptest::prelude::*;

    fn volume(shape: [usize; 3]) -> Volume<f32> {
        let geometry = Geometry::ras(shape, [3.0, 0.7, 0.9]);
        // Reproducible, far from smooth.
        let data = (0..geometry.len()).map(|i| ((i * 7919) % 1013) as f32).collect();
        Volume::new(geometry, data).unwrap()
    }

    prop_compose! {
        fn resamplings()(torch in prop::bool::ANY, order in 0u8..6, order_separate in 0u8..6, separate in prop::option::of(0usize..3))
            -> Resampling {
            let spline = Interpolator::Spline { order, order_separate };
            Resampling { interpolator: if torch { Interpolator::Torch } else { spline }, separate }
        }
    }

    proptest! {
        #[test]
        fn same_shape_is_the_identity(how in resamplings(), shape in [1usize..7, 1usize..7, 1usize..40]) {
            let v = volume(shape);
            prop_assert_eq!(how.resample(&v, shape).unwrap(), v);
        }

        /// Turning the axes and resampling change places: no axis is treated in another way than the others.
        #[test]
        fn axes_are_alike(
            how in resamplings(),
            from in [1usize..40, 1usize..7, 1usize..9],
            to in [1usize..9, 1usize..40, 1usize..9],
        ) {
            let turned = |v: &Volume<f32>| {
                let [nz, ny, nx] = v.shape();
                let geometry = Geometry::ras([nx, nz, ny], [1.0; 3]);
                let at = |i: usize| v.data()[(i / ny % nz * ny + i % ny) * nx + i / (ny * nz)];
                Volume::new(geometry.clone(), (0..geometry.len()).map(at).collect()).unwrap()
            };
            let v = volume(from);
            let straight = how.resample(&v, to).unwrap();
            let how = Resampling { separate: how.separate.map(|a| (a + 1) % 3), ..how };
            let other = how.resample(&turned(&v), [to[2], to[0], to[1]]).unwrap();
            for (a, b) in turned(&straight).data().iter().zip(other.data()) {
                prop_assert!((a - b).abs() < 2e-3, "{a} and {b}");
            }
        }
    }

    #[test]
    fn impossible_settings_are_errors() {
        let v = volume([2, 3, 4]);
        let spline = |order, order_separate, separate| Resampling {
            interpolator: Interpolator::Spline { order, order_separate },
            separate,
        };
        for bad in [spline(6, 0, None), spline(3, 6, Some(0)), spline(3, 0, Some(3))] {
            assert!(matches!(
                bad.resample(&v, [4, 4, 4]),
                Err(ImageError::BadParameter { .. })
            ));
        }
        assert!(matches!(
            spline(3, 0, None).resample(&v, [4, 0, 4]),
            Err(ImageError::BadGeometry { .. })
        ));
        let huge = [1 << 19, 1 << 19, 1 << 17];
        assert!(matches!(
            spline(3, 0, None).resample(&v, huge),
            Err(ImageError::OutOfMemory { .. })
        ));
        assert!(spline(3, 0, Some(0)).axis_table(1, 3, 4).unwrap().is_none());
    }
}
