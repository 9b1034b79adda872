//! Models that lie, and operators in small models made by hand.

use super::export::{Attribute, FLOAT, INT64, float_bytes, int_bytes, node_message, tensor};
use super::import;
use super::wire::Message;
use crate::ConvertError;
use proptest::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};
use viscera_net::{Graph, Op, Weights};

fn value(name: &str, dims: &[i64]) -> Message {
    let shape = dims
        .iter()
        .fold(Message::new(), |m, &d| m.message(1, &Message::new().int(1, d)));
    let kind = Message::new().message(1, &Message::new().int(1, FLOAT).message(2, &shape));
    Message::new().text(1, name).message(2, &kind)
}

fn floats(name: &str, dims: &[usize]) -> Message {
    tensor(name, FLOAT, dims, &float_bytes(&vec![0.5; dims.iter().product()]))
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) -> Message {
    node_message("", &format!("{op} of {output}"), op, inputs, &[output], attributes)
}

/// A model of one image `x` of 2 channels and the output `y`.
fn model(initialisers: &[Message], nodes: &[Message]) -> Vec<u8> {
    let mut graph = Message::new()
        .message(11, &value("x", &[1, 2, 8, 8, 8]))
        .message(12, &value("y", &[]));
    graph = initialisers.iter().fold(graph, |m, t| m.message(5, t));
    graph = nodes.iter().fold(graph, |m, n| m.message(1, n));
    let opset = Message::new().text(1, "").int(2, 17);
    Message::new()
        .int(1, 8)
        .message(8, &opset)
        .message(7, &graph)
        .into_bytes()
}

fn read(bytes: &[u8]) -> Result<(Graph, Weights), ConvertError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    import(&path)
}

/// Reads a model that must be refused at once, with these words.
fn refused(bytes: &[u8], words: &[&str]) {
    let start = Instant::now();
    let error = read(bytes).unwrap_err().to_string();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{error} took {:?}",
        start.elapsed()
    );
    for word in words.iter().chain(&["model.onnx"]) {
        assert!(error.contains(word), "'{error}' does not say '{word}'");
    }
}

fn conv() -> Message {
    node("Conv", &["x", "w"], "y", &[])
}

#[test]
fn a_sound_model_is_read() {
    let (graph, weights) = read(&model(&[floats("w", &[3, 2, 1, 1, 1])], &[conv()])).unwrap();
    assert_eq!((graph.nodes.len(), weights.values[0].len()), (2, 6));
    assert_eq!(graph.nodes[1].name, "Conv of y");
    assert_eq!(graph.params[0].name, "w");
}

#[test]
fn graphs_that_do_not_hold_together_are_refused() {
    let w = || floats("w", &[3, 2, 1, 1, 1]);
    let relu = |from, to| node("Relu", &[from], to, &[]);
    refused(
        &model(&[], &[relu("b", "a"), relu("a", "b"), relu("b", "y")]),
        &["cycle", "Relu of a"],
    );
    refused(&model(&[], &[conv()]), &["Conv of y", "'w'", "no initialiser"]);
    refused(&model(&[w()], &[]), &["'y'", "no node gives"]);
    refused(&model(&[w(), w()], &[conv()]), &["two values", "'w'"]);
    refused(&model(&[w()], &[conv(), relu("x", "y")]), &["two nodes", "'y'"]);
    refused(&model(&[w()], &[relu("x", "w"), conv()]), &["two values", "'w'"]);
    refused(&model(&[w()], &[relu("x", "x")]), &["'x'", "taken"]);
    refused(
        &model(&[w()], &[node("Hardmax", &["x"], "y", &[])]),
        &["Hardmax of y", "not covered"],
    );
    refused(
        &model(&[floats("w", &[3, 4, 1, 1, 1])], &[conv()]),
        &["[3, 4, 1, 1, 1]", "2 channels"],
    );
    refused(&model(&[floats("w", &[3, 2, 1, 1])], &[conv()]), &["3-D"]);
    refused(&model(&[], &[node("Identity", &["x"], "z", &[])]), &["'y'"]);
}

#[test]
fn tensors_that_lie_are_refused() {
    let lie = |dims: &[i64], raw: &[u8]| Message::new().ints(1, dims).int(2, FLOAT).text(8, "w").bytes(9, raw);
    for (dims, word) in [
        (&[i64::MAX, 4, 1, 1, 1][..], "overflows"),
        (&[i64::MAX, 0, i64::MAX, 1, 1], "overflows"),
        (&[3, -2, 1, 1, 1], "impossible shape"),
        (&[1 << 40, 2, 1, 1, 1], "bytes of data"),
        (&[3, 2, 1, 1, 2], "24 bytes of data"),
        (&[0, 2, 1, 1, 1], "24 bytes of data"),
    ] {
        refused(&model(&[lie(dims, &[0; 24])], &[conv()]), &["'w'", word]);
    }
    let typed = Message::new()
        .ints(1, &[3, 2, 1, 1, 1])
        .int(2, INT64)
        .text(8, "w")
        .ints(7, &[1, 2]);
    refused(&model(&[typed], &[conv()]), &["2 values"]);
    let strings = Message::new().ints(1, &[1]).int(2, 8).text(8, "w").bytes(9, b"x");
    refused(&model(&[strings], &[conv()]), &["data type 8"]);
}

#[test]
fn attributes_that_lie_are_refused() {
    let w = || floats("w", &[3, 2, 1, 1, 1]);
    let conv = |name, values: &[i64]| {
        let attributes = [(name, Attribute::Ints(values.to_vec()))];
        model(&[w()], &[node("Conv", &["x", "w"], "y", &attributes)])
    };
    refused(&conv("strides", &[0, 1, 1]), &["strides", "positive"]);
    refused(&conv("strides", &[1, 1]), &["strides"]);
    refused(&conv("pads", &[i64::MAX, 0, 0, i64::MAX, 0, 0]), &["pads"]);
    refused(&conv("pads", &[-1, 0, 0, 0, 0, 0]), &["pads"]);
    refused(&conv("kernel_shape", &[3, 3, 3]), &["kernel"]);
    // Within 31 bits each, but together more voxels than any machine holds.
    let large = 1 << 30;
    let error = read(&conv("pads", &[large; 6])).unwrap_err().to_string();
    assert!(error.contains("too many values"), "{error}");
    let group = [("group", Attribute::Int(i64::MAX))];
    refused(&model(&[w()], &[node("Conv", &["x", "w"], "y", &group)]), &["groups"]);
    let shape = tensor("s", INT64, &[3], &int_bytes(&[i64::MAX, i64::MAX, -1]));
    refused(
        &model(&[shape], &[node("Reshape", &["x", "s"], "y", &[])]),
        &["Reshape of y", "reshape"],
    );
}

#[test]
fn constants_cannot_outgrow_the_file() {
    let s = tensor("s", INT64, &[3], &int_bytes(&[1 << 20, 1 << 20, 1]));
    refused(
        &model(&[s], &[node("ConstantOfShape", &["s"], "y", &[])]),
        &["too many for a file"],
    );
    let s = tensor("s", INT64, &[2], &int_bytes(&[1 << 40, 0]));
    refused(
        &model(&[s], &[node("ConstantOfShape", &["s"], "y", &[])]),
        &["overflows"],
    );
    // Doubling: forty short nodes that would make 2⁴⁰ values.
    let mut nodes = Vec::new();
    for i in 0..40 {
        let (from, to) = (format!("c{i}"), format!("c{}", i + 1));
        nodes.push(node("Concat", &[&from, &from], &to, &[("axis", Attribute::Int(0))]));
    }
    refused(&model(&[floats("c0", &[1])], &nodes), &["too many for a file"]);
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    let whole = model(&[floats("w", &[3, 2, 1, 1, 1])], &[conv()]);
    refused(&whole[..whole.len() - 3], &["cannot be parsed", "bytes where"]);
    refused(b"PK\x03\x04 a zip file and no protocol buffer", &["cannot be parsed"]);
    refused(b"", &["no graph"]);
    // Subgraphs within subgraphs are skipped unread.
    let mut deep = Vec::new();
    for _ in 0..2000 {
        deep = Message::new()
            .bytes(
                6,
                &Message::new()
                    .bytes(1, &Message::new().bytes(5, &deep).into_bytes())
                    .into_bytes(),
            )
            .into_bytes();
    }
    let nested = Message::new().text(4, "If").text(2, "y").bytes(5, &deep);
    refused(&model(&[], &[nested]), &["If", "not covered"]);
    let opset = Message::new().text(1, "").int(2, 99);
    let old = Message::new()
        .message(8, &opset)
        .message(7, &Message::new())
        .into_bytes();
    refused(&old, &["operator set 99"]);
}

fn external(location: &str, entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |key: &str, text: &str| Message::new().text(1, key).text(2, text);
    let mut w = Message::new()
        .ints(1, &[3, 2, 1, 1, 1])
        .int(2, FLOAT)
        .text(8, "w")
        .int(14, 1);
    w = w.message(13, &entry("location", location));
    w = entries
        .iter()
        .fold(w, |w, (key, text)| w.message(13, &entry(key, text)));
    model(&[w], &[conv()])
}

#[test]
fn external_data_come_from_the_models_folder_alone() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("inner");
    std::fs::create_dir(&folder).unwrap();
    let data: Vec<u8> = (0..8u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    std::fs::write(outer.path().join("secret.bin"), &data).unwrap();
    std::fs::write(folder.join("w.bin"), &data).unwrap();
    let path = folder.join("model.onnx");
    let read = |bytes: Vec<u8>| {
        std::fs::write(&path, bytes).unwrap();
        import(&path)
    };
    let (_, weights) = read(external("w.bin", &[("offset", "8"), ("length", "24")])).unwrap();
    assert_eq!(weights.values[0], [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let secret = outer.path().join("secret.bin");
    let mut outside = vec![
        "../secret.bin".to_owned(),
        "a/../../secret.bin".to_owned(),
        secret.display().to_string(),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, folder.join("link.bin")).unwrap();
        std::os::unix::fs::symlink(outer.path(), folder.join("up")).unwrap();
        outside.extend(["link.bin".to_owned(), "up/secret.bin".to_owned()]);
    }
    for location in outside {
        let error = read(external(&location, &[])).unwrap_err().to_string();
        assert!(error.contains("not in the model's folder"), "{error}");
    }
    for (entries, word) in [
        (&[("offset", "9")][..], "which has 32"),
        (&[("offset", "18446744073709551615")], "which has 32"),
        (&[("length", "25")], "another number"),
        (&[("offset", "-1")], "offset '-1'"),
    ] {
        let error = read(external("w.bin", entries)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(
        read(external("absent.bin", &[]))
            .unwrap_err()
            .to_string()
            .contains("absent.bin")
    );
    assert!(read(external(".", &[])).is_err());
}

#[test]
fn every_storage_of_weights_is_read() {
    let values = [1.0f32, -2.0, 0.5, 0.0, 4.0, -0.25];
    let bits = |f: fn(f32) -> u16| values.iter().map(|&v| i64::from(f(v))).collect::<Vec<_>>();
    let half = bits(|v| half::f16::from_f32(v).to_bits());
    let brain = bits(|v| half::bf16::from_f32(v).to_bits());
    let bytes = |bits: &[i64]| bits.iter().flat_map(|&b| (b as u16).to_le_bytes()).collect::<Vec<u8>>();
    let wide: Vec<u8> = values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
    let start = |kind| Message::new().ints(1, &[3, 2, 1, 1, 1]).int(2, kind).text(8, "w");
    let stored = [
        start(1).bytes(9, &float_bytes(&values)),
        start(1).bytes(4, &float_bytes(&values)),
        values.iter().fold(start(1), |m, &v| m.float(4, v)),
        start(10).bytes(9, &bytes(&half)),
        start(10).ints(5, &half),
        start(16).bytes(9, &bytes(&brain)),
        start(16).ints(5, &brain),
        start(11).bytes(9, &wide),
        start(11).bytes(10, &wide),
    ];
    for tensor in stored {
        assert_eq!(read(&model(&[tensor], &[conv()])).unwrap().1.values[0], values);
    }
}

#[test]
fn unequal_pads_become_a_node() {
    let pads = [("pads", Attribute::Ints(vec![0, 1, 2, 1, 1, 0]))];
    let (graph, _) = read(&model(
        &[floats("w", &[3, 2, 1, 1, 1])],
        &[node("Conv", &["x", "w"], "y", &pads)],
    ))
    .unwrap();
    assert_eq!(
        graph.nodes[1].op,
        Op::Pad {
            before: [0, 1, 2],
            after: [1, 1, 0]
        }
    );
    assert_eq!(graph.shapes([8; 3]).unwrap().nodes[2], (3, [9, 10, 10]));
}

/// ConvTranspose with groups: the graph's has one, so the weight is spread out with zeros.
#[test]
fn grouped_transposed_convolution_is_spread_out() {
    let w = tensor("w", FLOAT, &[2, 1, 1, 1, 2], &float_bytes(&[1.0, 2.0, 3.0, 4.0]));
    let attributes = [
        ("group", Attribute::Int(2)),
        ("strides", Attribute::Ints(vec![1, 1, 2])),
    ];
    let (graph, weights) = read(&model(&[w], &[node("ConvTranspose", &["x", "w"], "y", &attributes)])).unwrap();
    assert_eq!(graph.params[0].shape, [2, 2, 1, 1, 2]);
    assert_eq!(weights.values[0], [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens to a file, reading it ends, and without a panic.
    #[test]
    fn broken_files_never_panic(
        which in 0usize..3,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.2),
    ) {
        let name = ["channel-norm-script13", "gated-script11", "odds-script13"][which];
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx").join(format!("{name}.onnx"));
        let mut bytes = std::fs::read(path).unwrap();
        for (place, value) in &flips {
            let place = place.index(bytes.len());
            bytes[place] = *value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let start = Instant::now();
        if let Ok((graph, weights)) = read(&bytes) {
            prop_assert!(weights.check(&graph).is_ok());
            let _ = graph.shapes([8, 12, 16]);
        }
        prop_assert!(start.elapsed() < Duration::from_secs(2));
    }
}
