//! What must hold of a graph before Burn sees it: Burn panics on sizes that do not fit.

use viscera_net::{Graph, NetError, Op, PoolKind};

/// Checks everything that [`Graph::shapes`] leaves open.
pub(crate) fn check(graph: &Graph) -> Result<(), NetError> {
    for node in &graph.nodes {
        check_op(&node.op).map_err(|reason| NetError::Shape {
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

fn check_op(op: &Op) -> Result<(), String> {
    match op {
        Op::Conv(conv) if conv.dilation.contains(&0) => Err("dilation must be positive".to_owned()),
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
