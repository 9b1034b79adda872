//! ONNX: reading networks of other tools into graphs, and writing graphs for them.
//!
//! [`import`] reads operator sets 11 to 20 and networks of 3-D convolutions, transposed convolutions, norms, activations,
//! sums, products, concatenations, pooling, resizes, pads and slices, as PyTorch's two exporters and other tools write
//! them: constants are folded, sizes that are computed from shapes are followed as formulas, and reshapes and
//! transpositions around layers (group norm, layer norm, linear layers) are taken back to the layer. Values must be five
//! axes (batch, channel, z, y, x) where they meet a 3-D layer. An operator that is not covered is named with its node.
//!
//! A model is untrusted. Its file is read once; nested messages that a network does not need are skipped; constants that it
//! computes are bounded by its size; data outside it are read from its own folder alone.
//!
//! [`export`] writes operator set 17, which ONNX Runtime, OpenVINO, TensorRT and others read.

mod array;
mod attention;
mod export;
mod extent;
mod fold;
mod import;
mod layers;
mod layout;
mod net;
mod operators;
mod pointwise;
mod proto;
mod spatial;
#[cfg(test)]
mod tests;
mod wire;

pub use export::ExportOptions;

use crate::ConvertError;
use import::Fault;
use std::io::Write;
use std::path::Path;
use viscera_net::{Graph, Weights};

/// Domain of the one function that an exported network may hold.
const DOMAIN: &str = "viscera";

/// Reads an ONNX model: its graph, with names kept, and its weights as f32.
///
/// The graph computes what the model computes in evaluation mode, within rounding. What an input of open size makes of it
/// holds for every size; where the model fixes its input's size and bakes numbers that follow from it into resizes,
/// the graph is right at that size. Parameters that nothing reads are left out.
///
/// # Errors
/// [`ConvertError::Read`]; [`ConvertError::Onnx`] for a file that is no sound model; [`ConvertError::OnnxNode`], which names
/// operator and node, for what is not covered or does not fit.
pub fn import(path: &Path) -> Result<(Graph, Weights), ConvertError> {
    let read = |source| ConvertError::Read {
        path: path.to_owned(),
        source,
    };
    let broken = |reason: String| ConvertError::Onnx {
        path: path.to_owned(),
        reason,
    };
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(broken("is not a file".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(read)?;
    let model = proto::ModelProto::decode(&bytes).map_err(|reason| broken(format!("cannot be parsed: {reason}")))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (graph, weights, fixed) = import::run(&model, bytes.len(), folder.to_owned()).map_err(|fault| match fault {
        Fault::Model(reason) => broken(reason),
        Fault::Node { op, node, reason } => ConvertError::OnnxNode {
            path: path.to_owned(),
            op,
            node,
            reason,
        },
    })?;
    weights.check(&graph)?;
    if let Some(spatial) = fixed {
        graph.shapes(spatial)?;
    }
    Ok((graph, weights))
}

/// Writes a graph and its weights (f32) as an ONNX model of operator set 17, under a temporary name that is then renamed.
///
/// Names of nodes and parameters are kept. Batch and space are open axes unless `options` fix the latter. Window
/// attention becomes a function that the file holds. Dropout stays as a node that does nothing; [`import`] of the file
/// gives the graph back, but for stochastic depth and the rule for fresh weights.
///
/// # Errors
/// [`ConvertError::Net`] when weights and graph do not fit; [`ConvertError::Onnx`] when the graph is none or the file would
/// be too large for the format (2 GiB); [`ConvertError::Io`] when the system refuses.
pub fn export(graph: &Graph, weights: &Weights, path: &Path, options: ExportOptions) -> Result<(), ConvertError> {
    weights.check(graph)?;
    let written = export::write(graph, weights, options).map_err(|reason| ConvertError::Onnx {
        path: path.to_owned(),
        reason: format!("cannot be written: {reason}"),
    })?;
    viscera_io::atomic_write(path, |file: &mut dyn Write| {
        file.write_all(&written.head)?;
        file.write_all(&written.graph)?;
        file.write_all(&written.tail)
    })?;
    Ok(())
}
