//! How a run ends: 0 all well, 1 finished with failed cases, 2 usage or configuration, 3 input that cannot be used,
//! 4 device or memory, 130 interrupted.

use std::process::ExitCode;
use viscera_convert::ConvertError;
use viscera_evaluate::EvaluateError;
use viscera_image::ImageError;
use viscera_io::{IoError, VolumeFault};
use viscera_monitor::MonitorError;
use viscera_pipeline::PipelineError;
#[cfg(feature = "train")]
use viscera_train::TrainError;

const FAILED_CASES: u8 = 1;
const USAGE: u8 = 2;
const INPUT: u8 = 3;
const RESOURCES: u8 = 4;
/// By Ctrl-C, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// How a command that ran to its end ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All well.
    Done,
    /// Some cases failed; each was reported.
    FailedCases,
    /// Ended by Ctrl-C; what was finished stays.
    Interrupted,
    /// A command that was measured ended with this code, which is passed on.
    Command(u8),
}

impl Outcome {
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::FailedCases => ExitCode::from(FAILED_CASES),
            Self::Interrupted => ExitCode::from(INTERRUPTED),
            Self::Command(code) => ExitCode::from(code),
        }
    }
}

/// The exit code of an error that ended the run.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(number(error))
}

/// A word for an exit code of an error.
pub(crate) fn class(number: u8) -> &'static str {
    match number {
        INPUT => "input",
        RESOURCES => "resources",
        _ => "usage",
    }
}

/// The number of [`code`].
pub(crate) fn number(error: &anyhow::Error) -> u8 {
    let found = error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<PipelineError>() {
            return Some(of_pipeline(error));
        }
        if let Some(error) = cause.downcast_ref::<EvaluateError>() {
            return Some(of_evaluation(error));
        }
        if let Some(error) = cause.downcast_ref::<ConvertError>() {
            return Some(of_conversion(error));
        }
        #[cfg(feature = "train")]
        if let Some(error) = cause.downcast_ref::<TrainError>() {
            return Some(of_training(error));
        }
        cause.downcast_ref::<IoError>().map(of_io)
    });
    found.unwrap_or(USAGE)
}

fn of_pipeline(error: &PipelineError) -> u8 {
    match error {
        PipelineError::NotHounsfield { .. } | PipelineError::File { .. } | PipelineError::GridTooFine { .. } => INPUT,
        PipelineError::Network { .. } | PipelineError::NeedsMemory { .. } | PipelineError::Threads { .. } => RESOURCES,
        PipelineError::Io(error) => of_io(error),
        PipelineError::Image(error) => of_image(error),
        _ => USAGE,
    }
}

fn of_evaluation(error: &EvaluateError) -> u8 {
    match error {
        EvaluateError::Measure { .. } | EvaluateError::Table { .. } => INPUT,
        EvaluateError::Io(error) => of_io(error),
        EvaluateError::Image(error) => of_image(error),
        EvaluateError::Pipeline(error) => of_pipeline(error),
        _ => USAGE,
    }
}

fn of_conversion(error: &ConvertError) -> u8 {
    match error {
        ConvertError::Pipeline(error) => of_pipeline(error),
        ConvertError::Io(error) => of_io(error),
        _ => INPUT,
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
        IoError::Volume {
            reason: VolumeFault::OutOfMemory { .. },
            ..
        } => RESOURCES,
        IoError::Volume {
            reason: VolumeFault::BadName { .. },
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
        .find_map(|cause| match cause.downcast_ref::<MonitorError>() {
            Some(MonitorError::Start { .. }) => {
                Some("what a shell does, such as pipes, needs one: `viscera bench run -- sh -c 'one | two'`")
            }
            _ => of_cause(cause),
        })
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref::<EvaluateError>() {
        return evaluation_help(error);
    }
    match cause.downcast_ref::<PipelineError>()? {
        PipelineError::NotHounsfield { .. } => {
            Some("look at the file with `viscera inspect`; --allow-non-hu segments it all the same")
        }
        PipelineError::UnknownModel { .. } => {
            Some("name a model from `viscera model list`, or give the path of a .safetensors file")
        }
        PipelineError::UnknownRecipe { .. } => {
            Some("name a recipe from `viscera recipe list`, or give the path of a .toml file")
        }
        PipelineError::Recipe { .. } => Some("`viscera recipe show flare21-efficientsegnet` is a recipe with all keys"),
        PipelineError::Model { .. } | PipelineError::Weights { .. } => {
            Some("a model is a .safetensors file that `viscera train` or `viscera model import` made; make it again")
        }
        PipelineError::UnknownClass { .. } => Some("names are those of `viscera model show`"),
        PipelineError::GridTooFine { .. } => {
            Some("look at the file's spacing with `viscera inspect`, and mend its header")
        }
        PipelineError::Unsupported { .. } => Some("`viscera model run` runs the bare network of such a model"),
        PipelineError::NeedsMemory { .. } => Some("allow more with --max-memory, or use a model with smaller networks"),
        PipelineError::WouldOverwrite { .. } => Some("choose another folder with -o"),
        PipelineError::OtherDataset { .. } => Some("choose an empty folder with -o"),
        PipelineError::Network { .. } | PipelineError::Image(ImageError::OutOfMemory { .. }) => {
            Some("close other programs, or use a recipe with smaller networks")
        }
        _ => None,
    }
}

fn evaluation_help(error: &EvaluateError) -> Option<&'static str> {
    match error {
        EvaluateError::NothingToCompare { .. } => Some("files are joined by name: labels/CASE.nii.gz, out/CASE.nii.gz"),
        EvaluateError::Measure { .. } => {
            Some("both must lie on one grid, as segment writes them; --resample-prediction brings others there")
        }
        EvaluateError::UnknownClass { .. } => {
            Some("names are those of dataset.json beside or above the reference, else FLARE's; ids go as well")
        }
        EvaluateError::NotSeveral { .. } | EvaluateError::NothingShared => {
            Some("give folders that `viscera evaluate -o` wrote for one set of references")
        }
        _ => None,
    }
}
