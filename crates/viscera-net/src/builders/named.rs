//! The networks that the five FLARE systems fix, with the settings of their publications or released code.

use super::parts::{NORM_EPS, Norm};
use super::{
    Architecture, CoarseUnet, DmfNet, EfficientSegNet, Encoder, Gates, Heads, Naming, PhTrans, Plane, UNet, UNetStage,
};

/// A network under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedNetwork {
    /// The name.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Its settings.
    pub architecture: Architecture,
    /// `[z, y, x]` voxels of the input that it is meant for.
    pub input: [usize; 3],
}

/// The network of that name.
#[must_use]
pub fn named(name: &str) -> Option<NamedNetwork> {
    networks().into_iter().find(|network| network.name == name)
}

/// All of them.
#[must_use]
pub fn networks() -> Vec<NamedNetwork> {
    let make = |name, about, architecture, input| NamedNetwork {
        name,
        about,
        architecture,
        input,
    };
    let a = [96, 128, 160];
    let c = [80, 192, 160];
    vec![
        make(
            "a-train",
            "System A: generic U-Net with five heads, as trained",
            generic(Heads::All),
            a,
        ),
        make(
            "a-fine",
            "System A: the same with its finest head, as used in the ROI",
            generic(Heads::Finest),
            a,
        ),
        make(
            "a-coarse",
            "System A: the same cut off at a quarter of the resolution, to localise",
            generic(Heads::Level(2)),
            a,
        ),
        make(
            "b-organ",
            "System B: PlainConvUNet of nnU-Net v2, 13 organs",
            plain(14, Heads::All),
            [128; 3],
        ),
        make(
            "b-tumour",
            "System B: the same for tumours",
            plain(2, Heads::All),
            [128; 3],
        ),
        make(
            "c-stage1",
            "System C: Attention DMFNet, the organs as one",
            dmf(1, 2, 128, true, Gates::Grouped),
            c,
        ),
        make(
            "c-stage2",
            "System C: Attention DMFNet, 13 organs",
            dmf(1, 14, 128, true, Gates::Grouped),
            c,
        ),
        make(
            "c-stage2-grid",
            "System C: the same with grid gates",
            dmf(1, 14, 128, true, Gates::Grid),
            c,
        ),
        make(
            "dmfnet",
            "DMFNet as published, for brain tumours",
            dmf(4, 4, 128, true, Gates::None),
            [128; 3],
        ),
        make(
            "mfnet",
            "MFNet as published",
            dmf(4, 4, 128, false, Gates::None),
            [128; 3],
        ),
        make(
            "mfnet-0.75",
            "0.75 × MFNet as published",
            dmf(4, 4, 96, false, Gates::None),
            [128; 3],
        ),
        make(
            "d-coarse",
            "System D: coarse U-Net, four organs",
            coarse(8, 1),
            [160; 3],
        ),
        make(
            "d-fine",
            "System D: EfficientSegNet, four organs",
            efficient(4),
            [192; 3],
        ),
        make(
            "d-fine-13",
            "System D: EfficientSegNet, 13 organs",
            efficient(13),
            [192; 3],
        ),
        make(
            "d-fine-14",
            "System D: EfficientSegNet, 13 organs and background",
            efficient(14),
            [192; 3],
        ),
        make(
            "d-base",
            "System D: the U-Net that its authors compare with",
            coarse(16, 2),
            [192; 3],
        ),
        make(
            "e-locate",
            "System E: residual-encoder U-Net, the organs as one",
            residual(2, 320),
            [128; 3],
        ),
        make(
            "e-organ",
            "System E: residual-encoder U-Net, 13 organs",
            residual(14, 300),
            [192; 3],
        ),
        make("e-tumour", "System E: the same for tumours", residual(2, 300), [192; 3]),
        make(
            "e-teacher",
            "System E: PHTrans, which labels what is unlabelled",
            teacher(),
            [48, 192, 192],
        ),
        make("net1", "reference for speed: PlainConvUNet, one head", net1(), [128; 3]),
        make(
            "net2",
            "reference for speed: residual U-Net, one head",
            net2(),
            [192; 3],
        ),
    ]
}

/// nnU-Net's stages with kernel 3; the first has stride 1, the others 2 unless changed.
fn stages(features: &[usize], depth: usize) -> Vec<UNetStage> {
    let stage = |(level, &features): (usize, &usize)| UNetStage {
        features,
        kernel: [3; 3],
        stride: if level == 0 { [1; 3] } else { [2; 3] },
        depth,
        decoder_depth: 2,
    };
    features.iter().enumerate().map(stage).collect()
}

fn unet(out_channels: usize, encoder: Encoder, stages: Vec<UNetStage>, heads: Heads) -> UNet {
    UNet {
        in_channels: 1,
        out_channels,
        encoder,
        stages,
        conv_bias: true,
        up_bias: true,
        head_bias: true,
        norm: Norm::Instance {
            eps: NORM_EPS,
            affine: true,
        },
        slope: 0.01,
        dropout: 0.0,
        heads,
        naming: Naming::NnUnetV2,
    }
}

const PLAIN: [usize; 6] = [32, 64, 128, 256, 320, 320];

fn plain(out_channels: usize, heads: Heads) -> Architecture {
    Architecture::UNet(unet(out_channels, Encoder::Plain, stages(&PLAIN, 2), heads))
}

fn generic(heads: Heads) -> Architecture {
    let mut stages = stages(&PLAIN, 2);
    if let Some(bottleneck) = stages.last_mut() {
        bottleneck.stride = [1, 2, 2];
    }
    Architecture::UNet(UNet {
        up_bias: false,
        head_bias: false,
        naming: Naming::NnUnetV1,
        ..unet(14, Encoder::Plain, stages, heads)
    })
}

fn residual(out_channels: usize, widest: usize) -> Architecture {
    let stages = stages(&[16, 32, 64, 128, 256, widest], 2);
    let encoder = Encoder::Residual { stem: Some(16) };
    Architecture::UNet(unet(out_channels, encoder, stages, Heads::All))
}

fn net1() -> Architecture {
    plain(14, Heads::Finest)
}

fn net2() -> Architecture {
    let stages = stages(&[16, 32, 64, 128, 256, 256], 1);
    Architecture::UNet(unet(14, Encoder::Residual { stem: None }, stages, Heads::Finest))
}

fn dmf(in_channels: usize, out_channels: usize, width: usize, dilated: bool, gates: Gates) -> Architecture {
    Architecture::DmfNet(DmfNet {
        in_channels,
        out_channels,
        stem: 32,
        width,
        groups: 16,
        dilated,
        gates,
        plane: Plane::Paper,
    })
}

fn coarse(base_features: usize, decoder_blocks: usize) -> Architecture {
    Architecture::CoarseUnet(CoarseUnet {
        in_channels: 1,
        base_features,
        out_channels: 4,
        decoder_blocks,
        dropout: 0.2,
    })
}

fn efficient(out_channels: usize) -> Architecture {
    Architecture::EfficientSegNet(EfficientSegNet {
        in_channels: 1,
        base_features: 16,
        out_channels,
        dropout: 0.2,
        plane: Plane::Paper,
        context: true,
    })
}

/// The configuration for the BCV data set; the one for FLARE23 was not published.
fn teacher() -> Architecture {
    Architecture::PhTrans(PhTrans {
        in_channels: 1,
        out_channels: 14,
        base_features: 24,
        max_features: 312,
        kernels: vec![[3; 3]; 6],
        strides: vec![[1, 2, 2], [2; 3], [2; 3], [2; 3], [1, 2, 2]],
        heads: vec![3, 6, 12, 24],
        window: [3, 6, 6],
        dropout: 0.1,
        drop_path: 0.2,
        deep_supervision: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamKind;
    use std::collections::HashSet;

    /// Published or counted by hand from the layer tables: parameters exactly, and as many digits of 10⁹
    /// multiply-accumulates as are known.
    const KNOWN: [(&str, usize, &str); 19] = [
        ("a-train", 30_794_784, "448.78"),
        ("a-fine", 30_784_032, "448.49"),
        ("a-coarse", 30_288_160, "197.01"),
        ("b-organ", 31_205_254, "478.35"),
        ("b-tumour", 31_195_594, "477.28"),
        ("dmfnet", 3_875_890, "26.36"),
        ("mfnet", 3_194_784, "20.02"),
        ("mfnet-0.75", 1_813_360, "12.87"),
        ("c-stage1", 3_884_379, "30.52"),
        ("c-stage2", 3_884_763, "31.46"),
        ("d-coarse", 2_676_480, "100.19"),
        ("d-fine", 9_366_016, "357.66"),
        ("d-fine-13", 9_366_160, "358.7"),
        ("d-fine-14", 9_366_176, "358.8"),
        ("e-locate", 26_975_450, "193.78"),
        ("e-organ", 25_792_462, "655.56"),
        ("e-tumour", 25_786_450, "653.75"),
        ("e-teacher", 36_474_540, "423.9"),
        ("d-base", 11_880_448, "872.3"),
    ];

    #[test]
    fn counts_equal_the_known_ones() {
        let mut wrong = Vec::new();
        for (name, params, macs) in KNOWN {
            let network = named(name).unwrap();
            let counts = network.architecture.build().unwrap().counts(network.input).unwrap();
            let digits = macs.split('.').nth(1).map_or(0, str::len);
            let found = format!("{:.digits$}", counts.macs as f64 / 1e9);
            if (counts.params, found.as_str()) != (params, macs) {
                wrong.push(format!("{name}: {} {found}, not {params} {macs}", counts.params));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// PyTorch's `numel` over the modules that the speed is compared with.
    #[test]
    fn references_have_as_many_parameters_as_in_pytorch() {
        for (name, params) in [("net1", 31_194_446), ("net2", 15_067_582)] {
            let network = named(name).unwrap();
            let counts = network.architecture.build().unwrap().counts(network.input).unwrap();
            assert_eq!(counts.params, params, "{name}");
        }
    }

    /// The table of `docs/networks.md` is what [`networks`] says.
    #[test]
    fn documentation_lists_every_network() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/networks.md");
        let text = std::fs::read_to_string(path).unwrap();
        let table = text.lines().skip_while(|line| !line.starts_with("| name |")).skip(2);
        let written: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
        let rows: Vec<String> = networks()
            .iter()
            .map(|network| {
                let counts = network.architecture.build().unwrap().counts(network.input).unwrap();
                let [z, y, x] = network.input;
                let thousands = counts.params.to_string().into_bytes();
                let params: Vec<_> = thousands.rchunks(3).rev().map(String::from_utf8_lossy).collect();
                format!(
                    "| `{}` | {} | {z}×{y}×{x} | {} | {:.2} |",
                    network.name,
                    network.about,
                    params.join(","),
                    counts.macs as f64 / 1e9
                )
            })
            .collect();
        assert!(written == rows, "put this table into {path}:\n{}", rows.join("\n"));
    }

    #[test]
    fn names_are_unique_and_every_parameter_is_read_once() {
        for network in networks() {
            let graph = network.architecture.build().unwrap();
            let nodes: HashSet<_> = graph.nodes.iter().map(|node| &node.name).collect();
            assert_eq!(nodes.len(), graph.nodes.len(), "{}", network.name);
            let params: HashSet<_> = graph.params.iter().map(|param| &param.name).collect();
            assert_eq!(params.len(), graph.params.len(), "{}", network.name);
            let mut read: Vec<_> = graph.nodes.iter().flat_map(|node| node.op.params()).collect();
            read.sort();
            let all = (0..graph.params.len()).map(crate::ParamId);
            assert!(read.into_iter().eq(all), "{}", network.name);
        }
    }

    #[test]
    fn settings_survive_json() {
        for network in networks() {
            let json = serde_json::to_string(&network.architecture).unwrap();
            assert_eq!(
                serde_json::from_str::<Architecture>(&json).unwrap(),
                network.architecture
            );
        }
    }

    #[test]
    fn running_statistics_start_neutral_and_are_not_counted() {
        let graph = named("dmfnet").unwrap().architecture.build().unwrap();
        let weights = crate::Weights::init(&graph, 0);
        for (leaf, start) in [("running_mean", 0.0), ("running_var", 1.0)] {
            let mut found = 0;
            for (param, values) in graph.params.iter().zip(&weights.values) {
                if param.name.ends_with(leaf) {
                    assert_eq!(param.kind, ParamKind::Statistic);
                    assert!(values.iter().all(|&v| v == start), "{}", param.name);
                    found += 1;
                }
            }
            assert_eq!(
                found,
                graph.nodes.iter().filter(|n| n.op.name() == "batch norm").count()
            );
        }
    }

    #[test]
    fn settings_that_make_no_network_are_refused() {
        let Architecture::UNet(unet) = plain(14, Heads::All) else {
            unreachable!()
        };
        let mut shallow = unet.clone();
        shallow.stages.truncate(1);
        let mut empty = unet.clone();
        empty.stages[2].features = 0;
        let beyond = UNet {
            heads: Heads::Level(5),
            ..unet
        };
        for settings in [shallow, empty, beyond] {
            assert!(settings.build().is_err(), "{settings:?}");
        }
        let Architecture::PhTrans(teacher) = teacher() else {
            unreachable!()
        };
        let heads = PhTrans {
            heads: vec![3, 6, 12, 25],
            ..teacher.clone()
        };
        assert!(heads.build().unwrap_err().to_string().contains("25 heads"));
        // A window that does not divide a stage names the node.
        let error = teacher.build().unwrap().shapes([48, 192, 160]).unwrap_err().to_string();
        assert!(error.contains("swin_blocks") && error.contains("[3, 6, 6]"), "{error}");
        let Architecture::DmfNet(dmf) = dmf(1, 2, 128, true, Gates::None) else {
            unreachable!()
        };
        assert!(DmfNet { stem: 24, ..dmf }.build().is_err());
    }
}
