//! A graph as a picture: text for Graphviz.

use crate::{Graph, NetError, Op, WindowAttention};
use std::fmt::Write;

impl Graph {
    /// The graph in Graphviz's language for an input of `spatial` voxels: one box per node with its name, what it does and
    /// the shape that it gives (channels × z × y × x), boxes of one stage or block in a frame. The way runs down to the
    /// coarsest feature map and up again beside it.
    ///
    /// `dot -Tsvg` draws it.
    ///
    /// # Errors
    /// Those of [`Graph::shapes`].
    pub fn dot(&self, spatial: [usize; 3]) -> Result<String, NetError> {
        let shapes = self.shapes(spatial)?;
        let mut text = format!(
            "digraph {} {{\n  node [shape=box style=\"rounded,filled\" fontname=Helvetica fontsize=10 \
             margin=\"0.1,0.03\" height=0.2]\n  edge [arrowsize=0.6]\n  ranksep=0.2\n",
            quoted(&self.name)
        );
        let groups: Vec<&str> = self.nodes.iter().map(|node| group(&node.name)).collect();
        let mut start = 0;
        // Neighbours of one group share a frame. A group may come back later; then it has another.
        for run in groups.chunk_by(|a, b| a == b) {
            let framed = run.len() > 1 && !run[0].is_empty();
            if framed {
                let _ = writeln!(
                    text,
                    "  subgraph cluster_{start} {{\n  label={} labeljust=l color=gray70 fontname=Helvetica fontsize=10",
                    quoted(run[0])
                );
            }
            for i in start..start + run.len() {
                let node = &self.nodes[i];
                let input = node.inputs.first().map_or(0, |id| shapes.nodes[id.0].0);
                let (channels, [z, y, x]) = shapes.nodes[i];
                let mut label = format!("{}\n{channels} × {z} × {y} × {x}", describe(&node.op, input));
                let name = if framed { &node.name[run[0].len()..] } else { &node.name };
                let name = name.trim_start_matches('.');
                if !name.is_empty() && name != node.op.name() {
                    label = format!("{name}\n{label}");
                }
                let output = self.outputs.iter().any(|id| id.0 == i);
                let output = if output { " penwidth=3" } else { "" };
                let colour = colour(&node.op);
                let _ = writeln!(text, "  n{i} [label={} fillcolor=\"{colour}\"{output}]", quoted(&label));
            }
            if framed {
                text += "  }\n";
            }
            start += run.len();
        }
        let volume = |i: &usize| shapes.nodes[*i].1.iter().product::<usize>();
        // `min_by_key` takes the first of equals, which here is the last in running order.
        let bottom = (0..self.nodes.len()).rev().min_by_key(volume).unwrap_or(0);
        for (i, node) in self.nodes.iter().enumerate() {
            let rises = node.inputs.iter().any(|id| id.0 > bottom);
            for id in &node.inputs {
                let _ = match (i > bottom, id.0 > bottom) {
                    (false, _) => writeln!(text, "  n{} -> n{i}", id.0),
                    // A skip crosses over and moves neither end.
                    (true, false) if rises => writeln!(text, "  n{} -> n{i} [constraint=false]", id.0),
                    (true, _) => writeln!(text, "  n{i} -> n{} [dir=back]", id.0),
                };
            }
        }
        text += "}\n";
        Ok(text)
    }
}

/// The group of a dotted name: up to its first number, or else its first part; none for a name of one part.
fn group(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            return &name[..end];
        }
        end += 1;
    }
    name.split_once('.').map_or("", |(first, _)| first)
}

/// A string for Graphviz: quotes and backslashes escaped, lines kept.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

fn colour(op: &Op) -> &'static str {
    match op {
        Op::Input { .. } => "white",
        Op::Conv(_) | Op::ConvTranspose { .. } => "#cfe2f3",
        Op::WindowAttention(_) => "#d9d2e9",
        Op::InstanceNorm { .. } | Op::BatchNorm { .. } | Op::GroupNorm { .. } | Op::LayerNorm { .. } => "#eeeeee",
        Op::Activation(_) | Op::Softmax => "#fff2cc",
        Op::Add | Op::Mul | Op::Concat => "#d9ead3",
        Op::Pool { .. } | Op::AxisMean { .. } | Op::ResizeLike { .. } | Op::Resize { .. } => "#fce5cd",
        _ => "#f7f7f7",
    }
}

/// What an operation does to `channels` channels, in a line.
fn describe(op: &Op, channels: usize) -> String {
    let name = op.name();
    let same = |v: &[usize; 3], one: usize| v == &[one; 3];
    let by = |[z, y, x]: &[usize; 3]| format!("{z}×{y}×{x}");
    match op {
        Op::Conv(conv) => {
            let mut text = format!("{name} {}, {channels} → {}", by(&conv.kernel), conv.out_channels);
            for (what, value) in [("stride", &conv.stride), ("dilation", &conv.dilation)] {
                if !same(value, 1) {
                    let _ = write!(text, ", {what} {}", by(value));
                }
            }
            if conv.groups > 1 {
                let _ = write!(text, ", {} groups", conv.groups);
            }
            text
        }
        Op::ConvTranspose {
            out_channels, kernel, ..
        } => format!("{name} {}, {channels} → {out_channels}", by(kernel)),
        Op::GroupNorm { groups, .. } => format!("{name}, {groups} groups"),
        Op::Dropout { p } | Op::DropPath { p } => format!("{name} {:.0} %", p * 100.0),
        Op::Pool { kernel, stride, .. } if kernel == stride => format!("{name} {}", by(kernel)),
        Op::Pool { kernel, stride, .. } => format!("{name} {}, stride {}", by(kernel), by(stride)),
        Op::AxisMean { axes } => {
            let axes: String = "zyx".chars().zip(axes).filter_map(|(c, &on)| on.then_some(c)).collect();
            format!("{name} over {axes}")
        }
        Op::Resize { factor, .. } => format!("{name} ×{}", by(factor)),
        Op::Pad { before, after } => format!("{name} {before:?} {after:?}"),
        Op::Channels { start, len } => format!("{name} {start} to {}", start + len),
        Op::WindowAttention(WindowAttention {
            heads, window, shift, ..
        }) => {
            let shifted = if same(shift, 0) {
                String::new()
            } else {
                format!(", shift {}", by(shift))
            };
            format!("{name}, {heads} heads, {}{shifted}", by(window))
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::builders::{named, networks};

    #[test]
    fn names_belong_to_groups() {
        let cases = [
            ("input", ""),
            ("encoder.stages.0.0.convs.1.conv", "encoder.stages.0"),
            ("context.pyramid.full", "context"),
            ("tu.0", "tu.0"),
            ("tu.0.concat", "tu.0"),
            ("a..b", "a"),
        ];
        for (name, group) in cases {
            assert_eq!(super::group(name), group, "{name}");
        }
    }

    /// One box per node, one arrow per input, frames closed.
    #[test]
    fn every_network_has_a_picture() {
        for network in networks() {
            let graph = network.architecture.build().unwrap();
            let dot = graph.dot(network.input).unwrap();
            assert_eq!(dot.matches("[label=").count(), graph.nodes.len(), "{}", network.name);
            let arrows: usize = graph.nodes.iter().map(|node| node.inputs.len()).sum();
            assert_eq!(dot.matches(" -> n").count(), arrows, "{}", network.name);
            assert_eq!(dot.matches('{').count(), dot.matches('}').count(), "{}", network.name);
            let heads = dot.matches("penwidth=3").count();
            assert_eq!(heads, graph.outputs.len(), "{}", network.name);
        }
    }

    #[test]
    fn names_cannot_break_out_of_their_label() {
        let mut graph = named("d-coarse").unwrap().architecture.build().unwrap();
        graph.nodes[0].name = "a\"]; }\\".to_owned();
        let dot = graph.dot([32; 3]).unwrap();
        assert!(dot.contains(r#"label="a\"]; }\\\ninput"#), "{}", &dot[..400]);
    }
}
