//! What the executor promises beyond values: errors in place of panics, and the same bits for any number of threads.

use viscera_burn::{CpuExecutor, from_burn, to_burn};
use viscera_net::builders::{CoarseUnet, GraphBuilder};
use viscera_net::{
    Conv, Executor, Graph, Init, NetError, Node, NodeId, Op, Param, ParamId, ParamKind, PoolKind, Tensor, Weights,
};

/// An input of four channels with one operation behind it.
fn graph(op: Op, params: &[&[usize]]) -> Graph {
    let param = |(i, shape): (usize, &&[usize])| Param {
        name: format!("p{i}"),
        shape: shape.to_vec(),
        init: Init::Constant(0.5),
        kind: ParamKind::Learnt,
    };
    let node = |name: &str, op, inputs| Node {
        name: name.to_owned(),
        op,
        inputs,
    };
    Graph {
        name: "one operation".to_owned(),
        nodes: vec![
            node("input", Op::Input { channels: 4 }, vec![]),
            node("op", op, vec![NodeId(0)]),
        ],
        params: params.iter().enumerate().map(param).collect(),
        outputs: vec![NodeId(1)],
    }
}

fn executor(graph: &Graph) -> CpuExecutor {
    CpuExecutor::new(graph, &Weights::init(graph, 1), &Default::default()).unwrap()
}

fn ramp(shape: [usize; 5]) -> Tensor {
    let n = shape.iter().product::<usize>();
    Tensor::new(shape, (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()).unwrap()
}

fn conv() -> Conv {
    Conv {
        out_channels: 4,
        kernel: [3; 3],
        stride: [1; 3],
        padding: [1; 3],
        dilation: [1; 3],
        groups: 1,
        weight: ParamId(0),
        bias: None,
    }
}

fn pool(kind: PoolKind, padding: usize) -> Op {
    Op::Pool {
        kind,
        kernel: [2; 3],
        stride: [2; 3],
        padding: [padding; 3],
    }
}

#[test]
fn what_burn_would_panic_on_is_an_error() {
    let undilated = Conv {
        dilation: [0; 3],
        ..conv()
    };
    let cases = [
        graph(Op::Conv(undilated), &[&[4, 4, 3, 3, 3]]),
        graph(pool(PoolKind::Max, 2), &[]),
        graph(pool(PoolKind::Average, 1), &[]),
    ];
    let input = ramp([1, 4, 4, 5, 6]);
    for graph in &cases {
        assert!(
            graph.shapes(input.spatial()).is_ok(),
            "{:?} is no case for this test",
            graph.nodes[1].op
        );
        let mut executor = executor(graph);
        for result in [executor.infer(&input), executor.forward(&input, 0)] {
            let error = result.expect_err(&format!("{:?}", graph.nodes[1].op));
            assert!(
                matches!(&error, NetError::Shape { node, .. } if node == "op"),
                "{error}"
            );
        }
    }
    let mut nowhere = graph(Op::Add, &[]);
    nowhere.outputs = vec![NodeId(2)];
    assert!(executor(&nowhere).infer(&input).is_err());
}

#[test]
fn input_that_does_not_fit_is_an_error() {
    let mut executor = executor(&graph(Op::Add, &[]));
    for shape in [[1, 3, 4, 4, 4], [0, 4, 4, 4, 4]] {
        let error = executor.infer(&ramp(shape)).unwrap_err().to_string();
        assert!(error.starts_with("node input: needs 4 channels"), "{error}");
    }
    assert!(executor.infer(&ramp([1, 4, 4, 0, 4])).is_err());
}

#[test]
fn backward_needs_a_forward_pass_and_its_shapes() {
    let net = graph(Op::Conv(conv()), &[&[4, 4, 3, 3, 3]]);
    let mut executor = executor(&net);
    let right = ramp([1, 4, 4, 5, 6]);
    let refused = |result: Result<_, NetError>| matches!(result, Err(NetError::Backward { .. }));
    assert!(refused(executor.backward(std::slice::from_ref(&right))));
    for wrong in [vec![], vec![ramp([1, 4, 4, 6, 5])], vec![right.clone(), right.clone()]] {
        executor.forward(&right, 0).unwrap();
        assert!(refused(executor.backward(&wrong)));
    }
    executor.forward(&right, 0).unwrap();
    assert_eq!(
        executor.backward(std::slice::from_ref(&right)).unwrap()[0].len(),
        net.params[0].len()
    );
    // Its tape is used up.
    assert!(refused(executor.backward(&[right])));
}

#[test]
fn parameters_that_no_output_reads_have_zero_gradient() {
    let mut executor = executor(&graph(Op::Add, &[&[3], &[2, 2]]));
    let input = ramp([2, 4, 3, 3, 3]);
    assert_eq!(executor.forward(&input, 0).unwrap(), std::slice::from_ref(&input));
    assert_eq!(executor.backward(&[input]).unwrap(), [vec![0.0; 3], vec![0.0; 4]]);
}

#[test]
fn new_parameters_are_checked_and_used() {
    let mut g = GraphBuilder::new("scale");
    let x = g.input(1);
    let y = g.conv("conv", x, 1, [1; 3], [1; 3], true, 0.0);
    let mut executor = executor(&g.finish(vec![y]));
    let weights = Weights {
        values: vec![vec![2.0].into(), vec![1.0].into()],
    };
    executor.set_parameters(&weights).unwrap();
    assert_eq!(executor.parameters(), &weights);
    let input = Tensor::new([1, 1, 1, 1, 2], vec![3.0, -1.0]).unwrap();
    assert_eq!(executor.infer(&input).unwrap()[0].data(), [7.0, -1.0]);
    let short = Weights {
        values: vec![vec![2.0].into(), vec![].into()],
    };
    assert!(executor.set_parameters(&short).is_err());
    assert_eq!(executor.parameters(), &weights);
}

#[test]
fn threads_do_not_change_a_bit() {
    let net = CoarseUnet {
        in_channels: 1,
        base_features: 4,
        out_channels: 3,
        decoder_blocks: 1,
        dropout: 0.2,
    };
    let net = net.build();
    let step = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut executor = executor(&net);
            let outputs = executor.forward(&ramp([2, 1, 33, 48, 50]), 7).unwrap();
            let gradients = executor.backward(&outputs).unwrap();
            (outputs, gradients)
        })
    };
    assert!(step(1) == step(3));
}

#[test]
fn tensors_survive_the_way_to_burn_and_back() {
    let tensor = ramp([2, 3, 4, 5, 6]);
    let there = to_burn::<viscera_burn::Cpu>(tensor.clone(), &Default::default());
    assert_eq!(there.dims(), tensor.shape());
    assert_eq!(from_burn(there.clone()).unwrap(), tensor);
    // A view that is not contiguous.
    let back = from_burn(there.swap_dims(2, 4)).unwrap();
    assert_eq!(back.shape(), [2, 3, 6, 5, 4]);
    assert_eq!(back.data()[..4], [0, 30, 60, 90].map(|i| tensor.data()[i]));
}
