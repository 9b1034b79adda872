//! What can be wrong with a network of another tool.

use std::path::PathBuf;
use viscera_net::NetError;
use viscera_pipeline::PipelineError;

/// Errors of this crate. Paths come last in each message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The operating system would not let us read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A PyTorch checkpoint that cannot be used.
    #[error("PyTorch checkpoint: {reason}: {path}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file of weights or of a graph that cannot be used.
    #[error("{reason}: {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A result folder of nnU-Net that cannot be carried over.
    #[error("nnU-Net: {reason}: {path}", path = path.display())]
    NnUnet {
        /// File or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// An ONNX model that cannot be used, or a network that cannot be written as one.
    #[error("ONNX model {reason}: {path}", path = path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A node of an ONNX model that cannot be read.
    #[error("ONNX node '{node}' ({op}) {reason}: {path}", path = path.display())]
    OnnxNode {
        /// The file.
        path: PathBuf,
        /// The operator.
        op: String,
        /// The node's name, or that of its first output.
        node: String,
        /// What is not covered or does not fit.
        reason: String,
    },
    /// The operating system would not let us write.
    #[error(transparent)]
    Io(#[from] viscera_io::IoError),
    /// A network that does not hold together, or weights that do not fit it.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A recipe or model that cannot be made of what was read.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}
