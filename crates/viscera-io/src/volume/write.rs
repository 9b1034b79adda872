//! Writing: little-endian, in the format of the name's ending, compressed on all cores.

use super::Image;
use crate::gzip::write_gzip;
use crate::{IoError, SourceHeader, VolumeFault, atomic_write, nifti, nrrd};
use std::io::Write;
use std::path::Path;
use viscera_image::{LabelEntry, LabelMap};

/// gzip level of label maps, where higher ones gain little.
const LABEL_LEVEL: u32 = 4;

/// gzip level of images, whose noise does not shrink at any level.
const IMAGE_LEVEL: u32 = 3;

/// Voxels to write.
#[derive(Clone, Copy)]
pub(crate) enum Voxels<'a> {
    U8(&'a [u8]),
    I16(&'a [i16]),
    F32(&'a [f32]),
}

impl Voxels<'_> {
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

/// The formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Nifti,
    NiftiGz,
    Nrrd,
    SegNrrd,
}

impl Form {
    /// By the ending of a file's name.
    fn of(path: &Path) -> Result<Self, IoError> {
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        [
            (".nii.gz", Self::NiftiGz),
            (".nii", Self::Nifti),
            (".seg.nrrd", Self::SegNrrd),
            (".nrrd", Self::Nrrd),
        ]
        .into_iter()
        .find(|(ending, _)| name.ends_with(ending))
        .map(|(_, form)| form)
        .ok_or_else(|| IoError::Volume {
            path: path.to_owned(),
            offset: None,
            reason: VolumeFault::BadName {
                endings: ".nii.gz, .nii, .nrrd or .seg.nrrd",
            },
        })
    }
}

/// Writes a label map on its source's grid, as `uint8`, in the format that the name's ending says:
///
/// - `.nii.gz`, `.nii`: NIfTI with intent "label" and the geometry of the source's header field by field. `labels` go
///   into a header extension, so that viewers show names and colours.
/// - `.nrrd`: NRRD, compressed, space left-posterior-superior. `labels` have no place in it.
/// - `.seg.nrrd`: the same with `labels` as the segments of 3D Slicer: names, colours, values, boxes, and SNOMED CT codes
///   where the names are known.
///
/// The same label map gives the same bytes.
///
/// # Errors
/// [`VolumeFault::WrongGrid`] when the shapes differ, [`VolumeFault::BadName`] when `path` has another ending,
/// [`IoError::Write`] when the system refuses.
pub fn write_label_map(
    path: &Path,
    map: &LabelMap,
    source: &SourceHeader,
    labels: &[LabelEntry],
) -> Result<(), IoError> {
    if map.shape() != source.shape {
        return Err(IoError::Volume {
            path: path.to_owned(),
            offset: None,
            reason: VolumeFault::WrongGrid {
                expected: source.shape,
                found: map.shape(),
            },
        });
    }
    let form = Form::of(path)?;
    let voxels = Voxels::U8(map.data());
    let head = match form {
        Form::Nifti | Form::NiftiGz => nifti::encode_label_map(source, voxels, labels),
        Form::Nrrd => nrrd::encode(map.geometry(), voxels, &[]),
        Form::SegNrrd => nrrd::encode(map.geometry(), voxels, &nrrd::segments(map, labels)),
    };
    write(path, form, &head, voxels, LABEL_LEVEL)
}

/// Writes an image as `int16` or `float32`, as it is: `.nii` and `.nii.gz` with the geometry in sform and qform, or
/// `.nrrd`.
///
/// # Errors
/// [`VolumeFault::BadName`] when `path` has another ending, [`IoError::Write`] when the system refuses.
pub fn write_image(path: &Path, image: &Image) -> Result<(), IoError> {
    let form = Form::of(path)?;
    let voxels = match image {
        Image::I16(volume) => Voxels::I16(volume.data()),
        Image::F32(volume) => Voxels::F32(volume.data()),
    };
    let head = match form {
        Form::Nifti | Form::NiftiGz => nifti::encode_image(image.geometry(), voxels),
        Form::Nrrd | Form::SegNrrd => nrrd::encode(image.geometry(), voxels, &[]),
    };
    write(path, form, &head, voxels, IMAGE_LEVEL)
}

fn write(path: &Path, form: Form, head: &[u8], voxels: Voxels<'_>, level: u32) -> Result<(), IoError> {
    let fill = |start: usize, end: usize, bytes: &mut Vec<u8>| voxels.append(start, end, bytes);
    atomic_write(path, |out| match form {
        Form::NiftiGz => write_gzip(out, head, voxels.len(), level, fill),
        Form::Nifti => {
            out.write_all(head)?;
            write_plain(out, voxels)
        }
        Form::Nrrd | Form::SegNrrd => {
            out.write_all(head)?;
            write_gzip(out, &[], voxels.len(), level, fill)
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
