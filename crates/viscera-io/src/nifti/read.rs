//! Reading: header, checks, then voxels; decompression and conversion on two threads.

use super::header::{self, Header, SourceHeader};
use super::source::{self, Source};
use super::voxels::{ImageSink, LabelSink, Pixels, Sink, SinkError, feed};
use super::{Image, affine};
use crate::{IoError, NiftiFault, Warning};
use std::io;
use std::path::Path;
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

/// Reads an image from NIfTI-1 or NIfTI-2: `.nii`, `.nii.gz`, or either file of a `.hdr`/`.img` pair.
///
/// Compression is told by content, not by name; gzip files may have several members. `scl_slope` and `scl_inter` are
/// applied unless the slope is 0 or not a number. Numbers stored in at most 16 bits stay `i16` where the scaling is
/// whole and the results fit; all others become `f32`. Voxels that are not finite become the lowest finite value.
/// The grid comes from the sform, else the qform, else the spacing; lengths become mm.
///
/// # Errors
/// [`IoError::Read`] when the system refuses; [`IoError::Nifti`] for a file that cannot be used, with the reason. No
/// memory is taken for voxels that the file cannot hold.
pub fn read_image(path: &Path, options: &ReadOptions) -> Result<ReadImage, IoError> {
    let mut open = open(path, options.volume)?;
    let sink = ImageSink::new(
        open.voxels,
        open.likely_voxels(),
        open.header.datatype,
        open.header.scaling,
    );
    let sink = open.read_voxels(sink)?;
    let image = match sink.finish(&mut open.warnings) {
        Pixels::I16(data) => Image::I16(Volume::new(open.geometry, data)?),
        Pixels::F32(data) => Image::F32(Volume::new(open.geometry, data)?),
    };
    Ok(ReadImage {
        image,
        header: open.header.source,
        warnings: open.warnings,
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
    let each = ImageSink::voxel_bytes(open.header.datatype, open.header.scaling) as u64;
    Ok(ImageFacts {
        bytes: (open.voxels as u64).saturating_mul(each),
        geometry: open.geometry,
    })
}

/// Reads a label map; files as for [`read_image`]. Oddities of its geometry are settled in the same way, silently.
///
/// # Errors
/// As [`read_image`], and [`NiftiFault::NotALabel`] when a value is not a whole number from 0 to 255.
pub fn read_label_map(path: &Path) -> Result<LabelMap, IoError> {
    let mut open = open(path, None)?;
    let sink = LabelSink::new(open.voxels, open.likely_voxels(), open.header.scaling);
    let sink = open.read_voxels(sink)?;
    Ok(Volume::new(open.geometry, sink.finish())?)
}

/// A file whose header was found good, before its voxels.
struct Open {
    source: Source,
    header: Header,
    geometry: Geometry,
    warnings: Vec<Warning>,
    /// Voxels of one volume.
    voxels: usize,
    /// Volumes before the one to read.
    skip: u64,
}

/// Opens a file, reads its header, and checks everything that can be checked before memory is taken.
fn open(path: &Path, volume: Option<usize>) -> Result<Open, IoError> {
    let header_path = source::header_path(path)?;
    let mut source = Source::open(&header_path)?;
    let mut first = [0; 4];
    source.fill_exactly(&mut first)?;
    let (version, big_endian) = header::sniff(first).map_err(|e| source.fault(Some(0), e))?;
    let mut rest = vec![0; version.header_len() - first.len()];
    source.fill_exactly(&mut rest)?;
    let bytes = [&first[..], &rest].concat();
    let header = header::parse(&bytes, version, big_endian).map_err(|(at, e)| source.fault(at, e))?;
    let mut warnings = Vec::new();
    let geometry = affine::geometry_of(&header.source, &mut warnings).map_err(|e| source.fault(None, e))?;

    let skip = match volume {
        None if header.volumes == 1 => 0,
        None => return Err(source.fault(None, NiftiFault::SeveralVolumes { count: header.volumes })),
        Some(asked) if (asked as u64) < header.volumes => asked as u64,
        Some(asked) => {
            let count = header.volumes;
            return Err(source.fault(None, NiftiFault::NoSuchVolume { asked, count }));
        }
    };
    if !header.single_file {
        source = Source::open(&source::data_path(&header_path)?)?;
    }
    let extents = header.source.shape.iter().map(|&n| n as u64);
    let volume_bytes = extents
        .chain([header.datatype.bytes() as u64])
        .try_fold(1u64, u64::checked_mul);
    let needed = volume_bytes
        .and_then(|n| n.checked_mul(header.volumes))
        .unwrap_or(u64::MAX);
    if needed.saturating_add(header.vox_offset) > source.most_bytes() {
        let file_len = source.file_len();
        return Err(source.fault(None, NiftiFault::TooLarge { needed, file_len }));
    }
    geometry.validate()?;
    Ok(Open {
        source,
        voxels: geometry.len(),
        header,
        geometry,
        warnings,
        skip,
    })
}

/// Bytes that go from the reading to the converting thread at a time: small enough for the second-level cache.
const CHUNK: usize = 1 << 18;

/// Chunks under way between the two threads.
const DEPTH: usize = 6;

impl Open {
    fn volume_bytes(&self) -> u64 {
        (self.voxels as u64).saturating_mul(self.header.datatype.bytes() as u64)
    }

    fn likely_voxels(&self) -> usize {
        usize::try_from(self.source.likely_bytes()).unwrap_or(usize::MAX) / self.header.datatype.bytes()
    }

    /// Reads the volume into a sink and checks how the file ends.
    fn read_voxels<S: Sink>(&mut self, sink: Result<S, SinkError>) -> Result<S, IoError> {
        let start = self.header.vox_offset + self.skip * self.volume_bytes();
        self.source.skip_to(start)?;
        let mut sink = sink.map_err(|e| self.refusal(e))?;
        let end = start + self.volume_bytes();
        let (datatype, big_endian) = (self.header.datatype, self.header.big_endian);
        let taken = overlapped(&mut self.source, end - start, |chunk| {
            feed(&mut sink, datatype, big_endian, chunk)
        });
        match taken {
            Ok(n) if n == end - start => {}
            Ok(_) => return Err(self.source.truncated(end)),
            Err(Stop::Read(e)) => return Err(self.source.failed(e, end)),
            Err(Stop::Sink(e)) => return Err(self.refusal(e)),
        }
        if self.skip + 1 == self.header.volumes && self.source.more_follows()? {
            self.warnings.push(Warning::TrailingBytes);
        }
        Ok(sink)
    }

    fn refusal(&self, error: SinkError) -> IoError {
        let [_, ny, nx] = self.geometry.shape;
        let reason = match error {
            SinkError::OutOfMemory => NiftiFault::OutOfMemory {
                bytes: self.volume_bytes(),
            },
            SinkError::NotALabel { value, voxel } => NiftiFault::NotALabel {
                value,
                index: [voxel % nx, voxel / nx % ny, voxel / nx / ny],
            },
        };
        self.source.fault(None, reason)
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
            .name("nifti-read".to_owned())
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
