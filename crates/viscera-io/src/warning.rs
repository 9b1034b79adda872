//! What is odd about a file that can be read all the same.

use std::fmt;

/// An oddity of a file, to be shown to the user and kept in the manifest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// sform and qform place voxels differently; the sform was used.
    FormsDisagree {
        /// Greatest distance in mm between the two places of a corner of the grid.
        distance_mm: f64,
    },
    /// The sform has a code, but cannot be inverted; the qform was used.
    UnusableSform,
    /// The qform has a code, but cannot be used.
    UnusableQform,
    /// Neither form has a code: spacing only. Left and right are a guess.
    NoOrientation,
    /// An NRRD or MetaImage header that does not say how its axes lie in the body. Left and right are a guess.
    NoSpace,
    /// Axes that are not at right angles were replaced by the nearest ones that are.
    SkewedAxes {
        /// Greatest departure from a right angle between two axes, in degrees.
        degrees: f64,
    },
    /// The sform's spacing is not the one in pixdim; the sform's was used.
    SpacingsDisagree {
        /// Spacing in mm by the sform, (z, y, x).
        sform: [f64; 3],
        /// Spacing in mm by pixdim, (z, y, x).
        pixdim: [f64; 3],
    },
    /// Negative spacing, taken as positive.
    NegativeSpacing,
    /// Lengths in another unit than mm were converted.
    UnitsConverted {
        /// Unit of the header.
        unit: &'static str,
    },
    /// Voxels that are infinite or not a number were replaced.
    NonFinite {
        /// How many.
        voxels: u64,
        /// What stands there now.
        replaced_by: f32,
    },
    /// Bytes after the image data were left alone.
    TrailingBytes,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FormsDisagree { distance_mm } => write!(
                f,
                "sform and qform disagree by up to {distance_mm:.1} mm; the sform was used"
            ),
            Self::UnusableSform => write!(f, "the sform is not invertible and was left out"),
            Self::UnusableQform => write!(f, "the qform is not a rotation and was left out"),
            Self::NoOrientation => write!(
                f,
                "the header has no orientation (sform and qform codes are 0); x was taken to grow to the left, \
                 y to the front, z upwards: right and left may be swapped"
            ),
            Self::NoSpace => write!(
                f,
                "the header does not say how its axes lie in the body; x was taken to grow to the left, y to the back, \
                 z upwards: right and left may be swapped"
            ),
            Self::SkewedAxes { degrees } => write!(
                f,
                "the axes are up to {degrees:.2}° off a right angle (gantry tilt?) and were straightened"
            ),
            Self::SpacingsDisagree { sform, pixdim } => write!(
                f,
                "the sform says a spacing of {sform:.3?} mm, pixdim {pixdim:.3?} mm (z, y, x); the sform was used"
            ),
            Self::NegativeSpacing => write!(f, "negative spacing in the header was taken as positive"),
            Self::UnitsConverted { unit } => write!(f, "lengths in {unit} were converted to mm"),
            Self::NonFinite { voxels, replaced_by } => write!(
                f,
                "{voxels} voxel(s) are not finite numbers and were set to {replaced_by}"
            ),
            Self::TrailingBytes => write!(f, "bytes after the image data were left unread"),
        }
    }
}
