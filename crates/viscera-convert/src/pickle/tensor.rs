//! Tensors of a checkpoint: which part of which storage they are.

use half::{bf16, f16};

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Signed, 8 bytes.
    I64,
    /// Signed, 4 bytes.
    I32,
    /// Signed, 2 bytes.
    I16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// Truth value of a byte.
    Bool,
}

impl Kind {
    /// The kind of a storage class such as `FloatStorage`.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes of one number.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// All numbers of little-endian bytes as singles. Rounds to nearest where a kind is finer.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|b| number(*b)).collect()
        }
        match self {
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Self::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Self::U8 => each(bytes, |[b]: [u8; 1]| f32::from(b)),
            Self::Bool => each(bytes, |[b]: [u8; 1]| f32::from(u8::from(b != 0))),
        }
    }
}

/// A storage: one entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) kind: Kind,
    pub(super) key: String,
    /// Numbers it has, as the pickle says.
    pub(super) len: u64,
}

/// A tensor that was not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    pub(super) storage: Storage,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<u64>,
}

impl TensorRef {
    /// Checks that all its numbers lie in its storage and none is two of its elements.
    pub(super) fn new(storage: Storage, offset: u64, shape: Vec<u64>, strides: Vec<u64>) -> Result<Self, String> {
        let describe = || format!("a tensor of shape {shape:?}, strides {strides:?} and offset {offset}");
        if shape.len() != strides.len() {
            return Err(format!("{} has unequal numbers of axes", describe()));
        }
        let count = shape.iter().try_fold(1u64, |n, &s| n.checked_mul(s));
        let last = shape.iter().zip(&strides).try_fold(offset, |at, (&s, &stride)| {
            at.checked_add(s.saturating_sub(1).checked_mul(stride)?)
        });
        let fits = match (count, last) {
            (Some(0), Some(_)) => offset <= storage.len,
            (Some(count), Some(last)) => last < storage.len && count <= storage.len,
            _ => false,
        };
        if !fits {
            return Err(format!(
                "{} does not fit its storage \"{}\" of {} numbers",
                describe(),
                storage.key,
                storage.len
            ));
        }
        let sizes: Option<Vec<usize>> = shape.iter().map(|&s| usize::try_from(s).ok()).collect();
        let sizes = sizes.ok_or_else(|| format!("{} is too large", describe()))?;
        let tensor = Self {
            storage,
            offset,
            shape: sizes,
            strides,
        };
        Ok(tensor)
    }

    /// Extents.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How its numbers are stored.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.storage.kind
    }

    /// Number of elements; [`Self::new`] made sure that it fits.
    pub(super) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// First and one past the last number of the storage that it covers.
    pub(super) fn range(&self) -> (u64, u64) {
        let last: u64 = self
            .shape
            .iter()
            .zip(&self.strides)
            .map(|(&s, stride)| (s as u64).saturating_sub(1) * stride)
            .sum();
        let len = if self.count() == 0 { 0 } else { last + 1 };
        (self.offset, self.offset + len)
    }

    /// Whether the two share numbers.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let ((a, b), (c, d)) = (self.range(), other.range());
        self.storage.key == other.storage.key && a < d && c < b
    }

    /// Picks its elements, last axis fastest, from the numbers of [`Self::range`]. `None` where two elements are one
    /// number (an expanded tensor): strides must be a permutation of a dense layout's.
    pub(super) fn gather(&self, numbers: Vec<f32>) -> Option<Vec<f32>> {
        let mut axes: Vec<(u64, usize)> = self
            .strides
            .iter()
            .copied()
            .zip(self.shape.iter().copied())
            .filter(|&(_, s)| s > 1)
            .collect();
        let dense = axes.iter().rev().try_fold(1u64, |want, &(stride, size)| {
            (stride == want).then_some(want * size as u64)
        });
        if dense.is_some() {
            return Some(numbers);
        }
        let in_order = axes.clone();
        axes.sort_unstable();
        let mut reach = 0;
        for &(stride, size) in &axes {
            if stride <= reach {
                return None;
            }
            reach += (size as u64 - 1) * stride;
        }
        let mut index = vec![0usize; in_order.len()];
        let mut out = Vec::with_capacity(self.count());
        let mut at = 0u64;
        for _ in 0..self.count() {
            out.push(*numbers.get(usize::try_from(at).ok()?)?);
            for (i, &(stride, size)) in index.iter_mut().zip(&in_order).rev() {
                *i += 1;
                at += stride;
                if *i < size {
                    break;
                }
                at -= stride * size as u64;
                *i = 0;
            }
        }
        Some(out)
    }
}
