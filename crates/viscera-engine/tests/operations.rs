//! One net of all the operations that the U-Nets lack, on odd sizes: kernel paths, thread counts, and gradients against
//! finite differences.

mod helpers;

use helpers::{assert_close, noise};
use viscera_engine::{Engine, Isa};
use viscera_net::{
    Activation, Conv, Executor, Graph, Init, Interpolation, Node, NodeId, Op, Param, ParamId, ParamKind, Tensor,
    Weights, WindowAttention,
};

struct Net(Graph);

impl Net {
    fn node(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = format!("{} {}", self.0.nodes.len(), op.name());
        self.0.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
        });
        NodeId(self.0.nodes.len() - 1)
    }

    fn param(&mut self, name: &str, shape: &[usize], init: Init, kind: ParamKind) -> ParamId {
        self.0.params.push(Param {
            name: format!("{} {name}", self.0.nodes.len()),
            shape: shape.to_vec(),
            init,
            kind,
        });
        ParamId(self.0.params.len() - 1)
    }

    fn learnt(&mut self, name: &str, shape: &[usize], std: f32) -> ParamId {
        self.param(name, shape, Init::Normal { std }, ParamKind::Learnt)
    }

    fn pair(&mut self, channels: usize) -> Option<(ParamId, ParamId)> {
        Some((
            self.learnt("weight", &[channels], 1.0),
            self.learnt("bias", &[channels], 0.5),
        ))
    }

    fn conv(&mut self, x: NodeId, [from, to]: [usize; 2], kernel: [usize; 3], groups: usize) -> NodeId {
        let shape = [to, from / groups, kernel[0], kernel[1], kernel[2]];
        let fan_in = shape[1..].iter().product::<usize>() as f32;
        let weight = self.learnt("weight", &shape, (2.0 / fan_in).sqrt());
        let bias = Some(self.learnt("bias", &[to], 0.3));
        let conv = Conv {
            out_channels: to,
            kernel,
            stride: [1; 3],
            padding: kernel.map(|k| k / 2),
            dilation: [1; 3],
            groups,
            weight,
            bias,
        };
        self.node(Op::Conv(conv), &[x])
    }

    fn batch_norm(&mut self, x: NodeId, channels: usize) -> NodeId {
        let mut statistic = |name, value| self.param(name, &[channels], Init::Constant(value), ParamKind::Statistic);
        let (mean, variance) = (statistic("mean", 0.25), statistic("variance", 0.7));
        let op = Op::BatchNorm {
            eps: 1e-5,
            mean,
            variance,
            affine: self.pair(channels),
        };
        self.node(op, &[x])
    }
}

/// Takes inputs of `[n, 2, 5, 7, 9]`.
fn net() -> Graph {
    let mut net = Net(Graph {
        name: "operations".to_owned(),
        nodes: Vec::new(),
        params: Vec::new(),
        outputs: Vec::new(),
    });
    let activation = |function| Op::Activation(function);
    let x = net.node(Op::Input { channels: 2 }, &[]);
    let x = net.conv(x, [2, 12], [3; 3], 1);
    let x = net.batch_norm(x, 12);
    let x = net.node(activation(Activation::Gelu), &[x]);
    let x = net.conv(x, [12, 18], [1, 3, 3], 3);
    let x = net.node(Op::Dropout { p: 0.2 }, &[x]);
    let affine = net.pair(18);
    let norm = Op::GroupNorm {
        groups: 3,
        eps: 1e-5,
        affine,
    };
    let x = net.node(norm, &[x]);
    let x = net.node(activation(Activation::Tanh), &[x]);
    let affine = net.pair(18);
    let y = net.node(Op::LayerNorm { eps: 1e-5, affine }, &[x]);
    let slope = net.learnt("slope", &[18], 0.3);
    let y = net.node(activation(Activation::PRelu { slope }), &[y]);
    let weight = Some(net.learnt("weight", &[1], 1.0));
    let bias = Some(net.learnt("bias", &[18], 1.0));
    let y = net.node(Op::Affine { weight, bias }, &[y]);
    let y = net.node(activation(Activation::Silu), &[y]);
    let y = net.node(Op::DropPath { p: 0.4 }, &[y]);
    let x = net.node(Op::Add, &[x, y]);
    let pad = Op::Pad {
        before: [0, 2, -1],
        after: [1, -1, 1],
    };
    let x = net.node(pad, &[x]);
    let tokens = net.conv(x, [18, 30], [1; 3], 1);
    let bias = net.learnt("table", &[5 * 7 * 5, 2], 1.0);
    let attention = WindowAttention {
        heads: 2,
        window: [3, 4, 3],
        shift: [1, 2, 1],
        bias,
    };
    let attended = net.node(Op::WindowAttention(attention), &[tokens]);
    let part = net.node(Op::Channels { start: 7, len: 11 }, &[x]);
    let shares = net.node(Op::Softmax, &[part]);
    let gate = net.conv(attended, [10, 1], [1; 3], 1);
    let gate = net.node(activation(Activation::Sigmoid), &[gate]);
    let squeezed = net.node(Op::AxisMean { axes: [true; 3] }, &[part]);
    let gated = net.node(Op::Mul, &[shares, gate, part, squeezed]);
    let x = net.node(Op::Concat, &[gated, attended]);
    let nearest = Op::Resize {
        factor: [1, 2, 1],
        mode: Interpolation::Nearest,
    };
    let x = net.node(nearest, &[x]);
    let trilinear = Op::Resize {
        factor: [2, 1, 3],
        mode: Interpolation::Trilinear { align_corners: false },
    };
    let x = net.node(trilinear, &[x]);
    let head = net.conv(x, [21, 3], [1; 3], 1);
    net.0.outputs = vec![head];
    net.0
}

const INPUT: [usize; 5] = [2, 2, 5, 7, 9];

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
        let step = 1e-3;
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
