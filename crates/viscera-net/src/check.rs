//! Whether a graph from outside holds together.

use crate::{Graph, NetError, Op};
use std::collections::BTreeSet;

/// Most nodes, parameters and outputs of a graph; more is a mistake.
const MOST: usize = 100_000;

impl Graph {
    /// Checks what [`Self::shapes`] does not: that there is one input and at least one output, that outputs are nodes,
    /// that names of parameters are unique, and that no parameter is empty or too large to count.
    ///
    /// # Errors
    /// [`NetError::Settings`] or [`NetError::Parameter`] saying what is wrong.
    pub fn check(&self) -> Result<(), NetError> {
        let wrong = |reason: String| NetError::Settings {
            network: "graph",
            reason,
        };
        if self.nodes.len().max(self.params.len()).max(self.outputs.len()) > MOST {
            return Err(wrong(format!("more than {MOST} nodes, parameters or outputs")));
        }
        let inputs = self.nodes.iter().filter(|n| matches!(n.op, Op::Input { .. })).count();
        if inputs != 1 {
            return Err(wrong(format!("{inputs} inputs instead of one")));
        }
        if self.outputs.is_empty() {
            return Err(wrong("no output".to_owned()));
        }
        if let Some(output) = self.outputs.iter().find(|o| o.0 >= self.nodes.len()) {
            return Err(wrong(format!(
                "output {} is none of its {} nodes",
                output.0,
                self.nodes.len()
            )));
        }
        let mut names = BTreeSet::new();
        for param in &self.params {
            let fail = |reason: &str| NetError::Parameter {
                name: param.name.clone(),
                reason: reason.to_owned(),
            };
            let len = param.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
            if len.is_none_or(|n| n == 0 || n > isize::MAX as usize / 4) {
                return Err(fail("its shape is empty or too large"));
            }
            if !names.insert(&param.name) {
                return Err(fail("its name comes twice"));
            }
        }
        Ok(())
    }

    /// Channels of the image that it takes; 0 for a graph without input.
    #[must_use]
    pub fn input_channels(&self) -> usize {
        let channels = self.nodes.iter().find_map(|node| match node.op {
            Op::Input { channels } => Some(channels),
            _ => None,
        });
        channels.unwrap_or(0)
    }
}
