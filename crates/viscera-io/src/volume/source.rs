//! The bytes of a file, decompressed.

use crate::gzip::{GzipReader, MAGIC, MAX_RATIO};
use crate::{IoError, VolumeFault};
use flate2::bufread::ZlibDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// An open file, decompressed if it is gzip.
pub(crate) struct Source {
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
    Zlib(Box<ZlibDecoder<BufReader<File>>>),
}

/// How the bytes behind a header are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// gzip, of one or more members.
    Gzip,
    /// A zlib stream (RFC 1950).
    Zlib,
}

impl Source {
    /// Opens a file as it is.
    pub(crate) fn plain(path: &Path) -> Result<Self, IoError> {
        let failed = |source| IoError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let file_len = file.metadata().map_err(failed)?.len();
        Ok(Self {
            path: path.to_owned(),
            reader: Reader::Plain(BufReader::with_capacity(1 << 17, file)),
            file_len,
            position: 0,
        })
    }

    /// Opens a file, and decompresses it if its first bytes are gzip's, whatever its name says.
    pub(crate) fn open(path: &Path) -> Result<Self, IoError> {
        let mut source = Self::plain(path)?;
        let Reader::Plain(reader) = &mut source.reader else {
            return Ok(source);
        };
        let first = reader.fill_buf().map_err(|source| IoError::Read {
            path: path.to_owned(),
            source,
        })?;
        if first.starts_with(&MAGIC) {
            source.unpack(Packing::Gzip)
        } else {
            Ok(source)
        }
    }

    /// From here on the decompressed bytes; the position starts again at 0.
    pub(crate) fn unpack(self, packing: Packing) -> Result<Self, IoError> {
        let Reader::Plain(reader) = self.reader else {
            return Err(IoError::Volume {
                path: self.path,
                offset: None,
                reason: VolumeFault::UnsupportedEncoding {
                    name: "compressed twice".to_owned(),
                },
            });
        };
        Ok(Self {
            reader: match packing {
                Packing::Gzip => Reader::Gzip(Box::new(GzipReader::new(reader))),
                Packing::Zlib => Reader::Zlib(Box::new(ZlibDecoder::new(reader))),
            },
            position: 0,
            ..self
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes read so far, after decompression.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the bytes are read as they lie on disk.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.reader, Reader::Plain(_))
    }

    /// Bytes of the file as it lies on disk.
    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Most bytes that the file can hold after decompression.
    pub(crate) fn most_bytes(&self) -> u64 {
        match self.reader {
            Reader::Plain(_) => self.file_len,
            Reader::Gzip(_) | Reader::Zlib(_) => self.file_len.saturating_mul(MAX_RATIO),
        }
    }

    /// Bytes to make room for before any was seen: all of a plain file, and of a compressed one what a CT rarely
    /// exceeds.
    pub(crate) fn likely_bytes(&self) -> u64 {
        match self.reader {
            Reader::Plain(_) => self.file_len,
            Reader::Gzip(_) | Reader::Zlib(_) => self.file_len.saturating_mul(8),
        }
    }

    /// Fills `buf`; fewer bytes come only at the end of the file.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            let read = match &mut self.reader {
                Reader::Plain(reader) => reader.read(rest),
                Reader::Gzip(reader) => reader.read(rest),
                Reader::Zlib(reader) => reader.read(rest),
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
    pub(crate) fn fill_exactly(&mut self, buf: &mut [u8]) -> Result<(), IoError> {
        let expected = self.position + buf.len() as u64;
        let found = self.fill(buf).map_err(|e| self.failed(e, expected))?;
        if found < buf.len() {
            return Err(self.truncated(expected));
        }
        Ok(())
    }

    /// The next line of a header in text, without its end; at the end of the file what is left, and then `None`.
    /// A line of more than `limit` bytes counts as cut there.
    pub(crate) fn line(&mut self, limit: usize) -> Result<Option<String>, IoError> {
        let expected = self.position + 1;
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < limit {
            match self.fill(&mut byte).map_err(|e| self.failed(e, expected))? {
                0 if line.is_empty() => return Ok(None),
                0 => break,
                _ if byte == *b"\n" => break,
                _ => line.extend(byte),
            }
        }
        let text = String::from_utf8_lossy(&line);
        Ok(Some(text.strip_suffix('\r').unwrap_or(&text).to_owned()))
    }

    /// Goes on to a byte that lies ahead.
    pub(crate) fn skip_to(&mut self, position: u64) -> Result<(), IoError> {
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
    pub(crate) fn more_follows(&mut self) -> Result<bool, IoError> {
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
            Reader::Plain(_) | Reader::Zlib(_) => false,
            Reader::Gzip(reader) => reader.trailing(),
        };
        Ok(more > 0 || trailing)
    }

    /// The error of a file that ends before byte `expected`.
    pub(crate) fn truncated(&self, expected: u64) -> IoError {
        self.fault(
            None,
            VolumeFault::Truncated {
                expected,
                found: self.position,
            },
        )
    }

    /// What a failed read before byte `expected` means.
    pub(crate) fn failed(&self, error: io::Error, expected: u64) -> IoError {
        match (&self.reader, error.kind()) {
            (Reader::Gzip(_) | Reader::Zlib(_), io::ErrorKind::UnexpectedEof) if self.position < expected => {
                self.truncated(expected)
            }
            (Reader::Gzip(_) | Reader::Zlib(_), _) if error.raw_os_error().is_none() => self.fault(
                None,
                VolumeFault::DamagedData {
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
    pub(crate) fn fault(&self, offset: Option<u64>, reason: VolumeFault) -> IoError {
        IoError::Volume {
            path: self.path.clone(),
            offset,
            reason,
        }
    }
}
