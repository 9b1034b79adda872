//! What must hold of a graph before Burn sees it: Burn panics on sizes that do not fit.

use viscera_net::{Graph, NetError, Op, ParamId, PoolKind, Shapes};

/// Checks everything that [`Graph::shapes`] leaves open.
pub(crate) fn check(graph: &Graph, shapes: &Shapes) -> Result<(), NetError> {
    for node in &graph.nodes {
        let fits = match (&node.op, node.inputs.first()) {
            (Op::Input { .. }, _) => Ok(()),
            // `Graph::shapes` has seen that the first input is there.
            (op, Some(first)) => check_op(graph, op, shapes.nodes[first.0].0),
            (_, None) => Err("has no input".to_owned()),
        };
        fits.map_err(|reason| NetError::Shape {
            node: node.name.clone(),
            reason,
        })?;
    }
    match graph.outputs.iter().find(|output| output.0 >= graph.nodes.len()) {
        Some(output) => Err(NetError::Shape {
            node: format!("output {}", output.0),
            reason: "is not a node of the graph".to_owned(),
        }),
        None => Ok(()),
    }
}

fn check_op(graph: &Graph, op: &Op, channels: usize) -> Result<(), String> {
    let param = |id: ParamId, want: &[usize]| match graph.params.get(id.0) {
        Some(param) if param.shape == want => Ok(()),
        Some(param) => Err(format!(
            "{} has shape {:?}, {want:?} is needed",
            param.name, param.shape
        )),
        None => Err(format!("parameter {} does not exist", id.0)),
    };
    match op {
        Op::Conv(conv) => {
            if [conv.kernel, conv.stride, conv.dilation].as_flattened().contains(&0) || conv.out_channels == 0 {
                return Err("kernel, stride, dilation and channels must be positive".to_owned());
            }
            if conv.groups == 0
                || !channels.is_multiple_of(conv.groups)
                || !conv.out_channels.is_multiple_of(conv.groups)
            {
                let (groups, out) = (conv.groups, conv.out_channels);
                return Err(format!(
                    "{groups} groups do not divide {channels} channels in and {out} out"
                ));
            }
            conv.bias.map_or(Ok(()), |bias| param(bias, &[conv.out_channels]))
        }
        Op::ConvTranspose {
            out_channels,
            kernel: [z, y, x],
            weight,
            bias,
        } => {
            param(*weight, &[channels, *out_channels, *z, *y, *x])?;
            bias.map_or(Ok(()), |bias| param(bias, &[*out_channels]))
        }
        Op::InstanceNorm {
            affine: Some((weight, bias)),
            ..
        } => {
            param(*weight, &[channels])?;
            param(*bias, &[channels])
        }
        Op::Dropout { p } if !(0.0..1.0).contains(p) => {
            Err(format!("drops with probability {p}; it must be in [0, 1)"))
        }
        Op::Pool {
            kind, kernel, padding, ..
        } => {
            let fits = |a: usize| match kind {
                PoolKind::Max => padding[a] < kernel[a],
                PoolKind::Average => padding[a] == 0 && kernel[a] > 0,
            };
            if (0..3).all(fits) {
                Ok(())
            } else {
                Err(format!(
                    "{kind:?} pooling of kernel {kernel:?} cannot have padding {padding:?}"
                ))
            }
        }
        _ => Ok(()),
    }
}
