//! All executors against each other, where no golden file can reach: with dropout, seeds, and parameters that change.

#[path = "../../../fixtures/golden_suite.rs"]
#[allow(dead_code)] // the goldens themselves are another test's
mod suite;

#[path = "../../../fixtures/net_of_operations.rs"]
mod net_of_operations;

use suite::{KINK_TOLERANCE, TOLERANCE, assert_close, by_formula, smooth, weights};
use viscera_burn::BurnDevice;
use viscera_engine::Engine;
use viscera_net::builders::{CoarseUnet, EfficientSegNet, Plane};
use viscera_net::{Executor, Graph, Tensor, Weights};

/// Every executor of this build and machine, with its name.
#[allow(clippy::print_stdout, reason = "who is left out should be seen")]
fn executors(graph: &Graph, weights: &Weights) -> Vec<(&'static str, Box<dyn Executor>)> {
    let devices = [
        ("Burn", BurnDevice::Cpu),
        #[cfg(feature = "cuda")]
        ("Burn on CUDA", BurnDevice::Cuda),
        #[cfg(feature = "wgpu")]
        ("Burn on wgpu", BurnDevice::Wgpu),
    ];
    let mut all: Vec<(_, Box<dyn Executor>)> = vec![("engine", Box::new(Engine::new(graph, weights).unwrap()))];
    for (name, device) in devices {
        match device.executor(graph, weights) {
            Ok(executor) => all.push((name, executor)),
            Err(error) => {
                assert_ne!(device, BurnDevice::Cpu, "{error}");
                println!("{name} is left out: {error}");
            }
        }
    }
    all
}

/// What one step of training gives.
struct Step {
    outputs: Vec<Tensor>,
    gradients: Vec<Vec<f32>>,
    inferred: Vec<Tensor>,
}

fn step(executor: &mut dyn Executor, weights: &Weights, input: &Tensor, seed: u64) -> Step {
    executor.set_parameters(weights).unwrap();
    let outputs = executor.forward(input, seed).unwrap();
    let heads: Vec<_> = outputs
        .iter()
        .map(|output| by_formula("head", output.shape()))
        .collect();
    let gradients = executor.backward(&heads).unwrap();
    let inferred = executor.infer(input).unwrap();
    Step {
        outputs,
        gradients,
        inferred,
    }
}

/// Outputs and gradients must be equal, before and after the parameters change.
fn check(graph: &Graph, shape: [usize; 5], gradient_tolerance: f32) {
    check_with(graph, &by_formula("input", shape), weights(graph), gradient_tolerance);
}

fn check_with(graph: &Graph, input: &Tensor, mut weights: Weights, gradient_tolerance: f32) {
    let mut executors = executors(graph, &weights);
    for seed in [3, 4] {
        let steps: Vec<_> = executors
            .iter_mut()
            .map(|(name, e)| (*name, step(e.as_mut(), &weights, input, seed)))
            .collect();
        let expected = &steps[0].1;
        for (name, found) in &steps[1..] {
            for (found, expected) in found.outputs.iter().zip(&expected.outputs) {
                assert_close(
                    &format!("{name}, seed {seed}: output"),
                    found.data(),
                    expected.data(),
                    TOLERANCE,
                );
            }
            for (found, expected) in found.inferred.iter().zip(&expected.inferred) {
                assert_close(
                    &format!("{name}, seed {seed}: inferred"),
                    found.data(),
                    expected.data(),
                    TOLERANCE,
                );
            }
            for ((param, found), expected) in graph.params.iter().zip(&found.gradients).zip(&expected.gradients) {
                let what = format!("{name}, seed {seed}: gradient by {}", param.name);
                assert_close(&what, found, expected, gradient_tolerance);
            }
        }
        for value in weights.values.iter_mut().flat_map(|v| v.iter_mut()) {
            *value *= 0.9;
        }
    }
}

fn check_both(graph: &Graph, shape: [usize; 5]) {
    check(graph, shape, KINK_TOLERANCE);
    check(&smooth(graph), shape, TOLERANCE);
}

/// The coarse U-Net with dropout.
fn coarse(dropout: f32) -> Graph {
    let settings = CoarseUnet {
        in_channels: 2,
        base_features: 3,
        out_channels: 5,
        decoder_blocks: 1,
        dropout,
    };
    settings.build()
}

/// The fine network with dropout.
fn fine(plane: Plane, dropout: f32) -> Graph {
    let settings = EfficientSegNet {
        in_channels: 2,
        base_features: 3,
        out_channels: 5,
        dropout,
        plane,
        context: true,
    };
    settings.build()
}

#[test]
fn the_coarse_unet_is_the_same_everywhere() {
    check_both(&coarse(0.2), [2, 2, 21, 20, 24]);
}

#[test]
fn efficientsegnet_is_the_same_everywhere() {
    check_both(&fine(Plane::Paper, 0.2), [1, 2, 64, 65, 70]);
}

#[test]
fn every_operation_is_the_same_everywhere() {
    let graph = net_of_operations::net();
    let input = by_formula("input", net_of_operations::INPUT);
    check_with(&graph, &input, Weights::init(&graph, 3), TOLERANCE);
}
