//! Values stored in bf16 against the same network in f32.

mod helpers;
#[path = "../../../fixtures/net_of_operations.rs"]
mod net_of_operations;

use helpers::{assert_close, noise};
use safetensors::SafeTensors;
use std::path::Path;
use viscera_engine::{Engine, Isa, Options, Precision};
use viscera_net::builders::{Architecture, CoarseUnet, GraphBuilder};
use viscera_net::{Graph, Op, Tensor, Weights};

/// Weights and input that bf16 holds exactly.
fn rounded(values: &mut [f32]) {
    for value in values {
        *value = half::bf16::from_f32(*value).to_f32();
    }
}

fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::init(graph, 3);
    weights.values.iter_mut().for_each(|values| rounded(values));
    weights
}

fn run(graph: &Graph, input: &Tensor, precision: Precision, isa: Isa) -> Vec<Tensor> {
    let options = Options { precision, isa };
    let engine = Engine::with_options(graph, &weights(graph), options).unwrap();
    let outputs = engine.run(input).unwrap();
    // A second run takes used buffers and packed weights.
    assert_eq!(engine.run(input).unwrap(), outputs);
    outputs
}

/// Each node of a network by itself: what it reads, as the network in f32 has it, is the rounded input of a graph of one
/// node.
#[test]
fn every_operation_agrees_on_rounded_inputs() {
    let graph = net_of_operations::net();
    let mut whole = graph.clone();
    whole.outputs = (0..graph.nodes.len()).map(viscera_net::NodeId).collect();
    let weights = weights(&graph);
    let values = Engine::new(&whole, &weights)
        .unwrap()
        .run(&noise(net_of_operations::INPUT, 1))
        .unwrap();
    for node in &graph.nodes[1..] {
        // All inputs as channels of one, taken apart again.
        let inputs: Vec<&Tensor> = node.inputs.iter().map(|id| &values[id.0]).collect();
        if inputs.iter().any(|input| input.spatial() != inputs[0].spatial()) {
            continue;
        }
        let [batch, _, z, y, x] = inputs[0].shape();
        let channels: Vec<usize> = inputs.iter().map(|input| input.shape()[1]).collect();
        let mut data = Vec::new();
        for sample in 0..batch {
            for (input, &channels) in inputs.iter().zip(&channels) {
                (0..channels).for_each(|c| data.extend_from_slice(input.channel(sample, c)));
            }
        }
        rounded(&mut data);
        let all = channels.iter().sum();
        let mut single = GraphBuilder::new(&node.name);
        let input = single.input(all);
        let mut single = single.finish(vec![input]);
        single.params = graph.params.clone();
        let mut add = |name: String, op, inputs| {
            single.nodes.push(viscera_net::Node { name, op, inputs });
            viscera_net::NodeId(single.nodes.len() - 1)
        };
        let mut start = 0;
        let mut read = Vec::new();
        for (i, &len) in channels.iter().enumerate() {
            read.push(add(format!("part {i}"), Op::Channels { start, len }, vec![input]));
            start += len;
        }
        let last = add(node.name.clone(), node.op.clone(), read);
        single.outputs = vec![last];
        let input = Tensor::new([batch, all, z, y, x], data).unwrap();
        for isa in [Isa::Scalar, Isa::detect()] {
            let [full, half] = [Precision::F32, Precision::Bf16].map(|precision| {
                let engine = Engine::with_options(&single, &weights, Options { precision, isa }).unwrap();
                engine.run(&input).unwrap().remove(0)
            });
            assert_close(full.data(), half.data(), 1e-2, &node.name);
        }
    }
}

fn coarse() -> Graph {
    let net = CoarseUnet {
        in_channels: 1,
        base_features: 9,
        out_channels: 3,
        decoder_blocks: 1,
        dropout: 0.2,
    };
    net.build()
}

/// The networks of the goldens, at their small widths.
fn golden_networks() -> Vec<(Graph, [usize; 5])> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let networks = [
        "net-coarse-unet/golden",
        "net-efficientsegnet/paper",
        "net-efficientsegnet/code",
        "net-unet/plain",
        "net-unet/residual",
        "net-unet/generic",
        "net-unet/batch-norm",
        "net-dmfnet/dmfnet-grouped",
        "net-dmfnet/mfnet-grid",
        "net-phtrans/golden",
    ];
    let network = |name: &str| {
        let bytes = std::fs::read(fixtures.join(name).with_extension("safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let architecture: Architecture = serde_json::from_str(&metadata["architecture"]).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let shape = file.tensor("input_shape").unwrap();
        let shape: Vec<usize> = shape
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b) as usize)
            .collect();
        (architecture.build().unwrap(), shape.try_into().unwrap())
    };
    networks.into_iter().map(network).collect()
}

/// Smooth bodies of several brightnesses, and some noise.
fn bodies(shape: [usize; 5]) -> Tensor {
    let mut tensor = noise(shape, 7);
    let [_, _, depth, height, width] = shape;
    for (i, value) in tensor.data_mut().iter_mut().enumerate() {
        let place = [i / (height * width) % depth, i / width % height, i % width];
        let extent = [depth, height, width];
        let inside = |centre: [f32; 3], radius: f32| {
            let distance = |a: usize| (place[a] as f32 + 0.5) / extent[a] as f32 - centre[a];
            (0..3).map(|a| distance(a).powi(2)).sum::<f32>() < radius * radius
        };
        *value *= 0.05;
        for (centre, radius, brightness) in [
            ([0.5, 0.5, 0.5], 0.45, 0.6),
            ([0.4, 0.35, 0.3], 0.2, 0.9),
            ([0.6, 0.6, 0.7], 0.15, -1.3),
            ([0.3, 0.7, 0.4], 0.12, 1.7),
        ] {
            if inside(centre, radius) {
                *value += brightness;
            }
        }
    }
    tensor
}

/// Channel of the largest value, voxel by voxel.
fn arg_max(tensor: &Tensor) -> Vec<usize> {
    let [batch, channels, ..] = tensor.shape();
    let voxels: usize = tensor.spatial().iter().product();
    let of = |i: usize| {
        let at = |c: &usize| tensor.channel(i / voxels, *c)[i % voxels];
        (0..channels).max_by(|a, b| at(a).total_cmp(&at(b))).unwrap()
    };
    (0..batch * voxels).map(of).collect()
}

/// Root of the mean square of the differences.
fn distance(values: &Tensor, others: &Tensor) -> f64 {
    let pairs = values.data().iter().zip(others.data());
    let squares: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (squares / values.data().len() as f64).sqrt()
}

/// How far the largest value of a voxel lies above the second largest.
fn margin(tensor: &Tensor, i: usize) -> f64 {
    let voxels: usize = tensor.spatial().iter().product();
    let mut values: Vec<f32> = (0..tensor.shape()[1])
        .map(|c| tensor.channel(i / voxels, c)[i % voxels])
        .collect();
    values.sort_unstable_by(f32::total_cmp);
    match values[..] {
        [.., second, first] => f64::from(first - second),
        _ => f64::INFINITY,
    }
}

/// Rounding the values between operations moves the outputs no more than a few times as far as rounding the weights alone
/// does. Weights are random, so many voxels are almost ties; all others keep their class.
#[test]
fn networks_agree_and_choose_the_same_classes() {
    for (graph, shape) in golden_networks() {
        let input = bodies(shape);
        let run = |weights: &Weights, precision: Precision| {
            let engine = Engine::with_options(&graph, weights, precision.into()).unwrap();
            engine.run(&input).unwrap().remove(0)
        };
        let exact = run(&Weights::init(&graph, 3), Precision::F32);
        let full = run(&weights(&graph), Precision::F32);
        let half = run(&weights(&graph), Precision::Bf16);
        let (by_weights, by_values) = (distance(&exact, &full), distance(&full, &half));
        assert!(
            by_values > 0.0 && by_values < 4.0 * by_weights,
            "{}: {by_values}, by weights alone {by_weights}",
            graph.name
        );
        let classes = arg_max(&half).into_iter().zip(arg_max(&full)).enumerate();
        let decided: Vec<bool> = classes
            .filter(|(i, _)| margin(&full, *i) > 3.0 * by_values)
            .map(|(_, (found, expected))| found == expected)
            .collect();
        let share = decided.iter().filter(|same| **same).count() as f64 / decided.len() as f64;
        assert!(share >= 0.995, "{}: {share}", graph.name);
        assert!(4 * decided.len() > arg_max(&full).len(), "{}", graph.name);
    }
}

#[test]
fn thread_counts_give_the_same_bits() {
    for (graph, shape) in [
        (coarse(), [2, 1, 18, 17, 20]),
        (net_of_operations::net(), net_of_operations::INPUT),
    ] {
        let input = noise(shape, 1);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&graph, &input, Precision::Bf16, Isa::detect()))
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(7));
    }
}

/// One bad voxel reaches exactly the outputs whose window holds it; large values do not overflow where f32 does not.
#[test]
fn what_is_not_finite_stays_so() {
    let mut g = GraphBuilder::new("convolutions");
    let x = g.input(16);
    let winograd = g.conv("winograd", x, 16, [3; 3], [1; 3], true, 0.0);
    let strided = g.conv("strided", x, 9, [3; 3], [2; 3], true, 0.0);
    let graph = g.finish(vec![winograd, strided]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut input = noise([1, 16, 8, 9, 18], 1);
        input.data_mut().iter_mut().for_each(|v| *v *= 1e30);
        let [full, half] = {
            let voxel = (4 * 9 + 4) * 18 + 8;
            input.data_mut()[voxel] = bad;
            [Precision::F32, Precision::Bf16].map(|precision| run_once(&graph, &input, precision))
        };
        for (full, half) in full.iter().zip(&half) {
            let finite = |tensor: &Tensor| tensor.data().iter().map(|v| v.is_finite()).collect::<Vec<_>>();
            assert_eq!(finite(full), finite(half));
            assert!(finite(half).contains(&true) && finite(half).contains(&false));
        }
    }
    // Through operations that only look at single values, the value itself.
    let mut g = GraphBuilder::new("pointwise");
    let x = g.input(1);
    let relu = g.relu("relu", x);
    let sum = g.add("sum", &[x, relu]);
    let graph = g.finish(vec![sum]);
    let input = Tensor::new([1, 1, 1, 1, 4], vec![f32::INFINITY, f32::NAN, -2.0, 3.0]).unwrap();
    let found = run_once(&graph, &input, Precision::Bf16).remove(0).into_data();
    assert!(found[0] == f32::INFINITY && found[1].is_nan());
    assert_eq!(found[2..], [-2.0, 6.0]);
}

fn run_once(graph: &Graph, input: &Tensor, precision: Precision) -> Vec<Tensor> {
    let engine = Engine::with_options(graph, &weights(graph), precision.into()).unwrap();
    engine.run(input).unwrap()
}

#[test]
fn auto_is_one_of_both_and_the_default_is_f32() {
    let graph = coarse();
    let of = |options: Options| {
        Engine::with_options(&graph, &weights(&graph), options)
            .unwrap()
            .precision()
    };
    assert_eq!(of(Options::default()), Precision::F32);
    assert_eq!(of(Precision::Bf16.into()), Precision::Bf16);
    let auto = if Precision::Auto.is_bf16() {
        Precision::Bf16
    } else {
        Precision::F32
    };
    assert_eq!(of(Precision::Auto.into()), auto);
}
