//! Binary STL: triangles and nothing else.

use super::{Mesh, normal, unit};
use crate::{IoError, atomic_write};
use std::io;
use std::path::Path;

/// What 3D Slicer looks for in the 80 bytes at the beginning.
const COMMENT: &str = "viscera, mm, SPACE=LPS: ";

/// Writes a surface as binary STL, LPS in mm. Its name stands in the comment at the beginning, as far as there is room;
/// STL has no colours.
///
/// # Errors
/// [`IoError::Write`] when the system refuses, or for more triangles than the format can count (2³²).
pub fn write_stl(path: &Path, mesh: &Mesh) -> Result<(), IoError> {
    atomic_write(path, |out| {
        let count = u32::try_from(mesh.triangles.len()).map_err(|_| io::Error::other("too many triangles for STL"))?;
        let mut head = [b' '; 80];
        let ascii = mesh.name.bytes().map(|b| if b.is_ascii_graphic() { b } else { b'_' });
        for (h, b) in head.iter_mut().zip(COMMENT.bytes().chain(ascii)) {
            *h = b;
        }
        out.write_all(&head)?;
        out.write_all(&count.to_le_bytes())?;
        for corners in mesh.corners() {
            for number in [unit(normal(corners))].iter().chain(&corners).flatten() {
                out.write_all(&number.to_le_bytes())?;
            }
            out.write_all(&[0; 2])?;
        }
        Ok(())
    })
}
