//! Wavefront OBJ: text, one object and one material per surface.

use super::Mesh;
use crate::{IoError, atomic_write};
use std::path::Path;

/// Writes surfaces as the objects of one OBJ file, LPS in mm, and their colours as `.mtl` of the same name beside it.
/// The colours come first, so that the objects are never without them.
///
/// # Errors
/// [`IoError::Write`] when the system refuses.
pub fn write_obj(path: &Path, meshes: &[Mesh]) -> Result<(), IoError> {
    let colours = path.with_extension("mtl");
    atomic_write(&colours, |out| {
        for mesh in meshes {
            let [red, green, blue] = mesh.rgb.map(|c| f32::from(c) / 255.0);
            writeln!(
                out,
                "newmtl {}\nKd {red:.4} {green:.4} {blue:.4}\nd 1",
                word(&mesh.name)
            )?;
        }
        Ok(())
    })?;
    atomic_write(path, |out| {
        writeln!(out, "# viscera, mm\n# SPACE=LPS")?;
        if let Some(name) = colours.file_name().and_then(|n| n.to_str()) {
            writeln!(out, "mtllib {name}")?;
        }
        // Indices count from 1, through all objects.
        let mut first = 1u64;
        for mesh in meshes {
            let name = word(&mesh.name);
            writeln!(out, "o {name}\nusemtl {name}")?;
            for [x, y, z] in &mesh.vertices {
                writeln!(out, "v {x} {y} {z}")?;
            }
            for triangle in &mesh.triangles {
                let [a, b, c] = triangle.map(|i| first + u64::from(i));
                writeln!(out, "f {a} {b} {c}")?;
            }
            first += mesh.vertices.len() as u64;
        }
        Ok(())
    })
}

/// A name without white space, which would end it.
fn word(name: &str) -> String {
    name.replace(|c: char| c.is_whitespace() || c.is_control(), "_")
}
