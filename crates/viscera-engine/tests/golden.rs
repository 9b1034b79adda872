//! The engine against PyTorch's values.

#[path = "../../../fixtures/golden_suite.rs"]
mod suite;
#[path = "../../../fixtures/golden_trained.rs"]
mod trained;

use viscera_engine::{Engine, Precision};
use viscera_net::{Executor, Graph, Weights};

fn make(graph: &Graph, weights: &Weights) -> Box<dyn Executor> {
    Box::new(Engine::new(graph, weights).unwrap())
}

#[test]
fn operations_equal_pytorch() {
    suite::check_operations(&make);
}

#[test]
fn networks_equal_pytorch() {
    suite::check_networks(&make);
}

#[test]
fn trained_networks_equal_pytorch_and_keep_their_classes_in_bf16() {
    let bf16 = |graph: &Graph, weights: &Weights| -> Box<dyn Executor> {
        Box::new(Engine::with_options(graph, weights, Precision::Bf16.into()).unwrap())
    };
    trained::check_trained(&make, &bf16);
}
