//! What can be wrong with a file.

use std::io;
use std::path::PathBuf;
use viscera_image::ImageError;

/// Errors of this crate. Paths come last in each message, because they may hold a patient's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The operating system would not let us read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system would not let us write.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of voxels (NIfTI, NRRD, MetaImage) that cannot be used, or a volume that cannot be written as one.
    #[error("{reason}{at}: {path}", at = At(*offset), path = path.display())]
    Volume {
        /// The file.
        path: PathBuf,
        /// Byte of the (uncompressed) file at which the fault lies, where there is one.
        offset: Option<u64>,
        /// The fault, and what to do about it.
        reason: VolumeFault,
    },
    /// A data-set folder that does not follow nnU-Net's convention.
    #[error("{reason}: {path}", path = path.display())]
    Dataset {
        /// Folder or file at fault.
        path: PathBuf,
        /// The fault.
        reason: DatasetFault,
    },
    /// A JSON file with wrong syntax, or without a key that must be there.
    #[error("not the JSON that was expected: {path}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and cause.
        source: serde_json::Error,
    },
    /// Neither a file of voxels nor a folder with some.
    #[error("{reason}: {path}", path = path.display())]
    Input {
        /// What the user named.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A NumPy file that cannot be used.
    #[error("{reason}: {path}", path = path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: crate::NpyFault,
    },
    /// Two inputs would write the same output.
    #[error("two inputs make the case \"{case}\"; segment them into different folders: {first} and {second}",
            first = first.display(), second = second.display())]
    DuplicateCase {
        /// The name that both give.
        case: String,
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// A picture whose bytes do not match its size.
    #[error("{found} bytes for an RGB picture of {width} × {height} pixels")]
    PictureSize {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes given.
        found: usize,
    },
    /// A grid or label table that cannot be.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Prints " (at byte N)", or nothing.
struct At(Option<u64>);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(byte) => write!(f, " (at byte {byte})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a file of voxels.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeFault {
    /// The file ends too early.
    #[error("the file ends after {found} of the {expected} bytes it must have; copy or convert it again")]
    Truncated {
        /// Bytes that the header asks for, after decompression.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Damaged compression.
    #[error("the compressed data are damaged ({detail}); copy or convert the file again")]
    DamagedData {
        /// What the decompressor found.
        detail: String,
    },
    /// None of the formats that are read.
    #[error("not a NIfTI, NRRD or MetaImage file: it begins with {first:02x?}; convert the scan to one of them first")]
    UnknownFormat {
        /// First bytes of the (uncompressed) file.
        first: [u8; 4],
    },
    /// The size of a NIfTI header, but not its magic.
    #[error("not a NIfTI file: its magic is {magic:02x?} (an old Analyze file?); convert it to NIfTI first")]
    WrongMagic {
        /// The four bytes found.
        magic: [u8; 4],
    },
    /// The other half of a pair of header and data is missing.
    #[error("the other half of the pair, \"{expected}\", is missing; put it beside this file")]
    MissingHalf {
        /// File name that was looked for.
        expected: String,
    },
    /// Impossible dimensions.
    #[error("impossible dimensions {dim:?} (x, y, z, …); the header is damaged or was written wrongly")]
    BadDimensions {
        /// Number of axes, then the extents, x first.
        dim: Vec<i64>,
    },
    /// More than one volume and no choice made.
    #[error("holds {count} volumes; choose one with --volume K, K from 0 to {last}", last = count.saturating_sub(1))]
    SeveralVolumes {
        /// Number of volumes.
        count: u64,
    },
    /// A choice outside the file.
    #[error("has no volume {asked}; its {count} volume(s) are counted from 0")]
    NoSuchVolume {
        /// Index asked for.
        asked: usize,
        /// Number of volumes.
        count: u64,
    },
    /// Spacing that is zero, negative infinite or not a number.
    #[error("spacing {spacing:?} mm (x, y, z) is not positive; write the right spacing into the header")]
    BadSpacing {
        /// Spacing along x, y, z.
        spacing: [f64; 3],
    },
    /// Axes that do not span space.
    #[error("the voxel axes do not span space or are not finite; write valid axes into the header")]
    BadAffine,
    /// Voxels of a kind that is no CT.
    #[error("voxels of type {name} cannot be read; convert to 16-bit integers or 32-bit floats")]
    UnsupportedType {
        /// The format's name of the type.
        name: String,
    },
    /// A header in text without a field that it must have.
    #[error("the header has no field \"{field}\"; it is damaged or was written wrongly")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// A field of a header in text that cannot be understood.
    #[error("the header's field \"{field}\" is \"{value}\", {expected}")]
    BadField {
        /// The field.
        field: &'static str,
        /// What stands there, shortened.
        value: String,
        /// What is wrong with it.
        expected: &'static str,
    },
    /// A header in text that does not end, or is none.
    #[error("line {line} of the header {reason}; the file is damaged or was written wrongly")]
    BadHeader {
        /// Line, the first is 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Voxels stored in a way that is not read.
    #[error("voxels stored as \"{name}\" cannot be read; save the file again as raw or gzip")]
    UnsupportedEncoding {
        /// The format's name for it.
        name: String,
    },
    /// Several values per voxel.
    #[error("each voxel has {count} values (colours, or overlapping segments); save one of them per file")]
    SeveralValues {
        /// Values per voxel.
        count: u64,
    },
    /// A slope without a usable intercept.
    #[error("intensity scaling {slope} × value + {inter} is not finite; write the right scl_slope and scl_inter")]
    BadScaling {
        /// `scl_slope`.
        slope: f64,
        /// `scl_inter`.
        inter: f64,
    },
    /// Data that begin inside the header, or nowhere.
    #[error("image data cannot begin at byte {vox_offset}; the header's vox_offset is wrong")]
    BadOffset {
        /// `vox_offset`.
        vox_offset: f64,
    },
    /// More voxels than the file can hold.
    #[error(
        "the header asks for {needed} bytes of voxels, and a file of {file_len} bytes cannot hold them; \
             the file is cut short or its header is damaged"
    )]
    TooLarge {
        /// Bytes of voxels.
        needed: u64,
        /// Bytes of the file as it lies on disk.
        file_len: u64,
    },
    /// More voxels than memory.
    #[error("not enough memory for {bytes} bytes of voxels")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// A value that is no label id.
    #[error("value {value} at voxel {index:?} (x, y, z) is no label id; label maps hold whole numbers from 0 to 255")]
    NotALabel {
        /// The value, after scaling.
        value: f64,
        /// Its place, x first as viewers show it.
        index: [usize; 3],
    },
    /// A label map that does not lie on its source's grid.
    #[error("a label map of {found:?} voxels does not fit its source of {expected:?} (z, y, x)")]
    WrongGrid {
        /// Shape of the source.
        expected: [usize; 3],
        /// Shape of the label map.
        found: [usize; 3],
    },
    /// An output name whose ending is not the format's.
    #[error("the output's name must end in {endings}")]
    BadName {
        /// The endings that go.
        endings: &'static str,
    },
}

/// What is wrong with a data-set folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetFault {
    /// A folder or file is not there.
    #[error("\"{name}\" is missing; a data set needs it")]
    Missing {
        /// Its name inside the data set.
        name: String,
    },
    /// A training image without a label map that is not declared unlabelled.
    #[error("case \"{case}\" has an image but no label map; add one, or give the case [] in annotations.json")]
    NoLabelMap {
        /// The case.
        case: String,
    },
    /// A label map without an image.
    #[error("case \"{case}\" has a label map but no image")]
    NoImage {
        /// The case.
        case: String,
    },
    /// Annotations of a case that is not there.
    #[error("annotations.json names the case \"{case}\", which the data set does not have")]
    UnknownCase {
        /// The case.
        case: String,
    },
    /// A class that `dataset.json` does not have.
    #[error("annotations.json names the class \"{name}\", which dataset.json does not have")]
    UnknownClass {
        /// The class.
        name: String,
    },
    /// Something else than `"all"` or a list of names.
    #[error("\"{found}\" is neither \"all\" nor a list of class names")]
    BadClasses {
        /// What stands there.
        found: String,
    },
    /// A label id that does not fit our label maps.
    #[error("label \"{name}\" must have one id from 0 to 255, not {found}")]
    BadLabelId {
        /// The label.
        name: String,
        /// What stands there.
        found: String,
    },
    /// A list of cases, or a folder that says which files it has, with a fault.
    #[error("{reason}")]
    BadList {
        /// What is wrong.
        reason: String,
    },
    /// Nobody says which classes the cases annotate.
    #[error(
        "which classes each case annotates is not written down; `viscera data annotate` finds them in the label maps"
    )]
    Undeclared,
    /// More than one image channel.
    #[error("{count} image channels; viscera reads one, CT")]
    SeveralChannels {
        /// Channels in `dataset.json`.
        count: usize,
    },
}
