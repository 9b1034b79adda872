//! Files that lie: each is one clear error, at once, and nothing is run.

use safetensors::tensor::{Dtype, TensorView};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use viscera_convert::pickle::Checkpoint;
use viscera_convert::weights::{read_checkpoint, read_safetensors};
use viscera_net::builders::GraphBuilder;
use viscera_net::{Graph, NodeId, Op, Weights};

/// A zip archive of stored entries, written by hand so that every number can be wrong.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Zip {
    fn entry(mut self, name: &str, content: &[u8]) -> Self {
        let len = content.len() as u32;
        self.add(name, content, len, 0);
        self
    }

    /// `said` bytes in the directory, compressed by `method`.
    fn add(&mut self, name: &str, content: &[u8], said: u32, method: u16) {
        let start = self.bytes.len() as u32;
        let numbers = |out: &mut Vec<u8>| {
            out.extend([20, 0, 0, 0]);
            out.extend(method.to_le_bytes());
            out.extend([0; 8]);
            out.extend(said.to_le_bytes());
            out.extend(said.to_le_bytes());
            out.extend((name.len() as u16).to_le_bytes());
            out.extend([0, 0]);
        };
        self.bytes.extend(b"PK\x03\x04");
        numbers(&mut self.bytes);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(content);
        self.directory.extend(b"PK\x01\x02\x14\x00");
        numbers(&mut self.directory);
        self.directory.extend([0; 10]);
        self.directory.extend(start.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let start = self.bytes.len() as u32;
        let len = self.directory.len() as u32;
        self.bytes.append(&mut self.directory);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(len.to_le_bytes());
        self.bytes.extend(start.to_le_bytes());
        self.bytes.extend([0, 0]);
        self.bytes
    }
}

/// Pickle instructions.
fn text(text: &str) -> Vec<u8> {
    [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &n.to_le_bytes()].concat()
}

/// A tensor over storage `key`, which is said to have `len` numbers.
fn tensor(key: &str, len: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let tuple = |items: &[i64]| {
        [
            b"(".to_vec(),
            items.iter().flat_map(|&n| int(n)).collect(),
            b"t".to_vec(),
        ]
        .concat()
    };
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(key),
        text("cpu"),
        int(len),
        b"tQ".to_vec(),
        int(offset),
        tuple(shape),
        tuple(strides),
        b"\x89}tR".to_vec(),
    ]
    .concat()
}

/// A dictionary of these values.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items
        .iter()
        .flat_map(|(key, value)| [text(key), value.clone()].concat())
        .collect();
    [b"\x80\x02}(".to_vec(), items, b"u.".to_vec()].concat()
}

/// A file in a folder of its own.
struct File(
    #[expect(dead_code, reason = "it lives as long as its file")] tempfile::TempDir,
    PathBuf,
);

fn file(name: &str, bytes: &[u8]) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    File(dir, path)
}

fn archive(pickle: &[u8]) -> Zip {
    Zip::default().entry("a/data.pkl", pickle)
}

/// Ten times what an idle computer may take, so that a busy one passes.
const LIMIT: Duration = Duration::from_secs(10);

/// What `read` says of a file; soon.
fn timed(read: impl FnOnce() -> String) -> String {
    let begin = Instant::now();
    let error = read();
    assert!(begin.elapsed() < LIMIT, "{error} took {:?}", begin.elapsed());
    error
}

fn refusal(bytes: &[u8]) -> String {
    let file = file("a.pth", bytes);
    let error = timed(|| Checkpoint::open(&file.1).unwrap_err().to_string());
    assert!(error.contains("a.pth"), "{error}");
    error
}

/// One convolution of 2 → 2 channels.
fn small() -> Graph {
    let mut g = GraphBuilder::new("small");
    let x = g.input(2);
    let y = g.conv("c", x, 2, [1; 3], [1; 3], true, 0.0);
    g.finish(vec![y])
}

/// What reading that graph's weights out of a checkpoint says.
fn weights(zip: Vec<u8>) -> String {
    let file = file("a.pth", &zip);
    timed(|| read_checkpoint(&file.1, &small()).unwrap_err().to_string())
}

const SHAPE: [i64; 5] = [2, 2, 1, 1, 1];
const DENSE: [i64; 5] = [2, 1, 1, 1, 1];

#[test]
fn a_good_checkpoint_is_read() {
    let values: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let pickle = dict(&[
        // Transposed in memory, and under the names that torch.compile and DDP give.
        ("_orig_mod.module.c.weight", tensor("0", 6, 1, &SHAPE, &[1, 2, 1, 1, 1])),
        ("_orig_mod.module.c.bias", tensor("1", 6, 4, &[2], &[1])),
        ("epoch", int(3)),
    ]);
    let zip = archive(&pickle)
        .entry("a/data/0", &values)
        .entry("a/data/1", &values)
        .finish();
    let file = file("a.pth", &zip);
    let found = read_checkpoint(&file.1, &small()).unwrap();
    assert_eq!(found.values, [vec![1.0, 3.0, 2.0, 4.0], vec![4.0, 5.0]]);
    let checkpoint = Checkpoint::open(&file.1).unwrap();
    assert_eq!(checkpoint.root().get("epoch").and_then(|e| e.int()), Some(3));
}

#[test]
fn no_pickle_runs_anything() {
    let marker = tempfile::tempdir().unwrap();
    let path = marker.path().join("ran");
    let touch = format!("touch {}", path.display());
    let call = |global: &str| [global.as_bytes(), b"(", &text(&touch), b"tR."].concat();
    for (global, name) in [
        ("cos\nsystem\n", "os.system"),
        ("cposix\nsystem\n", "posix.system"),
        ("cbuiltins\neval\n", "builtins.eval"),
        ("c__builtin__\ngetattr\n", "__builtin__.getattr"),
        ("csubprocess\nPopen\n", "subprocess.Popen"),
        ("ctorch\nload\n", "torch.load"),
        ("ctorch.hub\nload\n", "torch.hub.load"),
        (
            "cnumpy.core.multiarray\n_reconstruct\n",
            "numpy.core.multiarray._reconstruct",
        ),
        ("ctorch\nFloatStorage.__reduce__\n", "torch.FloatStorage.__reduce__"),
    ] {
        let error = refusal(&archive(&[b"\x80\x02".to_vec(), call(global)].concat()).finish());
        assert!(error.contains(name) && error.contains("nothing was run"), "{error}");
    }
    // Names that are put together from texts.
    let built = [
        text("os"),
        text("system"),
        b"\x93(".to_vec(),
        text(&touch),
        b"tR.".to_vec(),
    ]
    .concat();
    assert!(refusal(&archive(&built).finish()).contains("os.system"));
    // Old ways to make objects, extension codes, and numbers as texts.
    for code in [
        &b"(ios\nsystem\n."[..],
        b"(cos\nsystem\no.",
        b"\x82\x01.",
        b"I1\n.",
        b"P1\n.",
        b"\xff.",
    ] {
        let error = refusal(&archive(code).finish());
        assert!(
            error.contains("is not allowed") || error.contains("os.system"),
            "{error}"
        );
    }
    assert!(!path.exists());
}

#[test]
fn pickles_that_grow_without_end_are_stopped() {
    // A list doubled by appending it to itself never grows here: values name each other.
    let laughs: Vec<u8> = [b"]q\x00".to_vec(), [&b"(h\x00h\x00e"[..]; 1000].concat(), b".".to_vec()].concat();
    assert!(refusal_or_fine(&archive(&laughs).finish()));
    // Copies of one long list.
    let long = [b"(".to_vec(), b"N".repeat(100_000), b"tq\x00".to_vec()].concat();
    let copy = b"cbuiltins\nlist\nh\x00\x85R";
    let copies = [long, copy.repeat(10_000), b".".to_vec()].concat();
    assert!(refusal(&archive(&copies).finish()).contains("outgrow"));
    // Five million values.
    let many = [b"N".repeat(5 << 20), b".".to_vec()].concat();
    assert!(refusal(&archive(&many).finish()).contains("values"));
    // A million tuples inside each other: nothing recurses.
    let deep = [b"N".to_vec(), b"\x85".repeat(1 << 20), b".".to_vec()].concat();
    assert!(refusal_or_fine(&archive(&deep).finish()));
    // Texts, numbers of items and marks that are not there.
    for code in [
        &b"X\xff\xff\xff\xff."[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"t.",
        b"0.",
        b"(0.",
        b"h\x07.",
        b"}a.",
        b"Na.",
        b"]NNs.",
        b"N)R.",
        b"(Q.",
        b"",
        b"N",
        b"cos",
        b"ccollections\nOrderedDict\n\x85R.",
    ] {
        let error = refusal(&archive(code).finish());
        assert!(error.contains("PyTorch checkpoint"), "{error}");
    }
}

fn refusal_or_fine(bytes: &[u8]) -> bool {
    let file = file("a.pth", bytes);
    timed(|| Checkpoint::open(&file.1).map_or_else(|e| e.to_string(), |_| String::new())).is_empty()
}

#[test]
fn storages_and_shapes_that_do_not_fit_are_refused() {
    let bias = || ("c.bias", tensor("1", 2, 0, &[2], &[1]));
    let with = |weight: Vec<u8>, storage: usize| {
        let pickle = dict(&[("c.weight", weight), bias()]);
        let zip = archive(&pickle)
            .entry("a/data/0", &vec![0; storage])
            .entry("a/data/1", &[0; 8]);
        weights(zip.finish())
    };
    // Said to be larger than the entry, and than any file.
    assert!(with(tensor("0", 4, 0, &SHAPE, &DENSE), 12).contains("has 12 bytes, too few for its 4 numbers"));
    assert!(with(tensor("0", 1 << 61, 0, &SHAPE, &DENSE), 16).contains("too few"));
    assert!(with(tensor("7", 4, 0, &SHAPE, &DENSE), 16).contains("\"7\" is missing"));
    // Elements outside the storage, overflows, negative numbers.
    let max = i64::MAX;
    for (offset, shape, strides) in [
        (1, SHAPE, DENSE),
        (0, SHAPE, [2, 3, 1, 1, 1]),
        (max, SHAPE, DENSE),
        (0, SHAPE, [max, max, 1, 1, 1]),
        (0, [max, max, max, 1, 1], DENSE),
        (0, [1 << 32, 1 << 32, 1, 1, 1], [0, 0, 0, 0, 0]),
        (0, SHAPE, [-1, 1, 1, 1, 1]),
        (-1, SHAPE, DENSE),
        (0, [-2, 2, 1, 1, 1], DENSE),
    ] {
        let error = with(tensor("0", 4, offset, &shape, &strides), 16);
        assert!(
            error.contains("does not fit") || error.contains("wrong arguments"),
            "{error}"
        );
    }
    // Elements that are one number; parameters that share numbers.
    assert!(with(tensor("0", 4, 0, &SHAPE, &[0, 1, 1, 1, 1]), 16).contains("repeats its numbers"));
    assert!(with(tensor("0", 4, 0, &SHAPE, &[1, 1, 1, 1, 1]), 16).contains("repeats its numbers"));
    let pickle = dict(&[
        ("c.weight", tensor("0", 6, 0, &SHAPE, &DENSE)),
        ("c.bias", tensor("0", 6, 3, &[2], &[1])),
    ]);
    let error = weights(archive(&pickle).entry("a/data/0", &[0; 24]).finish());
    assert!(error.contains("share values"), "{error}");
    // Another network's.
    let good = || ("c.weight", tensor("0", 4, 0, &SHAPE, &DENSE));
    let more = dict(&[good(), bias(), ("d.weight", tensor("2", 1, 0, &[1], &[1]))]);
    let storages = |pickle: &[u8]| archive(pickle).entry("a/data/0", &[0; 16]).entry("a/data/1", &[0; 8]);
    assert!(weights(storages(&more).entry("a/data/2", &[0; 4]).finish()).contains("\"d.weight\", which the network"));
    assert!(weights(storages(&dict(&[good()])).finish()).contains("no parameter \"c.bias\""));
}

#[test]
fn archives_that_lie_are_refused() {
    let pickle = dict(&[("c.weight", tensor("0", 4, 0, &SHAPE, &DENSE))]);
    let good = archive(&pickle).entry("a/data/0", &[0; 16]).finish();
    assert!(refusal_or_fine(&good));
    for cut in [0, 3, 4, 30, good.len() / 2, good.len() - 23, good.len() - 1] {
        let error = refusal(&good[..cut]);
        assert!(
            error.contains("cut short") || error.contains("too short"),
            "{cut}: {error}"
        );
    }
    assert!(refusal(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").contains("before PyTorch 1.6"));
    assert!(refusal(b"not a checkpoint at all").contains("no zip archive"));
    assert!(refusal(&Zip::default().entry("a/b", b"c").finish()).contains("without data.pkl"));
    assert!(refusal(&archive(&pickle).entry("b/data.pkl", &pickle).finish()).contains("data.pkl"));
    assert!(refusal(&archive(&pickle).entry("a/data.pkl", &pickle).finish()).contains("comes twice"));
    // A bomb: entries that would unpack to more than they are.
    let mut zip = Zip::default();
    zip.add("a/data.pkl", &pickle, pickle.len() as u32, 8);
    assert!(refusal(&zip.finish()).contains("compressed"));
    // An entry that is said to be longer than the file.
    let pickle = dict(&[
        ("c.weight", tensor("0", 4, 0, &SHAPE, &DENSE)),
        ("c.bias", tensor("0", 8, 4, &[2], &[1])),
    ]);
    let mut long = Zip::default().entry("a/data.pkl", &pickle);
    long.add("a/data/0", &[0; 16], u32::MAX - 1, 0);
    assert!(weights(long.finish()).contains("does not fit a file of"));
    // A list of entries that lies elsewhere than the end says.
    for (at, value) in [(12usize, u32::MAX), (16, u32::MAX - 30), (16, 3)] {
        let mut bytes = good.clone();
        let place = bytes.len() - 22 + at;
        bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        let error = refusal(&bytes);
        assert!(
            error.contains("names bytes") || error.contains("damaged") || error.contains("list of entries"),
            "{error}"
        );
    }
}

#[test]
fn safetensors_that_lie_are_refused() {
    let said = |bytes: &[u8], graph: Option<Graph>| {
        let file = file("a.safetensors", bytes);
        timed(|| read_safetensors(&file.1, graph).unwrap_err().to_string())
    };
    let header = |json: &str, data: usize| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    assert!(said(b"", Some(small())).len() > 5);
    assert!(said(&u64::MAX.to_le_bytes(), Some(small())).contains("cannot be read"));
    // 100 MB of header, really there.
    let mut long = (100u64 << 20).to_le_bytes().to_vec();
    long.resize(8 + (100 << 20), b' ');
    assert!(said(&long, Some(small())).contains("header of 104857600 bytes"));
    for json in [
        // Overlapping; larger than the file; shape and bytes that differ; a product that overflows.
        r#"{"c.weight":{"dtype":"F32","shape":[2,2,1,1,1],"data_offsets":[0,16]},"c.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
        r#"{"c.weight":{"dtype":"F32","shape":[2,2,1,1,1],"data_offsets":[0,16]},"c.bias":{"dtype":"F32","shape":[2],"data_offsets":[16,99999999]}}"#,
        r#"{"c.weight":{"dtype":"F32","shape":[2,2,1,1,9],"data_offsets":[0,16]},"c.bias":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}}"#,
        r#"{"c.weight":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,24]}}"#,
    ] {
        assert!(
            said(&header(json, 24), Some(small())).contains("cannot be read"),
            "{json}"
        );
    }
    let view = |shape: Vec<usize>, data: &'static [u8]| TensorView::new(Dtype::F32, shape, data).unwrap();
    let other = safetensors::serialize([("x", view(vec![1], &[0; 4]))], None).unwrap();
    assert!(said(&other, Some(small())).contains("c.weight"));
    assert!(said(&other, None).contains("has no graph"));
}

#[test]
fn graphs_that_lie_are_refused() {
    let with = |change: &dyn Fn(&mut Graph)| {
        let mut graph = small();
        change(&mut graph);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let text = serde_json::to_string(&graph).unwrap();
        let tensors = Weights::init(&small(), 1).to_tensors(&small(), "", viscera_net::Storage::F32);
        let metadata = [("viscera.graph".to_owned(), text)].into();
        std::fs::write(&path, safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
        timed(|| match read_safetensors(&path, None) {
            Err(error) => error.to_string(),
            // The rest is seen when the model is put together.
            Ok((graph, weights)) => {
                let error = viscera_pipeline::Model::bare("m", graph, weights, [8; 3]).unwrap_err();
                format!(
                    "{error} {:?}",
                    std::error::Error::source(&error).map(ToString::to_string)
                )
            }
        })
    };
    let cycle = with(&|g| g.nodes[1].inputs = vec![NodeId(1)]);
    assert!(cycle.contains("does not stand before it"), "{cycle}");
    assert!(with(&|g| g.nodes[1].inputs = vec![NodeId(usize::MAX)]).contains("does not stand before it"));
    assert!(with(&|g| g.outputs = vec![NodeId(9)]).contains("output 9 is none of its 2 nodes"));
    assert!(with(&|g| g.outputs = vec![]).contains("no output"));
    assert!(with(&|g| g.nodes[0].op = Op::Add).contains("0 inputs"));
    assert!(with(&|g| g.params[1] = g.params[0].clone()).contains("comes twice"));
    assert!(with(&|g| g.params[0].shape = vec![usize::MAX, 2]).contains("too large"));
    assert!(with(&|g| g.params[0].shape = vec![2, 2, 1, 1, 2]).contains("c.weight"));
    let wide = with(&|g| {
        if let Op::Conv(conv) = &mut g.nodes[1].op {
            conv.padding = [usize::MAX; 3];
        }
    });
    assert!(wide.contains("c"), "{wide}");
    let wide = with(&|g| {
        if let Op::Conv(conv) = &mut g.nodes[1].op {
            conv.weight = viscera_net::ParamId(77);
        }
    });
    assert!(wide.contains("node c"), "{wide}");
}
