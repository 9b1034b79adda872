//! From stored numbers to intensities or label ids, chunk by chunk, each in one pass.

use crate::{NiftiFault, Warning};
use std::collections::TryReserveError;

/// How voxels are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl DataType {
    /// The type of a header's `datatype`.
    pub(super) fn from_code(code: i16) -> Result<Self, NiftiFault> {
        let name = match code {
            2 => return Ok(Self::U8),
            4 => return Ok(Self::I16),
            8 => return Ok(Self::I32),
            16 => return Ok(Self::F32),
            64 => return Ok(Self::F64),
            256 => return Ok(Self::I8),
            512 => return Ok(Self::U16),
            768 => return Ok(Self::U32),
            1024 => return Ok(Self::I64),
            1280 => return Ok(Self::U64),
            1 => "BINARY",
            32 => "COMPLEX64",
            128 => "RGB24",
            1536 => "FLOAT128",
            1792 => "COMPLEX128",
            2048 => "COMPLEX256",
            2304 => "RGBA32",
            _ => "unknown",
        };
        Err(NiftiFault::UnsupportedType { code, name })
    }

    /// Bytes of a stored number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// A number as stored.
pub(super) trait Stored: Copy {
    /// The value as `i32`, for the types of at most 16 bits; `None` for the others.
    fn narrow(self) -> Option<i32>;
    /// The value as `f32`, rounded where it must be.
    fn f32(self) -> f32;
    /// The value as `f64`; exact but for 64-bit integers past 2⁵³.
    fn f64(self) -> f64;
}

macro_rules! stored {
    ($($t:ty: $narrow:expr;)*) => {$(
        impl Stored for $t {
            fn narrow(self) -> Option<i32> {
                let narrow: fn($t) -> Option<i32> = $narrow;
                narrow(self)
            }
            fn f32(self) -> f32 {
                self as f32
            }
            fn f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}

stored! {
    u8: |v| Some(v.into());
    i8: |v| Some(v.into());
    u16: |v| Some(v.into());
    i16: |v| Some(v.into());
    u32: |_| None;
    i32: |_| None;
    u64: |_| None;
    i64: |_| None;
    f32: |_| None;
    f64: |_| None;
}

/// Takes the voxels of a volume in file order.
pub(super) trait Sink {
    /// Takes the next values; an error ends the reading.
    fn take<T: Stored>(&mut self, values: impl ExactSizeIterator<Item = T> + Clone) -> Result<(), SinkError>;
}

/// Why a sink takes no more.
#[derive(Debug)]
pub(super) enum SinkError {
    /// A value that is no label id, at a voxel counted from 0.
    NotALabel { value: f64, voxel: usize },
    /// No memory.
    OutOfMemory,
}

impl From<TryReserveError> for SinkError {
    fn from(_: TryReserveError) -> Self {
        Self::OutOfMemory
    }
}

/// Hands the numbers in `bytes` (a whole number of them) to a sink.
pub(super) fn feed(sink: &mut impl Sink, datatype: DataType, big_endian: bool, bytes: &[u8]) -> Result<(), SinkError> {
    macro_rules! take {
        ($t:ty, $n:literal) => {{
            let numbers = bytes.as_chunks::<$n>().0.iter();
            if big_endian {
                sink.take(numbers.map(|b| <$t>::from_be_bytes(*b)))
            } else {
                sink.take(numbers.map(|b| <$t>::from_le_bytes(*b)))
            }
        }};
    }
    match datatype {
        DataType::U8 => take!(u8, 1),
        DataType::I8 => take!(i8, 1),
        DataType::U16 => take!(u16, 2),
        DataType::I16 => take!(i16, 2),
        DataType::U32 => take!(u32, 4),
        DataType::I32 => take!(i32, 4),
        DataType::U64 => take!(u64, 8),
        DataType::I64 => take!(i64, 8),
        DataType::F32 => take!(f32, 4),
        DataType::F64 => take!(f64, 8),
    }
}

/// Makes room for `more` items, by doubling but never past `total` items, so that neither a header that lies nor a
/// volume of known size costs more memory than it must.
fn make_room<T>(out: &mut Vec<T>, more: usize, total: usize) -> Result<(), SinkError> {
    let needed = out.len().saturating_add(more);
    if needed > out.capacity() {
        let target = out.capacity().saturating_mul(2).min(total).max(needed);
        out.try_reserve_exact(target - out.len())?;
    }
    Ok(())
}

/// Whole-number scaling that cannot overflow an `i32` on numbers of 16 bits.
fn whole_scaling(scaling: Option<(f64, f64)>) -> Option<(i32, i32)> {
    let (slope, inter) = scaling.unwrap_or((1.0, 0.0));
    let whole = |v: f64, limit: f64| (v.fract() == 0.0 && v.abs() <= limit).then_some(v as i32);
    Some((whole(slope, 1000.0)?, whole(inter, 1e6)?))
}

/// Intensities without their grid.
pub(super) enum Pixels {
    I16(Vec<i16>),
    F32(Vec<f32>),
}

/// HU of air, for a volume with no finite voxel at all.
const NO_FINITE_VALUE: f32 = -1024.0;

/// Collects intensities: as `i16` as long as they are stored in at most 16 bits and fit, else as `f32`.
pub(super) struct ImageSink {
    total: usize,
    scaling: Option<(f64, f64)>,
    /// The scaling in whole numbers, as long as `out` is `i16`.
    whole: (i32, i32),
    out: Pixels,
    lowest: f32,
    non_finite: u64,
}

impl ImageSink {
    /// A sink for `total` voxels, with room for `room` of them to begin with.
    pub(super) fn new(
        total: usize,
        room: usize,
        datatype: DataType,
        scaling: Option<(f64, f64)>,
    ) -> Result<Self, SinkError> {
        let (whole, out) = match whole_scaling(scaling).filter(|_| datatype.bytes() <= 2) {
            Some(whole) => (whole, Pixels::I16(with_room(room.min(total))?)),
            None => ((1, 0), Pixels::F32(with_room(room.min(total))?)),
        };
        Ok(Self {
            total,
            scaling,
            whole,
            out,
            lowest: f32::INFINITY,
            non_finite: 0,
        })
    }

    /// Bytes per voxel that a sink begins with.
    pub(super) fn voxel_bytes(datatype: DataType, scaling: Option<(f64, f64)>) -> usize {
        match whole_scaling(scaling).filter(|_| datatype.bytes() <= 2) {
            Some(_) => size_of::<i16>(),
            None => size_of::<f32>(),
        }
    }

    /// The voxels; the infinite and the undefined ones become the lowest finite one.
    pub(super) fn finish(mut self, warnings: &mut Vec<Warning>) -> Pixels {
        if let (Pixels::F32(out), 1..) = (&mut self.out, self.non_finite) {
            let replaced_by = if self.lowest.is_finite() {
                self.lowest
            } else {
                NO_FINITE_VALUE
            };
            out.iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = replaced_by);
            warnings.push(Warning::NonFinite {
                voxels: self.non_finite,
                replaced_by,
            });
        }
        self.out
    }
}

impl Sink for ImageSink {
    fn take<T: Stored>(&mut self, values: impl ExactSizeIterator<Item = T> + Clone) -> Result<(), SinkError> {
        let more = values.len();
        if let Pixels::I16(out) = &mut self.out {
            let narrow = |v: T| v.narrow().unwrap_or(0);
            // Most scans have slope 1: baseline x86-64 has no vector product of `i32`.
            let fit = match self.whole {
                (1, inter) => extend_i16(out, self.total, values.clone().map(|v| narrow(v) + inter))?,
                (slope, inter) => extend_i16(out, self.total, values.clone().map(|v| narrow(v) * slope + inter))?,
            };
            if fit {
                return Ok(());
            }
            let mut wider = with_room(out.capacity().max(out.len() + more))?;
            wider.extend(out.iter().map(|&v| f32::from(v)));
            self.out = Pixels::F32(wider);
        }
        if let Pixels::F32(out) = &mut self.out {
            make_room(out, more, self.total)?;
            let start = out.len();
            match self.scaling {
                None => out.extend(values.map(T::f32)),
                Some((slope, inter)) => out.extend(values.map(|v| (v.f64() * slope + inter) as f32)),
            }
            for v in out.iter().skip(start) {
                if v.is_finite() {
                    self.lowest = self.lowest.min(*v);
                } else {
                    self.non_finite += 1;
                }
            }
        }
        Ok(())
    }
}

/// Appends values if all of them fit; says whether they did.
fn extend_i16(out: &mut Vec<i16>, total: usize, values: impl ExactSizeIterator<Item = i32>) -> Result<bool, SinkError> {
    make_room(out, values.len(), total)?;
    let start = out.len();
    let mut beyond = 0;
    out.extend(values.map(|v| {
        beyond |= v ^ i32::from(v as i16);
        v as i16
    }));
    if beyond != 0 {
        out.truncate(start);
    }
    Ok(beyond == 0)
}

/// Collects label ids.
pub(super) struct LabelSink {
    total: usize,
    scaling: (f64, f64),
    out: Vec<u8>,
}

impl LabelSink {
    /// A sink for `total` voxels, with room for `room` of them to begin with.
    pub(super) fn new(total: usize, room: usize, scaling: Option<(f64, f64)>) -> Result<Self, SinkError> {
        Ok(Self {
            total,
            scaling: scaling.unwrap_or((1.0, 0.0)),
            out: with_room(room.min(total))?,
        })
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}

impl Sink for LabelSink {
    fn take<T: Stored>(&mut self, values: impl ExactSizeIterator<Item = T> + Clone) -> Result<(), SinkError> {
        make_room(&mut self.out, values.len(), self.total)?;
        let (slope, inter) = self.scaling;
        let start = self.out.len();
        let scaled = values.map(|v| v.f64() * slope + inter);
        self.out.extend(scaled.clone().map(|v| v as u8));
        // The cast saturates and cuts, so that only whole numbers in range come back.
        let mut pairs = scaled.zip(self.out.iter().skip(start)).enumerate();
        match pairs.find(|(_, (v, id))| *v != f64::from(**id)) {
            None => Ok(()),
            Some((at, (value, _))) => Err(SinkError::NotALabel {
                value,
                voxel: start + at,
            }),
        }
    }
}

/// An empty vector with room.
fn with_room<T>(room: usize) -> Result<Vec<T>, SinkError> {
    let mut out = Vec::new();
    out.try_reserve_exact(room)?;
    Ok(out)
}
