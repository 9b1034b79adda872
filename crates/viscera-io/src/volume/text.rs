//! Headers in text, as NRRD and MetaImage have them.

use super::affine::{Affine, Matrix, straighten, usable};
use crate::{VolumeFault, Warning};
use viscera_image::Geometry;

/// Most bytes of a header: thousands of segments fit.
pub(crate) const MAX_HEADER: usize = 1 << 22;

/// A field that cannot be understood; long values are shortened.
pub(crate) fn bad_field(field: &'static str, value: &str, expected: &'static str) -> VolumeFault {
    VolumeFault::BadField {
        field,
        value: value.chars().take(80).collect(),
        expected,
    }
}

/// `N` numbers with white space between them.
pub(crate) fn numbers<const N: usize>(field: &'static str, text: &str) -> Result<[f64; N], VolumeFault> {
    let numbers: Option<Vec<f64>> = text.split_whitespace().map(|n| n.parse().ok()).collect();
    numbers
        .and_then(|n| n.try_into().ok())
        .ok_or_else(|| bad_field(field, text, "not the numbers that it must have"))
}

/// Extents of the axes, all positive.
pub(crate) fn extents(field: &'static str, text: &str) -> Result<Vec<u64>, VolumeFault> {
    let extents: Option<Vec<u64>> = text
        .split_whitespace()
        .map(|n| n.parse().ok().filter(|&n: &u64| n > 0))
        .collect();
    extents.ok_or_else(|| bad_field(field, text, "not positive whole numbers"))
}

/// The name of a data file beside a header. Other folders are out of bounds, and so are lists and numbered files.
pub(crate) fn beside(field: &'static str, name: &str) -> Result<(), VolumeFault> {
    let plain = !name.is_empty() && !name.contains(['/', '\\', '%', '\0']) && name != "..";
    if plain && !name.starts_with("LIST") {
        Ok(())
    } else {
        let expected = "but only one data file in the header's own folder is read; save the scan as one file";
        Err(bad_field(field, name, expected))
    }
}

/// A grid from the file's axes (columns i, j, k of `axes`, in mm of the file's space) and the first voxel's place;
/// `signs` turn the file's space into RAS+.
pub(crate) fn grid(
    extents: [u64; 3],
    axes: Matrix,
    origin: [f64; 3],
    signs: [f64; 3],
    warnings: &mut Vec<Warning>,
) -> Result<Geometry, VolumeFault> {
    let mut shape = [0; 3];
    for (s, e) in shape.iter_mut().zip(extents.iter().rev()) {
        *s = usize::try_from(*e).map_err(|_| VolumeFault::BadDimensions {
            dim: extents.iter().map(|&n| n as i64).collect(),
        })?;
    }
    let mut affine = Affine { axes, origin };
    for ((row, o), sign) in affine.axes.iter_mut().zip(&mut affine.origin).zip(signs) {
        row.iter_mut().for_each(|v| *v *= sign);
        *o *= sign;
    }
    straighten(&usable(affine).ok_or(VolumeFault::BadAffine)?, shape, warnings)
}
