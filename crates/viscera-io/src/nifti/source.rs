//! The bytes of a NIfTI file or pair, whatever its name says about compression.

use crate::gzip::{GzipReader, MAGIC, MAX_RATIO};
use crate::{IoError, NiftiFault};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// An open file, decompressed if it is gzip.
pub(super) struct Source {
    path: PathBuf,
    reader: Reader,
    /// Bytes of the file as it lies on disk.
    file_len: u64,
    /// Decompressed bytes read so far.
    position: u64,
}

enum Reader {
    Plain(BufReader<File>),
    Gzip(Box<GzipReader<BufReader<File>>>),
}

impl Source {
    /// Opens a file and looks at its first bytes.
    pub(super) fn open(path: &Path) -> Result<Self, IoError> {
        let failed = |source| IoError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let file_len = file.metadata().map_err(failed)?.len();
        let mut reader = BufReader::with_capacity(1 << 17, file);
        let compressed = reader.fill_buf().map_err(failed)?.starts_with(&MAGIC);
        Ok(Self {
            path: path.to_owned(),
            reader: if compressed {
                Reader::Gzip(Box::new(GzipReader::new(reader)))
            } else {
                Reader::Plain(reader)
            },
            file_len,
            position: 0,
        })
    }

    /// Bytes of the file as it lies on disk.
    pub(super) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Most bytes that the file can hold after decompression.
    pub(super) fn most_bytes(&self) -> u64 {
        match self.reader {
            Reader::Plain(_) => self.file_len,
            Reader::Gzip(_) => self.file_len.saturating_mul(MAX_RATIO),
        }
    }

    /// Bytes to make room for before any was seen: all of a plain file, and of a compressed one what a CT rarely
    /// exceeds.
    pub(super) fn likely_bytes(&self) -> u64 {
        match self.reader {
            Reader::Plain(_) => self.file_len,
            Reader::Gzip(_) => self.file_len.saturating_mul(8),
        }
    }

    /// Fills `buf`; fewer bytes come only at the end of the file.
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            let read = match &mut self.reader {
                Reader::Plain(reader) => reader.read(rest),
                Reader::Gzip(reader) => reader.read(rest),
            };
            match read {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    self.position += n as u64; // counts also what came before an error
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    /// Fills all of `buf`, or says what is missing.
    pub(super) fn fill_exactly(&mut self, buf: &mut [u8]) -> Result<(), IoError> {
        let expected = self.position + buf.len() as u64;
        let found = self.fill(buf).map_err(|e| self.failed(e, expected))?;
        if found < buf.len() {
            return Err(self.truncated(expected));
        }
        Ok(())
    }

    /// Goes on to a byte that lies ahead.
    pub(super) fn skip_to(&mut self, position: u64) -> Result<(), IoError> {
        let mut scratch = [0; 1 << 14];
        while self.position < position {
            let step = (position - self.position).min(scratch.len() as u64) as usize;
            let (scratch, _) = scratch.split_at_mut(step);
            self.fill_exactly(scratch)?;
        }
        Ok(())
    }

    /// Whether more bytes follow, of gzip content or not. Reads on for a mebibyte at most, to reach the checksum that
    /// ends a gzip member; only a file with more behind its voxels goes unchecked.
    pub(super) fn more_follows(&mut self) -> Result<bool, IoError> {
        let expected = self.position;
        let mut scratch = [0; 1 << 14];
        let mut more = 0;
        while more < 1 << 20 {
            match self.fill(&mut scratch).map_err(|e| self.failed(e, expected))? {
                0 => break,
                n => more += n,
            }
        }
        let trailing = match &self.reader {
            Reader::Plain(_) => false,
            Reader::Gzip(reader) => reader.trailing(),
        };
        Ok(more > 0 || trailing)
    }

    /// The error of a file that ends before byte `expected`.
    pub(super) fn truncated(&self, expected: u64) -> IoError {
        self.fault(
            None,
            NiftiFault::Truncated {
                expected,
                found: self.position,
            },
        )
    }

    /// What a failed read before byte `expected` means.
    pub(super) fn failed(&self, error: io::Error, expected: u64) -> IoError {
        match (&self.reader, error.kind()) {
            (Reader::Gzip(_), io::ErrorKind::UnexpectedEof) if self.position < expected => self.truncated(expected),
            (Reader::Gzip(_), _) if error.raw_os_error().is_none() => self.fault(
                None,
                NiftiFault::DamagedGzip {
                    detail: error.to_string(),
                },
            ),
            _ => IoError::Read {
                path: self.path.clone(),
                source: error,
            },
        }
    }

    /// A fault of this file.
    pub(super) fn fault(&self, offset: Option<u64>, reason: NiftiFault) -> IoError {
        IoError::Nifti {
            path: self.path.clone(),
            offset,
            reason,
        }
    }
}

/// The other file of a `.hdr`/`.img` pair: `stem.other`, compressed or not. `None` for a name with neither ending.
fn other_half(path: &Path, this: &str, other: &str) -> Option<Result<PathBuf, IoError>> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_suffix(".gz").unwrap_or(&lower);
    let stem = name.get(..plain.strip_suffix(this)?.len())?;
    let ending = name.get(stem.len()..plain.len())?;
    let other = if ending.chars().any(|c| c.is_ascii_uppercase()) {
        other.to_ascii_uppercase()
    } else {
        other.to_owned()
    };
    let same = format!("{stem}{other}{}", name.get(plain.len()..)?);
    let candidates = [same.clone(), format!("{stem}{other}"), format!("{stem}{other}.gz")];
    let found = candidates.iter().map(|n| path.with_file_name(n)).find(|p| p.is_file());
    Some(found.ok_or_else(|| IoError::Nifti {
        path: path.to_owned(),
        offset: None,
        reason: NiftiFault::MissingHalf { expected: same },
    }))
}

/// The file with the header: the path itself, or for an `.img` its `.hdr`.
pub(super) fn header_path(path: &Path) -> Result<PathBuf, IoError> {
    other_half(path, ".img", ".hdr").unwrap_or_else(|| Ok(path.to_owned()))
}

/// The file with the voxels of a header that says they lie in another file.
pub(super) fn data_path(header_path: &Path) -> Result<PathBuf, IoError> {
    other_half(header_path, ".hdr", ".img").unwrap_or_else(|| {
        Err(IoError::Nifti {
            path: header_path.to_owned(),
            offset: None,
            reason: NiftiFault::MissingHalf {
                expected: "an .img file; a header alone must be named .hdr".to_owned(),
            },
        })
    })
}

/// The files of an image: the path itself, or header and voxels of a pair.
///
/// # Errors
/// [`NiftiFault::MissingHalf`] for half a pair.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>, IoError> {
    let header = header_path(path)?;
    let mut files = vec![header.clone()];
    if let Some(voxels) = other_half(&header, ".hdr", ".img") {
        files.push(voxels?);
    }
    Ok(files)
}
