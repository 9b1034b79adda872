//! How a run ends: 0 all well, 1 finished with failed cases, 2 usage or configuration, 3 input that cannot be used,
//! 4 device or memory. (130 is the shell's for an interrupted run.)

use std::process::ExitCode;
use viscera_image::ImageError;
use viscera_io::{IoError, NiftiFault};
use viscera_pipeline::PipelineError;
#[cfg(feature = "train")]
use viscera_train::TrainError;

const FAILED_CASES: u8 = 1;
const USAGE: u8 = 2;
const INPUT: u8 = 3;
const RESOURCES: u8 = 4;

/// How a command that ran to its end ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All well.
    Done,
    /// Some cases failed; each was reported.
    FailedCases,
}

impl Outcome {
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::FailedCases => ExitCode::from(FAILED_CASES),
        }
    }
}

/// The exit code of an error that ended the run.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    let found = error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<PipelineError>() {
            return Some(of_pipeline(error));
        }
        #[cfg(feature = "train")]
        if let Some(error) = cause.downcast_ref::<TrainError>() {
            return Some(of_training(error));
        }
        cause.downcast_ref::<IoError>().map(of_io)
    });
    ExitCode::from(found.unwrap_or(USAGE))
}

fn of_pipeline(error: &PipelineError) -> u8 {
    match error {
        PipelineError::NotHounsfield { .. } | PipelineError::File { .. } | PipelineError::Measure { .. } => INPUT,
        PipelineError::Network { .. } => RESOURCES,
        PipelineError::Io(error) => of_io(error),
        PipelineError::Image(error) => of_image(error),
        _ => USAGE,
    }
}

#[cfg(feature = "train")]
fn of_training(error: &TrainError) -> u8 {
    match error {
        TrainError::File { .. } | TrainError::Content { .. } | TrainError::Case { .. } | TrainError::DataSet { .. } => {
            INPUT
        }
        TrainError::Net(_) | TrainError::NotFinite { .. } => RESOURCES,
        TrainError::Io(error) => of_io(error),
        TrainError::Image(error) => of_image(error),
        TrainError::Pipeline(error) => of_pipeline(error),
        _ => USAGE,
    }
}

fn of_io(error: &IoError) -> u8 {
    match error {
        IoError::Nifti {
            reason: NiftiFault::OutOfMemory { .. },
            ..
        } => RESOURCES,
        IoError::Nifti {
            reason: NiftiFault::BadName,
            ..
        }
        | IoError::Write { .. }
        | IoError::DuplicateCase { .. } => USAGE,
        IoError::Image(error) => of_image(error),
        _ => INPUT,
    }
}

fn of_image(error: &ImageError) -> u8 {
    match error {
        ImageError::OutOfMemory { .. } => RESOURCES,
        _ => INPUT,
    }
}

/// One line that says what to do about an error, where there is something to say beyond the error itself.
pub(crate) fn help(error: &anyhow::Error) -> Option<&'static str> {
    error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<PipelineError>()? {
            PipelineError::NotHounsfield { .. } => {
                Some("look at the file with `viscera inspect`; --allow-non-hu segments it all the same")
            }
            PipelineError::UnknownModel { .. } => {
                Some("name a model from `viscera model list`, or give the path of a .safetensors file")
            }
            PipelineError::UnknownRecipe { .. } => {
                Some("name a recipe from `viscera recipe list`, or give the path of a .toml file")
            }
            PipelineError::Recipe { .. } => {
                Some("`viscera recipe show flare21-efficientsegnet` is a recipe with all keys")
            }
            PipelineError::Model { .. } | PipelineError::Weights { .. } => {
                Some("a model is a .safetensors file that `viscera train` made; copy it again or train it again")
            }
            PipelineError::UnknownClass { .. } => Some("names are those of `viscera model show`"),
            PipelineError::WouldOverwrite { .. } => Some("choose another folder with -o"),
            PipelineError::OtherDataset { .. } => Some("choose an empty folder with -o"),
            PipelineError::NothingToCompare { .. } => {
                Some("files are joined by name: labels/CASE.nii.gz, out/CASE.nii.gz")
            }
            PipelineError::Measure { .. } => Some("both must lie on one grid; segment writes on the grid of its scan"),
            PipelineError::Network { .. } | PipelineError::Image(ImageError::OutOfMemory { .. }) => {
                Some("close other programs, or use a recipe with smaller networks")
            }
            _ => None,
        })
}
