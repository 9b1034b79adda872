//! Surfaces of organs from their masks: closed, smooth, and of the mask's volume.
//!
//! Marching cubes (Lorensen & Cline 1987) on the mask, smoothed by Taubin's filter (1995), which hardly shrinks; what is
//! missing to the mask's volume is then made up by moving all points along their normals by the same small distance.

mod cube;
mod march;
mod smooth;

use march::{Field, march};
use viscera_image::{Box3, Geometry, LabelEntry, LabelMap};
use viscera_io::Mesh;

/// Voxels are joined to cells of at most so many mm: finer steps make files many times as large, and nothing to be seen.
const CELL_MM: f64 = 1.2;

/// Part of the volume that may be lost by joining voxels; beyond it (thin or tiny organs) they are taken as they are.
const LOSS: f64 = 0.05;

/// The surface of one class, `[left, posterior, superior]` in mm; `region` is the class's box in the label map. An organ
/// at the border of the scan is closed there.
#[must_use]
pub fn surface(map: &LabelMap, region: &Box3, class: &LabelEntry) -> Mesh {
    let grid = map.geometry();
    let joined: [usize; 3] = std::array::from_fn(|a| (CELL_MM / grid.spacing[a]).floor().max(1.0) as usize);
    let mut field = Field::of_mask(map, region, class.id, joined);
    let wanted = field.voxels as f64 * grid.voxel_volume_mm3();
    let mut shape = place(march(&field), &field, grid);
    if joined != [1; 3] && (smooth::volume(&shape) - wanted).abs() > LOSS * wanted {
        field = Field::of_mask(map, region, class.id, [1; 3]);
        shape = place(march(&field), &field, grid);
    }
    let reach = 0.45 * grid.spacing.iter().fold(f64::INFINITY, |a, &b| a.min(b));
    let rough = shape.points.clone();
    smooth::taubin(&mut shape);
    if !smooth::match_volume(&mut shape, wanted, reach) {
        // Specks of single voxels, which smoothing makes too small.
        shape.points = rough;
        smooth::match_volume(&mut shape, wanted, reach);
    }
    // To LPS, which is a rotation of RAS: triangles keep their side.
    let middle = shape.middle;
    let point = |[r, a, s]: [f64; 3]| [-(r + middle[0]) as f32, -(a + middle[1]) as f32, (s + middle[2]) as f32];
    Mesh {
        name: class.name.clone(),
        rgb: class.rgb,
        vertices: shape.points.into_iter().map(point).collect(),
        triangles: shape.triangles,
    }
}

/// A surface under construction.
struct Shape {
    /// `[R, A, S]` in mm from `middle`, so that no digits are lost far from the world's origin.
    points: Vec<[f64; 3]>,
    triangles: Vec<[u32; 3]>,
    /// World point.
    middle: [f64; 3],
}

/// From cells of the field to the world; outside stays outside where the grid's axes are left-handed.
fn place(marched: march::Marched, field: &Field, grid: &Geometry) -> Shape {
    let middle = grid.world_of(field.start.map(|s| s as f64));
    let points = marched.points.iter().map(|cell| {
        let index = std::array::from_fn(|a| field.index(a, f64::from(cell[a])));
        let world = grid.world_of(index);
        std::array::from_fn(|a| world[a] - middle[a])
    });
    let points = points.collect();
    let [z, y, x] = grid.direction;
    let cross = [
        x[1] * y[2] - x[2] * y[1],
        x[2] * y[0] - x[0] * y[2],
        x[0] * y[1] - x[1] * y[0],
    ];
    let right_handed = cross.iter().zip(z).map(|(a, b)| a * b).sum::<f64>() > 0.0;
    let triangles = if right_handed {
        marched.triangles
    } else {
        marched.triangles.into_iter().map(|[a, b, c]| [a, c, b]).collect()
    };
    Shape {
        points,
        triangles,
        middle,
    }
}

#[cfg(test)]
mod tests;
