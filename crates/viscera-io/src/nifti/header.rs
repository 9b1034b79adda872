//! The two headers: 348 bytes in NIfTI-1, 540 in NIfTI-2, in either byte order.

use crate::VolumeFault;
use crate::volume::voxels::DataType;
use viscera_image::Geometry;

/// Which of the two standards a file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NiftiVersion {
    /// NIfTI-1: lengths as `f32`, at most 32767 voxels per axis.
    One,
    /// NIfTI-2: lengths as `f64`.
    Two,
}

impl NiftiVersion {
    /// Bytes of the header.
    pub(super) fn header_len(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }
}

/// What a header says about the grid, field by field as it stands in the file: all that is needed to write a label map
/// whose geometry is the source's, bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceHeader {
    /// NIfTI-1 or NIfTI-2.
    pub version: NiftiVersion,
    /// Voxels along `[z, y, x]` of one volume.
    pub shape: [usize; 3],
    /// `pixdim`: handedness of the qform (−1 or 1), then spacing along x, y, z, then along further axes, in the
    /// header's unit.
    pub pixdim: [f64; 8],
    /// `xyzt_units`: codes of the units of length and time.
    pub xyzt_units: u8,
    /// What the qform maps to; 0 for no qform.
    pub qform_code: i32,
    /// What the sform maps to; 0 for no sform.
    pub sform_code: i32,
    /// Rotation of the qform: `b, c, d` of a unit quaternion.
    pub quatern: [f64; 3],
    /// World place of the first voxel by the qform, in the header's unit.
    pub qoffset: [f64; 3],
    /// Rows x, y, z of the sform: world = `srow` · `[i, j, k, 1]`, in the header's unit.
    pub srow: [[f64; 4]; 3],
    /// Free text of at most 79 bytes.
    pub descrip: String,
}

impl SourceHeader {
    /// The header of a grid that comes from no file: NIfTI-1 where it fits, mm, sform and qform of code 1 (scanner)
    /// that say the same.
    #[must_use]
    pub fn from_geometry(geometry: &Geometry) -> Self {
        super::forms::header_of(geometry)
    }
}

/// A whole header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) source: SourceHeader,
    pub(super) big_endian: bool,
    /// Header and data in one file (magic `n+1`), or in two (`ni1`).
    pub(super) single_file: bool,
    pub(super) datatype: DataType,
    /// Volumes in the file: the product of the extents past the third.
    pub(super) volumes: u64,
    /// Byte of the data file at which the voxels begin.
    pub(super) vox_offset: u64,
    /// Stored value × slope + intercept = intensity; `None` for the stored value itself.
    pub(super) scaling: Option<(f64, f64)>,
}

/// A fault and the byte of the header at which it lies.
pub(super) type Fault = (Option<u64>, VolumeFault);

/// Bytes of a header that was checked for its length, in its byte order.
struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    /// `N` bytes at an offset, first byte least significant. Past the end they are zero, which no caller asks for.
    fn raw<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(from) = self.bytes.get(at..at + N) {
            out.copy_from_slice(from);
        }
        if self.big_endian {
            out.reverse();
        }
        out
    }
    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.raw(at))
    }
    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.raw(at))
    }
    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.raw(at))
    }
    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.raw(at)))
    }
    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.raw(at))
    }
    fn text(&self, at: usize, len: usize) -> String {
        let bytes = self.bytes.get(at..at + len).unwrap_or_default();
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
    }
}

/// Version and byte order by the first four bytes of a file (`sizeof_hdr`).
pub(super) fn sniff(first: [u8; 4]) -> Result<(NiftiVersion, bool), VolumeFault> {
    match (i32::from_le_bytes(first), i32::from_be_bytes(first)) {
        (348, _) => Ok((NiftiVersion::One, false)),
        (540, _) => Ok((NiftiVersion::Two, false)),
        (_, 348) => Ok((NiftiVersion::One, true)),
        (_, 540) => Ok((NiftiVersion::Two, true)),
        _ => Err(VolumeFault::UnknownFormat { first }),
    }
}

/// The fields whose place and type differ between the versions, as they stand in the file.
struct Raw {
    dim: [i64; 8],
    datatype: i16,
    vox_offset: f64,
    slope: f64,
    inter: f64,
    /// Bytes at which dim, datatype, vox_offset and scl_slope stand.
    at: [u64; 4],
}

/// Reads and checks a header; `bytes` has the version's length.
pub(super) fn parse(bytes: &[u8], version: NiftiVersion, big_endian: bool) -> Result<Header, Fault> {
    let f = Fields { bytes, big_endian };
    let magic_at = if version == NiftiVersion::One { 344 } else { 4 };
    let magic = std::array::from_fn(|i| bytes.get(magic_at + i).copied().unwrap_or(0));
    let single_file = match (version, &magic) {
        (NiftiVersion::One, b"n+1\0") | (NiftiVersion::Two, b"n+2\0") => true,
        (NiftiVersion::One, b"ni1\0") | (NiftiVersion::Two, b"ni2\0") => false,
        _ => return Err((Some(magic_at as u64), VolumeFault::WrongMagic { magic })),
    };
    let (mut source, raw) = match version {
        NiftiVersion::One => one(&f),
        NiftiVersion::Two => two(&f),
    };
    let [dim_at, datatype_at, offset_at, slope_at] = raw.at.map(Some);
    let (shape, volumes) = extents(&raw.dim).map_err(|e| (dim_at, e))?;
    source.shape = shape;
    let datatype = datatype(raw.datatype).map_err(|e| (datatype_at, e))?;
    let scaling = scaling(raw.slope, raw.inter).map_err(|e| (slope_at, e))?;
    let least = if single_file { version.header_len() as f64 } else { 0.0 };
    if !(raw.vox_offset >= least && raw.vox_offset < 9e15 && raw.vox_offset.fract() == 0.0) {
        let vox_offset = raw.vox_offset;
        return Err((offset_at, VolumeFault::BadOffset { vox_offset }));
    }
    Ok(Header {
        source,
        big_endian,
        single_file,
        datatype,
        volumes,
        vox_offset: raw.vox_offset as u64,
        scaling,
    })
}

fn one(f: &Fields<'_>) -> (SourceHeader, Raw) {
    let source = SourceHeader {
        version: NiftiVersion::One,
        shape: [0; 3],
        pixdim: std::array::from_fn(|i| f.f32(76 + 4 * i)),
        xyzt_units: f.raw::<1>(123)[0],
        qform_code: i32::from(f.i16(252)),
        sform_code: i32::from(f.i16(254)),
        quatern: std::array::from_fn(|i| f.f32(256 + 4 * i)),
        qoffset: std::array::from_fn(|i| f.f32(268 + 4 * i)),
        srow: std::array::from_fn(|r| std::array::from_fn(|c| f.f32(280 + 16 * r + 4 * c))),
        descrip: f.text(148, 80),
    };
    let raw = Raw {
        dim: std::array::from_fn(|i| i64::from(f.i16(40 + 2 * i))),
        datatype: f.i16(70),
        vox_offset: f.f32(108),
        slope: f.f32(112),
        inter: f.f32(116),
        at: [40, 70, 108, 112],
    };
    (source, raw)
}

fn two(f: &Fields<'_>) -> (SourceHeader, Raw) {
    let source = SourceHeader {
        version: NiftiVersion::Two,
        shape: [0; 3],
        pixdim: std::array::from_fn(|i| f.f64(104 + 8 * i)),
        xyzt_units: u8::try_from(f.i32(500)).unwrap_or(0),
        qform_code: f.i32(344),
        sform_code: f.i32(348),
        quatern: std::array::from_fn(|i| f.f64(352 + 8 * i)),
        qoffset: std::array::from_fn(|i| f.f64(376 + 8 * i)),
        srow: std::array::from_fn(|r| std::array::from_fn(|c| f.f64(400 + 32 * r + 8 * c))),
        descrip: f.text(240, 80),
    };
    let raw = Raw {
        dim: std::array::from_fn(|i| f.i64(16 + 8 * i)),
        datatype: f.i16(12),
        vox_offset: f.i64(168) as f64,
        slope: f.f64(176),
        inter: f.f64(184),
        at: [16, 12, 168, 176],
    };
    (source, raw)
}

/// Shape `[z, y, x]` of one volume, and the number of volumes. Axes past `dim[0]` count as one voxel.
fn extents(dim: &[i64; 8]) -> Result<([usize; 3], u64), VolumeFault> {
    let bad = || VolumeFault::BadDimensions { dim: dim.to_vec() };
    let axes = usize::try_from(dim[0])
        .ok()
        .filter(|n| (1..=7).contains(n))
        .ok_or_else(bad)?;
    let mut extent = [1u64; 7];
    for (e, &d) in extent.iter_mut().zip(dim.iter().skip(1).take(axes)) {
        *e = u64::try_from(d).ok().filter(|&d| d > 0).ok_or_else(bad)?;
    }
    let [x, y, z, further @ ..] = extent;
    let mut shape = [0; 3];
    for (s, e) in shape.iter_mut().zip([z, y, x]) {
        *s = usize::try_from(e).map_err(|_| bad())?;
    }
    let volumes = further
        .iter()
        .try_fold(1u64, |n, &e| n.checked_mul(e))
        .ok_or_else(bad)?;
    Ok((shape, volumes))
}

/// The type of a header's `datatype`.
fn datatype(code: i16) -> Result<DataType, VolumeFault> {
    let name = match code {
        2 => return Ok(DataType::U8),
        4 => return Ok(DataType::I16),
        8 => return Ok(DataType::I32),
        16 => return Ok(DataType::F32),
        64 => return Ok(DataType::F64),
        256 => return Ok(DataType::I8),
        512 => return Ok(DataType::U16),
        768 => return Ok(DataType::U32),
        1024 => return Ok(DataType::I64),
        1280 => return Ok(DataType::U64),
        1 => "BINARY",
        32 => "COMPLEX64",
        128 => "RGB24",
        1536 => "FLOAT128",
        1792 => "COMPLEX128",
        2048 => "COMPLEX256",
        2304 => "RGBA32",
        _ => "unknown",
    };
    Err(VolumeFault::UnsupportedType {
        name: format!("{name} (code {code})"),
    })
}

/// The standard: slope 0 means none. Nibabel's custom: nor does a slope that is no number mean anything.
fn scaling(slope: f64, inter: f64) -> Result<Option<(f64, f64)>, VolumeFault> {
    if slope == 0.0 || !slope.is_finite() {
        return Ok(None);
    }
    if !inter.is_finite() {
        return Err(VolumeFault::BadScaling { slope, inter });
    }
    Ok((slope != 1.0 || inter != 0.0).then_some((slope, inter)))
}
