//! Readers and writers of files from outside: NIfTI, PNG, and the folder conventions of nnU-Net.
//!
//! Everything here takes bytes that nobody has checked. Allocation is bounded by what a file really holds, every fault
//! is an error with a cause and a way out, and nothing panics. Files are written to a temporary name in the same folder
//! and renamed, so that a reader never sees half of one.

mod atomic;
mod dataset;
mod error;
mod gzip;
mod inputs;
mod nifti;
mod png;
mod warning;

pub use atomic::{atomic_write, write_json};
pub use dataset::{Annotations, Case, Classes, Dataset, DatasetJson, LabelIds, Split};
pub use error::{DatasetFault, IoError, NiftiFault};
pub use inputs::{InputCase, case_name, expand_inputs};
pub use nifti::{
    Image, NiftiVersion, ReadImage, ReadOptions, SourceHeader, read_image, read_label_map, write_image, write_label_map,
};
pub use png::write_png;
pub use warning::Warning;
