//! Weights of a known graph, out of and into files of other tools.
//!
//! A safetensors file of ours bears its graph with it, as JSON under `viscera.graph` in `__metadata__`; other tools read its
//! tensors as those of any PyTorch network.

use crate::ConvertError;
use crate::pickle::Checkpoint;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use viscera_io::MappedFile;
use viscera_net::{Graph, NetError, Storage, WeightFile, Weights};

/// Longest header of a safetensors file.
const MAX_HEADER: u64 = 16 << 20;
/// Longest graph file.
const MAX_GRAPH: u64 = 64 << 20;
/// Key of the graph.
const KEY_GRAPH: &str = "viscera.graph";
/// Where checkpoints keep their state dictionary, if it is not all there is.
const STATES: [&str; 5] = ["network_weights", "state_dict", "model_state_dict", "model", "net"];

/// Reads a graph in viscera's JSON and checks it.
///
/// # Errors
/// [`ConvertError::Read`]; [`ConvertError::File`] for other text; [`ConvertError::Net`] for a graph that does not hold
/// together.
pub fn read_graph(path: &Path) -> Result<Graph, ConvertError> {
    let unreadable = |source| ConvertError::Read {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_GRAPH {
        return Err(wrong(path, format!("{size} bytes; no graph is that long")));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let graph: Graph = serde_json::from_slice(&text).map_err(|e| wrong(path, format!("no graph of viscera: {e}")))?;
    graph.check()?;
    Ok(graph)
}

/// Reads the weights of a graph from a PyTorch checkpoint: a state dictionary, alone or under one of the usual keys.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Checkpoint::weights`].
pub fn read_checkpoint(path: &Path, graph: &Graph) -> Result<Weights, ConvertError> {
    let checkpoint = Checkpoint::open(path)?;
    let root = checkpoint.root();
    let state = STATES
        .iter()
        .find_map(|key| root.get(key).filter(|s| s.entries().is_some()));
    checkpoint.weights(state.unwrap_or(root), graph)
}

/// Reads weights from a safetensors file by the parameters' names. Without a graph, that of the file is taken.
///
/// # Errors
/// [`ConvertError::Read`]; [`ConvertError::File`] when there is no graph, or a tensor that the graph does not use;
/// [`ConvertError::Net`] for a damaged file, or tensors that are missing or do not fit.
pub fn read_safetensors(path: &Path, graph: Option<Graph>) -> Result<(Graph, Weights), ConvertError> {
    let file = MappedFile::open(path).map_err(|source| ConvertError::Read {
        path: path.to_owned(),
        source,
    })?;
    let header = file.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
    if header > MAX_HEADER && header <= file.len() as u64 {
        return Err(wrong(
            path,
            format!("a header of {header} bytes; no network needs that"),
        ));
    }
    let file = WeightFile::new(Arc::new(file))?;
    let graph = match graph {
        Some(graph) => graph,
        None => {
            let text = file
                .entry(KEY_GRAPH)
                .ok_or_else(|| wrong(path, "the file has no graph; give one, or a recipe".to_owned()))?;
            serde_json::from_str(text).map_err(|e| wrong(path, format!("its graph: {e}")))?
        }
    };
    graph.check()?;
    let weights = file.weights(&graph, "")?;
    let names = file.names();
    if names.len() != graph.params.len() {
        let unused = |name: &String| !graph.params.iter().any(|p| p.name == *name);
        let name = names.into_iter().find(unused).unwrap_or_default();
        return Err(wrong(
            path,
            format!("has \"{name}\", which the network {} does not use", graph.name),
        ));
    }
    Ok((graph, weights))
}

/// The bytes of a safetensors file with a network's weights under its parameters' names, and its graph.
///
/// # Errors
/// [`ConvertError::Net`] when the file cannot be made.
pub fn safetensors_bytes(graph: &Graph, weights: &Weights, storage: Storage) -> Result<Vec<u8>, ConvertError> {
    weights.check(graph)?;
    let text = serde_json::to_string(graph).map_err(|e| NetError::Settings {
        network: "graph",
        reason: e.to_string(),
    })?;
    // One entry only: the order of several would be random.
    let metadata = HashMap::from([(KEY_GRAPH.to_owned(), text)]);
    let bytes = safetensors::serialize(weights.to_tensors(graph, "", storage), Some(metadata));
    Ok(bytes.map_err(NetError::from)?)
}

fn wrong(path: &Path, reason: String) -> ConvertError {
    ConvertError::File {
        path: path.to_owned(),
        reason,
    }
}
