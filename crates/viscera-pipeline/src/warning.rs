//! What a user should know about a result although it was computed.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::fmt;

/// An oddity of a scan or of what was found in it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The file itself is odd.
    Source(viscera_io::Warning),
    /// The intensities are not Hounsfield units, and the user said to go on.
    NotHounsfield {
        /// How one can tell.
        reason: String,
    },
    /// A localising stage found nothing, so the next one looked at the whole scan.
    NothingLocalised {
        /// The stage's id.
        stage: String,
    },
    /// No organ was found.
    NothingFound,
    /// Organs reach the border of the scan: their volumes are lower bounds.
    TouchesBorder {
        /// Their names.
        organs: Vec<String>,
    },
    /// An organ lies on the wrong side of another: right and left may be swapped, or the result is wrong.
    WrongSide {
        /// The organ that should lie farther to the right.
        right: String,
        /// The organ that should lie farther to the left.
        left: String,
    },
    /// Organs smaller or larger than adults have them, in health and in most diseases.
    ImplausibleVolume {
        /// Their names.
        organs: Vec<String>,
    },
    /// Organs whose mean HU no phase of contrast explains.
    ImplausibleIntensity {
        /// Their names.
        organs: Vec<String>,
    },
}

impl Warning {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source(_) => "source-file",
            Self::NotHounsfield { .. } => "not-hounsfield",
            Self::NothingLocalised { .. } => "nothing-localised",
            Self::NothingFound => "nothing-found",
            Self::TouchesBorder { .. } => "touches-border",
            Self::WrongSide { .. } => "wrong-side",
            Self::ImplausibleVolume { .. } => "implausible-volume",
            Self::ImplausibleIntensity { .. } => "implausible-intensity",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(warning) => warning.fmt(f),
            Self::NotHounsfield { reason } => write!(f, "the intensities are not Hounsfield units: {reason}"),
            Self::NothingLocalised { stage } => write!(
                f,
                "stage \"{stage}\" found no organ; the next stage looked at the whole scan, coarsely: \
                 is the abdomen in view?"
            ),
            Self::NothingFound => write!(f, "no organ was found: is this a CT of the abdomen?"),
            Self::TouchesBorder { organs } => {
                write!(
                    f,
                    "at the border of the scan, so that volumes may be cut off: {}",
                    organs.join(", ")
                )
            }
            Self::WrongSide { right, left } => write!(
                f,
                "{right} lies to the left of {left}: right and left may be swapped in the file, or the masks are wrong"
            ),
            Self::ImplausibleVolume { organs } => {
                write!(
                    f,
                    "smaller or larger than adults have them, so probably wrong: {}",
                    organs.join(", ")
                )
            }
            Self::ImplausibleIntensity { organs } => {
                write!(
                    f,
                    "darker or brighter than such organs are, so probably wrong: {}",
                    organs.join(", ")
                )
            }
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Warning", 2)?;
        out.serialize_field("code", self.code())?;
        out.serialize_field("message", &self.to_string())?;
        out.end()
    }
}

/// Collects warnings on the way through the stages.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Warnings(Vec<Warning>);

impl Warnings {
    /// Adds one.
    pub fn push(&mut self, warning: Warning) {
        self.0.push(warning);
    }

    /// All, in the order in which they came.
    #[must_use]
    pub fn list(&self) -> &[Warning] {
        &self.0
    }
}
