//! From a header's two forms and spacing to a [`Geometry`], and back.
//!
//! Checked against nibabel: `get_best_affine` for the choice of the form, `get_base_affine` where there is none, and the
//! polar decomposition of `set_qform` for skewed axes.

use super::header::{NiftiVersion, SourceHeader};
use crate::volume::affine::{Affine, Matrix, column_norms, determinant, scaled_columns, straighten, usable};
use crate::{VolumeFault, Warning};
use viscera_image::Geometry;

/// The grid of a header, with what was odd about it.
pub(super) fn geometry_of(header: &SourceHeader, warnings: &mut Vec<Warning>) -> Result<Geometry, VolumeFault> {
    let (unit, mm) = match header.xyzt_units & 7 {
        1 => (Some("metres"), 1000.0),
        3 => (Some("micrometres"), 0.001),
        _ => (None, 1.0), // mm, or unknown: then mm by custom
    };
    warnings.extend(unit.map(|unit| Warning::UnitsConverted { unit }));
    let [_, x, y, z, ..] = header.pixdim.map(|p| p * mm);
    if [x, y, z].iter().any(|p| *p == 0.0 || !p.is_finite()) {
        return Err(VolumeFault::BadSpacing { spacing: [x, y, z] });
    }
    if [x, y, z].iter().any(|p| *p < 0.0) {
        warnings.push(Warning::NegativeSpacing);
    }
    let pixdim = [x.abs(), y.abs(), z.abs()];

    let sform = (header.sform_code > 0).then(|| sform(header, mm));
    let qform = (header.qform_code > 0).then(|| qform(header, pixdim, mm));
    if sform.is_some_and(|s| s.is_none()) {
        warnings.push(Warning::UnusableSform);
    }
    if qform.is_some_and(|q| q.is_none()) {
        warnings.push(Warning::UnusableQform);
    }
    let affine = match (sform.flatten(), qform.flatten()) {
        (Some(s), Some(q)) => {
            let distance_mm = greatest_distance(&s, &q, header.shape);
            if distance_mm > 0.5 * pixdim.iter().fold(f64::INFINITY, |a, &b| a.min(b)) {
                warnings.push(Warning::FormsDisagree { distance_mm });
            }
            s
        }
        (Some(form), None) | (None, Some(form)) => form,
        (None, None) if header.sform_code > 0 || header.qform_code > 0 => return Err(VolumeFault::BadAffine),
        (None, None) => {
            warnings.push(Warning::NoOrientation);
            base(header.shape, pixdim)
        }
    };
    let [i, j, k] = column_norms(&affine.axes);
    if [i, j, k]
        .iter()
        .zip(pixdim)
        .any(|(norm, p)| (norm - p).abs() > 0.01 * p)
    {
        warnings.push(Warning::SpacingsDisagree {
            sform: [k, j, i],
            pixdim: [z.abs(), y.abs(), x.abs()],
        });
    }
    straighten(&affine, header.shape, warnings)
}

/// The sform, unless its axes do not span space.
fn sform(header: &SourceHeader, mm: f64) -> Option<Affine> {
    let affine = Affine {
        axes: header.srow.map(|[i, j, k, _]| [i * mm, j * mm, k * mm]),
        origin: header.srow.map(|row| row[3] * mm),
    };
    usable(affine)
}

/// The qform (the standard's method 2), unless its quaternion is none.
fn qform(header: &SourceHeader, pixdim: [f64; 3], mm: f64) -> Option<Affine> {
    let [mut b, mut c, mut d] = header.quatern;
    let square = b * b + c * c + d * d;
    // `f32` headers overshoot length one a little.
    if square.is_nan() || square > 1.001 {
        return None;
    }
    // The first component is what is missing to length one.
    let a = (1.0 - square).max(0.0).sqrt();
    if square > 1.0 {
        [b, c, d] = [b, c, d].map(|q| q / square.sqrt());
    }
    let rotation = rotation([a, b, c, d]);
    let qfac = if header.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let scale = [pixdim[0], pixdim[1], pixdim[2] * qfac];
    usable(Affine {
        axes: rotation.map(|row| std::array::from_fn(|c| row[c] * scale[c])),
        origin: header.qoffset.map(|o| o * mm),
    })
}

/// The rotation of a unit quaternion.
fn rotation([a, b, c, d]: [f64; 4]) -> Matrix {
    [
        [
            a * a + b * b - c * c - d * d,
            2.0 * (b * c - a * d),
            2.0 * (b * d + a * c),
        ],
        [
            2.0 * (b * c + a * d),
            a * a + c * c - b * b - d * d,
            2.0 * (c * d - a * b),
        ],
        [
            2.0 * (b * d - a * c),
            2.0 * (c * d + a * b),
            a * a + d * d - b * b - c * c,
        ],
    ]
}

/// Spacing only: nibabel's choice, x to the left, and the grid's centre at the world's.
fn base(shape: [usize; 3], pixdim: [f64; 3]) -> Affine {
    let scale = [-pixdim[0], pixdim[1], pixdim[2]];
    let mut axes = [[0.0; 3]; 3];
    for c in 0..3 {
        axes[c][c] = scale[c];
    }
    Affine {
        axes,
        origin: std::array::from_fn(|c| -0.5 * (shape[2 - c] as f64 - 1.0) * scale[c]),
    }
}

/// Greatest distance between the places that two affines give a corner of the grid.
fn greatest_distance(a: &Affine, b: &Affine, shape: [usize; 3]) -> f64 {
    let place = |m: &Affine, ijk: [f64; 3]| -> [f64; 3] {
        std::array::from_fn(|r| m.origin[r] + (0..3).map(|c| m.axes[r][c] * ijk[c]).sum::<f64>())
    };
    (0..8)
        .map(|corner| {
            let ijk = std::array::from_fn(|c| {
                if corner >> c & 1 == 1 {
                    shape[2 - c] as f64 - 1.0
                } else {
                    0.0
                }
            });
            let (p, q) = (place(a, ijk), place(b, ijk));
            (0..3).map(|r| (p[r] - q[r]).powi(2)).sum::<f64>().sqrt()
        })
        .fold(0.0, f64::max)
}

/// [`SourceHeader::from_geometry`].
pub(super) fn header_of(geometry: &Geometry) -> SourceHeader {
    let [sz, sy, sx] = geometry.spacing;
    // Column c of the rotation is the direction of i, j or k.
    let rotation: Matrix = std::array::from_fn(|r| std::array::from_fn(|c| geometry.direction[2 - c][r]));
    let qfac = if determinant(&rotation) < 0.0 { -1.0 } else { 1.0 };
    let quatern = quaternion(&scaled_columns(&rotation, [1.0, 1.0, qfac]));
    let fits_one = geometry.shape.iter().all(|&n| i16::try_from(n).is_ok());
    SourceHeader {
        version: if fits_one { NiftiVersion::One } else { NiftiVersion::Two },
        shape: geometry.shape,
        pixdim: [qfac, sx, sy, sz, 1.0, 1.0, 1.0, 1.0],
        xyzt_units: 2,
        qform_code: 1,
        sform_code: 1,
        quatern,
        qoffset: geometry.origin,
        srow: std::array::from_fn(|r| {
            let [i, j, k] = rotation[r];
            [i * sx, j * sy, k * sz, geometry.origin[r]]
        }),
        descrip: String::new(),
    }
}

/// `b, c, d` of the unit quaternion (a ≥ 0) of a rotation, by the largest of its four components (Shepperd 1978).
fn quaternion(m: &Matrix) -> [f64; 3] {
    let [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = *m;
    let squares = [
        1.0 + xx + yy + zz,
        1.0 + xx - yy - zz,
        1.0 - xx + yy - zz,
        1.0 - xx - yy + zz,
    ];
    // Row n of the symmetric matrix 4·q·qᵀ, whose diagonal is `squares`.
    let products = [
        [squares[0], zy - yz, xz - zx, yx - xy],
        [zy - yz, squares[1], yx + xy, xz + zx],
        [xz - zx, yx + xy, squares[2], zy + yz],
        [yx - xy, xz + zx, zy + yz, squares[3]],
    ];
    let largest = (0..4).fold(0, |best, n| if squares[n] > squares[best] { n } else { best });
    let root = squares[largest].sqrt();
    let sign = if products[largest][0] < 0.0 { -1.0 } else { 1.0 };
    std::array::from_fn(|n| sign * products[largest][n + 1] / (2.0 * root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::affine::nearest_orthogonal;
    use proptest::prelude::*;

    fn rotation_from(q: [f64; 4]) -> Matrix {
        let n = q.iter().map(|v| v * v).sum::<f64>().sqrt();
        rotation(q.map(|v| v / n))
    }

    proptest! {
        /// Any grid, right- or left-handed, comes back through the sform and through the qform.
        #[test]
        fn grids_survive_either_form(
            q in prop::array::uniform4(-1.0f64..1.0),
            flip in any::<bool>(),
            spacing in prop::array::uniform3(0.3f64..6.0),
            origin in prop::array::uniform3(-900.0f64..900.0),
            by_qform in any::<bool>(),
        ) {
            prop_assume!(q.iter().map(|v| v * v).sum::<f64>() > 0.01);
            let m = rotation_from(q);
            let sign = if flip { -1.0 } else { 1.0 };
            let geometry = Geometry {
                shape: [40, 50, 60],
                spacing,
                origin,
                direction: std::array::from_fn(|axis| std::array::from_fn(|r| m[r][2 - axis] * if axis == 1 { sign } else { 1.0 })),
            };
            let mut header = header_of(&geometry);
            if by_qform {
                header.sform_code = 0;
            }
            let mut warnings = Vec::new();
            let back = geometry_of(&header, &mut warnings).expect("a good header");
            prop_assert!(warnings.is_empty(), "{warnings:?}");
            prop_assert!(back.same_grid(&geometry, 1e-6), "{back:?} {geometry:?}");
        }

        /// The polar factor P of M = P·S leaves a symmetric S = Pᵀ·M.
        #[test]
        fn the_straight_axes_are_the_polar_factor(
            q in prop::array::uniform4(-1.0f64..1.0), shear in prop::array::uniform3(-0.4f64..0.4)
        ) {
            prop_assume!(q.iter().map(|v| v * v).sum::<f64>() > 0.01);
            let r = rotation_from(q);
            let m: Matrix = r.map(|row| [row[0], row[1] + shear[0] * row[0], row[2] + shear[1] * row[0] + shear[2] * row[1]]);
            let p = nearest_orthogonal(&m).expect("spans space");
            let s = |a: usize, b: usize| (0..3).map(|k| p[k][a] * m[k][b]).sum::<f64>();
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                prop_assert!((s(a, b) - s(b, a)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn forms_that_cannot_be_used_give_way() {
        let geometry = Geometry::ras([4, 5, 6], [2.0, 1.0, 1.5]);
        let mut header = header_of(&geometry);
        header.srow = [[0.0; 4]; 3];
        let mut warnings = Vec::new();
        let back = geometry_of(&header, &mut warnings).expect("the qform is left");
        assert!(back.same_grid(&geometry, 1e-9));
        assert_eq!(warnings, [Warning::UnusableSform]);
        header.quatern = [2.0, 0.0, 0.0];
        assert_eq!(geometry_of(&header, &mut Vec::new()), Err(VolumeFault::BadAffine));
        header.sform_code = 0;
        header.quatern = [f64::NAN, 0.0, 0.0];
        assert_eq!(geometry_of(&header, &mut Vec::new()), Err(VolumeFault::BadAffine));
    }

    #[test]
    fn other_units_become_mm() {
        for (code, factor) in [(1u8, 1e-3), (3, 1e3), (1 | 8, 1e-3)] {
            let geometry = Geometry {
                origin: [-10.0, 20.0, 30.0],
                ..Geometry::ras([4, 5, 6], [2.0, 1.0, 1.5])
            };
            let mut header = header_of(&geometry);
            header.xyzt_units = code;
            header.pixdim[1..4].iter_mut().for_each(|p| *p *= factor);
            header.qoffset.iter_mut().for_each(|p| *p *= factor);
            header.srow.iter_mut().flatten().for_each(|p| *p *= factor);
            let mut warnings = Vec::new();
            assert!(
                geometry_of(&header, &mut warnings)
                    .expect("good")
                    .same_grid(&geometry, 1e-9)
            );
            assert!(matches!(warnings[..], [Warning::UnitsConverted { .. }]));
        }
    }

    #[test]
    fn spacing_that_is_none_is_refused() {
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            let mut header = header_of(&Geometry::ras([4, 5, 6], [2.0, 1.0, 1.5]));
            header.pixdim[2] = bad;
            let refused = geometry_of(&header, &mut Vec::new());
            assert!(matches!(refused, Err(VolumeFault::BadSpacing { .. })));
        }
    }
}
