//! A network's weights out of a state dictionary.

use super::checkpoint::{Checkpoint, Item};
use super::tensor::TensorRef;
use crate::ConvertError;
use std::collections::{BTreeMap, BTreeSet};
use viscera_net::{Graph, Weights};

/// What wrappers put before every name: `torch.compile`, and data-parallel training.
const WRAPPERS: [&str; 2] = ["_orig_mod.", "module."];
/// Parts of names under which nnU-Net's networks store the same tensors a second time.
const ALIASES: [&str; 2] = ["decoder.encoder.", ".all_modules."];

impl Checkpoint {
    /// The weights of a graph out of a state dictionary, by the parameters' names. Prefixes of `torch.compile` and of
    /// data-parallel training are taken off.
    ///
    /// # Errors
    /// [`ConvertError::Checkpoint`] when a parameter is missing or has another shape, when the dictionary has a tensor
    /// that the graph does not use (it belongs to another network), or when two parameters share values.
    pub fn weights(&self, state: Item<'_>, graph: &Graph) -> Result<Weights, ConvertError> {
        let entries = state
            .entries()
            .ok_or_else(|| self.error("the weights are no dictionary".to_owned()))?;
        let mut tensors: BTreeMap<&str, &TensorRef> = BTreeMap::new();
        for (name, item) in entries {
            if let Some(tensor) = item.tensor() {
                tensors.insert(bare(name), tensor);
            }
        }
        let mut used = Vec::with_capacity(graph.params.len());
        let mut bytes = 0u64;
        for param in &graph.params {
            let name = &param.name;
            let tensor = tensors.get(name.as_str()).ok_or_else(|| {
                self.error(format!(
                    "has no parameter \"{name}\"; the network is not {}",
                    graph.name
                ))
            })?;
            if tensor.shape() != param.shape {
                return Err(self.error(format!(
                    "parameter \"{name}\" has shape {:?}, the network {} needs {:?}",
                    tensor.shape(),
                    graph.name,
                    param.shape
                )));
            }
            bytes = bytes.saturating_add((tensor.count() as u64).saturating_mul(tensor.kind().size()));
            used.push(*tensor);
        }
        // No sharing means that all values together are no more than the file.
        if let Some((a, b)) = shared(&used) {
            let name = |i: usize| graph.params.get(i).map_or("", |p| p.name.as_str());
            return Err(self.error(format!(
                "the parameters \"{}\" and \"{}\" share values",
                name(a),
                name(b)
            )));
        }
        if bytes > self.size() {
            return Err(self.error(format!("{bytes} bytes of weights in a file of {}", self.size())));
        }
        let names: BTreeSet<&str> = graph.params.iter().map(|p| p.name.as_str()).collect();
        let storages: BTreeSet<&str> = used.iter().map(|t| t.storage.key.as_str()).collect();
        let known = |name: &str, tensor: &TensorRef| {
            names.contains(name)
                || storages.contains(tensor.storage.key.as_str())
                || ALIASES.iter().any(|alias| name.contains(alias))
        };
        if let Some((name, _)) = tensors.iter().find(|(name, tensor)| !known(name, tensor)) {
            return Err(self.error(format!("has \"{name}\", which the network {} does not use", graph.name)));
        }
        let values = used
            .into_iter()
            .map(|tensor| Ok(self.read(tensor)?.into()))
            .collect::<Result<_, ConvertError>>()?;
        Ok(Weights { values })
    }
}

/// A name without what wrappers put before it.
fn bare(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    name
}

/// Two tensors that share values, if any do.
fn shared(tensors: &[&TensorRef]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    let key = |i: usize| tensors.get(i).map(|t| (&t.storage.key, t.range()));
    order.sort_by_key(|&i| key(i));
    order.windows(2).find_map(|pair| match *pair {
        [a, b] => tensors.get(a)?.overlaps(tensors.get(b)?).then_some((a, b)),
        _ => None,
    })
}
