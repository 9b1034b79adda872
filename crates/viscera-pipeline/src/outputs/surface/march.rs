//! Marching cubes over the share of each cell that a class fills.

use super::cube::{Edge, table};
use viscera_image::{Box3, LabelMap};

/// How much of each cell a class fills, with one empty cell all around.
pub(super) struct Field {
    /// 0 to 1, `[z, y, x]`, x fastest.
    values: Vec<f32>,
    shape: [usize; 3],
    /// First voxel of the class's box.
    pub(super) start: [usize; 3],
    /// Voxels per cell along `[z, y, x]`.
    joined: [usize; 3],
    /// The class's voxels.
    pub(super) voxels: u64,
}

impl Field {
    /// Counts the voxels of class `id` in a box, `joined` of them per cell and axis.
    pub(super) fn of_mask(map: &LabelMap, region: &Box3, id: u8, joined: [usize; 3]) -> Self {
        let extent = region.shape();
        let shape: [usize; 3] = std::array::from_fn(|a| extent[a].div_ceil(joined[a]) + 2);
        let [_, ny, nx] = shape;
        let mut values = vec![0f32; shape.iter().product()];
        let share = 1.0 / joined.iter().product::<usize>() as f32;
        let mut voxels = 0;
        for z in 0..extent[0] {
            for y in 0..extent[1] {
                let from = map.offset([region.start[0] + z, region.start[1] + y, region.start[2]]);
                let row = &map.data()[from..from + extent[2]];
                let to = ((z / joined[0] + 1) * ny + y / joined[1] + 1) * nx + 1;
                for (cell, part) in values[to..].iter_mut().zip(row.chunks(joined[2])) {
                    let found = part.iter().filter(|v| **v == id).count();
                    voxels += found as u64;
                    *cell += found as f32 * share;
                }
            }
        }
        Self {
            values,
            shape,
            start: region.start,
            joined,
            voxels,
        }
    }

    /// Index in the label map, along an axis, of a place given in cells.
    pub(super) fn index(&self, axis: usize, cell: f64) -> f64 {
        let joined = self.joined[axis] as f64;
        self.start[axis] as f64 + (cell - 1.0) * joined + 0.5 * (joined - 1.0)
    }
}

/// A surface in cells `[z, y, x]`.
pub(super) struct Marched {
    pub(super) points: Vec<[f32; 3]>,
    pub(super) triangles: Vec<[u32; 3]>,
}

/// A share that counts as inside.
const LEVEL: f32 = 0.5;

/// No point yet.
const NONE: u32 = u32::MAX;

/// The surface at half-filled cells, counter-clockwise as seen from outside where z × y × x is right-handed as x, y, z.
pub(super) fn march(field: &Field) -> Marched {
    let table = table();
    let [nz, ny, nx] = field.shape;
    let plane = ny * nx;
    let mut out = Marched {
        points: Vec::new(),
        triangles: Vec::new(),
    };
    // Points on the edges that begin in a plane: along x and y in two planes, along z between them.
    let mut known = [vec![NONE; 3 * plane], vec![NONE; 3 * plane]];
    for z in 0..nz - 1 {
        for y in 0..ny - 1 {
            let at = z * plane + y * nx;
            for x in 0..nx - 1 {
                let offset = |c: usize| (c >> 2 & 1) * plane + (c >> 1 & 1) * nx + (c & 1);
                let cell = (0..8).fold(0, |cell, c| {
                    cell | usize::from(field.values[at + x + offset(c)] >= LEVEL) << c
                });
                for line in &table[cell] {
                    let mut corners = Vec::with_capacity(line.edges.len());
                    for &edge in &line.edges {
                        let [ez, ey, ex] = begin(edge, [z, y, x]);
                        let slot = &mut known[ez - z][3 * (ey * nx + ex) + usize::from(edge.axis)];
                        if *slot == NONE {
                            *slot = out.points.len() as u32;
                            out.points.push(crossing(field, [ez, ey, ex], edge.axis));
                        }
                        corners.push(*slot);
                    }
                    out.close(&corners, line.from_middle);
                }
            }
        }
        let [lower, upper] = &mut known;
        std::mem::swap(lower, upper);
        upper.fill(NONE);
    }
    out
}

/// The grid point at which an edge of a cell begins.
fn begin(edge: Edge, [z, y, x]: [usize; 3]) -> [usize; 3] {
    let c = usize::from(edge.corner);
    [z + (c >> 2 & 1), y + (c >> 1 & 1), x + (c & 1)]
}

/// Where the share crosses the level along an edge; never at its very ends, where several edges meet.
fn crossing(field: &Field, from: [usize; 3], axis: u8) -> [f32; 3] {
    let [_, ny, nx] = field.shape;
    let at = (from[0] * ny + from[1]) * nx + from[2];
    let (step, axis) = match axis {
        0 => (1, 2),
        1 => (nx, 1),
        _ => (ny * nx, 0),
    };
    let (a, b) = (field.values[at], field.values[at + step]);
    let t = ((LEVEL - a) / (b - a)).clamp(0.05, 0.95);
    let mut point = from.map(|v| v as f32);
    point[axis] += t;
    point
}

impl Marched {
    /// Fills a loop with triangles.
    fn close(&mut self, corners: &[u32], from_middle: bool) {
        if from_middle {
            let n = corners.len() as f32;
            let mut middle = [0.0; 3];
            for &c in corners {
                let point = self.points[c as usize];
                middle.iter_mut().zip(point).for_each(|(m, p)| *m += p / n);
            }
            let m = self.points.len() as u32;
            self.points.push(middle);
            for (i, &c) in corners.iter().enumerate() {
                self.triangles.push([m, c, corners[(i + 1) % corners.len()]]);
            }
        } else {
            for pair in corners[1..].windows(2) {
                self.triangles.push([corners[0], pair[0], pair[1]]);
            }
        }
    }
}
