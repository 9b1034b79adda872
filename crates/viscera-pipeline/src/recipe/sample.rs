//! A small recipe for tests.

use super::Recipe;

/// One stage that slides a patch of 8×6×4 voxels at 1 mm, for liver and spleen.
pub(crate) fn sliding() -> Recipe {
    Recipe::parse(RECIPE, "tiny").unwrap()
}

const RECIPE: &str = r#"
[recipe]
name = "tiny"
labels = "flare13"
modality = "ct"
[[stage]]
id = "s"
role = "segment"
classes = ["liver", "spleen"]
resample = { spacing_mm = [1, 1, 1], image = { method = "torch", order = 1 }, logits = { method = "torch", order = 1 } }
normalise = { channels = [{ scheme = "none" }] }
inference = { mode = "sliding_window", activation = "softmax", window = { patch = [8, 6, 4], step = 0.5, weights = "gaussian" } }
[stage.network]
arch = "plain_unet"
features = [4, 4]
kernels = [[3, 3, 3], [3, 3, 3]]
strides = [[1, 1, 1], [2, 2, 2]]
depths = [1, 1]
decoder_depths = [1]
conv_bias = true
norm_eps = 1e-5
norm_affine = true
slope = 0.01
dropout = 0.0
deep_supervision = true
"#;
