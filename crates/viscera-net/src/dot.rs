//! A graph as a picture, in the language of Graphviz.

use crate::{Graph, NetError, Op};
use std::fmt::Write;

impl Graph {
    /// A drawing for `dot -Tsvg`: one box per operation, with channels and extent `[z, y, x]` for an input of `spatial`
    /// voxels on its arrows. Outputs have a double frame.
    ///
    /// # Errors
    /// Those of [`Self::shapes`].
    pub fn to_dot(&self, spatial: [usize; 3]) -> Result<String, NetError> {
        let shapes = self.shapes(spatial)?;
        let mut out = format!("digraph \"{}\" {{\n", escaped(&self.name));
        out.push_str("  node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\", fontsize=10];\n");
        out.push_str("  edge [fontname=\"sans-serif\", fontsize=8];\n");
        for (i, node) in self.nodes.iter().enumerate() {
            let detail = match &node.op {
                Op::Conv(conv) => {
                    let groups = if conv.groups > 1 { format!(", {} groups", conv.groups) } else { String::new() };
                    format!(" {}, stride {}{groups}", times(conv.kernel), times(conv.stride))
                }
                Op::ConvTranspose { kernel, .. } => format!(" {}", times(*kernel)),
                Op::Pool { kernel, stride, .. } => format!(" {}, stride {}", times(*kernel), times(*stride)),
                _ => String::new(),
            };
            let colour = match &node.op {
                Op::Conv(_) | Op::ConvTranspose { .. } | Op::WindowAttention(_) => "#cfe2f3",
                Op::Add | Op::Mul | Op::Concat => "#fff2cc",
                Op::Input { .. } => "#d9ead3",
                _ => "#f3f3f3",
            };
            let frames = 1 + usize::from(self.outputs.iter().any(|o| o.0 == i));
            let label = format!("{}\\n{}{detail}", escaped(&node.name), node.op.name());
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "  n{i} [label=\"{label}\", fillcolor=\"{colour}\", peripheries={frames}];"
            );
            for input in &node.inputs {
                let (channels, extent) = shapes.nodes[input.0];
                let _ = writeln!(out, "  n{} -> n{i} [label=\"{channels} @ {}\"];", input.0, times(extent));
            }
        }
        out.push_str("}\n");
        Ok(out)
    }
}

fn times([z, y, x]: [usize; 3]) -> String {
    format!("{z}×{y}×{x}")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use crate::builders::GraphBuilder;

    #[test]
    fn every_node_and_arrow_is_drawn() {
        let mut g = GraphBuilder::new("a \"b\"");
        let x = g.input(2);
        let y = g.conv("c", x, 3, [3; 3], [2; 3], true, 0.0);
        let z = g.concat("d", &[y, y]);
        let dot = g.finish(vec![z]).to_dot([8; 3]).unwrap();
        assert!(dot.starts_with("digraph \"a \\\"b\\\"\" {\n"), "{dot}");
        assert!(dot.contains("n1 [label=\"c\\nconv 3×3×3, stride 2×2×2\""), "{dot}");
        assert!(dot.contains("n0 -> n1 [label=\"2 @ 8×8×8\"]"), "{dot}");
        assert_eq!(dot.matches("n1 -> n2 [label=\"3 @ 4×4×4\"]").count(), 2, "{dot}");
        assert_eq!(dot.matches("peripheries=2").count(), 1, "{dot}");
    }
}
