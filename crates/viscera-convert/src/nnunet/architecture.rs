//! The network of a configuration: `architecture` of today's plans, or the keys of those before version 2.4.

use serde_json::{Map, Value};
use viscera_pipeline::recipe::{NetworkSpec, UnetPlan};

/// Default slope of PyTorch's leaky ReLU.
const SLOPE: f64 = 0.01;

/// The network of a configuration. The error says what stands against it.
pub(super) fn network(configuration: &Map<String, Value>) -> Result<NetworkSpec, String> {
    let (class, arguments) = match configuration.get("architecture") {
        Some(architecture) => {
            let class = text(architecture.get("network_class_name"), "network_class_name")?;
            let arguments = architecture.get("arch_kwargs").and_then(Value::as_object);
            (class, arguments.ok_or("architecture lacks \"arch_kwargs\"")?.clone())
        }
        None => {
            let class = text(configuration.get("UNet_class_name"), "UNet_class_name")?;
            (class, old(configuration, class)?)
        }
    };
    // Classes moved between modules; only the last part counts.
    let class = class.rsplit('.').next().unwrap_or(class);
    let depths = match class {
        "PlainConvUNet" => "n_conv_per_stage",
        "ResidualEncoderUNet" => "n_blocks_per_stage",
        other => {
            return Err(format!(
                "networks of class {other} are not known; PlainConvUNet and ResidualEncoderUNet are. Export it to ONNX \
                 and import that"
            ));
        }
    };
    let plan = plan(&arguments, depths)?;
    Ok(match class {
        "PlainConvUNet" => NetworkSpec::PlainUnet(plan),
        _ => NetworkSpec::ResidualEncoderUnet(plan),
    })
}

/// Old keys in today's form, as nnU-Net itself reads them.
fn old(configuration: &Map<String, Value>, class: &str) -> Result<Map<String, Value>, String> {
    let get = |key: &str| configuration.get(key).ok_or_else(|| format!("lacks \"{key}\""));
    let depths = get("n_conv_per_stage_encoder")?;
    let levels = depths.as_array().map_or(0, Vec::len);
    let base = number(get("UNet_base_num_features")?, "UNet_base_num_features")?;
    let most = number(get("unet_max_num_features")?, "unet_max_num_features")?;
    let features: Vec<usize> = (0..levels)
        .map(|level| {
            let factor = u32::try_from(level)
                .ok()
                .and_then(|l| 1usize.checked_shl(l))
                .unwrap_or(usize::MAX);
            base.saturating_mul(factor).min(most)
        })
        .collect();
    let key = if class == "PlainConvUNet" {
        "n_conv_per_stage"
    } else {
        "n_blocks_per_stage"
    };
    let pairs = [
        ("n_stages", levels.into()),
        ("features_per_stage", features.into()),
        ("kernel_sizes", get("conv_kernel_sizes")?.clone()),
        ("strides", get("pool_op_kernel_sizes")?.clone()),
        (key, depths.clone()),
        ("n_conv_per_stage_decoder", get("n_conv_per_stage_decoder")?.clone()),
        ("conv_bias", true.into()),
        ("norm_op", "InstanceNorm3d".into()),
        ("norm_op_kwargs", serde_json::json!({ "eps": 1e-5, "affine": true })),
        ("nonlin", "LeakyReLU".into()),
    ];
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The arguments of a network's class.
fn plan(arguments: &Map<String, Value>, depths: &str) -> Result<UnetPlan, String> {
    const KNOWN: [&str; 17] = [
        "n_stages",
        "features_per_stage",
        "conv_op",
        "kernel_sizes",
        "strides",
        "n_conv_per_stage",
        "n_blocks_per_stage",
        "n_conv_per_stage_decoder",
        "conv_bias",
        "norm_op",
        "norm_op_kwargs",
        "dropout_op",
        "dropout_op_kwargs",
        "nonlin",
        "nonlin_kwargs",
        "deep_supervision",
        "stem_channels",
    ];
    let set = |key: &str| arguments.get(key).filter(|v| !v.is_null() && **v != Value::Bool(false));
    if let Some((key, value)) = arguments
        .iter()
        .find(|(k, _)| !KNOWN.contains(&k.as_str()) && set(k).is_some())
    {
        return Err(format!("the network's argument {key} = {value} is not known"));
    }
    let class = |key: &str, expected: &str| match set(key).and_then(Value::as_str) {
        Some(name) if name.rsplit('.').next() == Some(expected) => Ok(()),
        None if key == "conv_op" => Ok(()),
        found => Err(format!(
            "{key} is {}; only {expected} is known",
            found.unwrap_or("nothing")
        )),
    };
    class("conv_op", "Conv3d")?;
    class("norm_op", "InstanceNorm3d")?;
    let keyword = |key: &str, argument: &str| set(key).and_then(|v| v.get(argument));
    let slope = match set("nonlin").and_then(Value::as_str).and_then(|n| n.rsplit('.').next()) {
        Some("LeakyReLU") => keyword("nonlin_kwargs", "negative_slope")
            .and_then(Value::as_f64)
            .unwrap_or(SLOPE),
        Some("ReLU") => 0.0,
        found => {
            return Err(format!(
                "nonlin is {}; LeakyReLU and ReLU are known",
                found.unwrap_or("nothing")
            ));
        }
    };
    // Dropout does nothing when a network is used; nnU-Net's own plans have none.
    let dropout = match set("dropout_op") {
        Some(_) => keyword("dropout_op_kwargs", "p").and_then(Value::as_f64).unwrap_or(0.5),
        None => 0.0,
    };
    let levels = number(arguments.get("n_stages").ok_or("lacks \"n_stages\"")?, "n_stages")?;
    if !(2..=64).contains(&levels) {
        return Err(format!("a network of {levels} stages cannot be"));
    }
    let list = |key: &str, len: usize| -> Result<Vec<usize>, String> {
        match arguments.get(key).ok_or_else(|| format!("lacks \"{key}\""))? {
            Value::Array(items) => items.iter().map(|item| number(item, key)).collect(),
            one => Ok(vec![number(one, key)?; len]),
        }
    };
    let triples = |key: &str| -> Result<Vec<[usize; 3]>, String> {
        match arguments.get(key).ok_or_else(|| format!("lacks \"{key}\""))? {
            Value::Array(items) => items.iter().map(|item| triple(item, key)).collect(),
            one => Ok(vec![triple(one, key)?; levels]),
        }
    };
    Ok(UnetPlan {
        features: list("features_per_stage", levels)?,
        kernels: triples("kernel_sizes")?,
        strides: triples("strides")?,
        depths: list(depths, levels)?,
        decoder_depths: list("n_conv_per_stage_decoder", levels - 1)?,
        stem: set("stem_channels").map(|v| number(v, "stem_channels")).transpose()?,
        conv_bias: set("conv_bias").is_some(),
        norm_eps: keyword("norm_op_kwargs", "eps").and_then(Value::as_f64).unwrap_or(1e-5),
        norm_affine: keyword("norm_op_kwargs", "affine") == Some(&Value::Bool(true)),
        slope,
        dropout,
        deep_supervision: true,
    })
}

fn text<'a>(value: Option<&'a Value>, key: &str) -> Result<&'a str, String> {
    value.and_then(Value::as_str).ok_or_else(|| format!("lacks \"{key}\""))
}

fn number(value: &Value, key: &str) -> Result<usize, String> {
    let found = value.as_u64().and_then(|n| usize::try_from(n).ok());
    found.ok_or_else(|| format!("\"{key}\": {value} is no size"))
}

/// Three numbers, or one for all axes.
fn triple(value: &Value, key: &str) -> Result<[usize; 3], String> {
    match value {
        Value::Array(items) => {
            let items: Vec<usize> = items.iter().map(|item| number(item, key)).collect::<Result<_, _>>()?;
            items
                .try_into()
                .map_err(|items: Vec<usize>| format!("\"{key}\" has {} axes; only 3-D networks are known", items.len()))
        }
        one => Ok([number(one, key)?; 3]),
    }
}
