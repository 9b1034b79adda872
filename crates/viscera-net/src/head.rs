//! A graph cut down to one of its heads, for inference.

use crate::{Graph, Interpolation, NetError, Node, NodeId, Op};

impl Graph {
    /// The graph that computes output `head` alone: nodes that only other outputs need are gone. Parameters stay, read or
    /// not, so the same weights fit. With deep supervision outputs stand finest first, and a coarser one ends the decoder
    /// early.
    ///
    /// # Errors
    /// [`NetError::Settings`] when there is no such output, or the graph does not hold together.
    pub fn with_head(&self, head: usize) -> Result<Self, NetError> {
        let fail = |reason: String| NetError::Settings {
            network: "graph",
            reason,
        };
        self.check()?;
        let output = self
            .outputs
            .get(head)
            .ok_or_else(|| fail(format!("no head {head} among {}", self.outputs.len())))?;
        let mut needed = vec![false; self.nodes.len()];
        let mut open = vec![*output];
        while let Some(NodeId(id)) = open.pop() {
            if !std::mem::replace(&mut needed[id], true) {
                open.extend(&self.nodes[id].inputs);
            }
        }
        // The input stays first, whether read or not.
        if let Some(first) = needed.first_mut() {
            *first = true;
        }
        let mut place = vec![NodeId(0); self.nodes.len()];
        let mut nodes = Vec::new();
        for (id, node) in self.nodes.iter().enumerate().filter(|(id, _)| needed[*id]) {
            place[id] = NodeId(nodes.len());
            nodes.push(Node {
                inputs: node.inputs.iter().map(|i| place[i.0]).collect(),
                ..node.clone()
            });
        }
        Ok(Self {
            name: self.name.clone(),
            nodes,
            params: self.params.clone(),
            outputs: vec![place[output.0]],
        })
    }

    /// The graph whose outputs are enlarged trilinearly by whole factors `[z, y, x]`.
    #[must_use]
    pub fn enlarged(mut self, factor: [usize; 3], align_corners: bool) -> Self {
        for (i, output) in self.outputs.iter_mut().enumerate() {
            self.nodes.push(Node {
                name: format!("enlarge.{i}"),
                op: Op::Resize {
                    factor,
                    mode: Interpolation::Trilinear { align_corners },
                },
                inputs: vec![*output],
            });
            *output = NodeId(self.nodes.len() - 1);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use crate::builders::named;

    #[test]
    fn a_head_is_the_network_that_was_built_for_it() {
        let size = [32, 64, 64];
        let train = named("a-train").unwrap().architecture.build().unwrap();
        for (head, name) in [(0, "a-fine"), (2, "a-coarse")] {
            let direct = named(name).unwrap().architecture.build().unwrap();
            let cut = train.with_head(head).unwrap();
            let names = |g: &crate::Graph| g.nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&cut), names(&direct), "{name}");
            assert_eq!(cut.counts(size).unwrap().macs, direct.counts(size).unwrap().macs);
            assert_eq!(cut.params, train.params);
        }
        assert!(train.with_head(5).is_err());
    }

    #[test]
    fn an_enlarged_head_has_the_size_of_its_input() {
        let train = named("a-train").unwrap().architecture.build().unwrap();
        let size = [32, 64, 96];
        let graph = train.with_head(2).unwrap().enlarged([4; 3], true);
        let shapes = graph.shapes(size).unwrap();
        assert_eq!(shapes.nodes[graph.outputs[0].0].1, size);
    }
}
