//! An open checkpoint and its content.

use super::archive::Archive;
use super::machine::{self, Id, Value, Values};
use super::tensor::TensorRef;
use crate::ConvertError;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Longest pickle. It holds names and numbers of training logs, not weights.
const MAX_PICKLE: u64 = 64 << 20;

/// A PyTorch checkpoint. Only its pickle was read; tensors are read by [`Self::read`].
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    archive: Archive,
    /// Folder of all entries inside the archive.
    folder: String,
    values: Values,
    root: Id,
}

impl Checkpoint {
    /// Opens a `.pth` file.
    ///
    /// # Errors
    /// [`ConvertError::Read`]; [`ConvertError::Checkpoint`] for a file that is no zip archive of PyTorch, or whose pickle
    /// asks for anything but plain data and tensors.
    pub fn open(path: &Path) -> Result<Self, ConvertError> {
        let wrong = |reason: String| ConvertError::Checkpoint {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(|source| ConvertError::Read {
            path: path.to_owned(),
            source,
        })?;
        let archive = Archive::open(file).map_err(wrong)?;
        let mut folders = archive.names().filter_map(|name| name.strip_suffix("/data.pkl"));
        let folder = match (folders.next(), folders.next()) {
            (Some(folder), None) => folder.to_owned(),
            _ => {
                return Err(wrong(
                    "a zip archive without data.pkl: not written by torch.save".to_owned(),
                ));
            }
        };
        drop(folders);
        if let Some(order) = archive.find(&format!("{folder}/byteorder")).map_err(wrong)?
            && order.len <= 16
            && archive.read(order).map_err(wrong)? == b"big"
        {
            return Err(wrong("written on a big-endian computer".to_owned()));
        }
        let pickle = archive.find(&format!("{folder}/data.pkl")).map_err(wrong)?;
        let pickle = pickle.filter(|span| span.len <= MAX_PICKLE);
        let pickle = pickle.ok_or_else(|| wrong(format!("a pickle of more than {MAX_PICKLE} bytes")))?;
        let pickle = archive.read(pickle).map_err(wrong)?;
        let (values, root) = machine::run(&pickle).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            archive,
            folder,
            values,
            root,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved.
    #[must_use]
    pub fn root(&self) -> Item<'_> {
        Item {
            values: &self.values,
            id: self.root,
        }
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.archive.size()
    }

    /// The values of a tensor, last axis fastest.
    ///
    /// # Errors
    /// [`ConvertError::Checkpoint`] when its storage is missing or shorter than the pickle says, or when two elements
    /// are one number.
    pub fn read(&self, tensor: &TensorRef) -> Result<Vec<f32>, ConvertError> {
        let wrong = |reason: String| self.error(reason);
        let storage = &tensor.storage;
        let name = format!("{}/data/{}", self.folder, storage.key);
        let entry = self.archive.find(&name).map_err(wrong)?;
        let entry = entry.ok_or_else(|| wrong(format!("the storage \"{}\" is missing", storage.key)))?;
        let size = storage.kind.size();
        if storage.len.checked_mul(size).is_none_or(|bytes| bytes > entry.len) {
            return Err(wrong(format!(
                "the storage \"{}\" has {} bytes, too few for its {} numbers",
                storage.key, entry.len, storage.len
            )));
        }
        // No overflow: the range lies in the storage, and the storage in the file.
        let (first, end) = tensor.range();
        let mut span = entry;
        span.start += first * size;
        span.len = (end - first) * size;
        let numbers = storage.kind.decode(&self.archive.read(span).map_err(wrong)?);
        tensor
            .gather(numbers)
            .ok_or_else(|| wrong(format!("a tensor in storage \"{}\" repeats its numbers", storage.key)))
    }

    /// An error about this file.
    #[must_use]
    pub fn error(&self, reason: String) -> ConvertError {
        ConvertError::Checkpoint {
            path: self.path.clone(),
            reason,
        }
    }
}

/// A value inside a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    values: &'a Values,
    id: Id,
}

impl<'a> Item<'a> {
    fn of(self, id: Id) -> Self {
        Self { id, ..self }
    }

    /// The value of a key of a dictionary; the last where a key stands twice, as in Python.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Self> {
        self.entries()?.filter(|(k, _)| *k == key).last().map(|(_, v)| v)
    }

    /// Keys that are texts and their values, if this is a dictionary.
    pub fn entries(self) -> Option<impl Iterator<Item = (&'a str, Self)>> {
        match self.values.get(self.id) {
            Value::Dict(pairs) => Some(
                pairs
                    .iter()
                    .filter_map(move |&(k, v)| Some((self.values.text(k)?, self.of(v)))),
            ),
            _ => None,
        }
    }

    /// Items, if this is a list, tuple or set.
    pub fn items(self) -> Option<impl Iterator<Item = Self>> {
        Some(self.values.list(self.id)?.iter().map(move |&id| self.of(id)))
    }

    /// The text, if this is one.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        self.values.text(self.id)
    }

    /// The whole number, if this is one.
    #[must_use]
    pub fn int(self) -> Option<i64> {
        match self.values.get(self.id) {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The number, if this is one.
    #[must_use]
    pub fn float(self) -> Option<f64> {
        match self.values.get(self.id) {
            Value::Float(x) => Some(*x),
            Value::Int(n) => Some(*n as f64),
            _ => None,
        }
    }

    /// The tensor, if this is one.
    #[must_use]
    pub fn tensor(self) -> Option<&'a TensorRef> {
        match self.values.get(self.id) {
            Value::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}
