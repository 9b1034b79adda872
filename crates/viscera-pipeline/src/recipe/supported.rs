//! What of a recipe this version can carry out on a scan. Recipes of other tools may say more.

use super::{
    Activation, FixedSize, Modality, Mode, NetworkSpec, Normalise, Orient, Recipe, Resample, Role, Stage, WindowZScore,
};
use crate::PipelineError;

impl Stage {
    /// Voxels of one input of the network: the fixed size, or the patch.
    #[must_use]
    pub fn network_size(&self) -> [usize; 3] {
        match (&self.resample, self.inference.window) {
            (_, Some(window)) => window.patch,
            (Resample::Size(fixed), None) => fixed.size,
            // Validation refuses it.
            (Resample::Spacing(_), None) => [0; 3],
        }
    }

    /// The fixed size of its input.
    ///
    /// # Errors
    /// [`PipelineError::Unsupported`] when it has none.
    pub fn fixed_size(&self) -> Result<FixedSize, PipelineError> {
        match &self.resample {
            Resample::Size(fixed) => Ok(*fixed),
            Resample::Spacing(_) => Err(self.unsupported("resample.spacing_mm")),
        }
    }

    /// Window and z-score of its input.
    ///
    /// # Errors
    /// [`PipelineError::Unsupported`] when it has none.
    pub fn window_zscore(&self) -> Result<WindowZScore, PipelineError> {
        match &self.normalise {
            Normalise::Window(window) => Ok(*window),
            Normalise::Channels(_) => Err(self.unsupported("normalise.channels")),
        }
    }

    fn unsupported(&self, setting: &'static str) -> PipelineError {
        PipelineError::Unsupported {
            stage: self.id.clone(),
            setting,
        }
    }
}

impl Recipe {
    /// Checks that this version can segment by it, and train it.
    ///
    /// # Errors
    /// [`PipelineError::Unsupported`] naming the first setting that cannot be carried out.
    pub fn check_supported(&self) -> Result<(), PipelineError> {
        for stage in &self.stages {
            let settings = [
                ("role = \"bare\"", stage.role == Role::Bare),
                ("modality = \"other\"", self.recipe.modality != Modality::Ct),
                ("orient = \"file\"", stage.orient != Orient::Ras),
                ("axes", stage.axes != [0, 1, 2]),
                ("crop", stage.crop.is_some()),
                ("resample.spacing_mm", matches!(stage.resample, Resample::Spacing(_))),
                ("normalise.channels", matches!(stage.normalise, Normalise::Channels(_))),
                (
                    "network.arch = \"graph\"",
                    matches!(stage.network, NetworkSpec::Graph {}),
                ),
                (
                    "inference.mode = \"sliding_window\"",
                    stage.inference.mode == Mode::SlidingWindow,
                ),
                (
                    "inference.activation = \"softmax\"",
                    stage.inference.activation == Activation::Softmax,
                ),
                ("inference.mirror", !stage.inference.mirror.is_empty()),
                ("inference.folds", !stage.inference.folds.is_empty()),
            ];
            if let Some((setting, _)) = settings.into_iter().find(|(_, wanted)| *wanted) {
                return Err(stage.unsupported(setting));
            }
        }
        Ok(())
    }
}
