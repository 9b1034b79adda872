//! What of a recipe this version can carry out on a scan. Recipes of other tools may say more.

use super::{ChannelRule, Normalise, Orient, Recipe, Resample, Role, Stage};
use crate::PipelineError;
use viscera_net::{Graph, NetError};

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

    /// What of its network's graph runs on a scan: the head that inference reads, on the input's grid.
    ///
    /// # Errors
    /// [`NetError`] when there is no such head, or its grid is no whole fraction of the input's.
    pub fn inference_graph(&self, graph: &Graph) -> Result<Graph, NetError> {
        let size = self.network_size();
        let cut = graph.with_head(self.inference.head)?;
        let shapes = cut.shapes(size)?;
        let found = cut
            .outputs
            .first()
            .and_then(|o| shapes.nodes.get(o.0))
            .map_or([0; 3], |s| s.1);
        if found == size {
            return Ok(cut);
        }
        if (0..3).any(|a| found[a] == 0 || !size[a].is_multiple_of(found[a])) {
            return Err(NetError::Settings {
                network: "graph",
                reason: format!("its output of {found:?} voxels is no whole fraction of the input's {size:?}"),
            });
        }
        Ok(cut.enlarged(std::array::from_fn(|a| size[a] / found[a]), true))
    }

    fn untrainable(&self, setting: &'static str) -> PipelineError {
        PipelineError::Untrainable {
            stage: self.id.clone(),
            setting,
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
    /// Checks that this version can segment scans by it.
    ///
    /// # Errors
    /// [`PipelineError::Unsupported`] naming the first setting that cannot be carried out.
    pub fn check_supported(&self) -> Result<(), PipelineError> {
        for stage in &self.stages {
            let settings = [
                ("role = \"bare\"", stage.role == Role::Bare),
                ("several channels of image", stage.normalise.channels() != 1),
            ];
            if let Some((setting, _)) = settings.into_iter().find(|(_, wanted)| *wanted) {
                return Err(stage.unsupported(setting));
            }
        }
        Ok(())
    }

    /// Checks that this version can train by it: one channel of CT in RAS+ with known intensities.
    ///
    /// # Errors
    /// [`PipelineError::Unsupported`] and [`PipelineError::Untrainable`] naming the first setting that cannot be carried
    /// out.
    pub fn check_trainable(&self) -> Result<(), PipelineError> {
        self.check_supported()?;
        for stage in self.stages.iter().filter(|stage| self.training.contains_key(&stage.id)) {
            let known = match &stage.normalise {
                Normalise::Window(_) => true,
                Normalise::Channels(channels) => matches!(
                    channels.as_slice(),
                    [ChannelRule::Fixed { .. } | ChannelRule::Zscore { nonzero: false }]
                ),
            };
            let settings = [
                ("orient = \"file\"", stage.orient != Orient::Ras),
                ("normalise.channels", !known),
                ("inference.folds", !stage.inference.folds.is_empty()),
            ];
            if let Some((setting, _)) = settings.into_iter().find(|(_, wanted)| *wanted) {
                return Err(stage.untrainable(setting));
            }
        }
        Ok(())
    }
}
