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
    /// The picture itself lies the wrong way round.
    Flipped {
        /// Which ends are swapped.
        direction: Direction,
        /// How far in mm what should lie at the one end lies towards the other.
        mm: f64,
    },
    /// A localising stage found nothing, so the next one looked at the whole scan.
    NothingLocalised {
        /// The stage's id.
        stage: String,
    },
    /// Patches of a sliding window were made smaller, to save memory.
    SmallerPatches {
        /// The stage's id.
        stage: String,
        /// Voxels `[z, y, x]` as the recipe has them, and as they were.
        patches: [[usize; 3]; 2],
    },
    /// No organ was found.
    NothingFound,
    /// Organs that everybody has were not found although their neighbours were.
    Missing {
        /// Their names.
        organs: Vec<String>,
    },
    /// Organs reach a border of the scan that they do not run through by nature: their volumes are lower bounds.
    TouchesBorder {
        /// Their names.
        organs: Vec<String>,
    },
    /// Organs lie in an order in which nobody has them: the scan may be flipped, or the result is wrong.
    WrongOrder {
        /// Along which line.
        direction: Direction,
        /// Pairs of which the first should lie farther to the right, the front or the head.
        pairs: Vec<[String; 2]>,
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
    /// Organs that fall into pieces of some size.
    Disconnected {
        /// Their names.
        organs: Vec<String>,
    },
    /// Organs that the network itself is not sure of.
    LowConfidence {
        /// Their names.
        organs: Vec<String>,
    },
}

/// A line through the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From right to left.
    RightLeft,
    /// From front to back.
    FrontBack,
    /// From head to feet.
    HeadFeet,
}

impl Direction {
    /// "right and left", and so on.
    fn ends(self) -> &'static str {
        match self {
            Self::RightLeft => "right and left",
            Self::FrontBack => "front and back",
            Self::HeadFeet => "head and feet",
        }
    }
}

/// How bad a warning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Some organs should be looked at.
    Warning,
    /// The result is probably useless.
    Error,
}

impl Warning {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source(_) => "source-file",
            Self::NotHounsfield { .. } => "not-hounsfield",
            Self::Flipped { direction, .. } => match direction {
                Direction::RightLeft => "mirrored",
                Direction::FrontBack => "back-to-front",
                Direction::HeadFeet => "upside-down",
            },
            Self::NothingLocalised { .. } => "nothing-localised",
            Self::SmallerPatches { .. } => "smaller-patches",
            Self::NothingFound => "nothing-found",
            Self::Missing { .. } => "missing-organ",
            Self::TouchesBorder { .. } => "touches-border",
            Self::WrongOrder { direction, .. } => match direction {
                Direction::RightLeft => "wrong-side",
                Direction::FrontBack => "wrong-depth",
                Direction::HeadFeet => "wrong-height",
            },
            Self::ImplausibleVolume { .. } => "implausible-volume",
            Self::ImplausibleIntensity { .. } => "implausible-intensity",
            Self::Disconnected { .. } => "disconnected",
            Self::LowConfidence { .. } => "low-confidence",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Source(_) | Self::SmallerPatches { .. } => Severity::Note,
            Self::NotHounsfield { .. } | Self::Flipped { .. } | Self::NothingFound | Self::WrongOrder { .. } => {
                Severity::Error
            }
            Self::NothingLocalised { .. }
            | Self::Missing { .. }
            | Self::TouchesBorder { .. }
            | Self::ImplausibleVolume { .. }
            | Self::ImplausibleIntensity { .. }
            | Self::Disconnected { .. }
            | Self::LowConfidence { .. } => Severity::Warning,
        }
    }

    /// Whether it puts the result in doubt. The others are about the file.
    #[must_use]
    pub fn is_quality(&self) -> bool {
        self.severity() > Severity::Note
    }

    /// The organs that it speaks of; none where it is about the whole scan.
    #[must_use]
    pub fn organs(&self) -> Vec<&str> {
        match self {
            Self::Missing { organs }
            | Self::TouchesBorder { organs }
            | Self::ImplausibleVolume { organs }
            | Self::ImplausibleIntensity { organs }
            | Self::Disconnected { organs }
            | Self::LowConfidence { organs } => organs.iter().map(String::as_str).collect(),
            Self::WrongOrder { pairs, .. } => {
                let mut organs: Vec<&str> = pairs.iter().flatten().map(String::as_str).collect();
                organs.sort_unstable();
                organs.dedup();
                organs
            }
            Self::Source(_)
            | Self::NotHounsfield { .. }
            | Self::Flipped { .. }
            | Self::NothingLocalised { .. }
            | Self::SmallerPatches { .. }
            | Self::NothingFound => Vec::new(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about =
            |f: &mut fmt::Formatter<'_>, what: &str, organs: &[String]| write!(f, "{what}: {}", organs.join(", "));
        match self {
            Self::Source(warning) => warning.fmt(f),
            Self::NotHounsfield { reason } => write!(f, "the intensities are not Hounsfield units: {reason}"),
            Self::Flipped { direction, mm } => {
                let what = match direction {
                    Direction::RightLeft => "the largest solid organ lies to the left of the spine",
                    Direction::FrontBack => "the bones lie before the middle of the body",
                    Direction::HeadFeet => "the lungs lie below the middle of the body",
                };
                write!(
                    f,
                    "{what} by {mm:.0} mm: {} are probably swapped in the file, and the masks are wrong",
                    direction.ends()
                )
            }
            Self::NothingLocalised { stage } => write!(
                f,
                "stage \"{stage}\" found no organ; the next stage looked at the whole scan, coarsely: \
                 is the abdomen in view?"
            ),
            Self::SmallerPatches {
                stage,
                patches: [[z, y, x], [nz, ny, nx]],
            } => write!(
                f,
                "to save memory, stage \"{stage}\" looked at patches of {nz}×{ny}×{nx} voxels in place of {z}×{y}×{x}: \
                 the masks are not quite those of a run with more memory"
            ),
            Self::NothingFound => write!(f, "no organ was found: is this a CT of the abdomen?"),
            Self::Missing { organs } => about(f, "not found although their neighbours were", organs),
            Self::TouchesBorder { organs } => {
                about(f, "at the border of the scan, so that volumes may be cut off", organs)
            }
            Self::WrongOrder { direction, pairs } => {
                let relation = match direction {
                    Direction::RightLeft => "to the left of",
                    Direction::FrontBack => "behind",
                    Direction::HeadFeet => "below",
                };
                let pairs: Vec<String> = pairs.iter().map(|[a, b]| format!("{a} {relation} {b}")).collect();
                write!(
                    f,
                    "{}: {} may be swapped in the file, or the masks are wrong",
                    pairs.join(", "),
                    direction.ends()
                )
            }
            Self::ImplausibleVolume { organs } => {
                about(f, "smaller or larger than adults have them, so probably wrong", organs)
            }
            Self::ImplausibleIntensity { organs } => {
                about(f, "darker or brighter than such organs are, so probably wrong", organs)
            }
            Self::Disconnected { organs } => about(f, "in pieces, so probably wrong", organs),
            Self::LowConfidence { organs } => about(f, "the network is not sure of", organs),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Warning", 4)?;
        out.serialize_field("code", self.code())?;
        out.serialize_field("severity", &self.severity())?;
        out.serialize_field("organs", &self.organs())?;
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

    /// Whether one of them puts the result in doubt.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.0.iter().any(Warning::is_quality)
    }

    /// How bad it is for an organ; `None` where nothing puts it in doubt.
    #[must_use]
    pub fn of_organ(&self, name: &str) -> Option<Severity> {
        let about = self.0.iter().filter(|w| w.is_quality() && w.organs().contains(&name));
        about.map(Warning::severity).max()
    }
}
