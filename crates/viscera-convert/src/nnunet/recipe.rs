//! What plans say of preprocessing and inference, as a recipe with one stage.

use super::architecture;
use serde_json::{Map, Value};
use viscera_pipeline::Recipe;
use viscera_pipeline::recipe::{
    Activation, Axis, ChannelRule, Crop, Header, Inference, Interpolation, Method, Modality, Normalise, Orient,
    PatchWeights, Resample, Role, SeparateZ, SlidingWindow, SpacingGrid, Stage, StageClasses,
};

/// Id of the only stage.
pub(super) const STAGE: &str = "segment";
/// nnU-Net's threshold for interpolating the coarse axis on its own.
const ANISOTROPY: f64 = 3.0;
/// nnU-Net's step between patches.
const STEP: f64 = 0.5;

/// What the recipe is made from.
pub(super) struct Parts<'a> {
    pub(super) plans: &'a Value,
    pub(super) configuration: &'a Map<String, Value>,
    pub(super) channels: &'a [String],
    /// Name of the recipe and of the label table.
    pub(super) name: String,
    pub(super) reference: String,
    pub(super) mirror: Vec<Axis>,
    /// Names of the folds; empty for one.
    pub(super) folds: Vec<String>,
}

/// The recipe; not yet validated. The error says what stands against it.
pub(super) fn recipe(parts: Parts<'_>) -> Result<Recipe, String> {
    let configuration = parts.configuration;
    let axes = triple(parts.plans.get("transpose_forward"), "transpose_forward", as_size)?;
    let window = SlidingWindow {
        patch: triple(configuration.get("patch_size"), "patch_size", as_size)?,
        step: STEP,
        weights: PatchWeights::Gaussian,
    };
    let stage = Stage {
        id: STAGE.to_owned(),
        role: Role::Segment,
        classes: StageClasses::All,
        orient: orient(parts.plans)?,
        axes,
        roi: None,
        crop: Some(Crop::NonZero),
        resample: Resample::Spacing(SpacingGrid {
            spacing_mm: triple(configuration.get("spacing"), "spacing", Value::as_f64)?,
            image: interpolation(configuration, "resampling_fn_data")?,
            logits: interpolation(configuration, "resampling_fn_probabilities")?,
            max_in_plane: None,
        }),
        normalise: Normalise::Channels(rules(&parts)?),
        network: architecture::network(configuration)?,
        inference: Inference {
            mirror: parts.mirror,
            folds: parts.folds,
            ..Inference::new(Activation::Softmax, None, Some(window))
        },
        postprocess: Vec::new(),
    };
    let ct = matches!(parts.channels, [name] if name.eq_ignore_ascii_case("ct"));
    Ok(Recipe {
        recipe: Header {
            name: parts.name.clone(),
            labels: parts.name,
            modality: if ct { Modality::Ct } else { Modality::Other },
            reference: parts.reference,
        },
        stages: vec![stage],
        training: Default::default(),
        phases: Vec::new(),
    })
}

/// How the reader of images turns them.
fn orient(plans: &Value) -> Result<Orient, String> {
    match plans.get("image_reader_writer").and_then(Value::as_str) {
        Some("NibabelIOWithReorient" | "SimpleITKIOWithReorient") => Ok(Orient::Ras),
        Some("SimpleITKIO" | "NibabelIO" | "Tiff3DIO") | None => Ok(Orient::File),
        Some(other) => Err(format!("images were read by {other}, which is not known")),
    }
}

/// One of the two ways between grids.
fn interpolation(configuration: &Map<String, Value>, key: &str) -> Result<Interpolation, String> {
    let name = configuration.get(key).and_then(Value::as_str);
    let arguments = configuration.get(&format!("{key}_kwargs"));
    let argument = |key: &str| arguments.and_then(|a| a.get(key));
    let (method, unset) = match name {
        Some("resample_data_or_seg_to_shape") => (Method::Spline, SeparateZ::Never),
        Some("resample_torch_fornnunet") => (Method::Torch, SeparateZ::Auto),
        other => {
            return Err(format!(
                "{key} is {}; resample_data_or_seg_to_shape and resample_torch_fornnunet are known",
                other.unwrap_or("missing")
            ));
        }
    };
    let order = |key: &str, unset: u8| match argument(key) {
        None => Ok(unset),
        Some(value) => value
            .as_u64()
            .and_then(|n| u8::try_from(n).ok())
            .ok_or_else(|| format!("{key} = {value} is no order")),
    };
    let (order, order_z) = match method {
        Method::Spline => (order("order", 3)?, order("order_z", 0)?),
        // Its modes have names; others than the usual two are refused.
        Method::Torch | Method::AlignCorners => {
            let usual = |key: &str, name: &str| argument(key).is_none_or(|v| v == name);
            if !usual("mode", "linear") || !usual("aniso_axis_mode", "nearest-exact") {
                return Err(format!("{key} has a mode that is not known"));
            }
            (1, 0)
        }
    };
    Ok(Interpolation {
        method,
        order,
        order_z,
        separate_z: match argument("force_separate_z") {
            Some(Value::Bool(true)) => SeparateZ::Always,
            Some(Value::Bool(false)) => SeparateZ::Never,
            Some(_) => SeparateZ::Auto,
            None => unset,
        },
        anisotropy: argument("separate_z_anisotropy_threshold")
            .and_then(Value::as_f64)
            .unwrap_or(ANISOTROPY),
    })
}

/// What is done to each channel's intensities.
fn rules(parts: &Parts<'_>) -> Result<Vec<ChannelRule>, String> {
    let schemes = parts
        .configuration
        .get("normalization_schemes")
        .and_then(Value::as_array);
    let schemes = schemes.ok_or("lacks \"normalization_schemes\"")?;
    if schemes.len() != parts.channels.len() {
        return Err(format!(
            "{} normalisation schemes for {} channels",
            schemes.len(),
            parts.channels.len()
        ));
    }
    let masks = parts.configuration.get("use_mask_for_norm");
    let intensities = [
        "foreground_intensity_properties_per_channel",
        "foreground_intensity_properties_by_modality",
    ];
    let intensities = intensities.into_iter().find_map(|key| parts.plans.get(key));
    let rule = |(channel, scheme): (usize, &Value)| {
        Ok(match scheme.as_str().unwrap_or_default() {
            "CTNormalization" => {
                let of_channel = intensities.and_then(|i| i.get(channel.to_string()));
                let number = |key: &str| {
                    let found = of_channel.and_then(|c| c.get(key)).and_then(Value::as_f64);
                    found.ok_or_else(|| format!("the plans lack \"{key}\" of channel {channel}'s foreground"))
                };
                ChannelRule::Fixed {
                    window: [number("percentile_00_5")?, number("percentile_99_5")?],
                    mean: number("mean")?,
                    std: number("std")?,
                }
            }
            "ZScoreNormalization" => ChannelRule::Zscore {
                nonzero: masks.and_then(|m| m.get(channel)) == Some(&Value::Bool(true)),
            },
            "NoNormalization" => ChannelRule::None,
            "RescaleTo01Normalization" => ChannelRule::UnitRange,
            "RGBTo01Normalization" => ChannelRule::Byte,
            _ => return Err(format!("the normalisation {scheme} of channel {channel} is not known")),
        })
    };
    schemes.iter().enumerate().map(rule).collect()
}

fn as_size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// Three numbers.
fn triple<T>(value: Option<&Value>, key: &str, number: impl Fn(&Value) -> Option<T>) -> Result<[T; 3], String> {
    let items = value.and_then(Value::as_array);
    let items: Option<Vec<T>> = items.and_then(|items| items.iter().map(number).collect());
    items
        .and_then(|items| items.try_into().ok())
        .ok_or_else(|| format!("\"{key}\" is not three numbers"))
}
