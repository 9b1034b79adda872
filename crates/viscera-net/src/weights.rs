//! The values of a graph's parameters, and their file form (safetensors, f32 or bf16).

use crate::{Graph, Init, NetError};
use half::bf16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use std::borrow::Cow;

/// One array per parameter of a graph, in the graph's order, each in the layout of [`crate::Param::shape`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// The arrays.
    pub values: Vec<Vec<f32>>,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Four bytes, exact.
    F32,
    /// Two bytes, rounded to nearest even.
    Bf16,
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
                Init::Constant(value) => vec![value; param.len()],
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

    /// Reads the tensors whose names are `prefix` + parameter name.
    ///
    /// # Errors
    /// [`NetError::Parameter`] when one is missing, has another shape, or is neither f32 nor bf16.
    pub fn from_safetensors(
        file: &safetensors::SafeTensors<'_>,
        graph: &Graph,
        prefix: &str,
    ) -> Result<Self, NetError> {
        let values = graph
            .params
            .par_iter()
            .map(|param| {
                let name = format!("{prefix}{}", param.name);
                let wrong = |reason: String| NetError::Parameter {
                    name: name.clone(),
                    reason,
                };
                let view = file
                    .tensor(&name)
                    .map_err(|_| wrong("missing in the weight file".to_owned()))?;
                if view.shape() != param.shape {
                    return Err(wrong(format!(
                        "has shape {:?} in the weight file, the network needs {:?}",
                        view.shape(),
                        param.shape
                    )));
                }
                decode(&view).ok_or_else(|| wrong(format!("is stored as {:?}; f32 and bf16 are read", view.dtype())))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { values })
    }
}

fn decode(view: &TensorView<'_>) -> Option<Vec<f32>> {
    match view.dtype() {
        Dtype::F32 => Some(
            view.data()
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        ),
        Dtype::BF16 => Some(
            view.data()
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_le_bytes(*b).to_f32())
                .collect(),
        ),
        _ => None,
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
