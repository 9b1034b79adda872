//! Runs a graph on Burn tensors
