//! NumPy's `.npy` files of 32-bit floats.
//!
//! Layout: magic, version, length of a header, the header (a Python dictionary as text), the values.

use crate::{IoError, atomic_write};
use std::io::Read;
use std::path::Path;

/// Most axes, as in NumPy.
const MAX_AXES: usize = 32;
/// Longest header that is read.
const MAX_HEADER: usize = 1 << 16;

/// What is wrong with a `.npy` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpyFault {
    /// Another magic.
    #[error("not a NumPy file; write it with numpy.save")]
    NotNpy,
    /// A header that says something else than this reader knows.
    #[error("its header is damaged")]
    BadHeader,
    /// Values that are no 32-bit floats.
    #[error("values of type {descr}; convert them with .astype(\"float32\")")]
    WrongType {
        /// NumPy's name of the type.
        descr: String,
    },
    /// First axis fastest.
    #[error("first axis fastest (Fortran order); convert it with numpy.ascontiguousarray")]
    Fortran,
    /// More or fewer values than the shape needs.
    #[error("{found} bytes of values for the shape {shape:?}; the file is damaged")]
    WrongLength {
        /// Extents.
        shape: Vec<usize>,
        /// Bytes behind the header.
        found: u64,
    },
}

/// An array of a `.npy` file.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    /// Extents.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub data: Vec<f32>,
}

/// Reads a `.npy` file of little-endian 32-bit floats.
///
/// # Errors
/// [`IoError::Read`]; [`IoError::Npy`] for anything else, or a file whose length does not fit its shape.
pub fn read_npy(path: &Path) -> Result<NpyArray, IoError> {
    let unreadable = |source| IoError::Read {
        path: path.to_owned(),
        source,
    };
    let wrong = |reason| IoError::Npy {
        path: path.to_owned(),
        reason,
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut start = [0; 10];
    file.read_exact(&mut start).map_err(|_| wrong(NpyFault::NotNpy))?;
    let [0x93, b'N', b'U', b'M', b'P', b'Y', version, _, low, high] = start else {
        return Err(wrong(NpyFault::NotNpy));
    };
    let bad = || wrong(NpyFault::BadHeader);
    let mut begin = 10;
    let length = match version {
        1 => usize::from(u16::from_le_bytes([low, high])),
        2 | 3 => {
            let mut more = [0; 2];
            file.read_exact(&mut more).map_err(|_| bad())?;
            begin = 12;
            u32::from_le_bytes([low, high, more[0], more[1]]) as usize
        }
        _ => return Err(bad()),
    };
    if length > MAX_HEADER {
        return Err(bad());
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(|_| bad())?;
    let header = String::from_utf8(header).map_err(|_| bad())?;
    let (descr, fortran, shape) = parse(&header).ok_or_else(bad)?;
    if descr != "<f4" {
        return Err(wrong(NpyFault::WrongType { descr }));
    }
    if fortran {
        return Err(wrong(NpyFault::Fortran));
    }
    let found = size.saturating_sub(begin + length as u64);
    let values = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    let needed = values.and_then(|n| n.checked_mul(4));
    let Some(needed) = needed.filter(|&n| n as u64 == found) else {
        return Err(wrong(NpyFault::WrongLength { shape, found }));
    };
    let mut bytes = vec![0; needed];
    file.read_exact(&mut bytes).map_err(unreadable)?;
    let data = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok(NpyArray { shape, data })
}

/// Type, order and shape out of `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }`.
fn parse(header: &str) -> Option<(String, bool, Vec<usize>)> {
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start());
    let descr = after("'descr':")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
    let order = after("'fortran_order':")?;
    let fortran = order.starts_with("True");
    if !fortran && !order.starts_with("False") {
        return None;
    }
    let inner = after("'shape':")?.strip_prefix('(')?.split_once(')')?.0;
    let shape: Vec<usize> = inner
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    (shape.len() <= MAX_AXES).then_some((descr, fortran, shape))
}

/// Writes values as a `.npy` file, whole or not at all.
///
/// # Errors
/// [`IoError::Npy`] when there is not one value per element; [`IoError::Write`] when the system refuses.
pub fn write_npy(path: &Path, shape: &[usize], data: &[f32]) -> Result<(), IoError> {
    if shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s)) != Some(data.len()) {
        return Err(IoError::Npy {
            path: path.to_owned(),
            reason: NpyFault::WrongLength {
                shape: shape.to_vec(),
                found: 4 * data.len() as u64,
            },
        });
    }
    let extents: String = shape.iter().map(|s| format!("{s}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({extents}), }}");
    // The values begin at a multiple of 64 bytes.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    atomic_write(path, |file| {
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&(padded as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        data.chunks(1 << 14).try_for_each(|chunk| {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            file.write_all(&bytes)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 1 and what follows it.
    fn file(header: &str, values: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<NpyArray, IoError> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.npy");
        std::fs::write(&path, bytes).expect("written");
        read_npy(&path)
    }

    #[test]
    fn what_is_written_comes_back() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.npy");
        for shape in [vec![], vec![6], vec![1, 2, 3], vec![0, 4]] {
            let data: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 - 1.5).collect();
            write_npy(&path, &shape, &data).expect("written");
            assert_eq!(read_npy(&path).expect("read"), NpyArray { shape, data });
            let bytes = std::fs::read(&path).expect("read");
            assert_eq!(bytes.iter().position(|b| *b == b'\n').map(|i| (i + 1) % 64), Some(0));
        }
        assert!(write_npy(&path, &[2], &[1.0]).is_err());
    }

    #[test]
    fn numpys_own_spelling_is_read() {
        // numpy.save(…, numpy.array([[1, 2]], "float32"))
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }      \n";
        let array = read(&file(header, &[0, 0, 128, 63, 0, 0, 0, 64])).expect("read");
        assert_eq!((array.shape, array.data), (vec![1, 2], vec![1.0, 2.0]));
    }

    #[test]
    fn hostile_files_are_refused() {
        let fault = |bytes: &[u8]| match read(bytes) {
            Err(IoError::Npy { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        let header = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        assert_eq!(fault(b""), NpyFault::NotNpy);
        assert_eq!(fault(b"\x93NUMPY\x01\x00\xff\xff{"), NpyFault::BadHeader);
        assert_eq!(fault(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), NpyFault::BadHeader);
        assert_eq!(fault(b"\x93NUMPY\x09\x00\x00\x00"), NpyFault::BadHeader);
        for shape in ["(-1,)", "(1", "1", "(x,)", "(99999999999999999999,)"] {
            assert_eq!(fault(&file(&header(shape), &[0; 4])), NpyFault::BadHeader, "{shape}");
        }
        for shape in [
            "(2,)",
            "(4294967296, 4294967296, 4294967296)",
            "(9223372036854775807, 2)",
            "(1, 1, 3)",
        ] {
            assert!(
                matches!(fault(&file(&header(shape), &[0; 4])), NpyFault::WrongLength { .. }),
                "{shape}"
            );
        }
        let other = header("(1,)").replace("<f4", "<f8");
        assert!(matches!(fault(&file(&other, &[0; 8])), NpyFault::WrongType { .. }));
        let other = header("(1,)").replace("False", "True");
        assert_eq!(fault(&file(&other, &[0; 4])), NpyFault::Fortran);
    }
}
