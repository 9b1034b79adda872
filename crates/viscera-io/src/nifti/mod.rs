//! NIfTI-1 and NIfTI-2 (<https://nifti.nimh.nih.gov>), read and written with no help.
//!
//! Voxels lie in a NIfTI file with x fastest, as they do in a [`Volume`], so they are taken as they lie; the header's
//! axes i, j, k are our axes 2, 1, 0. World coordinates are RAS+ on both sides.

#[allow(clippy::indexing_slicing)] // 3×3 matrices with indices 0 to 2
mod affine;
mod header;
mod label_xml;
mod read;
mod source;
mod voxels;
#[allow(clippy::indexing_slicing)] // our own voxels and header bytes, nothing from outside
mod write;

pub use header::{NiftiVersion, SourceHeader};
pub use read::{ImageFacts, ReadImage, ReadOptions, image_facts, read_image, read_label_map};
pub use source::image_files;
pub use write::{write_image, write_label_map};

use viscera_image::{Geometry, Volume};

/// Intensities in the narrower of the two types that hold them exactly.
#[derive(Debug, Clone, PartialEq)]
pub enum Image {
    /// Whole numbers from −32768 to 32767, as CT scanners write them.
    I16(Volume<i16>),
    /// Everything else.
    F32(Volume<f32>),
}

impl Image {
    /// The grid.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        match self {
            Self::I16(volume) => volume.geometry(),
            Self::F32(volume) => volume.geometry(),
        }
    }

    /// The intensities as `f32`; exact, and without a copy where they are so already.
    #[must_use]
    pub fn into_f32(self) -> Volume<f32> {
        match self {
            Self::I16(volume) => volume.map(f32::from),
            Self::F32(volume) => volume,
        }
    }
}

impl From<Volume<i16>> for Image {
    fn from(volume: Volume<i16>) -> Self {
        Self::I16(volume)
    }
}

impl From<Volume<f32>> for Image {
    fn from(volume: Volume<f32>) -> Self {
        Self::F32(volume)
    }
}
