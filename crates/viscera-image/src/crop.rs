//! Cutting a box out of a volume, pasting it back, and finding the box of what matters.

use crate::{Box3, Geometry, ImageError, Volume, Voxel};
use rayon::prelude::*;

impl Box3 {
    /// Checks that the box has at least one voxel and lies inside a grid.
    ///
    /// # Errors
    /// [`ImageError::BadBox`] when it does not.
    pub fn check(&self, shape: [usize; 3]) -> Result<(), ImageError> {
        if (0..3).all(|a| self.start[a] < self.end[a] && self.end[a] <= shape[a]) {
            Ok(())
        } else {
            Err(ImageError::BadBox {
                start: self.start,
                end: self.end,
                shape,
            })
        }
    }

    /// The smallest box that holds both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            start: std::array::from_fn(|a| self.start[a].min(other.start[a])),
            end: std::array::from_fn(|a| self.end[a].max(other.end[a])),
        }
    }
}

/// The grid of a box of `source`; its voxels keep their places in the world.
///
/// # Errors
/// [`ImageError::BadBox`] when the box is empty or reaches outside.
pub fn cropped_geometry(source: &Geometry, region: &Box3) -> Result<Geometry, ImageError> {
    region.check(source.shape)?;
    Ok(Geometry {
        shape: region.shape(),
        origin: source.world_of(region.start.map(|i| i as f64)),
        ..source.clone()
    })
}

/// The part of a volume inside a box.
///
/// ```
/// use viscera_image::{crop, paste, Box3, Geometry, Volume};
/// let volume = Volume::new(Geometry::ras([1, 2, 3], [1.0; 3]), vec![1u8, 2, 3, 4, 5, 6])?;
/// let region = Box3 { start: [0, 1, 1], end: [1, 2, 3] };
/// let part = crop(&volume, &region)?;
/// assert_eq!(part.data(), [5, 6]);
/// let mut whole = Volume::filled(volume.geometry().clone(), 0u8)?;
/// paste(&part, &mut whole, &region)?;
/// assert_eq!(whole.data(), [0, 0, 0, 0, 5, 6]);
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
///
/// # Errors
/// [`ImageError::BadBox`] when the box is empty or reaches outside.
pub fn crop<T: Voxel>(volume: &Volume<T>, region: &Box3) -> Result<Volume<T>, ImageError> {
    let geometry = cropped_geometry(volume.geometry(), region)?;
    let [_, ny, nx] = geometry.shape;
    let mut data = vec![T::default(); geometry.len()];
    data.par_chunks_mut(ny * nx).enumerate().for_each(|(z, plane)| {
        for (y, row) in plane.chunks_exact_mut(nx).enumerate() {
            let at = volume.offset([region.start[0] + z, region.start[1] + y, region.start[2]]);
            row.copy_from_slice(&volume.data()[at..at + nx]);
        }
    });
    Ok(Volume::from_valid(geometry, data))
}

/// Writes `part` over the voxels of `whole` inside a box: the inverse of [`crop`].
///
/// # Errors
/// [`ImageError::BadBox`] when the box is empty or reaches outside; [`ImageError::GridMismatch`] when `part` does not lie
/// on the grid of that box.
pub fn paste<T: Voxel>(part: &Volume<T>, whole: &mut Volume<T>, region: &Box3) -> Result<(), ImageError> {
    paste_rows(part, whole, region, |to, from| to.copy_from_slice(from))
}

/// As [`paste`], but where `part` is background (the default value) `whole` stays as it is.
///
/// # Errors
/// As [`paste`].
pub fn paste_over<T: Voxel + PartialEq>(
    part: &Volume<T>,
    whole: &mut Volume<T>,
    region: &Box3,
) -> Result<(), ImageError> {
    paste_rows(part, whole, region, |to, from| {
        for (to, from) in to.iter_mut().zip(from) {
            if *from != T::default() {
                *to = *from;
            }
        }
    })
}

fn paste_rows<T: Voxel>(
    part: &Volume<T>,
    whole: &mut Volume<T>,
    region: &Box3,
    write: impl Fn(&mut [T], &[T]) + Sync,
) -> Result<(), ImageError> {
    part.geometry()
        .require_same_grid(&cropped_geometry(whole.geometry(), region)?)?;
    let [_, whole_ny, whole_nx] = whole.shape();
    let [nz, ny, nx] = part.shape();
    let planes = whole.data_mut().par_chunks_mut(whole_ny * whole_nx);
    planes
        .skip(region.start[0])
        .take(nz)
        .enumerate()
        .for_each(|(z, plane)| {
            for y in 0..ny {
                let from = (z * ny + y) * nx;
                let to = (region.start[1] + y) * whole_nx + region.start[2];
                write(&mut plane[to..to + nx], &part.data()[from..from + nx]);
            }
        });
    Ok(())
}

/// The smallest box that holds all voxels for which `inside` is true, or `None` when there are none.
///
/// With `|v| v != 0.0` it is nnU-Net's crop to what is not zero: that fills the holes of the mask first, but a hole lies
/// inside the mask's box, so the box is the same. Over several channels it is the [union](Box3::union) of their boxes. With
/// `|v| v >= threshold` it is the box of what is denser than air or fat.
pub fn bounding_box<T: Voxel>(volume: &Volume<T>, inside: impl Fn(T) -> bool + Sync) -> Option<Box3> {
    bounding_box_in(volume, &Box3::whole(volume.shape()), inside)
}

/// The smallest box that holds all voxels of a part for which `inside` is true, in voxels of the whole; `None` when there
/// are none, or the part does not fit.
pub fn bounding_box_in<T: Voxel>(volume: &Volume<T>, part: &Box3, inside: impl Fn(T) -> bool + Sync) -> Option<Box3> {
    part.check(volume.shape()).ok()?;
    let [_, ny, nx] = volume.shape();
    let planes = (part.start[0]..part.end[0]).into_par_iter();
    planes
        .filter_map(|z| {
            let mut found: Option<Box3> = None;
            for y in part.start[1]..part.end[1] {
                let row = &volume.data()[(z * ny + y) * nx..][part.start[2]..part.end[2]];
                let Some(first) = row.iter().position(|&v| inside(v)) else {
                    continue;
                };
                let last = row.iter().rposition(|&v| inside(v)).unwrap_or(first);
                let here = Box3 {
                    start: [z, y, part.start[2] + first],
                    end: [z + 1, y + 1, part.start[2] + last + 1],
                };
                found = Some(found.map_or(here, |b| b.union(&here)));
            }
            found
        })
        .reduce_with(|a, b| a.union(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn shape_and_box()(shape in [1usize..9, 1usize..9, 1usize..9])(
            shape in Just(shape),
            start in shape.map(|n| 0..n),
            reach in [0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0],
        ) -> ([usize; 3], Box3) {
            let end = std::array::from_fn(|a| start[a] + 1 + (reach[a] * (shape[a] - start[a]) as f64) as usize);
            (shape, Box3 { start, end })
        }
    }

    proptest! {
        #[test]
        fn crop_paste_and_bounding_box((shape, region) in shape_and_box()) {
            let geometry = Geometry { origin: [1.0, 2.0, 3.0], ..Geometry::ras(shape, [2.0, 0.5, 0.7]) };
            let n = geometry.len() as u32;
            let volume = Volume::new(geometry.clone(), (1..=n).collect()).unwrap();
            let part = crop(&volume, &region).unwrap();
            let last = region.shape().map(|n| n - 1);
            let parent = std::array::from_fn(|a| region.start[a] + last[a]);
            prop_assert_eq!(part.get(last), volume.get(parent));
            let (a, b) = (part.geometry().world_of(last.map(|i| i as f64)), geometry.world_of(parent.map(|i| i as f64)));
            prop_assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9));

            let mut empty = Volume::filled(geometry, 0u32).unwrap();
            paste(&part, &mut empty, &region).unwrap();
            prop_assert_eq!(bounding_box(&empty, |v| v != 0), Some(region));
            prop_assert_eq!(super::bounding_box_in(&volume, &region, |v| v != 0), Some(region));
            for (found, source) in empty.data().iter().zip(volume.data()) {
                prop_assert!(*found == 0 || found == source);
            }
            let mut whole = volume.clone();
            paste(&part, &mut whole, &region).unwrap();
            prop_assert_eq!(&whole, &volume);
            // Background of the part leaves the whole as it is.
            paste_over(&part.map(|v| v % 2), &mut whole, &region).unwrap();
            for (found, (source, pasted)) in whole.data().iter().zip(volume.data().iter().zip(empty.data())) {
                let expected = if *pasted % 2 == 1 { 1 } else { *source };
                prop_assert_eq!(*found, expected);
            }
        }
    }

    #[test]
    fn boxes_that_do_not_fit_are_errors() {
        let mut volume = Volume::filled(Geometry::ras([2, 3, 4], [1.0; 3]), 0u8).unwrap();
        for (start, end) in [
            ([0, 0, 0], [2, 3, 5]),
            ([1, 1, 1], [1, 2, 2]),
            ([1, 2, 3], [2, 1, 4]),
            ([usize::MAX, 0, 0], [usize::MAX, 1, 1]),
        ] {
            let region = Box3 { start, end };
            assert!(
                matches!(crop(&volume, &region), Err(ImageError::BadBox { .. })),
                "{region:?}"
            );
        }
        // The right shape in the wrong place.
        let part = crop(
            &volume,
            &Box3 {
                start: [0; 3],
                end: [1, 2, 2],
            },
        )
        .unwrap();
        let elsewhere = Box3 {
            start: [1, 0, 0],
            end: [2, 2, 2],
        };
        assert!(matches!(
            paste(&part, &mut volume, &elsewhere),
            Err(ImageError::GridMismatch { .. })
        ));
        assert_eq!(bounding_box(&volume, |v| v != 0), None);
    }
}
