//! From voxel axes as a file has them to a [`Geometry`] with axes at right angles.
//!
//! Matrices are `m[row][column]`, rows x, y, z of the world (RAS+), columns the voxel axes i, j, k, i fastest.

use crate::{VolumeFault, Warning};
use viscera_image::Geometry;

pub(crate) type Matrix = [[f64; 3]; 3];

/// Columns for the voxel axes i, j, k in mm, and the place of the first voxel.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) axes: Matrix,
    pub(crate) origin: [f64; 3],
}

/// Axes nearer to a right angle than this (as a cosine) are straightened without a word: rounding of the header.
const SKEW_TOLERANCE: f64 = 1e-4;

/// Volume of the unit axes' parallelepiped below which they do not span space.
const MIN_SPAN: f64 = 1e-3;

/// The affine, unless its axes are not finite or do not span space.
pub(crate) fn usable(affine: Affine) -> Option<Affine> {
    let norms = column_norms(&affine.axes);
    let finite = affine.origin.iter().chain(&norms).all(|v| v.is_finite());
    let span = determinant(&scaled_columns(&affine.axes, norms.map(f64::recip)));
    (finite && norms.iter().all(|n| *n > 0.0) && span.abs() > MIN_SPAN).then_some(affine)
}

/// Spacing is the length of the axes; directions are the orthonormal axes nearest to theirs (the polar factor). The
/// first voxel stays where it is.
pub(crate) fn straighten(
    affine: &Affine,
    shape: [usize; 3],
    warnings: &mut Vec<Warning>,
) -> Result<Geometry, VolumeFault> {
    let norms = column_norms(&affine.axes);
    let unit = scaled_columns(&affine.axes, norms.map(f64::recip));
    let cosine = |a: usize, b: usize| (0..3).map(|r| unit[r][a] * unit[r][b]).sum::<f64>().abs();
    let skew = cosine(0, 1).max(cosine(0, 2)).max(cosine(1, 2));
    if skew > SKEW_TOLERANCE {
        warnings.push(Warning::SkewedAxes {
            degrees: skew.min(1.0).asin().to_degrees(),
        });
    }
    let straight = nearest_orthogonal(&unit).ok_or(VolumeFault::BadAffine)?;
    Ok(Geometry {
        shape,
        spacing: [norms[2], norms[1], norms[0]],
        origin: affine.origin,
        direction: std::array::from_fn(|axis| std::array::from_fn(|r| straight[r][2 - axis])),
    })
}

/// Lengths of the columns.
pub(crate) fn column_norms(m: &Matrix) -> [f64; 3] {
    std::array::from_fn(|c| m.iter().map(|row| row[c] * row[c]).sum::<f64>().sqrt())
}

/// Each column times a number.
pub(crate) fn scaled_columns(m: &Matrix, by: [f64; 3]) -> Matrix {
    m.map(|row| std::array::from_fn(|c| row[c] * by[c]))
}

/// The determinant.
pub(crate) fn determinant(m: &Matrix) -> f64 {
    (0..3).map(|c| m[0][c] * cofactor(m, 0, c)).sum()
}

/// Signed minor of an element; cyclic indices carry the sign.
fn cofactor(m: &Matrix, r: usize, c: usize) -> f64 {
    let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
    m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
}

/// The orthogonal factor of the polar decomposition, of the same handedness: Newton's iteration
/// X ← (X + X⁻ᵀ) / 2 (Higham 1986). `None` when it does not settle, which a matrix that spans space never causes.
pub(crate) fn nearest_orthogonal(m: &Matrix) -> Option<Matrix> {
    let mut x = *m;
    for _ in 0..60 {
        let det = determinant(&x);
        let next: Matrix = std::array::from_fn(|r| std::array::from_fn(|c| 0.5 * (x[r][c] + cofactor(&x, r, c) / det)));
        let step = (0..9)
            .map(|i| (next[i / 3][i % 3] - x[i / 3][i % 3]).abs())
            .fold(0.0, f64::max);
        x = next;
        if step < 1e-15 {
            break;
        }
    }
    let gram = |a: usize, b: usize| (0..3).map(|r| x[r][a] * x[r][b]).sum::<f64>();
    (0..9)
        .all(|i| (gram(i / 3, i % 3) - f64::from(u8::from(i / 3 == i % 3))).abs() < 1e-9)
        .then_some(x)
}
