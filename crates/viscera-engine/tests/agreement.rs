//! The engine against itself: kernel paths, thread counts, and gradients against finite differences.

mod helpers;

use helpers::{assert_close, noise};
use viscera_engine::{Engine, Isa};
use viscera_net::builders::{CoarseUnet, EfficientSegNet, GraphBuilder, Norm, Plane};
use viscera_net::{Activation, Executor, Graph, Op, Tensor, Weights};

fn coarse(dropout: f32) -> Graph {
    let net = CoarseUnet {
        in_channels: 1,
        base_features: 5,
        out_channels: 3,
        decoder_blocks: 1,
        dropout,
    };
    net.build()
}

fn fine() -> Graph {
    let net = EfficientSegNet {
        in_channels: 2,
        base_features: 4,
        out_channels: 13,
        dropout: 0.2,
        plane: Plane::Paper,
        context: true,
    };
    net.build()
}

/// Every output and every parameter gradient of one training step.
fn step(graph: &Graph, isa: Isa, input: &Tensor) -> (Vec<Tensor>, Vec<Vec<f32>>) {
    let mut engine = Engine::with_isa(graph, &Weights::init(graph, 3), isa).unwrap();
    let outputs = engine.forward(input, 11).unwrap();
    let gradients: Vec<Tensor> = outputs.iter().map(|o| noise(o.shape(), 5)).collect();
    let parameters = engine.backward(&gradients).unwrap();
    (outputs, parameters)
}

#[test]
fn paths_agree_on_odd_sizes() {
    for (mut graph, shape) in [(coarse(0.2), [2, 1, 17, 19, 33]), (fine(), [1, 2, 64, 70, 65])] {
        // A last-bit difference before a ReLU can switch a voxel on or off: with a slope near one it hardly matters.
        for node in &mut graph.nodes {
            if let Op::Activation(Activation::LeakyRelu { slope }) = &mut node.op {
                *slope = 0.98;
            }
        }
        let input = noise(shape, 1);
        let plain = step(&graph, Isa::Scalar, &input);
        let fast = step(&graph, Isa::detect(), &input);
        assert_close(plain.0[0].data(), fast.0[0].data(), 1e-5, &graph.name);
        for (param, (a, b)) in graph.params.iter().zip(plain.1.iter().zip(&fast.1)) {
            assert_close(a, b, 1e-3, &param.name);
        }
    }
}

/// Registers of sixteen floats add in the order of those of eight.
#[test]
fn wider_registers_give_the_same_bits() {
    let mut g = GraphBuilder::new("widths");
    let x = g.input(1);
    let first = g.conv("first", x, 29, [3; 3], [1; 3], true, 0.0);
    let winograd = g.conv("winograd", first, 61, [3; 3], [1; 3], true, 0.0);
    let strided = g.conv("strided", winograd, 33, [3; 3], [2; 3], true, 0.0);
    let point = g.conv("point", winograd, 14, [1; 3], [1; 3], true, 0.0);
    let graph = g.finish(vec![strided, point]);
    let input = noise([1, 1, 5, 7, 31], 1);
    let [eight, best] = [Isa::Avx2, Isa::detect()].map(|isa| step(&graph, isa, &input));
    assert_eq!(eight, best);
}

/// A concatenation that only convolutions read is not made; as an output of the network it is.
#[test]
fn reading_parts_equals_reading_a_copy() {
    let graph = |copy: bool| {
        let mut g = GraphBuilder::new("parts");
        let x = g.input(1);
        let a = g.conv("a", x, 16, [3; 3], [1; 3], true, 0.0);
        let b = g.conv("b", x, 11, [3; 3], [1; 3], true, 0.0);
        let joined = g.concat("joined", &[a, b]);
        let fast = g.conv("fast", joined, 9, [3; 3], [1; 3], true, 0.0);
        let plain = g.conv("plain", joined, 9, [1; 3], [1; 3], true, 0.0);
        let strided = g.conv("strided", joined, 9, [3; 3], [2; 3], true, 0.0);
        let mut outputs = vec![fast, plain, strided];
        outputs.extend(copy.then_some(joined));
        g.finish(outputs)
    };
    let input = noise([2, 1, 8, 9, 18], 1);
    let run = |copy: bool| {
        let graph = graph(copy);
        let mut engine = Engine::new(&graph, &Weights::init(&graph, 3)).unwrap();
        let outputs = engine.forward(&input, 0).unwrap();
        let mut gradients: Vec<Tensor> = outputs.iter().map(|o| noise(o.shape(), 5)).collect();
        if let Some(last) = gradients.get_mut(3) {
            last.data_mut().fill(0.0);
        }
        (
            engine.infer(&input).unwrap(),
            engine.backward(&gradients).unwrap(),
            graph,
        )
    };
    let (parts, copy) = (run(false), run(true));
    for (a, b) in parts.0.iter().zip(&copy.0) {
        assert_close(a.data(), b.data(), 1e-5, "output");
    }
    for (param, (a, b)) in parts.2.params.iter().zip(parts.1.iter().zip(&copy.1)) {
        assert_close(a, b, 1e-5, &param.name);
    }
}

#[test]
fn thread_counts_give_the_same_bits() {
    let graph = coarse(0.2);
    let input = noise([2, 1, 18, 17, 20], 1);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| step(&graph, Isa::detect(), &input))
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(7));
}

#[test]
fn training_without_dropout_equals_inference() {
    let graph = coarse(0.0);
    let input = noise([2, 1, 16, 21, 18], 1);
    let mut engine = Engine::new(&graph, &Weights::init(&graph, 3)).unwrap();
    let inferred = engine.infer(&input).unwrap();
    assert_eq!(engine.forward(&input, 0).unwrap(), inferred);
    // A second run takes used buffers.
    assert_eq!(engine.infer(&input).unwrap(), inferred);
}

/// A short step, because a longer one crosses kinks of the ReLU. Directional derivatives of Σ head · noise along each parameter, against central differences.
#[test]
fn gradients_equal_finite_differences() {
    let mut g = GraphBuilder::new("small");
    let norm = Norm::Instance {
        eps: 1e-5,
        affine: false,
    };
    let x = g.input(2);
    let a = g.conv("a", x, 9, [3; 3], [1; 3], true, 0.0);
    let a = g.norm("a.norm", a, norm);
    let b = g.conv("b", a, 10, [3, 1, 2], [2, 1, 2], false, 0.0);
    let b = g.norm("b.norm", b, norm);
    let b = g.relu("b.relu", b);
    let up = g.resize_like("up", b, a, true);
    let half = g.resize_like("half", b, a, false);
    let mean = g.axis_mean("mean", a, [true, false, true]);
    let wide = g.resize_like("wide", mean, a, true);
    let joined = g.concat("joined", &[a, up, half, wide]);
    let head = g.conv("head", joined, 3, [1, 3, 3], [1; 3], true, 0.0);
    let graph = g.finish(vec![head]);
    let input = noise([1, 2, 5, 6, 7], 1);
    let weights = Weights::init(&graph, 3);
    let mut engine = Engine::new(&graph, &weights).unwrap();
    let outputs = engine.forward(&input, 0).unwrap();
    let head_gradient = noise(outputs[0].shape(), 9);
    let gradients = engine.backward(std::slice::from_ref(&head_gradient)).unwrap();
    let loss = |weights: &Weights| -> f64 {
        let engine = Engine::new(&graph, weights).unwrap();
        let output = engine.run(&input).unwrap();
        let pairs = output[0].data().iter().zip(head_gradient.data());
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    for (index, param) in graph.params.iter().enumerate() {
        let direction = noise([1, 1, 1, 1, param.len()], 77 + index as u64);
        let move_by = |step: f32| {
            let mut moved = weights.clone();
            for (v, d) in moved.values[index].iter_mut().zip(direction.data()) {
                *v += step * d;
            }
            loss(&moved)
        };
        let step = 5e-4;
        let numeric = (move_by(step) - move_by(-step)) / (2.0 * f64::from(step));
        let pairs = gradients[index].iter().zip(direction.data());
        let analytic: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!(
            (numeric - analytic).abs() <= 2e-2 * numeric.abs().max(1.0),
            "{}: {analytic}, numerically {numeric}",
            param.name
        );
    }
}

#[test]
fn wrong_inputs_are_errors() {
    let graph = coarse(0.0);
    let mut engine = Engine::new(&graph, &Weights::init(&graph, 3)).unwrap();
    assert!(engine.infer(&Tensor::zeros([1, 2, 16, 16, 16])).is_err());
    assert!(engine.infer(&Tensor::zeros([1, 1, 16, 0, 16])).is_err());
    assert!(engine.backward(&[]).is_err());
    engine.forward(&Tensor::zeros([1, 1, 16, 16, 16]), 0).unwrap();
    assert!(engine.backward(&[Tensor::zeros([1, 3, 16, 16, 15])]).is_err());
}
