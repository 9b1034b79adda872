//! Area of the surface at a grid corner, by the pattern of the eight voxels around it.
//!
//! A pattern is a code of eight bits, one per voxel of the 2×2×2 neighbourhood; the first axis varies slowest, and the
//! first voxel has the bit 128. The surface is the polygon of marching cubes through the mid-points of those edges
//! between neighbouring voxels that it cuts. The areas are those of DeepMind's `surface-distance`; the table is built
//! here from its geometry:
//! * A code with more than four voxels inside has the surface of its complement.
//! * On each face of the cube the two cut edges are joined; of four cut edges, those beside the same inside voxel.
//! * The joins chain to closed loops. Each loop is cut into a fan of triangles from the vertex that gives the largest
//!   area at unit spacing.

use std::array;

/// A point in the cube of voxel centres, in halves of its edge: 0, 1 or 2 per axis.
type Point = [i8; 3];
/// Twice the area vector of a triangle, in the same halves: an integer, so that nothing is rounded.
type Normal = [i32; 3];

/// Surface area in mm² per code, for voxels of this spacing in mm.
pub(super) fn areas(spacing: [f64; 3]) -> [f64; 256] {
    let [a, b, c] = spacing;
    let scale = [b * c, a * c, a * b];
    array::from_fn(|code| {
        triangles(code as u8)
            .iter()
            .map(|normal| length(array::from_fn(|axis| f64::from(normal[axis]) / 8.0 * scale[axis])))
            .sum()
    })
}

fn length(v: [f64; 3]) -> f64 {
    (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()
}

/// Whether the voxel at a corner of the cube is inside.
fn inside(code: u8, corner: Point) -> bool {
    let index = corner.iter().fold(0, |index, &c| 2 * index + u8::from(c > 0));
    code >> (7 - index) & 1 == 1
}

/// The triangles of a code's surface.
fn triangles(code: u8) -> Vec<Normal> {
    let code = if code.count_ones() > 4 { !code } else { code };
    loops(segments(code)).iter().flat_map(|points| fan(points)).collect()
}

/// The lines in which the surface meets the six faces.
fn segments(code: u8) -> Vec<[Point; 2]> {
    let mut segments = Vec::new();
    for axis in 0..3 {
        for side in [0, 2] {
            let corners = [[0, 0], [0, 2], [2, 2], [2, 0]].map(|[u, v]| {
                let mut corner = [side; 3];
                corner[(axis + 1) % 3] = u;
                corner[(axis + 2) % 3] = v;
                corner
            });
            let is_inside = corners.map(|corner| inside(code, corner));
            // Edge i joins the corners i and i + 1.
            let middle = |i: usize| array::from_fn(|a| (corners[i % 4][a] + corners[(i + 1) % 4][a]) / 2);
            let cut: Vec<usize> = (0..4).filter(|&i| is_inside[i] != is_inside[(i + 1) % 4]).collect();
            match cut[..] {
                [a, b] => segments.push([middle(a), middle(b)]),
                [_, _, _, _] => {
                    let isolated = (0..4).filter(|&i| is_inside[i]);
                    segments.extend(isolated.map(|i| [middle(i + 3), middle(i)]));
                }
                _ => {}
            }
        }
    }
    segments
}

/// Chains segments to closed loops. Each point belongs to two segments, as each edge belongs to two faces.
fn loops(mut segments: Vec<[Point; 2]>) -> Vec<Vec<Point>> {
    let mut loops = Vec::new();
    while let Some([first, mut last]) = segments.pop() {
        let mut points = vec![first];
        while last != first {
            points.push(last);
            let Some(at) = segments.iter().position(|segment| segment.contains(&last)) else {
                break;
            };
            let [a, b] = segments.swap_remove(at);
            last = if a == last { b } else { a };
        }
        loops.push(points);
    }
    loops
}

/// The fan of triangles with the largest area.
fn fan(points: &[Point]) -> Vec<Normal> {
    let from = |apex: usize| -> Vec<Normal> {
        let at = |i: usize| points[(apex + i) % points.len()];
        (1..points.len().saturating_sub(1))
            .map(|i| cross(at(0), at(i), at(i + 1)))
            .collect()
    };
    let area = |fan: &[Normal]| fan.iter().map(|n| length(n.map(f64::from))).sum::<f64>();
    let mut best = from(0);
    for apex in 1..points.len() {
        let fan = from(apex);
        if area(&fan) > area(&best) + 1e-9 {
            best = fan;
        }
    }
    best
}

fn cross(a: Point, b: Point, c: Point) -> Normal {
    let u: Normal = array::from_fn(|i| i32::from(b[i] - a[i]));
    let v: Normal = array::from_fn(|i| i32::from(c[i] - a[i]));
    array::from_fn(|i| u[(i + 1) % 3] * v[(i + 2) % 3] - u[(i + 2) % 3] * v[(i + 1) % 3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

    #[test]
    fn thirteen_unit_areas() {
        let mut found = areas([1.0; 3]).to_vec();
        found.sort_by(f64::total_cmp);
        found.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
        let expected = [
            0.0,
            0.2165,
            0.4330,
            0.6495,
            FRAC_1_SQRT_2,
            0.8660,
            0.9236,
            1.0,
            1.1495,
            1.2990,
            1.3660,
            SQRT_2,
            1.5731,
        ];
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 5e-5, "{found} for {expected}");
        }
    }

    #[test]
    fn a_pattern_and_its_complement_have_one_surface() {
        let areas = areas([0.7, 1.3, 5.0]);
        for code in 0..=255_usize {
            assert_eq!(areas[code], areas[255 - code], "{code}");
        }
        assert_eq!([areas[0], areas[255]], [0.0, 0.0]);
    }

    #[test]
    fn flat_faces_have_the_area_of_a_voxel_side() {
        // The four voxels of the first half along each axis.
        let areas = areas([0.7, 1.3, 5.0]);
        for (code, area) in [
            (0b1111_0000, 1.3 * 5.0),
            (0b1100_1100, 0.7 * 5.0),
            (0b1010_1010, 0.7 * 1.3),
        ] {
            assert!((areas[code] - area).abs() < 1e-12);
        }
    }
}
