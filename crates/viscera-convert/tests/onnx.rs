//! ONNX models of PyTorch's exporters against ONNX Runtime, and every network of the project there and back.

use safetensors::SafeTensors;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use viscera_convert::onnx::{self, ExportOptions};
use viscera_engine::Engine;
use viscera_net::builders::{Architecture, networks};
use viscera_net::{Activation, Graph, Node, NodeId, Op, ParamId, Tensor, Values, Weights};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx")
}

/// What ONNX Runtime gave, by key.
struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Self {
        Self(std::fs::read(fixtures().join("golden.safetensors")).unwrap())
    }

    fn floats(&self, key: &str) -> Option<Vec<f32>> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(key).ok()?;
        Some(
            view.data()
                .as_chunks()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect(),
        )
    }

    fn shape(&self, key: &str) -> [usize; 5] {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(key).unwrap();
        let values = view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&b| i64::from_le_bytes(b) as usize);
        values.collect::<Vec<_>>().try_into().unwrap()
    }
}

/// As `net_formula.py`: SplitMix64 seeded by the FNV-1a hash of a name, upper 24 bits, in [-1, 1).
fn by_formula(name: &str, shape: [usize; 5]) -> Tensor {
    let hash = |h: u64, byte: u8| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, hash);
    let value = |i: u64| {
        let mut x = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        (x >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let n: usize = shape.iter().product();
    Tensor::new(shape, (0..n as u64).map(value).collect()).unwrap()
}

/// Runs every fixture in the engine, as imported and after an export and a second import.
#[test]
fn imported_networks_equal_onnx_runtime() {
    let golden = Golden::open();
    let folder = tempfile::tempdir().unwrap();
    let mut models = 0;
    let mut names: Vec<_> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    for path in names
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
    {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (graph, weights) = onnx::import(&path).unwrap();
        let input = by_formula("input", golden.shape(&format!("{name}/input_shape")));
        let copy = folder.path().join("copy.onnx");
        onnx::export(&graph, &weights, &copy, ExportOptions::default()).unwrap();
        let (again, same) = onnx::import(&copy).unwrap();
        for (graph, weights) in [(&graph, &weights), (&again, &same)] {
            let outputs = Engine::new(graph, weights).unwrap().run(&input).unwrap();
            for (i, output) in outputs.iter().enumerate() {
                let key = format!("{name}/output/{i}");
                assert_eq!(output.shape(), golden.shape(&format!("{key}/shape")), "{key}");
                let expected = golden.floats(&format!("{key}/sample")).unwrap();
                let largest = golden.floats(&format!("{key}/max")).unwrap()[0];
                let step = output.data().len().div_ceil(expected.len());
                for (found, expected) in output.data().iter().step_by(step).zip(&expected) {
                    // Not `> allowed`, which NaN would pass.
                    let close = (found - expected).abs() <= 1e-3 * largest.min(1.0);
                    assert!(close, "{key}: {found}, not {expected}");
                }
            }
            assert!(
                golden.floats(&format!("{name}/output/{}/max", outputs.len())).is_none(),
                "{name}: an output lacks"
            );
        }
        models += 1;
    }
    assert_eq!(models, 18);
}

/// A network with few channels, so that a test can write it.
fn narrow(architecture: Architecture) -> Architecture {
    match architecture {
        Architecture::CoarseUnet(settings) => Architecture::CoarseUnet(viscera_net::builders::CoarseUnet {
            base_features: 2,
            ..settings
        }),
        Architecture::EfficientSegNet(settings) => {
            Architecture::EfficientSegNet(viscera_net::builders::EfficientSegNet {
                base_features: 4,
                ..settings
            })
        }
        Architecture::UNet(mut settings) => {
            settings.stages.iter_mut().for_each(|stage| stage.features /= 8);
            Architecture::UNet(settings)
        }
        Architecture::DmfNet(settings) => {
            let (stem, width, groups) = (settings.stem / 4, settings.width / 4, settings.groups / 4);
            Architecture::DmfNet(viscera_net::builders::DmfNet {
                stem,
                width,
                groups,
                ..settings
            })
        }
        Architecture::PhTrans(settings) => Architecture::PhTrans(viscera_net::builders::PhTrans {
            base_features: 6,
            max_features: 48,
            heads: vec![3, 6, 6, 6],
            ..settings
        }),
    }
}

/// Random values for every parameter: fresh norms would be ones and zeros, in which a mistake hides.
fn random(graph: &Graph) -> Weights {
    let value = |param: &viscera_net::Param| {
        let shape = [1, 1, 1, 1, param.len()];
        by_formula(&param.name, shape)
            .into_data()
            .into_iter()
            .map(|v| 0.75 + v / 4.0)
            .collect()
    };
    Weights {
        values: graph.params.iter().map(value).collect(),
    }
}

/// Each node without names: its operation with values in the place of parameters, and what it reads.
type Bare = (Op, Vec<Values>, Vec<Vec<usize>>, Vec<NodeId>);

fn bare(graph: &Graph, weights: &Weights) -> (Vec<Bare>, Vec<NodeId>) {
    // What no output needs is left out of an import: a head for training only.
    let mut needed: HashSet<usize> = graph.outputs.iter().map(|id| id.0).collect();
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if needed.contains(&i) {
            needed.extend(node.inputs.iter().map(|id| id.0));
        }
    }
    let mut place = HashMap::new();
    let mut kept: Vec<&Node> = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate().filter(|(i, _)| needed.contains(i)) {
        // Stochastic depth does nothing in a network that is used: it is written as nothing.
        if let Op::DropPath { .. } = node.op {
            let of: usize = place[&node.inputs[0].0];
            place.insert(i, of);
        } else {
            place.insert(i, kept.len());
            kept.push(node);
        }
    }
    let moved = |ids: &[NodeId]| ids.iter().map(|id| NodeId(place[&id.0])).collect::<Vec<_>>();
    let nodes = kept.iter().map(|node| {
        let params = node.op.params();
        let values = params.iter().map(|id| weights.values[id.0].clone()).collect();
        let shapes = params.iter().map(|id| graph.params[id.0].shape.clone()).collect();
        (without_ids(&node.op), values, shapes, moved(&node.inputs))
    });
    (nodes.collect(), moved(&graph.outputs))
}

/// The operation with every parameter's number set to 0.
fn without_ids(op: &Op) -> Op {
    let mut op = op.clone();
    let none = ParamId(0);
    match &mut op {
        Op::Conv(conv) => {
            conv.weight = none;
            conv.bias = conv.bias.map(|_| none);
        }
        Op::ConvTranspose { weight, bias, .. } => {
            *weight = none;
            *bias = bias.map(|_| none);
        }
        Op::InstanceNorm { affine, .. } | Op::GroupNorm { affine, .. } | Op::LayerNorm { affine, .. } => {
            *affine = affine.map(|_| (none, none));
        }
        Op::BatchNorm {
            mean, variance, affine, ..
        } => {
            (*mean, *variance) = (none, none);
            *affine = affine.map(|_| (none, none));
        }
        Op::Affine { weight, bias } => {
            *weight = weight.map(|_| none);
            *bias = bias.map(|_| none);
        }
        Op::Activation(Activation::PRelu { slope }) => *slope = none,
        Op::WindowAttention(attention) => attention.bias = none,
        _ => {}
    }
    op
}

/// Writes every network of the project and reads it back: the same operations on the same values.
#[test]
fn every_network_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for network in networks() {
        let graph = narrow(network.architecture).build().unwrap();
        let weights = random(&graph);
        let path = folder.path().join("network.onnx");
        onnx::export(&graph, &weights, &path, ExportOptions::default()).unwrap();
        let (found, values) = onnx::import(&path).unwrap();
        let (expected, expected_outputs) = bare(&graph, &weights);
        let (found, outputs) = bare(&found, &values);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                found == expected,
                "{}: {:?} in the place of {:?}",
                network.name,
                found.0,
                expected.0
            );
        }
        assert_eq!(found.len(), expected.len(), "{}", network.name);
        assert_eq!(outputs, expected_outputs, "{}", network.name);
        seen += 1;
    }
    assert!(seen > 15);
}

/// Names of parameters and a fixed size survive.
#[test]
fn an_export_keeps_names_and_takes_a_size() {
    let network = networks().into_iter().find(|n| n.name == "d-coarse").unwrap();
    let graph = narrow(network.architecture).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fixed.onnx");
    let options = ExportOptions {
        spatial: Some([32, 48, 64]),
    };
    onnx::export(&graph, &Weights::init(&graph, 1), &path, options).unwrap();
    let (found, _) = onnx::import(&path).unwrap();
    let names = |graph: &Graph| graph.params.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&graph));
    let names = |graph: &Graph| graph.nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&graph));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
