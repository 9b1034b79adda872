//! From the first bytes of a NIfTI file to its voxels.

use super::{forms, header, pair};
use crate::IoError;
use crate::volume::source::Source;
use crate::volume::{Layout, Opened};
use std::path::Path;

/// Reads the header of a file whose first four bytes were read; `path` is the file's. For a pair, the source is then
/// its data file.
pub(crate) fn open(mut source: Source, first: [u8; 4], path: &Path) -> Result<Opened, IoError> {
    let (version, big_endian) = header::sniff(first).map_err(|e| source.fault(Some(0), e))?;
    let mut rest = vec![0; version.header_len() - first.len()];
    source.fill_exactly(&mut rest)?;
    let bytes = [&first[..], &rest].concat();
    let header = header::parse(&bytes, version, big_endian).map_err(|(at, e)| source.fault(at, e))?;
    let mut warnings = Vec::new();
    let geometry = forms::geometry_of(&header.source, &mut warnings).map_err(|e| source.fault(None, e))?;
    if !header.single_file {
        source = Source::open(&pair::data_path(path)?)?;
    }
    Ok(Opened {
        source,
        layout: Layout {
            datatype: header.datatype,
            big_endian: header.big_endian,
            scaling: header.scaling,
            volumes: header.volumes,
            start: header.vox_offset,
        },
        geometry,
        header: header.source,
        warnings,
    })
}
