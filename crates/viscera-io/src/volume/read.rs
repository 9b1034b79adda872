//! Reading: the format by content, its header, checks, then voxels; decompression and conversion on two threads.

use super::Image;
use super::source::Source;
use super::voxels::{DataType, ImageSink, LabelSink, Pixels, Sink, SinkError, feed};
use crate::{IoError, SourceHeader, VolumeFault, Warning, metaimage, nifti, nrrd};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use viscera_image::{Geometry, LabelMap, Volume};

/// How to read an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Which volume of a 4-D file to take, counted from 0. Without it, a file with several is refused.
    pub volume: Option<usize>,
}

/// An image with everything that its file says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadImage {
    /// The intensities on their grid.
    pub image: Image,
    /// The grid as the file has it, for [`crate::write_label_map`].
    pub header: SourceHeader,
    /// What was odd.
    pub warnings: Vec<Warning>,
}

/// Reads an image: NIfTI-1 or NIfTI-2 (`.nii`, `.nii.gz`, either file of a `.hdr`/`.img` pair), NRRD (`.nrrd`, `.nhdr`)
/// or MetaImage (`.mha`, `.mhd`).
///
/// Format and compression are told by content, not by name; gzip files may have several members. The header's scaling
/// is applied unless its slope is 0 or not a number. Numbers stored in at most 16 bits stay `i16` where the scaling is
/// whole and the results fit; all others become `f32`. Voxels that are not finite become the lowest finite value.
/// Lengths become mm, and world points RAS+ (NRRD and MetaImage mostly say LPS). NIfTI's grid comes from the sform, else
/// the qform, else the spacing. A header in two files may name a data file in its own folder only.
///
/// # Errors
/// [`IoError::Read`] when the system refuses; [`IoError::Volume`] for a file that cannot be used, with the reason. No
/// memory is taken for voxels that the file cannot hold.
pub fn read_image(path: &Path, options: &ReadOptions) -> Result<ReadImage, IoError> {
    let mut open = open(path, options.volume)?;
    let Layout { datatype, scaling, .. } = open.file.layout;
    let sink = ImageSink::new(open.voxels, open.likely_voxels(), datatype, scaling);
    let sink = open.read_voxels(sink)?;
    let Opened {
        geometry,
        header,
        mut warnings,
        ..
    } = open.file;
    let image = match sink.finish(&mut warnings) {
        Pixels::I16(data) => Image::I16(Volume::new(geometry, data)?),
        Pixels::F32(data) => Image::F32(Volume::new(geometry, data)?),
    };
    Ok(ReadImage {
        image,
        header,
        warnings,
    })
}

/// What the header of an image says.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFacts {
    /// The grid.
    pub geometry: Geometry,
    /// Bytes that its voxels take in memory, unless numbers of 16 bits turn out not to fit into an `i16`.
    pub bytes: u64,
}

/// Reads the header of an image and checks all that can be checked without its voxels.
///
/// # Errors
/// As [`read_image`].
pub fn image_facts(path: &Path, options: &ReadOptions) -> Result<ImageFacts, IoError> {
    let open = open(path, options.volume)?;
    let Layout { datatype, scaling, .. } = open.file.layout;
    let each = ImageSink::voxel_bytes(datatype, scaling) as u64;
    Ok(ImageFacts {
        bytes: (open.voxels as u64).saturating_mul(each),
        geometry: open.file.geometry,
    })
}

/// Reads a label map; files as for [`read_image`]. Oddities of its geometry are settled in the same way, silently.
///
/// # Errors
/// As [`read_image`], and [`VolumeFault::NotALabel`] when a value is not a whole number from 0 to 255.
pub fn read_label_map(path: &Path) -> Result<LabelMap, IoError> {
    let mut open = open(path, None)?;
    let sink = LabelSink::new(open.voxels, open.likely_voxels(), open.file.layout.scaling);
    let sink = open.read_voxels(sink)?;
    Ok(Volume::new(open.file.geometry, sink.finish())?)
}

/// Where the voxels lie and what their bytes mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) datatype: DataType,
    pub(crate) big_endian: bool,
    /// Stored value × slope + intercept = intensity; `None` for the stored value itself.
    pub(crate) scaling: Option<(f64, f64)>,
    /// Volumes in the file, one behind the other.
    pub(crate) volumes: u64,
    /// Byte of the source at which the voxels begin.
    pub(crate) start: u64,
}

/// A file whose header was understood, before its voxels.
pub(crate) struct Opened {
    pub(crate) source: Source,
    pub(crate) layout: Layout,
    pub(crate) geometry: Geometry,
    pub(crate) header: SourceHeader,
    pub(crate) warnings: Vec<Warning>,
}

/// The same after all that can be checked before memory is taken.
struct Open {
    file: Opened,
    /// Voxels of one volume.
    voxels: usize,
    /// Volumes before the one to read.
    skip: u64,
}

/// The files of an image: the path itself, or header and voxels where they are two.
///
/// # Errors
/// As [`read_image`], as far as the header shows it.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>, IoError> {
    let (header, file) = open_header(path)?;
    let voxels = file.source.path();
    Ok(if voxels == header {
        vec![header]
    } else {
        vec![header, voxels.to_owned()]
    })
}

/// Opens the file with the header, and reads that in its format.
fn open_header(path: &Path) -> Result<(PathBuf, Opened), IoError> {
    let path = nifti::header_path(path)?;
    let mut source = Source::open(&path)?;
    let mut first = [0; 4];
    source.fill_exactly(&mut first)?;
    let file = if first == *b"NRRD" {
        nrrd::open(source)
    } else if metaimage::begins(&path, first) {
        metaimage::open(source, first)
    } else {
        nifti::open(source, first, &path)
    }?;
    Ok((path, file))
}

/// Opens a file, reads its header, and checks everything that can be checked before memory is taken.
fn open(path: &Path, volume: Option<usize>) -> Result<Open, IoError> {
    let (_, file) = open_header(path)?;
    let source = &file.source;
    let Layout {
        datatype,
        volumes,
        start,
        ..
    } = file.layout;
    let skip = match volume {
        None if volumes == 1 => 0,
        None => return Err(source.fault(None, VolumeFault::SeveralVolumes { count: volumes })),
        Some(asked) if (asked as u64) < volumes => asked as u64,
        Some(asked) => {
            let count = volumes;
            return Err(source.fault(None, VolumeFault::NoSuchVolume { asked, count }));
        }
    };
    let extents = file.geometry.shape.iter().map(|&n| n as u64);
    let volume_bytes = extents
        .chain([datatype.bytes() as u64])
        .try_fold(1u64, u64::checked_mul);
    let needed = volume_bytes.and_then(|n| n.checked_mul(volumes)).unwrap_or(u64::MAX);
    if needed.saturating_add(start) > source.most_bytes() {
        let file_len = source.file_len();
        return Err(source.fault(None, VolumeFault::TooLarge { needed, file_len }));
    }
    file.geometry.validate()?;
    Ok(Open {
        voxels: file.geometry.len(),
        file,
        skip,
    })
}

/// Bytes that go from the reading to the converting thread at a time: small enough for the second-level cache.
const CHUNK: usize = 1 << 18;

/// Chunks under way between the two threads.
const DEPTH: usize = 6;

impl Open {
    fn volume_bytes(&self) -> u64 {
        (self.voxels as u64).saturating_mul(self.file.layout.datatype.bytes() as u64)
    }

    fn likely_voxels(&self) -> usize {
        usize::try_from(self.file.source.likely_bytes()).unwrap_or(usize::MAX) / self.file.layout.datatype.bytes()
    }

    /// Reads the volume into a sink and checks how the file ends.
    fn read_voxels<S: Sink>(&mut self, sink: Result<S, SinkError>) -> Result<S, IoError> {
        let Layout {
            datatype, big_endian, ..
        } = self.file.layout;
        let start = self.file.layout.start + self.skip * self.volume_bytes();
        self.file.source.skip_to(start)?;
        let mut sink = sink.map_err(|e| self.refusal(e))?;
        let end = start + self.volume_bytes();
        let taken = overlapped(&mut self.file.source, end - start, |chunk| {
            feed(&mut sink, datatype, big_endian, chunk)
        });
        match taken {
            Ok(n) if n == end - start => {}
            Ok(_) => return Err(self.file.source.truncated(end)),
            Err(Stop::Read(e)) => return Err(self.file.source.failed(e, end)),
            Err(Stop::Sink(e)) => return Err(self.refusal(e)),
        }
        if self.skip + 1 == self.file.layout.volumes && self.file.source.more_follows()? {
            self.file.warnings.push(Warning::TrailingBytes);
        }
        Ok(sink)
    }

    fn refusal(&self, error: SinkError) -> IoError {
        let [_, ny, nx] = self.file.geometry.shape;
        let reason = match error {
            SinkError::OutOfMemory => VolumeFault::OutOfMemory {
                bytes: self.volume_bytes(),
            },
            SinkError::NotALabel { value, voxel } => VolumeFault::NotALabel {
                value,
                index: [voxel % nx, voxel / nx % ny, voxel / nx / ny],
            },
        };
        self.file.source.fault(None, reason)
    }
}

/// Why the voxels could not be read.
enum Stop {
    Read(io::Error),
    Sink(SinkError),
}

/// Reads `len` bytes on a thread of their own and hands them to `take`, in order and in chunks of whole voxels.
/// Returns how many bytes there were.
fn overlapped(
    source: &mut Source,
    len: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), SinkError>,
) -> Result<u64, Stop> {
    if len <= CHUNK as u64 {
        let mut chunk = vec![0; len as usize];
        let n = source.fill(&mut chunk).map_err(Stop::Read)?;
        if n as u64 == len {
            take(&chunk).map_err(Stop::Sink)?;
        }
        return Ok(n as u64);
    }
    std::thread::scope(|scope| {
        let (full, chunks) = sync_channel::<io::Result<Vec<u8>>>(DEPTH);
        let (used, empty) = sync_channel::<Vec<u8>>(DEPTH);
        std::thread::Builder::new()
            .name("volume-read".to_owned())
            .spawn_scoped(scope, move || {
                let mut left = len;
                while left > 0 {
                    let mut chunk = empty.try_recv().unwrap_or_default();
                    chunk.resize(left.min(CHUNK as u64) as usize, 0);
                    let read = source.fill(&mut chunk);
                    left -= chunk.len() as u64;
                    let ended = !matches!(read, Ok(n) if n == chunk.len());
                    let sent = full.send(read.map(|n| {
                        chunk.truncate(n);
                        chunk
                    }));
                    if ended || sent.is_err() {
                        return;
                    }
                }
            })
            .map_err(Stop::Read)?;
        let mut taken = 0;
        for chunk in chunks {
            let chunk = chunk.map_err(Stop::Read)?;
            take(&chunk).map_err(Stop::Sink)?;
            taken += chunk.len() as u64;
            let _ = used.try_send(chunk); // a full shelf only means that this buffer is dropped
        }
        Ok(taken)
    })
}
