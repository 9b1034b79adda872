//! Surfaces as files for viewers, printers and scenes: STL, OBJ, GLB. All hold millimetres in left-posterior-superior,
//! which is what 3D Slicer takes such files for, and say so where the format has room.

mod glb;
mod obj;
mod stl;

pub use glb::write_glb;
pub use obj::write_obj;
pub use stl::write_stl;

/// A closed surface of triangles.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// What it is the surface of.
    pub name: String,
    /// Its colour `[red, green, blue]`, sRGB.
    pub rgb: [u8; 3],
    /// Points `[left, posterior, superior]` in mm (LPS).
    pub vertices: Vec<[f32; 3]>,
    /// Indices of vertices, counter-clockwise as seen from outside; none is past the end of `vertices`.
    pub triangles: Vec<[u32; 3]>,
}

impl Mesh {
    /// The corners of each triangle; triangles with an index past the end are left out.
    fn corners(&self) -> impl Iterator<Item = [[f32; 3]; 3]> {
        self.triangles.iter().filter_map(|t| {
            let [a, b, c] = t.map(|i| self.vertices.get(i as usize).copied());
            Some([a?, b?, c?])
        })
    }
}

/// The normal of a triangle by the right-hand rule; its length is twice the area.
fn normal([a, b, c]: [[f32; 3]; 3]) -> [f32; 3] {
    let [ux, uy, uz] = minus(b, a);
    let [vx, vy, vz] = minus(c, a);
    [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx]
}

/// The vector of length one; zero for one without direction.
fn unit(v: [f32; 3]) -> [f32; 3] {
    let length = v.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 { v.map(|v| v / length) } else { [0.0; 3] }
}

fn minus([ax, ay, az]: [f32; 3], [bx, by, bz]: [f32; 3]) -> [f32; 3] {
    [ax - bx, ay - by, az - bz]
}
