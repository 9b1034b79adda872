//! Runs the nodes of a graph one after the other.

use crate::{EXECUTOR, ops};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use viscera_net::{Activation, Graph, NetError, NodeId, Op, ParamId, Shapes};

/// Runs a graph that [`crate::check::check`] has passed for an input of this size.
///
/// `params` are flat, in the graph's order. With `dropout_seed` dropout drops channels; without, it does nothing. A value
/// is let go as soon as its last reader has run.
pub(crate) fn run<B: Backend>(
    graph: &Graph,
    shapes: &Shapes,
    params: &[Tensor<B, 1>],
    input: &Tensor<B, 5>,
    dropout_seed: Option<u64>,
) -> Result<Vec<Tensor<B, 5>>, NetError> {
    let last_reader = last_readers(graph);
    let mut values: Vec<Option<Tensor<B, 5>>> = vec![None; graph.nodes.len()];
    let missing = |id: NodeId| NetError::Shape {
        node: graph.nodes[id.0].name.clone(),
        reason: "is read before it is computed".to_owned(),
    };
    for (i, node) in graph.nodes.iter().enumerate() {
        let param = |id: ParamId| params[id.0].clone();
        let mut take = |id: NodeId| {
            let value = if last_reader[id.0] == i {
                values[id.0].take()
            } else {
                values[id.0].clone()
            };
            value.ok_or_else(|| missing(id))
        };
        let value = match (&node.op, node.inputs.as_slice()) {
            (Op::Input { .. }, _) => input.clone(),
            (Op::Conv(conv), &[x, ..]) => ops::conv(take(x)?, conv, param(conv.weight), conv.bias.map(param)),
            (
                Op::ConvTranspose {
                    out_channels,
                    kernel,
                    weight,
                    bias,
                },
                &[x, ..],
            ) => ops::conv_transpose(take(x)?, *out_channels, *kernel, param(*weight), bias.map(param)),
            (Op::InstanceNorm { eps, affine }, &[x, ..]) => ops::instance_norm(
                take(x)?,
                *eps,
                affine.map(|(weight, bias)| (param(weight), param(bias))),
            ),
            (Op::Activation(Activation::LeakyRelu { slope }), &[x, ..]) => {
                let x = take(x)?;
                if *slope == 0.0 {
                    activation::relu(x)
                } else {
                    activation::leaky_relu(x, f64::from(*slope))
                }
            }
            (Op::Activation(Activation::Sigmoid), &[x, ..]) => activation::sigmoid(take(x)?),
            (Op::Dropout { p }, &[x, ..]) => match dropout_seed {
                Some(seed) => ops::dropout(take(x)?, *p, seed, i),
                None => take(x)?,
            },
            (Op::Add, &[first, ref rest @ ..]) => {
                // The first is only borrowed, so that it may stand among the others too.
                let mut sum = values[first.0].clone().ok_or_else(|| missing(first))?;
                for &id in rest {
                    sum = sum + values[id.0].clone().ok_or_else(|| missing(id))?;
                }
                sum
            }
            (Op::Concat, inputs) => {
                let parts = inputs.iter().map(|&id| values[id.0].clone().ok_or_else(|| missing(id)));
                Tensor::cat(parts.collect::<Result<_, _>>()?, 1)
            }
            (
                Op::Pool {
                    kind,
                    kernel,
                    stride,
                    padding,
                },
                &[x, ..],
            ) => ops::pool(take(x)?, *kind, *kernel, *stride, *padding),
            (Op::AxisMean { axes }, &[x, ..]) => ops::axis_mean(take(x)?, *axes),
            (Op::ResizeLike { align_corners }, &[x, ..]) => ops::resize(take(x)?, shapes.nodes[i].1, *align_corners),
            _ => {
                return Err(NetError::Unsupported {
                    node: node.name.clone(),
                    op: "this operation",
                    executor: EXECUTOR,
                });
            }
        };
        values[i] = Some(value);
        for id in &node.inputs {
            if last_reader[id.0] == i {
                values[id.0] = None;
            }
        }
    }
    graph
        .outputs
        .iter()
        .map(|&id| values[id.0].clone().ok_or_else(|| missing(id)))
        .collect()
}

/// For each node the last one that reads it; outputs are read after the end.
fn last_readers(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for id in &node.inputs {
            last[id.0] = i;
        }
    }
    for id in &graph.outputs {
        last[id.0] = usize::MAX;
    }
    last
}
