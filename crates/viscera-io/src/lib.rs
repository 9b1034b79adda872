//! Readers and writers of files from outside: NIfTI, NRRD, MetaImage, PNG, surfaces, and the folder conventions of
//! nnU-Net.
//!
//! Everything here takes bytes that nobody has checked. Allocation is bounded by what a file really holds, every fault
//! is an error with a cause and a way out, and nothing panics. Files are written to a temporary name in the same folder
//! and renamed, so that a reader never sees half of one.
//!
//! ```
//! use viscera_image::{Geometry, LabelMap, LabelTable, Volume};
//! use viscera_io::{Image, ReadOptions, read_image, read_label_map, write_image, write_label_map};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let grid = Geometry::ras([20, 30, 40], [2.5, 0.8, 0.8]);
//! write_image(&folder.join("ct.nii.gz"), &Image::from(Volume::filled(grid, 40i16)?))?;
//!
//! let ct = read_image(&folder.join("ct.nii.gz"), &ReadOptions::default())?;
//! let liver = LabelMap::filled(ct.image.geometry().clone(), 1)?;
//! write_label_map(&folder.join("liver.nii.gz"), &liver, &ct.header, LabelTable::flare13().entries())?;
//! assert_eq!(read_label_map(&folder.join("liver.nii.gz"))?, liver);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod atomic;
mod dataset;
mod error;
mod gzip;
mod inputs;
mod layout;
mod mapped;
mod mesh;
mod metaimage;
mod nifti;
mod npy;
mod nrrd;
mod png;
mod volume;
mod warning;

pub use atomic::{atomic_write, remove_file, remove_stale, write_json};
pub use dataset::{Annotations, Case, Classes, Dataset, DatasetJson, LabelIds, Split, class_colour};
pub use error::{DatasetFault, IoError, VolumeFault};
pub use inputs::{InputCase, case_name, expand_inputs, with_list};
pub use mapped::MappedFile;
pub use mesh::{Mesh, write_glb, write_obj, write_stl};
pub use nifti::{NiftiVersion, SourceHeader};
pub use npy::{NpyArray, NpyFault, read_npy, write_npy};
pub use png::{Pixels, png_bytes, write_png};
pub use volume::{
    Image, ImageFacts, ReadImage, ReadOptions, image_facts, image_files, read_image, read_label_map, write_image,
    write_label_map,
};
pub use warning::Warning;
