//! Which files a case gets.

use serde::{Serialize, Serializer};
use std::str::FromStr;

/// Which files each case gets, beside its manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outputs {
    /// Format of the label map, and of the masks.
    pub labels: LabelFormat,
    /// One mask per class in a folder CASE, beside the label map.
    pub split: bool,
    /// Formats of surfaces; none without.
    pub meshes: Vec<MeshFormat>,
    /// `statistics.json` and `statistics.csv` in the folder CASE.
    pub statistics: bool,
    /// A picture, `CASE.png`.
    pub preview: bool,
}

/// The format of a label map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LabelFormat {
    /// Compressed NIfTI.
    #[default]
    NiftiGz,
    /// NIfTI.
    Nifti,
    /// NRRD.
    Nrrd,
    /// A segmentation of 3D Slicer, with names and colours.
    SegNrrd,
}

impl LabelFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NiftiGz, Self::Nifti, Self::Nrrd, Self::SegNrrd];

    /// The ending of its files, which is its name too.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::NiftiGz => "nii.gz",
            Self::Nifti => "nii",
            Self::Nrrd => "nrrd",
            Self::SegNrrd => "seg.nrrd",
        }
    }
}

impl Serialize for LabelFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.ending())
    }
}

impl FromStr for LabelFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        named(name, &Self::ALL, Self::ending)
    }
}

/// The format of surfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeshFormat {
    /// One file per organ in the folder CASE; no colours.
    Stl,
    /// One file with named objects, and one with their colours.
    Obj,
    /// One scene with names and colours.
    Glb,
}

impl MeshFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stl, Self::Obj, Self::Glb];

    /// The ending of its files, which is its name too.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Stl => "stl",
            Self::Obj => "obj",
            Self::Glb => "glb",
        }
    }
}

impl Serialize for MeshFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.ending())
    }
}

impl FromStr for MeshFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        named(name, &Self::ALL, Self::ending)
    }
}

/// The one of `all` that has a name; the error lists the names.
fn named<T: Copy>(name: &str, all: &[T], ending: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|format| ending(*format) == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|format| ending(*format)).collect();
        format!("one of {}", names.join(", "))
    })
}
