//! What all formats of voxels have in common: the bytes, their conversion, the grid, reading and writing.
//!
//! Voxels lie in the files with x fastest, as they do in a [`Volume`], so they are taken as they lie; a header's axes
//! i, j, k are our axes 2, 1, 0.

#[allow(clippy::indexing_slicing)] // 3×3 matrices with indices 0 to 2
pub(crate) mod affine;
mod read;
pub(crate) mod source;
pub(crate) mod text;
pub(crate) mod voxels;
#[allow(clippy::indexing_slicing)] // our own voxels, nothing from outside
mod write;

pub use read::{ImageFacts, ReadImage, ReadOptions, image_facts, image_files, read_image, read_label_map};
pub(crate) use read::{Layout, Opened};
pub(crate) use write::Voxels;
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
