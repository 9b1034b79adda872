//! The built-in recipes at a size for tests; also for the tests of training.

use viscera_pipeline::Recipe;
use viscera_pipeline::recipe::{NetworkSpec, Resample};

/// Narrow networks on grids of 64³ voxels, and patches of 32×64×64 at 3.5 times the spacing.
pub(crate) fn narrow(recipe: &mut Recipe) {
    for stage in &mut recipe.stages {
        match &mut stage.resample {
            Resample::Size(fixed) => fixed.size = [64; 3],
            Resample::Spacing(grid) => grid.spacing_mm = grid.spacing_mm.map(|s| 3.5 * s),
        }
        if let Some(window) = &mut stage.inference.window {
            window.patch = [32, 64, 64];
        }
    }
    let phases = recipe.phases.iter_mut().flat_map(|phase| phase.network.values_mut());
    for network in recipe.stages.iter_mut().map(|s| &mut s.network).chain(phases) {
        match network {
            NetworkSpec::CoarseUnet { base_features, .. } | NetworkSpec::EfficientSegNet { base_features, .. } => {
                *base_features = 4;
            }
            NetworkSpec::PlainUnet(plan) | NetworkSpec::ResidualEncoderUnet(plan) | NetworkSpec::GenericUnet(plan) => {
                plan.features = vec![4; 6];
                plan.stem = plan.stem.map(|_| 4);
            }
            NetworkSpec::DmfNet {
                stem, width, groups, ..
            } => (*stem, *width, *groups) = (8, 8, 4),
            NetworkSpec::PhTrans {
                base_features,
                max_features,
                window,
                ..
            } => {
                (*base_features, *max_features) = (12, 24);
                *window = [2, 2, 2];
            }
            other => panic!("{other:?}"),
        }
    }
}
