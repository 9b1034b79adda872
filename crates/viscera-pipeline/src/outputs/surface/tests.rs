use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use viscera_image::{Volume, label_boxes};

fn class() -> LabelEntry {
    LabelEntry {
        id: 3,
        name: "organ".to_owned(),
        rgb: [1, 2, 3],
    }
}

fn mesh(map: &LabelMap) -> Mesh {
    let region = label_boxes(map)[3].expect("the class is there");
    surface(map, &region, &class())
}

/// Every edge is walked exactly once in either direction: closed, no sheet touches another along an edge, and one side
/// is outside everywhere.
fn watertight(mesh: &Mesh) -> bool {
    let mut walks: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for &[a, b, c] in &mesh.triangles {
        for edge in [(a, b), (b, c), (c, a)] {
            *walks.entry(edge).or_default() += 1;
        }
    }
    walks
        .iter()
        .all(|(&(a, b), &n)| n == 1 && walks.get(&(b, a)) == Some(&1))
}

/// Positive where triangles look outwards.
fn volume(mesh: &Mesh) -> f64 {
    let first = mesh.vertices[0];
    let at = |i: u32| -> [f64; 3] { std::array::from_fn(|a| f64::from(mesh.vertices[i as usize][a] - first[a])) };
    let six: f64 = mesh
        .triangles
        .iter()
        .map(|&[a, b, c]| {
            let ([ax, ay, az], [bx, by, bz], [cx, cy, cz]) = (at(a), at(b), at(c));
            ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
        })
        .sum();
    six / 6.0
}

fn oblique(shape: [usize; 3], spacing: [f64; 3], left_handed: bool) -> Geometry {
    let (s, c) = (0.6, 0.8);
    let sign = if left_handed { -1.0 } else { 1.0 };
    Geometry {
        spacing,
        origin: [-120.5, 333.25, 900.0],
        direction: [[0.0, -s, c], [0.0, c, s], [-sign, 0.0, 0.0]],
        ..Geometry::ras(shape, [1.0; 3])
    }
}

/// An ellipsoid with a dent, off the middle.
fn organ(grid: Geometry) -> LabelMap {
    let [nz, ny, nx] = grid.shape;
    let mut map = Volume::filled(grid, 0u8).unwrap();
    for z in 0..nz {
        for y in 0..ny {
            for x in 0..nx {
                let d = |v: usize, n: usize, at: f64, r: f64| ((v as f64 / n as f64 - at) / r).powi(2);
                let inside = d(z, nz, 0.5, 0.4) + d(y, ny, 0.45, 0.35) + d(x, nx, 0.5, 0.45) < 1.0;
                let dent = d(z, nz, 0.5, 0.2) + d(y, ny, 0.8, 0.3) + d(x, nx, 0.5, 0.2) < 1.0;
                let at = map.offset([z, y, x]);
                map.data_mut()[at] = if inside && !dent { 3 } else { 1 };
            }
        }
    }
    map
}

#[test]
fn volume_and_place_are_the_masks_on_any_grid() {
    for left_handed in [false, true] {
        for (shape, spacing) in [
            ([30, 40, 44], [2.0, 1.5, 1.5]),
            // Joined voxels along y and x, thick slices.
            ([20, 90, 90], [5.0, 0.5, 0.55]),
        ] {
            let map = organ(oblique(shape, spacing, left_handed));
            let mesh = mesh(&map);
            assert!(watertight(&mesh));
            let grid = map.geometry();
            let voxels = map.data().iter().filter(|v| **v == 3).count() as f64;
            let ratio = volume(&mesh) / (voxels * grid.voxel_volume_mm3());
            assert!((ratio - 1.0).abs() < 0.002, "{ratio}");
            // Bounds in LPS: those of the voxels' centres, grown by half a voxel at most.
            let mut bounds = [[f64::INFINITY, f64::NEG_INFINITY]; 3];
            for (i, _) in map.data().iter().enumerate().filter(|(_, v)| **v == 3) {
                let [_, ny, nx] = grid.shape;
                let [r, a, s] = grid.world_of([i / nx / ny, i / nx % ny, i % nx].map(|v| v as f64));
                for (b, p) in bounds.iter_mut().zip([-r, -a, s]) {
                    *b = [b[0].min(p), b[1].max(p)];
                }
            }
            for (axis, [low, high]) in bounds.into_iter().enumerate() {
                let reach = 0.75 * spacing[0].max(spacing[1]);
                let of = |pick: fn(f32, f32) -> f32| {
                    mesh.vertices
                        .iter()
                        .map(|v| v[axis])
                        .reduce(pick)
                        .map(f64::from)
                        .unwrap()
                };
                assert!((of(f32::min) - low).abs() < reach && (of(f32::max) - high).abs() < reach);
            }
        }
    }
}

#[test]
fn a_ball_is_round_again() {
    let grid = Geometry::ras([40, 40, 40], [1.5; 3]);
    let mut map = Volume::filled(grid, 0u8).unwrap();
    let radius = 21.0;
    for i in 0..map.data().len() {
        let at = [i / 1600, i / 40 % 40, i % 40];
        let square: f64 = at.iter().map(|&v| ((v as f64 - 19.5) * 1.5).powi(2)).sum();
        map.data_mut()[i] = if square < radius * radius { 3 } else { 0 };
    }
    let mesh = mesh(&map);
    let middle = [-29.25f32, -29.25, 29.25];
    let worst = mesh.vertices.iter().map(|v| {
        let square: f32 = v.iter().zip(middle).map(|(a, b)| (a - b).powi(2)).sum();
        (f64::from(square.sqrt()) - radius).abs()
    });
    // Staircases of 1.5 mm are gone.
    let worst = worst.fold(0.0, f64::max);
    assert!(worst < 0.5, "{worst}");
}

#[test]
fn a_single_voxel_and_one_at_the_border_have_a_surface() {
    let mut map = Volume::filled(Geometry::ras([3, 4, 5], [0.5, 0.5, 0.5]), 0u8).unwrap();
    map.data_mut()[0] = 3;
    let one = mesh(&map);
    assert!(watertight(&one));
    assert!((volume(&one) / 0.125 - 1.0).abs() < 0.02, "{}", volume(&one));
    map.data_mut().fill(3);
    let all = mesh(&map);
    assert!(watertight(&all) && (volume(&all) / 7.5 - 1.0).abs() < 0.02);
}

proptest! {
    /// Noise has every cell there is, and cells that touch at corners and edges.
    #[test]
    fn any_mask_has_a_closed_surface(
        voxels in prop::collection::vec(prop::sample::select(vec![0u8, 3, 4]), 6 * 5 * 7), fine in any::<bool>()
    ) {
        prop_assume!(voxels.contains(&3));
        let spacing = if fine { 0.5 } else { 2.0 };
        let map = Volume::new(oblique([6, 5, 7], [spacing; 3], fine), voxels).unwrap();
        let mesh = mesh(&map);
        prop_assert!(watertight(&mesh));
        prop_assert!(volume(&mesh) > 0.0);
    }
}
