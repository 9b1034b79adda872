//! Binary glTF 2.0 (<https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html>): one node with name and colour per
//! surface.

use super::{Mesh, normal, unit};
use crate::{IoError, atomic_write};
use serde_json::{Value, json};
use std::io;
use std::path::Path;

/// Turns LPS in mm into what glTF asks for: metres, y upwards, z to the front. Column by column.
const TO_GLTF: [f64; 16] = [
    0.001, 0.0, 0.0, 0.0, //
    0.0, 0.0, -0.001, 0.0, //
    0.0, 0.001, 0.0, 0.0, //
    0.0, 0.0, 0.0, 1.0,
];

/// Writes surfaces as one scene. The points stay LPS in mm; the node above them turns and shrinks them to glTF's y-up
/// metres, so that viewers show the patient upright and at true size.
///
/// # Errors
/// [`IoError::Write`] when the system refuses, or for more than the format's 4 GiB.
pub fn write_glb(path: &Path, meshes: &[Mesh]) -> Result<(), IoError> {
    atomic_write(path, |out| {
        let mut binary = Vec::new();
        let scene = serde_json::to_vec(&scene(meshes, &mut binary)).map_err(io::Error::other)?;
        let json_len = scene.len().next_multiple_of(4);
        let word = |n: usize| u32::try_from(n).map_err(|_| io::Error::other("more than 4 GiB for one GLB"));
        let behind = if binary.is_empty() { 0 } else { 8 + binary.len() };
        let total = word(12 + 8 + json_len + behind)?;
        out.write_all(b"glTF")?;
        out.write_all(&2u32.to_le_bytes())?;
        out.write_all(&total.to_le_bytes())?;
        out.write_all(&word(json_len)?.to_le_bytes())?;
        out.write_all(b"JSON")?;
        out.write_all(&scene)?;
        // The standard: chunks end at multiples of four, text padded with spaces.
        out.write_all(b"   ".get(..json_len - scene.len()).unwrap_or_default())?;
        if binary.is_empty() {
            return Ok(());
        }
        out.write_all(&word(binary.len())?.to_le_bytes())?;
        out.write_all(b"BIN\0")?;
        out.write_all(&binary)
    })
}

/// The description; appends points, normals and indices to `binary`.
fn scene(meshes: &[Mesh], binary: &mut Vec<u8>) -> Value {
    if meshes.is_empty() {
        // The standard has no empty lists.
        return json!({ "asset": { "version": "2.0", "generator": "viscera" } });
    }
    let (mut views, mut accessors) = (Vec::new(), Vec::new());
    let mut parts = Vec::new();
    let mut materials = Vec::new();
    // The root is node 0.
    let mut nodes = vec![json!({
        "name": "viscera", "matrix": TO_GLTF, "children": (1..=meshes.len()).collect::<Vec<_>>(),
        "extras": { "space": "LPS", "unit": "mm" }
    })];
    for (n, mesh) in meshes.iter().enumerate() {
        let mut view = |bytes: &mut dyn Iterator<Item = [u8; 4]>, target: u32| {
            let start = binary.len();
            binary.extend(bytes.flatten());
            views.push(json!({
                "buffer": 0, "byteOffset": start, "byteLength": binary.len() - start, "target": target
            }));
            views.len() - 1
        };
        let points = view(&mut mesh.vertices.iter().flatten().map(|v| v.to_le_bytes()), 34962);
        let directions = normals(mesh);
        let directions = view(&mut directions.iter().flatten().map(|v| v.to_le_bytes()), 34962);
        let indices = view(&mut mesh.triangles.iter().flatten().map(|i| i.to_le_bytes()), 34963);
        let bound = |pick: fn(f32, f32) -> f32| {
            mesh.vertices
                .iter()
                .copied()
                .reduce(|[ax, ay, az], [bx, by, bz]| [pick(ax, bx), pick(ay, by), pick(az, bz)])
        };
        accessors.extend([
            json!({
                "bufferView": points, "componentType": 5126, "type": "VEC3", "count": mesh.vertices.len(),
                "min": bound(f32::min), "max": bound(f32::max)
            }),
            json!({
                "bufferView": directions, "componentType": 5126, "type": "VEC3", "count": mesh.vertices.len()
            }),
            json!({
                "bufferView": indices, "componentType": 5125, "type": "SCALAR", "count": 3 * mesh.triangles.len()
            }),
        ]);
        let [red, green, blue] = mesh.rgb.map(linear);
        materials.push(json!({
            "name": mesh.name,
            "pbrMetallicRoughness": {
                "baseColorFactor": [red, green, blue, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7
            }
        }));
        parts.push(json!({
            "name": mesh.name,
            "primitives": [{
                "attributes": { "POSITION": 3 * n, "NORMAL": 3 * n + 1 }, "indices": 3 * n + 2, "material": n
            }]
        }));
        nodes.push(json!({ "name": mesh.name, "mesh": n }));
    }
    json!({
        "asset": { "version": "2.0", "generator": "viscera" },
        "scene": 0,
        "scenes": [{ "nodes": [0] }],
        "nodes": nodes,
        "meshes": parts,
        "materials": materials,
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{ "byteLength": binary.len() }]
    })
}

/// A normal per vertex: the mean of its triangles', weighted with their areas.
fn normals(mesh: &Mesh) -> Vec<[f32; 3]> {
    let mut sums = vec![[0.0f32; 3]; mesh.vertices.len()];
    for (triangle, corners) in mesh.triangles.iter().zip(mesh.corners()) {
        let n = normal(corners);
        for i in triangle {
            if let Some(sum) = sums.get_mut(*i as usize) {
                sum.iter_mut().zip(n).for_each(|(s, n)| *s += n);
            }
        }
    }
    sums.into_iter().map(unit).collect()
}

/// A colour's share of light by its sRGB value (IEC 61966-2-1).
fn linear(value: u8) -> f32 {
    let v = f32::from(value) / 255.0;
    if v <= 0.04045 {
        v / 12.92
    } else {
        ((v + 0.055) / 1.055).powf(2.4)
    }
}
