//! Pointwise functions.

use super::norm::per_channel;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use viscera_net::{Activation, ParamId};

/// The function of every value; `None` for one that is not known here.
pub(crate) fn activate<B: Backend>(
    x: Tensor<B, 5>,
    function: Activation,
    param: impl Fn(ParamId) -> Tensor<B, 1>,
) -> Option<Tensor<B, 5>> {
    Some(match function {
        Activation::LeakyRelu { slope: 0.0 } => activation::relu(x),
        Activation::LeakyRelu { slope } => activation::leaky_relu(x, f64::from(slope)),
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::PRelu { slope } => {
            let negative = activation::relu(x.clone().neg());
            activation::relu(x) - negative * per_channel(param(slope))
        }
        // Burn's own takes an approximation's gradient on some backends.
        Activation::Gelu => {
            let below = (x.clone() * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0;
            x * below * 0.5
        }
        Activation::Silu => activation::silu(x),
        Activation::Tanh => x.tanh(),
        _ => return None,
    })
}
