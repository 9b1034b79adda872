//! NIfTI-1 and NIfTI-2 (<https://nifti.nimh.nih.gov>), read and written with no help. World coordinates are RAS+, as
//! ours are.

#[allow(clippy::indexing_slicing)] // 3×3 matrices with indices 0 to 2
mod forms;
mod header;
mod label_xml;
mod open;
mod pair;
#[allow(clippy::indexing_slicing)] // our own header bytes, nothing from outside
mod write;

pub use header::{NiftiVersion, SourceHeader};
pub(crate) use open::open;
pub(crate) use pair::header_path;
pub(crate) use write::{encode_image, encode_label_map};
