//! NRRD (<https://teem.sourceforge.net/nrrd/format.html>), with the fields that 3D Slicer adds for segmentations.
//!
//! Axes are listed with the fastest first: x, y, z of ours. World points are mostly left-posterior-superior.

mod header;
mod read;
mod segments;
mod write;

pub(crate) use read::open;
pub(crate) use segments::segments;
pub(crate) use write::encode;
