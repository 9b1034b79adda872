//! Networks as data: the [`Graph`], its builders and passes, and its weights. Nothing here executes a network.

pub mod builders;
mod check;
mod count;
mod dot;
mod error;
mod executor;
mod graph;
mod head;
mod shape;
mod tensor;
mod weights;

pub use count::Counts;
pub use error::NetError;
pub use executor::{Executor, dropout_keeps};
pub use graph::{
    Activation, Conv, Graph, Init, Interpolation, Node, NodeId, Op, Param, ParamId, ParamKind, PoolKind,
    WindowAttention,
};
pub use shape::Shapes;
pub use tensor::Tensor;
pub use weights::{Storage, StoredTensor, Weights};
