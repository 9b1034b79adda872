//! What a network sees: its grid and its intensities.

use serde::{Deserialize, Serialize};
use viscera_image::Convention;

/// The grid of a network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawResample", into = "RawResample")]
pub enum Resample {
    /// The same number of voxels for every scan.
    Size(FixedSize),
    /// The same spacing for every scan (nnU-Net).
    Spacing(SpacingGrid),
}

/// The same number of voxels for every scan: keys `size` and `convention`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedSize {
    /// Voxels `[z, y, x]`, whatever the spacing becomes.
    pub size: [usize; 3],
    /// How the two grids correspond.
    pub convention: Convention,
}

/// The same spacing for every scan: keys `spacing_mm`, `image`, `logits` and `max_in_plane`. Grids correspond by their
/// outer faces (half-pixel; by the outermost centres with [`Method::AlignCorners`]), and an axis has round(n · old / new)
/// voxels, ties to even as in Python.
#[derive(Debug, Clone, PartialEq)]
pub struct SpacingGrid {
    /// Spacing in mm, in the stage's order of axes.
    pub spacing_mm: [f64; 3],
    /// How the scan comes to that grid.
    pub image: Interpolation,
    /// How logits come back from it.
    pub logits: Interpolation,
    /// Most voxels along y and x: a larger grid is made coarser, along all axes by the same factor.
    pub max_in_plane: Option<usize>,
}

/// How values between voxels are found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpolation {
    /// Whose interpolation.
    pub method: Method,
    /// Order of the spline: 0 nearest, 1 linear, 3 cubic.
    pub order: u8,
    /// Order along the coarse axis where it is separate.
    #[serde(default)]
    pub order_z: u8,
    /// When the coarse axis is interpolated on its own.
    #[serde(default = "never")]
    pub separate_z: SeparateZ,
    /// Ratio of the largest to the smallest spacing, of the scan or of this grid, above which `auto` separates.
    #[serde(default = "three")]
    pub anisotropy: f64,
}

fn never() -> SeparateZ {
    SeparateZ::Never
}

/// nnU-Net's.
fn three() -> f64 {
    3.0
}

/// Whose interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// B-splines with prefilter, as scikit-image's `resize` (mode `edge`, no anti-aliasing).
    Spline,
    /// PyTorch's `interpolate`, linear without align-corners; the separate axis by `nearest-exact`.
    Torch,
    /// PyTorch's `interpolate`, linear with align-corners. Order 1, no axis is separate.
    AlignCorners,
}

/// When the coarse axis is interpolated on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeparateZ {
    /// Where spacings differ enough.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// All keys of `resample`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResample {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<[usize; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    convention: Option<Convention>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spacing_mm: Option<[f64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Interpolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Interpolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_plane: Option<usize>,
}

impl TryFrom<RawResample> for Resample {
    type Error = &'static str;

    fn try_from(raw: RawResample) -> Result<Self, Self::Error> {
        match raw {
            RawResample {
                size: Some(size),
                convention: Some(convention),
                spacing_mm: None,
                image: None,
                logits: None,
                max_in_plane: None,
            } => Ok(Self::Size(FixedSize { size, convention })),
            RawResample {
                size: None,
                convention: None,
                spacing_mm: Some(spacing_mm),
                image: Some(image),
                logits: Some(logits),
                max_in_plane,
            } => Ok(Self::Spacing(SpacingGrid {
                spacing_mm,
                image,
                logits,
                max_in_plane,
            })),
            _ => Err("resample has either size and convention, or spacing_mm, image and logits"),
        }
    }
}

impl From<Resample> for RawResample {
    fn from(resample: Resample) -> Self {
        let none = Self {
            size: None,
            convention: None,
            spacing_mm: None,
            image: None,
            logits: None,
            max_in_plane: None,
        };
        match resample {
            Resample::Size(fixed) => Self {
                size: Some(fixed.size),
                convention: Some(fixed.convention),
                ..none
            },
            Resample::Spacing(grid) => Self {
                spacing_mm: Some(grid.spacing_mm),
                image: Some(grid.image),
                logits: Some(grid.logits),
                max_in_plane: grid.max_in_plane,
                ..none
            },
        }
    }
}

/// How intensities become network input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawNormalise", into = "RawNormalise")]
pub enum Normalise {
    /// Window and z-score of the one channel.
    Window(WindowZScore),
    /// A rule for each channel, before resampling (nnU-Net).
    Channels(Vec<ChannelRule>),
}

/// Window and z-score: keys `window_hu`, `zscore` and `window_first`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowZScore {
    /// Lowest and highest HU kept; what lies beyond is set to them.
    pub window_hu: [f64; 2],
    /// What mean and standard deviation are taken from.
    pub zscore: ZScore,
    /// Whether the window comes before resampling; after it without. The z-score is always after.
    pub window_first: bool,
}

/// What mean and standard deviation are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZScore {
    /// The resampled, windowed input itself.
    Case,
}

/// What is done to the intensities of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChannelRule {
    /// Clip to the window, then (x − mean) / std with these constants (nnU-Net's CTNormalization).
    Fixed {
        /// Lowest and highest value kept.
        window: [f64; 2],
        /// Subtracted.
        mean: f64,
        /// Divided by, at least 10⁻⁸.
        std: f64,
    },
    /// (x − mean) / std of the case, std at least 10⁻⁸.
    Zscore {
        /// Only over and at the voxels that are not zero; the others stay 0.
        nonzero: bool,
    },
    /// (x − minimum) / (maximum − minimum) of the case.
    UnitRange,
    /// x / 255.
    Byte,
    /// Nothing.
    None,
}

/// All keys of `normalise`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNormalise {
    #[serde(skip_serializing_if = "Option::is_none")]
    window_hu: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zscore: Option<ZScore>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    window_first: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<ChannelRule>>,
}

impl TryFrom<RawNormalise> for Normalise {
    type Error = &'static str;

    fn try_from(raw: RawNormalise) -> Result<Self, Self::Error> {
        match (raw.window_hu, raw.zscore, raw.channels) {
            (Some(window_hu), Some(zscore), None) => Ok(Self::Window(WindowZScore {
                window_hu,
                zscore,
                window_first: raw.window_first,
            })),
            (None, None, Some(channels)) if !raw.window_first => Ok(Self::Channels(channels)),
            _ => Err("normalise has either window_hu and zscore, or channels"),
        }
    }
}

impl From<Normalise> for RawNormalise {
    fn from(normalise: Normalise) -> Self {
        match normalise {
            Normalise::Window(w) => Self {
                window_hu: Some(w.window_hu),
                zscore: Some(w.zscore),
                window_first: w.window_first,
                channels: None,
            },
            Normalise::Channels(channels) => Self {
                window_hu: None,
                zscore: None,
                window_first: false,
                channels: Some(channels),
            },
        }
    }
}

impl Normalise {
    /// Channels of the network's input.
    #[must_use]
    pub fn channels(&self) -> usize {
        match self {
            Self::Window(_) => 1,
            Self::Channels(channels) => channels.len(),
        }
    }
}
