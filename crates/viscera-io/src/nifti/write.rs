//! Writing: little-endian, one file, compressed on all cores when its name ends in `.gz`.

use super::header::{NiftiVersion, SourceHeader};
use super::{Image, label_xml};
use crate::gzip::write_gzip;
use crate::{IoError, NiftiFault, atomic_write};
use std::io::Write;
use std::path::Path;
use viscera_image::{LabelEntry, LabelMap};

/// `intent_code` of a label map.
const INTENT_LABEL: i16 = 1002;

/// gzip level of label maps, where higher ones gain little.
const LABEL_LEVEL: u32 = 4;

/// gzip level of images, whose noise does not shrink at any level.
const IMAGE_LEVEL: u32 = 3;

/// Voxels to write.
#[derive(Clone, Copy)]
enum Voxels<'a> {
    U8(&'a [u8]),
    I16(&'a [i16]),
    F32(&'a [f32]),
}

impl Voxels<'_> {
    /// NIfTI's code of the type, and bytes per voxel.
    fn datatype(self) -> (i16, usize) {
        match self {
            Self::U8(_) => (2, 1),
            Self::I16(_) => (4, 2),
            Self::F32(_) => (16, 4),
        }
    }

    /// Bytes of all voxels.
    fn len(self) -> usize {
        match self {
            Self::U8(data) => data.len(),
            Self::I16(data) => data.len() * 2,
            Self::F32(data) => data.len() * 4,
        }
    }

    /// Appends bytes `start..end`, which begin and end between voxels.
    fn append(self, start: usize, end: usize, out: &mut Vec<u8>) {
        let at = out.len();
        match self {
            Self::U8(data) => out.extend_from_slice(&data[start..end]),
            Self::I16(data) => {
                out.resize(at + end - start, 0);
                let bytes = out[at..].as_chunks_mut::<2>().0;
                bytes
                    .iter_mut()
                    .zip(&data[start / 2..])
                    .for_each(|(b, v)| *b = v.to_le_bytes());
            }
            Self::F32(data) => {
                out.resize(at + end - start, 0);
                let bytes = out[at..].as_chunks_mut::<4>().0;
                bytes
                    .iter_mut()
                    .zip(&data[start / 4..])
                    .for_each(|(b, v)| *b = v.to_le_bytes());
            }
        }
    }
}

/// Voxels with what the header says about them.
struct Content<'a> {
    voxels: Voxels<'a>,
    intent: i16,
    extension: Vec<u8>,
}

/// Writes a label map on its source's grid, with the geometry of the source's header field by field, as `uint8` with
/// intent "label". `labels` go into a header extension, so that viewers show names and colours.
///
/// The file is compressed when its name ends in `.gz`; the same label map gives the same bytes.
///
/// # Errors
/// [`NiftiFault::WrongGrid`] when the shapes differ, [`NiftiFault::BadName`] when `path` does not end in `.nii` or
/// `.nii.gz`, [`IoError::Write`] when the system refuses.
pub fn write_label_map(
    path: &Path,
    map: &LabelMap,
    source: &SourceHeader,
    labels: &[LabelEntry],
) -> Result<(), IoError> {
    if map.shape() != source.shape {
        return Err(IoError::Nifti {
            path: path.to_owned(),
            offset: None,
            reason: NiftiFault::WrongGrid {
                expected: source.shape,
                found: map.shape(),
            },
        });
    }
    let extension = if labels.is_empty() {
        Vec::new()
    } else {
        label_xml::extension(labels)
    };
    let content = Content {
        voxels: Voxels::U8(map.data()),
        intent: INTENT_LABEL,
        extension,
    };
    write(path, source, LABEL_LEVEL, &content)
}

/// Writes an image as `int16` or `float32`, as it is, with the geometry in sform and qform.
///
/// # Errors
/// [`NiftiFault::BadName`] when `path` does not end in `.nii` or `.nii.gz`, [`IoError::Write`] when the system refuses.
pub fn write_image(path: &Path, image: &Image) -> Result<(), IoError> {
    let source = SourceHeader::from_geometry(image.geometry());
    let content = Content {
        voxels: match image {
            Image::I16(volume) => Voxels::I16(volume.data()),
            Image::F32(volume) => Voxels::F32(volume.data()),
        },
        intent: 0,
        extension: Vec::new(),
    };
    write(path, &source, IMAGE_LEVEL, &content)
}

fn write(path: &Path, source: &SourceHeader, level: u32, content: &Content<'_>) -> Result<(), IoError> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let compress = name.ends_with(".nii.gz");
    if !compress && !name.ends_with(".nii") {
        return Err(IoError::Nifti {
            path: path.to_owned(),
            offset: None,
            reason: NiftiFault::BadName,
        });
    }
    let voxels = content.voxels;
    let mut head = encode(source, content);
    head.extend([u8::from(!content.extension.is_empty()), 0, 0, 0]);
    head.extend(&content.extension);
    atomic_write(path, |out| {
        if compress {
            write_gzip(out, &head, voxels.len(), level, |start, end, bytes| {
                voxels.append(start, end, bytes);
            })
        } else {
            out.write_all(&head)?;
            write_plain(out, voxels)
        }
    })
}

/// Voxels as they are, a piece at a time.
fn write_plain(out: &mut dyn Write, voxels: Voxels<'_>) -> std::io::Result<()> {
    const PIECE: usize = 1 << 20;
    let mut piece = Vec::with_capacity(PIECE);
    for start in (0..voxels.len()).step_by(PIECE) {
        piece.clear();
        voxels.append(start, voxels.len().min(start + PIECE), &mut piece);
        out.write_all(&piece)?;
    }
    Ok(())
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
    let (datatype, voxel_bytes) = content.voxels.datatype();
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
