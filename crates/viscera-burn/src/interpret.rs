//! Runs the nodes of a graph one after the other.

use crate::{EXECUTOR, ops};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};
use viscera_net::{Graph, Interpolation, NetError, Node, NodeId, Op, ParamId, Shapes};

/// What a run gives.
pub(crate) struct Run<B: Backend> {
    /// The values of the outputs.
    pub(crate) heads: Vec<Tensor<B, 5>>,
    /// Means and variances of the batch, for the parameters that follow them.
    pub(crate) statistics: Vec<(ParamId, Tensor<B, 1>)>,
}

/// Runs a graph that [`crate::check::check`] has passed for an input of this size.
///
/// `params` are flat, in the graph's order. With `training`, the seed of dropout, batch norm takes the batch's statistics and
/// dropout drops; without, the former takes the running ones and the latter does nothing. A value is let go as soon as its
/// last reader has run.
pub(crate) fn run<B: Backend>(
    graph: &Graph,
    shapes: &Shapes,
    params: &[Tensor<B, 1>],
    input: &Tensor<B, 5>,
    training: Option<u64>,
) -> Result<Run<B>, NetError> {
    let mut statistics = Vec::new();
    let last_reader = last_readers(graph);
    let mut values: Vec<Option<Tensor<B, 5>>> = vec![None; graph.nodes.len()];
    let missing = |id: NodeId| NetError::Shape {
        node: graph.nodes[id.0].name.clone(),
        reason: "is read before it is computed".to_owned(),
    };
    for (i, node) in graph.nodes.iter().enumerate() {
        let param = |id: ParamId| params[id.0].clone();
        let pair = |affine: &Option<(ParamId, ParamId)>| [affine.map(|a| param(a.0)), affine.map(|a| param(a.1))];
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
            (Op::InstanceNorm { eps, affine }, &[x, ..]) => {
                let x = take(x)?;
                let channels = x.dims()[1];
                ops::group_norm(x, channels, *eps, pair(affine))
            }
            (Op::GroupNorm { groups, eps, affine }, &[x, ..]) => ops::group_norm(take(x)?, *groups, *eps, pair(affine)),
            (Op::LayerNorm { eps, affine }, &[x, ..]) => ops::layer_norm(take(x)?, *eps, pair(affine)),
            (
                Op::BatchNorm {
                    eps,
                    mean,
                    variance,
                    affine,
                },
                &[x, ..],
            ) => {
                if training.is_some() {
                    let (value, of_batch) = ops::batch_norm(take(x)?, *eps, pair(affine));
                    statistics.extend([*mean, *variance].into_iter().zip(of_batch));
                    value
                } else {
                    ops::batch_norm_fixed(take(x)?, *eps, [param(*mean), param(*variance)], pair(affine))
                }
            }
            (Op::Affine { weight, bias }, &[x, ..]) => ops::affine(take(x)?, [weight.map(param), bias.map(param)]),
            (Op::Activation(function), &[x, ..]) => match ops::activate(take(x)?, *function, param) {
                Some(value) => value,
                None => return Err(unknown(node)),
            },
            (Op::Softmax, &[x, ..]) => activation::softmax(take(x)?, 1),
            (Op::Dropout { p } | Op::DropPath { p }, &[x, ..]) => match training {
                Some(seed) => ops::dropout(take(x)?, *p, seed, i, matches!(node.op, Op::DropPath { .. })),
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
            (Op::Mul, &[first, ref rest @ ..]) => {
                let mut product = values[first.0].clone().ok_or_else(|| missing(first))?;
                for &id in rest {
                    product = product * values[id.0].clone().ok_or_else(|| missing(id))?;
                }
                product
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
            (Op::ResizeLike { align_corners }, &[x, ..]) => {
                let mode = Interpolation::Trilinear {
                    align_corners: *align_corners,
                };
                ops::resize(take(x)?, shapes.nodes[i].1, mode)
            }
            (Op::Resize { mode, .. }, &[x, ..]) => ops::resize(take(x)?, shapes.nodes[i].1, *mode),
            (Op::Pad { before, after }, &[x, ..]) => ops::pad(take(x)?, *before, *after),
            (Op::Channels { start, len }, &[x, ..]) => take(x)?.narrow(1, *start, *len),
            (Op::WindowAttention(attention), &[x, ..]) => {
                ops::window_attention(take(x)?, attention, param(attention.bias))
            }
            _ => return Err(unknown(node)),
        };
        values[i] = Some(value);
        for id in &node.inputs {
            if last_reader[id.0] == i {
                values[id.0] = None;
            }
        }
    }
    let heads = graph
        .outputs
        .iter()
        .map(|&id| values[id.0].clone().ok_or_else(|| missing(id)))
        .collect::<Result<_, _>>()?;
    Ok(Run { heads, statistics })
}

fn unknown(node: &Node) -> NetError {
    NetError::Unsupported {
        node: node.name.clone(),
        op: node.op.name(),
        executor: EXECUTOR,
    }
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
