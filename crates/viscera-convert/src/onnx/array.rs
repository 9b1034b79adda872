//! Constant arrays of a model: weights, and integers from which sizes are computed.

use super::extent::Dim;
use super::proto::TensorProto;
use half::{bf16, f16};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use viscera_net::NodeId;

/// Values that may be made beyond eight per byte read, for constants that a model computes.
const SPARE_VALUES: usize = 1 << 22;

/// An integer that is known or follows from sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int {
    pub(super) dim: Dim,
    /// The node whose size it is.
    pub(super) of: Option<NodeId>,
}

impl From<Dim> for Int {
    fn from(dim: Dim) -> Self {
        Self { dim, of: None }
    }
}

/// Values in row-major order.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Integers and truth values; also open sizes that were cast to float.
    Ints(Vec<Int>),
    /// Real numbers.
    Floats(Vec<f32>),
}

impl Data {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }
}

/// A constant.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) dims: Vec<usize>,
    pub(super) data: Data,
    /// The initialiser that it is, perhaps in another shape.
    pub(super) name: Option<Rc<str>>,
}

impl Array {
    /// A list of integers.
    pub(super) fn ints(values: impl IntoIterator<Item = Int>) -> Self {
        let values: Vec<Int> = values.into_iter().collect();
        Self {
            dims: vec![values.len()],
            data: Data::Ints(values),
            name: None,
        }
    }

    /// The real numbers.
    pub(super) fn floats(&self) -> Result<&[f32], String> {
        match &self.data {
            Data::Floats(values) => Ok(values),
            Data::Ints(_) => Err("has integers where real numbers are needed".to_owned()),
        }
    }

    /// The integers.
    pub(super) fn integers(&self) -> Result<&[Int], String> {
        match &self.data {
            Data::Ints(values) => Ok(values),
            Data::Floats(_) => Err("has real numbers where integers are needed".to_owned()),
        }
    }

    /// The integers, none of them open.
    pub(super) fn numbers(&self) -> Result<Vec<i64>, String> {
        let number = |int: &Int| match int.dim {
            Dim::Known(value) => Ok(value),
            Dim::Open(_) => Err("depends on the size of the input where a number is needed".to_owned()),
        };
        self.integers()?.iter().map(number).collect()
    }
}

/// Number of values of a shape. A shape without values must be small otherwise, so that no loop over its axes is long.
pub(super) fn count(dims: &[usize]) -> Result<usize, String> {
    let around = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    match around {
        Some(n) if !dims.contains(&0) => Ok(n),
        Some(..=SPARE_VALUES) => Ok(0),
        _ => Err(format!("the shape {dims:?} overflows")),
    }
}

/// Reads constants, within a bound that follows from the size of what was read.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    left: usize,
    /// External files whose size has been added to the bound.
    seen: Vec<PathBuf>,
}

impl Store {
    /// For a model of `bytes` bytes whose external data may lie in `folder`.
    pub(super) fn new(folder: PathBuf, bytes: usize) -> Self {
        Self {
            folder,
            left: bytes.saturating_mul(8).saturating_add(SPARE_VALUES),
            seen: Vec::new(),
        }
    }

    /// Takes `values` values from the bound.
    pub(super) fn charge(&mut self, values: usize) -> Result<(), String> {
        self.left = self
            .left
            .checked_sub(values)
            .ok_or_else(|| format!("{values} more constant values are asked for, too many for a file of this size"))?;
        Ok(())
    }

    /// Decodes a tensor.
    pub(super) fn read(&mut self, tensor: &TensorProto<'_>) -> Result<Array, String> {
        self.values(tensor)
            .map_err(|reason| format!("tensor '{}' {reason}", tensor.name))
    }

    fn values(&mut self, tensor: &TensorProto<'_>) -> Result<Array, String> {
        let dims = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| format!("has the impossible shape {:?}", tensor.dims)))
            .collect::<Result<Vec<_>, _>>()?;
        let n = count(&dims)?;
        let external;
        let raw = if tensor.is_external {
            external = self.external(tensor, n)?;
            Some(external.as_slice())
        } else {
            tensor.raw
        };
        let data = match raw {
            Some(raw) => {
                let size = element_size(tensor.data_type)?;
                if n.checked_mul(size) != Some(raw.len()) {
                    let bytes = raw.len();
                    return Err(format!(
                        "has shape {dims:?} of {size} bytes each, but {bytes} bytes of data"
                    ));
                }
                self.charge(n)?;
                from_raw(tensor.data_type, raw)?
            }
            None => from_typed(tensor, n)?,
        };
        if data.len() != n {
            return Err(format!("has shape {dims:?}, but {} values", data.len()));
        }
        if raw.is_none() {
            self.charge(n)?;
        }
        let name = (!tensor.name.is_empty()).then(|| Rc::from(tensor.name));
        Ok(Array { dims, data, name })
    }

    /// The bytes of a tensor that lie in a file of their own, which must be in the model's folder.
    fn external(&mut self, tensor: &TensorProto<'_>, n: usize) -> Result<Vec<u8>, String> {
        let entry = |key: &str| tensor.external.iter().find(|(k, _)| *k == key).map(|(_, value)| *value);
        let location = entry("location").ok_or("says that its data lie in another file, but not in which")?;
        let number = |key: &str| match entry(key) {
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("has the {key} '{text}'")),
            None => Ok(None),
        };
        let size = element_size(tensor.data_type)?;
        let bytes = n.checked_mul(size).ok_or("has an impossible shape")?;
        if number("length")?.is_some_and(|length| length != bytes as u64) {
            return Err(format!(
                "needs {bytes} bytes, but says that it has another number in '{location}'"
            ));
        }
        let relative = Path::new(location);
        let inside = relative
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let outside = || format!("has its data in '{location}', which is not in the model's folder");
        if !inside || location.is_empty() {
            return Err(outside());
        }
        let cannot = |source: std::io::Error| format!("has its data in '{location}', which cannot be read: {source}");
        let folder = self.folder.canonicalize().map_err(cannot)?;
        // Links are followed before the place is judged.
        let path = folder.join(relative).canonicalize().map_err(cannot)?;
        if !path.starts_with(&folder) {
            return Err(outside());
        }
        if !path.metadata().map_err(cannot)?.is_file() {
            return Err(format!("has its data in '{location}', which is not a file"));
        }
        let mut file = File::open(&path).map_err(cannot)?;
        let held = file.metadata().map_err(cannot)?.len();
        let start = number("offset")?.unwrap_or(0);
        if start.checked_add(bytes as u64).is_none_or(|end| end > held) {
            return Err(format!(
                "needs {bytes} bytes from byte {start} of '{location}', which has {held}"
            ));
        }
        if !self.seen.contains(&path) {
            self.left = self
                .left
                .saturating_add(usize::try_from(held).unwrap_or(usize::MAX).saturating_mul(8));
            self.seen.push(path);
        }
        let mut data = vec![0; bytes];
        file.seek(SeekFrom::Start(start)).map_err(cannot)?;
        file.read_exact(&mut data).map_err(cannot)?;
        Ok(data)
    }
}

/// Bytes per value of a data type of ONNX.
fn element_size(data_type: i64) -> Result<usize, String> {
    match data_type {
        2 | 3 | 9 => Ok(1),
        4 | 5 | 10 | 16 => Ok(2),
        1 | 6 => Ok(4),
        7 | 11 => Ok(8),
        other => Err(format!(
            "has data type {other}; f16, bf16, f32, f64 and integers are read"
        )),
    }
}

fn from_raw(data_type: i64, raw: &[u8]) -> Result<Data, String> {
    fn each<const N: usize, T>(raw: &[u8], make: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks().0.iter().map(|&bytes| make(bytes)).collect()
    }
    let int = |value: i64| Int::from(Dim::Known(value));
    Ok(match data_type {
        1 => Data::Floats(each(raw, f32::from_le_bytes)),
        10 => Data::Floats(each(raw, |b| f16::from_le_bytes(b).to_f32())),
        16 => Data::Floats(each(raw, |b| bf16::from_le_bytes(b).to_f32())),
        11 => Data::Floats(each(raw, |b| f64::from_le_bytes(b) as f32)),
        7 => Data::Ints(each(raw, |b| int(i64::from_le_bytes(b)))),
        6 => Data::Ints(each(raw, |b| int(i32::from_le_bytes(b).into()))),
        5 => Data::Ints(each(raw, |b| int(i16::from_le_bytes(b).into()))),
        4 => Data::Ints(each(raw, |b| int(u16::from_le_bytes(b).into()))),
        3 => Data::Ints(each(raw, |b| int(i8::from_le_bytes(b).into()))),
        _ => Data::Ints(each(raw, |[b]| int(b.into()))),
    })
}

/// Values from typed fields, at most as many as the fields hold.
fn from_typed(tensor: &TensorProto<'_>, n: usize) -> Result<Data, String> {
    let field = match tensor.data_type {
        1 => 4,
        2..=6 | 9 | 10 | 16 => 5,
        7 => 7,
        11 => 10,
        other => {
            return Err(format!(
                "has data type {other}; f16, bf16, f32, f64 and integers are read"
            ));
        }
    };
    let fields = tensor
        .typed
        .iter()
        .filter(|(number, _)| *number == field)
        .map(|(_, f)| *f);
    let (mut floats, mut ints) = (Vec::new(), Vec::new());
    for content in fields {
        match field {
            4 => content.floats(&mut floats)?,
            10 => content.doubles(&mut floats)?,
            _ => content.ints(&mut ints)?,
        }
        if floats.len().max(ints.len()) > n {
            return Err("has more values than its shape".to_owned());
        }
    }
    Ok(match tensor.data_type {
        1 | 11 => Data::Floats(floats),
        10 => Data::Floats(ints.iter().map(|&v| f16::from_bits(v as u16).to_f32()).collect()),
        16 => Data::Floats(ints.iter().map(|&v| bf16::from_bits(v as u16).to_f32()).collect()),
        _ => Data::Ints(ints.into_iter().map(|v| Dim::Known(v).into()).collect()),
    })
}
