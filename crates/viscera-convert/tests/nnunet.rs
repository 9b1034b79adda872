//! Result folders of nnU-Net: what nnunetv2 itself answers (fixtures/import-nnunet), old plans, and what is refused.

use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use viscera_convert::nnunet::{Options, Which, import};
use viscera_io::{ReadOptions, read_image, read_label_map};
use viscera_net::{Storage, Tensor};
use viscera_pipeline::recipe::{
    Activation, Axis, ChannelRule, Crop, Method, Modality, NetworkSpec, Normalise, Orient, PatchWeights, Resample,
    SeparateZ,
};
use viscera_pipeline::{Model, SegmentOptions, Segmenter, Tta};

/// Largest difference of logits from PyTorch's.
const TOLERANCE: f32 = 1e-3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/import-nnunet")
        .join(name)
}

fn golden(bytes: &[u8], key: &str) -> Tensor {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(key).unwrap();
    let data = view
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    Tensor::new(view.shape().try_into().unwrap(), data).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.shape(), b.shape());
    a.data()
        .iter()
        .zip(b.data())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn logits_are_those_of_nnunet() {
    for name in ["plain", "resenc"] {
        let bytes = std::fs::read(fixture(name).join("golden.safetensors")).unwrap();
        let input = golden(&bytes, "input");
        let mut mean: Option<Tensor> = None;
        for fold in ["0", "1"] {
            let options = Options {
                folds: Some(vec![fold.to_owned()]),
                ..Options::default()
            };
            let model = import(&fixture(name), &options).unwrap().model;
            let heads = model.network(None).unwrap().run(&input).unwrap();
            let expected = golden(&bytes, &format!("fold_{fold}"));
            assert!(difference(&heads[0], &expected) < TOLERANCE, "{name} {fold}");
            let coarse = golden(&bytes, &format!("fold_{fold}.head_1"));
            assert_eq!(heads.len(), 2);
            assert!(difference(&heads[1], &coarse) < TOLERANCE, "{name} {fold}");
            let half: Vec<f32> = expected.data().iter().map(|v| v / 2.0).collect();
            let sum = match mean {
                None => half,
                Some(mean) => mean.data().iter().zip(&half).map(|(a, b)| a + b).collect(),
            };
            mean = Some(Tensor::new(expected.shape(), sum).unwrap());
        }
        let model = import(&fixture(name), &Options::default()).unwrap().model;
        let heads = model.network(None).unwrap().run(&input).unwrap();
        assert!(difference(&heads[0], &mean.unwrap()) < TOLERANCE, "{name}: both folds");
    }
}

#[test]
fn the_recipe_says_what_the_plans_said() {
    let imported = import(&fixture("plain"), &Options::default()).unwrap();
    assert!(imported.warnings.is_empty(), "{:?}", imported.warnings);
    let model = imported.model;
    let header = &model.recipe().recipe;
    assert_eq!(
        (header.name.as_str(), header.modality),
        ("Dataset901_plain", Modality::Ct)
    );
    let stage = &model.recipe().stages[0];
    assert_eq!(
        (stage.orient, stage.axes, stage.crop),
        (Orient::File, [0, 1, 2], Some(Crop::NonZero))
    );
    let Resample::Spacing(grid) = &stage.resample else {
        panic!("{:?}", stage.resample)
    };
    assert_eq!(grid.spacing_mm, [3.0, 1.5, 1.5]);
    assert_eq!(
        (grid.image.method, grid.image.order, grid.image.order_z),
        (Method::Spline, 3, 0)
    );
    assert_eq!(
        (grid.logits.order, grid.logits.separate_z, grid.logits.anisotropy),
        (1, SeparateZ::Auto, 3.0)
    );
    let rule = ChannelRule::Fixed {
        window: [-120.25, 310.5],
        mean: 62.5,
        std: 81.75,
    };
    assert_eq!(stage.normalise, Normalise::Channels(vec![rule]));
    assert_eq!(stage.inference.activation, Activation::Softmax);
    let window = stage.inference.window.unwrap();
    assert_eq!(
        (window.patch, window.step, window.weights),
        ([4, 8, 12], 0.5, PatchWeights::Gaussian)
    );
    assert_eq!(stage.inference.mirror, [Axis::Z, Axis::Y, Axis::X]);
    assert_eq!(stage.inference.folds, ["0", "1"]);
    // `ignore` has no channel.
    let classes: Vec<_> = model
        .labels()
        .entries()
        .iter()
        .map(|e| (e.id, e.name.as_str()))
        .collect();
    assert_eq!(classes, [(1, "liver"), (2, "left kidney")]);
    assert_eq!(model.training()["trainer"], "nnUNetTrainer");

    // The other reads images turned to RAS, and was not mirrored.
    let other = import(&fixture("resenc"), &Options::default()).unwrap().model;
    let stage = &other.recipe().stages[0];
    assert_eq!((stage.orient, stage.inference.mirror.len()), (Orient::Ras, 0));
    assert!(matches!(stage.network, NetworkSpec::ResidualEncoderUnet(_)));
}

#[test]
fn a_bundle_holds_all_of_it_and_is_not_segmented_with_yet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.safetensors");
    let model = import(&fixture("plain"), &Options::default()).unwrap().model;
    model.save(&path, Storage::F32).unwrap();
    let back = Model::load(&path).unwrap();
    assert_eq!((back.recipe(), back.labels()), (model.recipe(), model.labels()));
    for (a, b) in back.networks().zip(model.networks()) {
        assert_eq!((a.graph, a.folds), (b.graph, b.folds));
        assert_eq!(a.folds.len(), 2);
    }
    let verified = back.verify().unwrap();
    assert!(verified.sealed);
    // One bit anywhere, in weights or in texts, is seen.
    let bytes = std::fs::read(&path).unwrap();
    let text = bytes.windows(9).position(|w| w == b"mean = 62").unwrap();
    for place in [bytes.len() - 3, text + 8] {
        let mut other = bytes.clone();
        other[place] ^= 1;
        std::fs::write(&path, &other).unwrap();
        let error = Model::load(&path).unwrap().verify().unwrap_err().to_string();
        assert!(error.contains("hash differs"), "{error}");
    }
    Segmenter::new(model, &SegmentOptions::default()).unwrap();
}

#[test]
fn segmentations_are_those_of_nnunet() {
    // nnU-Net adds patches up in half precision, so voxels where two classes are nearly even may differ: of every class
    // at most so many in a thousand.
    let cases = [
        ("plain_mirrored", "plain", None, None, 1),
        ("plain_coarse", "plain", Some(Tta::None), None, 1),
        ("resenc_turned", "resenc", None, Some(0.7), 2),
        ("plain_tiny", "plain", Some(Tta::None), None, 3),
    ];
    for (case, model, tta, step_size, thousandths) in cases {
        let model = import(&fixture(model), &Options::default()).unwrap().model;
        let options = SegmentOptions {
            allow_non_hu: true,
            tta,
            step_size,
            ..SegmentOptions::default()
        };
        let segmenter = Segmenter::new(model, &options).unwrap();
        let scan = read_image(&fixture(&format!("scans/{case}.nii.gz")), &ReadOptions::default()).unwrap();
        let found = segmenter.segment(&scan).unwrap().labels;
        let path = fixture(&format!("scans/{case}_labels.nii.gz"));
        let expected = read_label_map(&path).unwrap();
        assert_eq!(found.shape(), expected.shape(), "{case}");
        assert!(expected.data().contains(&1) && expected.data().contains(&0), "{case}");
        let differ = found.data().iter().zip(expected.data()).filter(|(a, b)| a != b).count();
        assert!(
            differ * 1000 <= found.data().len() * thousandths,
            "{case}: {differ} voxels differ"
        );
    }
}

/// A copy of a fixture whose JSON files can be changed.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "plans.json",
            "dataset.json",
            "fold_0/checkpoint_final.pth",
            "fold_1/checkpoint_final.pth",
        ] {
            let to = dir.path().join(file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(fixture(name).join(file), to).unwrap();
        }
        Self(dir)
    }

    fn change(self, file: &str, change: impl Fn(&mut Value)) -> Self {
        let path = self.0.path().join(file);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(&path, value.to_string()).unwrap();
        self
    }

    fn error(&self, options: &Options) -> String {
        import(self.0.path(), options).unwrap_err().to_string()
    }
}

/// The keys of plans before version 2.4, for the same networks.
fn to_old(configuration: &mut Value, class: &str, depths: Value) {
    let arguments = configuration["architecture"]["arch_kwargs"].take();
    let object = configuration.as_object_mut().unwrap();
    object.remove("architecture");
    let strides = arguments["strides"].clone();
    let old = json!({
        "UNet_class_name": class,
        "UNet_base_num_features": 2,
        "unet_max_num_features": 4,
        "n_conv_per_stage_encoder": depths,
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": strides,
        "conv_kernel_sizes": arguments["kernel_sizes"],
    });
    object.extend(old.as_object().unwrap().clone());
}

#[test]
fn old_plans_give_the_same_network() {
    for (name, class, depths) in [
        ("plain", "PlainConvUNet", json!([2, 1, 1])),
        ("resenc", "ResidualEncoderUNet", json!([1, 2, 1])),
    ] {
        let old = Copy::new(name).change("plans.json", |plans| {
            to_old(&mut plans["configurations"]["3d_fullres"], class, depths.clone());
            let intensities = plans["foreground_intensity_properties_per_channel"].take();
            let plans = plans.as_object_mut().unwrap();
            plans.remove("foreground_intensity_properties_per_channel");
            plans.insert("foreground_intensity_properties_by_modality".to_owned(), intensities);
        });
        let new = import(&fixture(name), &Options::default()).unwrap().model;
        let model = import(old.0.path(), &Options::default()).unwrap().model;
        assert_eq!(model.recipe(), new.recipe());
        assert_eq!(model.network(None).unwrap().folds, new.network(None).unwrap().folds);
        // Widths double up to the limit.
        let old = old.change("plans.json", |plans| {
            plans["configurations"]["3d_fullres"]["unet_max_num_features"] = json!(8);
        });
        let error = old.error(&Options::default());
        assert!(
            error.contains("encoder.stages.2.") && error.contains("needs [8, 4, 3, 3, 3]"),
            "{error}"
        );
    }
}

#[test]
fn inherited_configurations_are_followed_and_cycles_refused() {
    let child = |plans: &mut Value| {
        let whole = plans["configurations"]["3d_fullres"].take();
        plans["configurations"] = json!({
            "base": whole,
            "3d_fullres": { "inherits_from": "base", "patch_size": [8, 8, 12] },
        });
    };
    let copy = Copy::new("plain").change("plans.json", child);
    let model = import(copy.0.path(), &Options::default()).unwrap().model;
    assert_eq!(model.recipe().stages[0].network_size(), [8, 8, 12]);
    let cycle = copy.change("plans.json", |plans| {
        plans["configurations"]["base"]["inherits_from"] = json!("3d_fullres");
    });
    assert!(cycle.error(&Options::default()).contains("inherits from itself"));
}

#[test]
fn what_cannot_be_carried_over_is_named() {
    let of_configuration = |key: &'static str, value: Value| {
        Copy::new("plain").change("plans.json", move |plans| {
            plans["configurations"]["3d_fullres"][key] = value.clone();
        })
    };
    let of_network = |key: &'static str, value: Value| {
        Copy::new("plain").change("plans.json", move |plans| {
            plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][key] = value.clone();
        })
    };
    let usual = Options::default();
    for (copy, part) in [
        (of_configuration("previous_stage", json!("3d_lowres")), "cascade"),
        (of_configuration("patch_size", json!([16, 16])), "two-dimensional"),
        (
            of_configuration("patch_size", json!([4, 8, 13])),
            "does not suit the network",
        ),
        (
            of_configuration("spacing", json!([1, 1])),
            "\"spacing\" is not three numbers",
        ),
        (of_configuration("normalization_schemes", json!(["MyNorm"])), "MyNorm"),
        (
            of_configuration("resampling_fn_data", json!("no_resampling_hack")),
            "no_resampling_hack",
        ),
        (
            of_network("norm_op", json!("torch.nn.BatchNorm3d")),
            "norm_op is torch.nn.BatchNorm3d",
        ),
        (
            of_network("nonlin_first", json!(true)),
            "nonlin_first = true is not known",
        ),
        (of_network("nonlin", json!("torch.nn.GELU")), "nonlin is GELU"),
        (of_network("n_stages", json!(1_000_000_000)), "cannot be"),
        (
            of_network("features_per_stage", json!([2, 4, 1u64 << 60])),
            "4096 channels",
        ),
        (
            of_network("n_conv_per_stage", json!([2, 2, 1])),
            "encoder.stages.1.0.convs.1.conv.weight",
        ),
        (
            of_network("n_conv_per_stage", json!([1, 1, 1])),
            "which the network plain_unet does not use",
        ),
    ] {
        let error = copy.error(&usual);
        assert!(error.contains(part), "{part}: {error}");
        assert!(
            error.contains("plans.json") || error.contains(".pth") || error.contains("recipe"),
            "{error}"
        );
    }
    let regions = Copy::new("plain").change("dataset.json", |dataset| {
        dataset["labels"] = json!({ "background": 0, "whole": [1, 2], "core": [2] });
    });
    assert!(regions.error(&usual).contains("region of several labels"));
    let gap = Copy::new("plain").change("dataset.json", |dataset| {
        dataset["labels"] = json!({ "background": 0, "a": 1, "b": 3 });
    });
    assert!(gap.error(&usual).contains("\"b\" has 3 in place 2"));
    let more = Copy::new("plain").change("dataset.json", |dataset| dataset["labels"]["spleen"] = json!(3));
    assert!(
        more.error(&usual).contains("decoder.seg_layers"),
        "{}",
        more.error(&usual)
    );

    let copy = Copy::new("plain");
    let best = Options {
        checkpoint: Which::Best,
        ..Options::default()
    };
    assert!(copy.error(&best).contains("no fold has a checkpoint_best.pth"));
    let third = Options {
        folds: Some(vec!["2".to_owned()]),
        ..Options::default()
    };
    assert!(copy.error(&third).contains("there are: 0, 1"));
    let other = Options {
        configuration: Some("3d_lowres".to_owned()),
        ..Options::default()
    };
    assert!(
        copy.error(&other)
            .contains("was trained in the configuration \"3d_fullres\"")
    );
    std::fs::remove_file(copy.0.path().join("plans.json")).unwrap();
    assert!(copy.error(&usual).contains("no result folder"));
}

#[test]
fn the_data_sets_folder_leads_to_its_usual_configuration() {
    let outer = tempfile::tempdir().unwrap();
    let copy = Copy::new("plain");
    let inner = |configuration: &str| {
        outer
            .path()
            .join(format!("nnUNetTrainer__nnUNetPlans__{configuration}"))
    };
    std::fs::rename(copy.0.keep(), inner("3d_fullres")).unwrap();
    assert!(import(outer.path(), &Options::default()).is_ok());
    // Others beside it do not disturb.
    std::fs::create_dir(inner("2d")).unwrap();
    std::fs::write(inner("2d").join("plans.json"), "{}").unwrap();
    assert!(import(outer.path(), &Options::default()).is_ok());
}
