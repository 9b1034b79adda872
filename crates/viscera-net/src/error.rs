//! What can be wrong with a network or its weights.

/// Errors of this crate and of the executors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// Not one value per element.
    #[error("{found} values for an array of {expected} elements")]
    LengthMismatch {
        /// Elements of the shape.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// Settings from which no network can be built.
    #[error("{network}: {reason}")]
    Settings {
        /// Which kind of network.
        network: &'static str,
        /// What is wrong with them.
        reason: String,
    },
    /// A node cannot work on the shapes that reach it.
    #[error("node {node}: {reason}")]
    Shape {
        /// The node's name.
        node: String,
        /// What does not fit.
        reason: String,
    },
    /// A weight file lacks a parameter, or has one in another shape.
    #[error("parameter {name}: {reason}")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A weight file that cannot be parsed.
    #[error("weights cannot be read: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// The executor has no such operation.
    #[error("node {node}: {op} is not supported by the {executor} executor")]
    Unsupported {
        /// The node's name.
        node: String,
        /// The operation.
        op: &'static str,
        /// Which executor.
        executor: &'static str,
    },
    /// Backward was called without a forward pass in training mode before it, or with gradients that do not match it.
    #[error("backward pass: {reason}")]
    Backward {
        /// What is wrong.
        reason: String,
    },
    /// The library or device below an executor failed.
    #[error("the {executor} executor failed: {reason}")]
    Executor {
        /// Which executor.
        executor: &'static str,
        /// What it said.
        reason: String,
    },
}
