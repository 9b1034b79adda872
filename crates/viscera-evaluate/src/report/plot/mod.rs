//! Small pictures of numbers beyond curves, as SVG.

mod boxes;
mod scatter;
mod swarm;

pub(super) use boxes::{BoxRow, box_plot};
pub(super) use scatter::{Dot, Guide, scatter};
