//! Headers to write: little-endian, one file.

use super::header::{NiftiVersion, SourceHeader};
use super::label_xml;
use crate::volume::Voxels;
use viscera_image::{Geometry, LabelEntry};

/// `intent_code` of a label map.
const INTENT_LABEL: i16 = 1002;

/// Voxels with what the header says about them.
struct Content<'a> {
    voxels: Voxels<'a>,
    intent: i16,
    extension: Vec<u8>,
}

/// All that stands before the voxels of a label map; `labels` go into a header extension.
pub(crate) fn encode_label_map(source: &SourceHeader, voxels: Voxels<'_>, labels: &[LabelEntry]) -> Vec<u8> {
    let extension = if labels.is_empty() {
        Vec::new()
    } else {
        label_xml::extension(labels)
    };
    head(
        source,
        &Content {
            voxels,
            intent: INTENT_LABEL,
            extension,
        },
    )
}

/// All that stands before the voxels of an image.
pub(crate) fn encode_image(geometry: &Geometry, voxels: Voxels<'_>) -> Vec<u8> {
    let content = Content {
        voxels,
        intent: 0,
        extension: Vec::new(),
    };
    head(&SourceHeader::from_geometry(geometry), &content)
}

fn head(source: &SourceHeader, content: &Content<'_>) -> Vec<u8> {
    let mut head = encode(source, content);
    head.extend([u8::from(!content.extension.is_empty()), 0, 0, 0]);
    head.extend(&content.extension);
    head
}

/// NIfTI's code of the type, and bytes per voxel.
fn datatype(voxels: Voxels<'_>) -> (i16, usize) {
    match voxels {
        Voxels::U8(_) => (2, 1),
        Voxels::I16(_) => (4, 2),
        Voxels::F32(_) => (16, 4),
    }
}

/// A header under construction.
struct Head(Vec<u8>);

impl Head {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn i16(&mut self, at: usize, v: i16) {
        self.put(at, &v.to_le_bytes());
    }
    fn i32(&mut self, at: usize, v: i32) {
        self.put(at, &v.to_le_bytes());
    }
    fn i64(&mut self, at: usize, v: i64) {
        self.put(at, &v.to_le_bytes());
    }
    fn f32s<'a>(&mut self, at: usize, values: impl IntoIterator<Item = &'a f64>) {
        for (i, v) in values.into_iter().enumerate() {
            self.put(at + 4 * i, &(*v as f32).to_le_bytes());
        }
    }
    fn f64s<'a>(&mut self, at: usize, values: impl IntoIterator<Item = &'a f64>) {
        for (i, v) in values.into_iter().enumerate() {
            self.put(at + 8 * i, &v.to_le_bytes());
        }
    }
}

/// The 348 or 540 bytes of a header. Offsets are those of the standards.
fn encode(source: &SourceHeader, content: &Content<'_>) -> Vec<u8> {
    // A caller may put any shape into a header; NIfTI-1 has no room for long axes.
    let fits_one = source.shape.iter().all(|&n| i16::try_from(n).is_ok());
    let version = if fits_one { source.version } else { NiftiVersion::Two };
    let len = version.header_len();
    let vox_offset = len + 4 + content.extension.len();
    let (datatype, voxel_bytes) = datatype(content.voxels);
    let bitpix = 8 * voxel_bytes as i16;
    let [z, y, x] = source.shape;
    let dim = [3, x, y, z, 1, 1, 1, 1];
    let mut descrip = source.descrip.clone().into_bytes();
    let mut cut = descrip.len().min(79);
    while !source.descrip.is_char_boundary(cut) {
        cut -= 1;
    }
    descrip.truncate(cut);
    let mut h = Head(vec![0; len]);
    h.i32(0, len as i32);
    match version {
        NiftiVersion::One => {
            for (i, d) in dim.into_iter().enumerate() {
                h.i16(40 + 2 * i, d as i16);
            }
            h.i16(68, content.intent);
            h.i16(70, datatype);
            h.i16(72, bitpix);
            h.f32s(76, &source.pixdim);
            h.f32s(108, &[vox_offset as f64, 1.0, 0.0]);
            h.put(123, &[source.xyzt_units]);
            h.put(148, &descrip);
            h.i16(252, source.qform_code as i16);
            h.i16(254, source.sform_code as i16);
            h.f32s(256, &source.quatern);
            h.f32s(268, &source.qoffset);
            h.f32s(280, source.srow.iter().flatten());
            h.put(344, b"n+1\0");
        }
        NiftiVersion::Two => {
            h.put(4, b"n+2\0\r\n\x1a\n");
            h.i16(12, datatype);
            h.i16(14, bitpix);
            for (i, d) in dim.into_iter().enumerate() {
                h.i64(16 + 8 * i, d as i64);
            }
            h.f64s(104, &source.pixdim);
            h.i64(168, vox_offset as i64);
            h.f64s(176, &[1.0, 0.0]);
            h.put(240, &descrip);
            h.i32(344, source.qform_code);
            h.i32(348, source.sform_code);
            h.f64s(352, &source.quatern);
            h.f64s(376, &source.qoffset);
            h.f64s(400, source.srow.iter().flatten());
            h.i32(500, i32::from(source.xyzt_units));
            h.i32(504, i32::from(content.intent));
        }
    }
    h.0
}
