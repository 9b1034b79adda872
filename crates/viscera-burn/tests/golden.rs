//! The executor against PyTorch's values.

#[path = "../../../fixtures/golden_suite.rs"]
mod suite;

use viscera_burn::CpuExecutor;
use viscera_net::{Executor, Graph, Weights};

fn make(graph: &Graph, weights: &Weights) -> Box<dyn Executor> {
    Box::new(CpuExecutor::new(graph, weights, &Default::default()).unwrap())
}

#[test]
fn operations_equal_pytorch() {
    suite::check_operations(&make);
}

#[test]
fn networks_equal_pytorch() {
    suite::check_networks(&make);
}
