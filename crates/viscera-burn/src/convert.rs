//! Between the workspace's tensors and Burn's.

use crate::EXECUTOR;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor as BurnTensor, TensorData};
use viscera_net::{NetError, Tensor};

/// Hands a tensor to Burn. The CPU backend takes the values over without copying them.
#[must_use]
pub fn to_burn<B: Backend>(tensor: Tensor, device: &B::Device) -> BurnTensor<B, 5> {
    let shape = tensor.shape();
    BurnTensor::from_data(TensorData::new(tensor.into_data(), shape), device)
}

/// Takes a tensor from Burn, as f32. The CPU backend gives its values without a copy when nobody else holds them.
///
/// # Errors
/// [`NetError::Executor`] when the device cannot be read.
pub fn from_burn<B: Backend>(tensor: BurnTensor<B, 5>) -> Result<Tensor, NetError> {
    let shape = tensor.dims();
    Tensor::new(shape, values(tensor)?)
}

/// The values of a tensor of any rank, last axis fastest.
pub(crate) fn values<B: Backend, const D: usize>(tensor: BurnTensor<B, D>) -> Result<Vec<f32>, NetError> {
    let failed = |reason: String| NetError::Executor {
        executor: EXECUTOR,
        reason,
    };
    let data = tensor.try_into_data().map_err(|e| failed(format!("{e:?}")))?;
    data.convert::<f32>().into_vec().map_err(|e| failed(format!("{e:?}")))
}
