//! The values of a graph's parameters, and their file form (safetensors, f32 or bf16).

use crate::{Graph, Init, NetError, SharedBytes, Storage, Values};
use half::bf16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use std::borrow::Cow;
use std::sync::Arc;

/// One array per parameter of a graph, in the graph's order, each in the layout of [`crate::Param::shape`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// The arrays.
    pub values: Vec<Values>,
}

impl Weights {
    /// Fresh weights; the same seed gives the same ones.
    #[must_use]
    pub fn init(graph: &Graph, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values = graph
            .params
            .iter()
            .map(|param| match param.init {
                Init::Constant(value) => vec![value; param.len()].into(),
                Init::HeNormal { fan_in, slope } => {
                    let std = (2.0 / ((1.0 + slope * slope) * fan_in as f32)).sqrt();
                    (0..param.len()).map(|_| std * normal(&mut rng)).collect()
                }
                Init::Normal { std } => (0..param.len()).map(|_| std * normal(&mut rng)).collect(),
            })
            .collect();
        Self { values }
    }

    /// Checks that there is one array of the right length per parameter.
    ///
    /// # Errors
    /// [`NetError::Parameter`] naming the first that differs.
    pub fn check(&self, graph: &Graph) -> Result<(), NetError> {
        if self.values.len() != graph.params.len() {
            return Err(NetError::LengthMismatch {
                expected: graph.params.len(),
                found: self.values.len(),
            });
        }
        for (param, value) in graph.params.iter().zip(&self.values) {
            if param.len() != value.len() {
                return Err(NetError::Parameter {
                    name: param.name.clone(),
                    reason: format!("{} values for shape {:?}", value.len(), param.shape),
                });
            }
        }
        Ok(())
    }

    /// The tensors of a safetensors file, each name prefixed by `prefix`.
    #[must_use]
    pub fn to_tensors(&self, graph: &Graph, prefix: &str, storage: Storage) -> Vec<(String, StoredTensor)> {
        graph
            .params
            .iter()
            .zip(&self.values)
            .map(|(param, values)| {
                let (dtype, bytes) = match storage {
                    Storage::F32 => (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
                    Storage::Bf16 => (
                        Dtype::BF16,
                        values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
                    ),
                };
                let stored = StoredTensor {
                    dtype,
                    shape: param.shape.clone(),
                    bytes,
                };
                (format!("{prefix}{}", param.name), stored)
            })
            .collect()
    }
}

/// A safetensors file whose header was read and checked. Values are read when they are first needed, so the bytes must
/// not change.
#[derive(Clone)]
pub struct WeightFile {
    bytes: SharedBytes,
    header: Metadata,
    /// Where the tensors begin.
    start: usize,
}

impl WeightFile {
    /// Reads the header.
    ///
    /// # Errors
    /// [`NetError::Safetensors`] when it is damaged, or its tensors do not fill the rest of the bytes exactly.
    pub fn new(bytes: SharedBytes) -> Result<Self, NetError> {
        let (length, header) = SafeTensors::read_metadata((*bytes).as_ref())?;
        Ok(Self {
            bytes,
            header,
            start: length + 8,
        })
    }

    /// An entry of the file's metadata.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Names of the tensors, in the order of their places.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// The tensors whose names are `prefix` + parameter name.
    ///
    /// # Errors
    /// [`NetError::Parameter`] when one is missing, has another shape, or is neither f32 nor bf16.
    pub fn weights(&self, graph: &Graph, prefix: &str) -> Result<Weights, NetError> {
        let values = graph.params.iter().map(|param| {
            let name = format!("{prefix}{}", param.name);
            let wrong = |reason: String| NetError::Parameter {
                name: name.clone(),
                reason,
            };
            let found = self.header.info(&name);
            let found = found.ok_or_else(|| wrong("missing in the weight file".to_owned()))?;
            if found.shape != param.shape {
                return Err(wrong(format!(
                    "has shape {:?} in the weight file, the network needs {:?}",
                    found.shape, param.shape
                )));
            }
            let storage = match found.dtype {
                Dtype::F32 => Storage::F32,
                Dtype::BF16 => Storage::Bf16,
                other => return Err(wrong(format!("is stored as {other:?}; f32 and bf16 are read"))),
            };
            let (first, end) = found.data_offsets;
            let range = self.start + first..self.start + end;
            Ok(Values::stored(Arc::clone(&self.bytes), range, storage))
        });
        Ok(Weights {
            values: values.collect::<Result<_, _>>()?,
        })
    }
}

/// One tensor ready to be written by `safetensors::serialize`.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl safetensors::View for StoredTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A standard normal draw (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}
