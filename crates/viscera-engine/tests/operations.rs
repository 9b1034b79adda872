//! The net of `net_of_operations.rs`: kernel paths, thread counts, and gradients against
//! finite differences.

mod helpers;
#[path = "../../../fixtures/net_of_operations.rs"]
mod net_of_operations;

use helpers::{assert_close, noise};
use net_of_operations::{INPUT, net};
use viscera_engine::{Engine, Isa};
use viscera_net::{Executor, ParamKind, Tensor, Weights};

/// Inferred outputs, then those of one training step and every parameter's gradient.
fn step(isa: Isa) -> [Vec<Vec<f32>>; 3] {
    let graph = net();
    let input = noise(INPUT, 1);
    let mut engine = Engine::with_isa(&graph, &Weights::init(&graph, 3), isa).unwrap();
    let values = |tensors: Vec<Tensor>| tensors.into_iter().map(Tensor::into_data).collect();
    let inferred = engine.infer(&input).unwrap();
    let outputs = engine.forward(&input, 11).unwrap();
    let heads: Vec<Tensor> = outputs.iter().map(|o| noise(o.shape(), 5)).collect();
    [values(inferred), values(outputs), engine.backward(&heads).unwrap()]
}

#[test]
fn paths_agree() {
    let names = net().params.into_iter().map(|p| p.name).collect::<Vec<_>>();
    for (plain, fast) in step(Isa::Scalar).iter().zip(&step(Isa::detect())) {
        for (i, (plain, fast)) in plain.iter().zip(fast).enumerate() {
            assert_close(plain, fast, 1e-4, &names[i]);
        }
    }
}

#[test]
fn thread_counts_give_the_same_bits() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| step(Isa::detect()))
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

/// Directional derivatives of Σ head · noise along each parameter, against central differences in training mode, where
/// batch norm depends on the batch and the same seed drops the same channels.
#[test]
fn gradients_equal_finite_differences() {
    let graph = net();
    let input = noise(INPUT, 1);
    let weights = Weights::init(&graph, 3);
    let mut engine = Engine::new(&graph, &weights).unwrap();
    let outputs = engine.forward(&input, 11).unwrap();
    let head = noise(outputs[0].shape(), 9);
    let gradients = engine.backward(std::slice::from_ref(&head)).unwrap();
    let mut loss = |weights: &Weights| -> f64 {
        engine.set_parameters(weights).unwrap();
        let output = engine.forward(&input, 11).unwrap();
        let pairs = output[0].data().iter().zip(head.data());
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    for (index, param) in graph
        .params
        .iter()
        .enumerate()
        .filter(|(_, p)| p.kind == ParamKind::Learnt)
    {
        let direction = noise([1, 1, 1, 1, param.len()], 77 + index as u64);
        let mut move_by = |step: f32| {
            let mut moved = weights.clone();
            for (v, d) in moved.values[index].iter_mut().zip(direction.data()) {
                *v += step * d;
            }
            loss(&moved)
        };
        let step = 3e-4;
        let numeric = (move_by(step) - move_by(-step)) / (2.0 * f64::from(step));
        let pairs = gradients[index].iter().zip(direction.data());
        let analytic: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!(
            (numeric - analytic).abs() <= 2e-2 * numeric.abs().max(0.5),
            "{}: {analytic}, numerically {numeric}",
            param.name
        );
    }
}
