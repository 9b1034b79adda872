//! The header's text.

use crate::volume::Voxels;
use std::fmt::Write;
use viscera_image::Geometry;

/// All that stands before the compressed voxels: the fields, `pairs` of keys and values, and the empty line. The space
/// is left-posterior-superior, as 3D Slicer and ITK write it.
pub(crate) fn encode(geometry: &Geometry, voxels: Voxels<'_>, pairs: &[(String, String)]) -> Vec<u8> {
    let kind = match voxels {
        Voxels::U8(_) => "unsigned char",
        Voxels::I16(_) => "short",
        Voxels::F32(_) => "float",
    };
    let [nz, ny, nx] = geometry.shape;
    let [dz, dy, dx] = geometry.direction;
    let [sz, sy, sx] = geometry.spacing;
    let directions = [(dx, sx), (dy, sy), (dz, sz)].map(|(d, s)| vector(d.map(|v| v * s)));
    let mut text = format!(
        "NRRD0004\n# Complete NRRD file format specification at:\n# http://teem.sourceforge.net/nrrd/format.html\n\
         type: {kind}\ndimension: 3\nspace: left-posterior-superior\nsizes: {nx} {ny} {nz}\nspace directions: {}\n\
         kinds: domain domain domain\n",
        directions.join(" ")
    );
    if !matches!(voxels, Voxels::U8(_)) {
        text.push_str("endian: little\n");
    }
    text.push_str("encoding: gzip\nspace origin: ");
    text.push_str(&vector(geometry.origin));
    text.push('\n');
    for (key, value) in pairs {
        // Line ends would end the pair.
        let value = value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', " ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}:={value}");
    }
    text.push('\n');
    text.into_bytes()
}

/// A world vector `[R, A, S]` as left-posterior-superior; `{}` gives the digits that bring the same number back.
fn vector([right, anterior, superior]: [f64; 3]) -> String {
    // Adding zero makes −0 to 0.
    format!("({},{},{})", -right + 0.0, -anterior + 0.0, superior + 0.0)
}
