//! What the allowed names make of their arguments. This list is all that a checkpoint can ask for.

use super::machine::{Id, Value, Values};
use super::tensor::{Kind, Storage, TensorRef};

/// A name that a pickle may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`.
    Dict,
    /// A list of its one argument: `torch.Size`, `set`.
    List,
    /// `torch._utils._rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_parameter`.
    Parameter,
    /// A storage class of `torch`.
    Storage(Kind),
    /// `numpy.dtype`.
    Dtype,
    /// `numpy.core.multiarray.scalar`.
    Scalar,
    /// `_codecs.encode`: how protocol 2 spells bytes.
    Encode,
    /// Known to be harmless, and its value is of no use: `torch.device`, `torch.float32`, `pathlib.PosixPath`.
    Ignored,
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Result<Self, String> {
        if let ("torch", Some(kind)) = (module, Kind::of_storage(name)) {
            return Ok(Self::Storage(kind));
        }
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::Dict,
            ("torch", "Size") | ("builtins" | "__builtin__", "set" | "list" | "tuple") => Self::List,
            ("torch._utils", "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("numpy", "dtype") => Self::Dtype,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("_codecs", "encode") => Self::Encode,
            ("torch", "device" | "float16" | "float32" | "float64" | "bfloat16" | "int64")
            | ("pathlib", "PosixPath" | "WindowsPath" | "PurePosixPath" | "PureWindowsPath")
            | ("pathlib._local", "PosixPath" | "WindowsPath") => Self::Ignored,
            _ => {
                return Err(format!(
                    "its pickle asks for {module}.{name}, which is not on the list of harmless names; nothing was run. \
                     If you trust the file, load it in Python and save only its tensors"
                ));
            }
        })
    }
}

/// The value of an allowed name called with a tuple of arguments.
pub(super) fn call(global: Global, arguments: Id, values: &Values) -> Result<Value, String> {
    let wrong = || format!("wrong arguments for {global:?}");
    let items = values.list(arguments).ok_or_else(wrong)?;
    let item = |i: usize| items.get(i).map(|&id| values.get(id)).ok_or_else(wrong);
    Ok(match global {
        Global::Dict => match items {
            [] => Value::Dict(Vec::new()),
            // Protocol 2 may give pairs.
            [pairs, ..] => {
                let pairs = values.list(*pairs).ok_or_else(wrong)?;
                let pair = |id: &Id| match values.list(*id) {
                    Some(&[k, v]) => Ok((k, v)),
                    _ => Err(wrong()),
                };
                Value::Dict(pairs.iter().map(pair).collect::<Result<_, _>>()?)
            }
        },
        Global::List => match items {
            [] => Value::List(Vec::new()),
            [one, ..] => Value::List(values.list(*one).ok_or_else(wrong)?.to_vec()),
        },
        Global::Tensor => {
            let (Value::Storage(storage), Value::Int(offset)) = (item(0)?, item(1)?) else {
                return Err(wrong());
            };
            let numbers = |i: usize| -> Result<Vec<u64>, String> {
                let list = items.get(i).and_then(|&id| values.list(id)).ok_or_else(wrong)?;
                let number = |id: &Id| match values.get(*id) {
                    Value::Int(n) => u64::try_from(*n).map_err(|_| wrong()),
                    _ => Err(wrong()),
                };
                list.iter().map(number).collect()
            };
            let offset = u64::try_from(*offset).map_err(|_| wrong())?;
            let tensor = TensorRef::new((**storage).clone(), offset, numbers(2)?, numbers(3)?)?;
            Value::Tensor(Box::new(tensor))
        }
        // Its first argument is the tensor.
        Global::Parameter => match item(0)? {
            Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
            _ => return Err(wrong()),
        },
        // Its first argument is the name of the type, such as f8.
        Global::Dtype => match item(0)? {
            Value::Text(text) => Value::Text(text.clone()),
            _ => return Err(wrong()),
        },
        Global::Scalar => match (item(0)?, item(1)?) {
            (Value::Text(dtype), Value::Bytes(bytes)) => scalar(dtype, bytes),
            _ => return Err(wrong()),
        },
        Global::Encode => match (item(0)?, item(1)?) {
            (Value::Text(text), Value::Text(code)) if **code == *"latin1" => {
                let bytes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
                Value::Bytes(bytes.map_err(|_| wrong())?.into())
            }
            _ => return Err(wrong()),
        },
        Global::Ignored => Value::None,
        Global::Storage(_) => return Err(wrong()),
    })
}

/// A NumPy number; `None` for types that need not be known.
fn scalar(dtype: &str, bytes: &[u8]) -> Value {
    match (dtype.trim_start_matches(['<', '=', '|']), bytes) {
        ("f8", &[a, b, c, d, e, f, g, h]) => Value::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h])),
        ("f4", &[a, b, c, d]) => Value::Float(f32::from_le_bytes([a, b, c, d]).into()),
        ("i8", &[a, b, c, d, e, f, g, h]) => Value::Int(i64::from_le_bytes([a, b, c, d, e, f, g, h])),
        ("i4", &[a, b, c, d]) => Value::Int(i32::from_le_bytes([a, b, c, d]).into()),
        ("b1", &[a]) => Value::Int(i64::from(a != 0)),
        _ => Value::None,
    }
}

/// A storage by its persistent id: `("storage", class, key, device, length)`.
pub(super) fn persistent(id: Id, values: &Values) -> Result<Storage, String> {
    let wrong = || "an outside object that is no storage".to_owned();
    let Some(&[tag, class, key, _, len]) = values.list(id) else {
        return Err(wrong());
    };
    match (values.text(tag), values.get(class), values.text(key), values.get(len)) {
        (Some("storage"), Value::Global(Global::Storage(kind)), Some(key), Value::Int(len)) => Ok(Storage {
            kind: *kind,
            key: key.to_owned(),
            len: u64::try_from(*len).map_err(|_| wrong())?,
        }),
        _ => Err(wrong()),
    }
}
