//! Values stored in bf16 against the same network in f32. `golden.rs` has what whole networks make of them.

mod helpers;
#[path = "../../../fixtures/net_of_operations.rs"]
mod net_of_operations;

use helpers::{assert_close, noise};
use viscera_engine::{Engine, Isa, Options, Precision};
use viscera_net::builders::{CoarseUnet, GraphBuilder};
use viscera_net::{Executor, Graph, Op, Tensor, Weights};

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
    let options = Options {
        precision,
        isa,
        ..Options::default()
    };
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
        for isa in Isa::available() {
            let options = |precision| Options {
                precision,
                isa,
                ..Options::default()
            };
            let [full, half] = [Precision::F32, Precision::Bf16].map(|precision| {
                let engine = Engine::with_options(&single, &weights, options(precision)).unwrap();
                engine.run(&input).unwrap().remove(0)
            });
            assert_close(full.data(), half.data(), 1e-2, &node.name);
            let [full, half] = [Precision::F32, Precision::Bf16]
                .map(|precision| gradients(&single, &weights, &input, options(precision)));
            for ((param, full), half) in single.params.iter().zip(&full).zip(&half) {
                let what = format!("{}: gradient by {}", node.name, param.name);
                assert_close(full, half, 1e-2, &what);
            }
        }
    }
}

/// Of every parameter, for gradients of the outputs that are noise. The second of two steps, which takes used buffers.
fn gradients(graph: &Graph, weights: &Weights, input: &Tensor, options: Options) -> Vec<Vec<f32>> {
    let mut engine = Engine::with_options(graph, weights, options).unwrap();
    let mut step = || {
        let outputs = engine.forward(input, 5).unwrap();
        let heads: Vec<_> = outputs.iter().map(|output| noise(output.shape(), 2)).collect();
        engine.backward(&heads).unwrap()
    };
    let first = step();
    assert_eq!(step(), first);
    first
}

/// With noise as gradients this holds for a shallow network only: where a deep one of norms and ReLUs has been trained for
/// nothing, a change of its input by 0.2 % changes the gradients by a third, whatever the precision.
#[test]
fn a_network_has_nearly_the_same_gradients() {
    let graph = net_of_operations::net();
    let input = noise(net_of_operations::INPUT, 1);
    let [full, half] = [Precision::F32, Precision::Bf16]
        .map(|precision| gradients(&graph, &weights(&graph), &input, precision.into()).concat());
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let off = norm(&mut full.iter().zip(&half).map(|(a, b)| a - b));
    let whole = norm(&mut full.iter().copied());
    assert!(off > 0.0 && off < 0.01 * whole, "{off} of {whole}");
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
        let learn = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| gradients(&graph, &weights(&graph), &input, Precision::Bf16.into()))
        };
        let one = learn(1);
        assert_eq!(one, learn(2));
        assert_eq!(one, learn(7));
    }
}

/// Weights that the engine shares with its caller, in f32, count as their rounded copies do.
#[test]
fn shared_weights_give_the_same_bits() {
    let graph = net_of_operations::net();
    let weights = Weights::init(&graph, 4);
    let input = noise(net_of_operations::INPUT, 3);
    let [copied, shared] = [false, true].map(|shared| {
        let options = Options {
            shared,
            ..Precision::Bf16.into()
        };
        Engine::with_options(&graph, &weights, options)
            .unwrap()
            .run(&input)
            .unwrap()
    });
    assert_eq!(copied, shared);
}

/// One bad voxel reaches all outputs whose window holds it, and none that are far from it; large values do not overflow
/// where f32 does not. In between, what a kernel computes together goes bad together: a tile of Winograd's, or the
/// neighbours along x that read it with weights of zero.
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
            let tiles = Isa::detect().multiplies_tiles();
            assert!(tiles || finite(full) == finite(half), "other voxels are bad");
            let [_, channels, depth, height, width] = full.shape();
            let step = 8 / depth;
            for (i, (full, half)) in finite(full).into_iter().zip(finite(half)).enumerate() {
                let at = [i / (height * width) % depth, i / width % height, i % width].map(|at| at * step);
                let distance = at
                    .iter()
                    .zip([4, 4, 8])
                    .map(|(a, b): (&usize, usize)| a.abs_diff(b))
                    .max();
                match distance {
                    Some(0 | 1) => assert!(!full && !half, "lost at {at:?} of {channels} channels"),
                    Some(0..6) => {}
                    _ => assert!(full && half, "bad at {at:?}"),
                }
            }
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
