//! `viscera model` from the command line.

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use viscera_io::{read_npy, write_npy};

fn viscera(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("viscera").unwrap();
    command.args(arguments).current_dir(folder).env_remove("VISCERA_MODELS");
    command.output().unwrap()
}

/// The output of a run that must succeed.
fn good(folder: &Path, arguments: &[&str]) -> String {
    let output = viscera(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit code and messages of a run that must not.
fn bad(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = viscera(folder, arguments);
    let code = output.status.code().unwrap_or(-1);
    assert!(code > 0, "{arguments:?}");
    (code, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn fixture(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_nnunet_folder_becomes_a_model_that_runs_and_leaves_again() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let folder = fixture("import-nnunet/resenc");
    good(at, &["model", "import", &folder, "-o", "two.safetensors"]);
    good(
        at,
        &["model", "import", &folder, "-o", "one.safetensors", "--folds", "1"],
    );
    good(
        at,
        &[
            "model",
            "import",
            &folder,
            "-o",
            "half.safetensors",
            "--folds",
            "1",
            "--precision",
            "bf16",
        ],
    );
    let size = |name: &str| std::fs::metadata(at.join(name)).unwrap().len();
    assert!(size("half.safetensors") < size("one.safetensors"));
    good(at, &["model", "verify", "two.safetensors"]);
    let shown: serde_json::Value =
        serde_json::from_str(&good(at, &["model", "show", "two.safetensors", "--json"])).unwrap();
    let network = &shown["networks"][0];
    assert_eq!(network["architecture"], "residual_encoder_unet");
    assert_eq!(network["input"], serde_json::json!([4, 8, 12]));
    assert_eq!(network["folds"], serde_json::json!(["0", "1"]));
    assert_eq!(network["heads"], 2);
    assert_eq!(shown["classes"], serde_json::json!(["liver", "left kidney"]));

    let values: Vec<f32> = (0..4 * 8 * 12).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    write_npy(&at.join("x.npy"), &[1, 4, 8, 12], &values).unwrap();
    let run = |model: &str, out: &str| {
        good(at, &["model", "run", model, "--input", "x.npy", "--output", out]);
        read_npy(&at.join(out)).unwrap()
    };
    let one = run("one.safetensors", "one.npy");
    assert_eq!(one.shape, [3, 4, 8, 12]);
    assert_ne!(one, run("two.safetensors", "two.npy"));
    good(
        at,
        &[
            "model",
            "run",
            "one.safetensors",
            "--input",
            "x.npy",
            "--output",
            "h.npy",
            "--all-heads",
        ],
    );
    assert_eq!(read_npy(&at.join("h_0.npy")).unwrap(), one);
    assert_eq!(read_npy(&at.join("h_1.npy")).unwrap().shape, [3, 4, 4, 6]);

    // Out and in again: the same network, by safetensors and by ONNX.
    let (_, error) = bad(at, &["model", "export", "two.safetensors", "--onnx", "-o", "e.onnx"]);
    assert!(error.contains("choose a fold") && error.contains("0, 1"), "{error}");
    for (form, file) in [("--safetensors", "e.safetensors"), ("--onnx", "e.onnx")] {
        good(
            at,
            &["model", "export", "two.safetensors", "--fold", "1", form, "-o", file],
        );
        good(
            at,
            &["model", "import", file, "--input", "4,8,12", "-o", "again.safetensors"],
        );
        let again = run("again.safetensors", "again.npy");
        assert_eq!(again.shape, one.shape);
        for (a, b) in again.data.iter().zip(&one.data) {
            assert!((a - b).abs() < 1e-4, "{form}: {a} {b}");
        }
    }
    let dot = good(at, &["model", "show", "again.safetensors", "--dot"]);
    assert!(dot.starts_with("digraph"), "{dot}");

    // The nnU-Net model knows how a scan reaches its network; what came from ONNX is a network alone.
    viscera_io::write_image(
        &at.join("ct.nii"),
        &viscera_image::Volume::filled(viscera_image::Geometry::ras([8; 3], [2.0; 3]), 40i16)
            .unwrap()
            .into(),
    )
    .unwrap();
    let segment = |model| ["segment", "ct.nii", "-o", "out", "--allow-non-hu", "--model", model];
    let (code, error) = bad(at, &segment("again.safetensors"));
    assert!(code == 2 && error.contains("cannot carry out yet"), "{code} {error}");
    assert!(!at.join("out").exists());
    good(at, &segment("two.safetensors"));
    assert!(at.join("out/ct.nii.gz").exists());
}

#[test]
fn networks_are_counted_drawn_and_made() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let all: serde_json::Value = serde_json::from_str(&good(at, &["model", "count", "--json"])).unwrap();
    let organ = all.as_array().unwrap().iter().find(|n| n["name"] == "b-organ").unwrap();
    assert_eq!(organ["parameters"], 31_205_254);
    let small = good(at, &["model", "count", "b-organ", "--input", "32,32,32", "--json"]);
    let small: serde_json::Value = serde_json::from_str(&small).unwrap();
    assert_eq!(small[0]["macs"].as_u64().map(|n| n * 64), organ["macs"].as_u64());
    assert!(good(at, &["model", "count"]).contains("d-fine-13"));
    assert!(good(at, &["model", "count", "default"]).contains("efficientsegnet"));
    assert!(good(at, &["model", "show", "d-coarse", "--dot"]).starts_with("digraph"));
    let (_, error) = bad(at, &["model", "show", "default", "--dot"]);
    assert!(error.contains("name one of its stages: coarse, fine"), "{error}");
    let (_, error) = bad(at, &["model", "count", "b-organs"]);
    assert!(error.contains("b-organ") && error.contains("default"), "{error}");

    for (seed, out) in [("7", "a"), ("7", "b"), ("8", "c")] {
        let out = format!("{out}.safetensors");
        good(
            at,
            &["model", "init", "efficientsegnet-small", "--seed", seed, "-o", &out],
        );
    }
    let bytes = |name: &str| std::fs::read(at.join(name)).unwrap();
    assert!(bytes("a.safetensors") == bytes("b.safetensors"));
    assert!(bytes("a.safetensors") != bytes("c.safetensors"));
    good(at, &["model", "verify", "a.safetensors"]);
    good(at, &["model", "init", "mfnet-0.75", "-o", "bare.safetensors"]);
    good(at, &["model", "verify", "bare.safetensors"]);
}

#[test]
fn a_model_takes_another_card_and_recipe_and_keeps_its_weights() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    good(at, &["model", "init", "efficientsegnet-small", "-o", "a.safetensors"]);
    let text = good(at, &["recipe", "show", "efficientsegnet-small"]);
    let other = text.replace("min_volume_mm3 = 2000", "min_volume_mm3 = 2500");
    assert_ne!(text, other);
    std::fs::write(at.join("other.toml"), other).unwrap();
    std::fs::write(at.join("card.md"), "# Another card\n").unwrap();
    fn edit<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["model", "edit", "a.safetensors", "-o", "b.safetensors"], more].concat()
    }
    good(at, &edit(&["--card", "card.md", "--recipe", "other.toml"]));
    good(at, &["model", "verify", "b.safetensors"]);
    assert!(good(at, &["model", "show", "b.safetensors"]).contains("# Another card"));
    let hash = |what: &[&str]| -> serde_json::Value {
        let shown: serde_json::Value = serde_json::from_str(&good(at, &[what, &["--json"]].concat())).unwrap();
        shown["recipe_sha256"].clone()
    };
    good(at, &["model", "init", "other.toml", "-o", "o.safetensors"]);
    let [a, b, o] = ["a", "b", "o"].map(|name| hash(&["model", "show", &format!("{name}.safetensors")]));
    assert!(b == o && b != a, "{a} {b} {o}");
    // The weights: the same bytes at the end of the file, in four bytes each.
    let weights = |name: &str| {
        let bytes = std::fs::read(at.join(name)).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(weights("a.safetensors") == weights("b.safetensors"));
    good(
        at,
        &["model", "edit", "default", "--card", "card.md", "-o", "c.safetensors"],
    );
    assert!(weights("c.safetensors").len() * 2 == weights("a.safetensors").len());

    let (code, error) = bad(at, &edit(&[]));
    assert!(
        code == 2 && error.contains("--card") && error.contains("--recipe"),
        "{error}"
    );
    let wider = text.replace("base_features = 8", "base_features = 4");
    std::fs::write(at.join("wider.toml"), wider).unwrap();
    let (_, error) = bad(at, &edit(&["--recipe", "wider.toml"]));
    assert!(error.contains("a.safetensors") || error.contains("weights"), "{error}");
    let (_, error) = bad(at, &edit(&["--recipe", "flare23-two-step"]));
    assert!(error.contains("is for the labels flare14"), "{error}");
    let renamed = text
        .replace("\"coarse\"", "\"rough\"")
        .replace("[training.coarse]", "[training.rough]");
    std::fs::write(at.join("renamed.toml"), renamed).unwrap();
    let (_, error) = bad(at, &edit(&["--recipe", "renamed.toml"]));
    assert!(error.contains("no stage \"coarse\""), "{error}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    good(at, &["model", "verify"]);
    std::fs::write(at.join("x.npy"), "nothing").unwrap();
    let import = |path: &str| bad(at, &["model", "import", path, "-o", "m.safetensors"]);
    for ((code, error), expected, part) in [
        (import("nowhere.onnx"), 3, "cannot read nowhere.onnx"),
        (import("x.npy"), 2, "can be imported"),
        (import("."), 3, "no result folder of nnU-Net v2"),
        (
            import(&fixture("import-nnunet/plain/fold_0/checkpoint_final.pth")),
            2,
            "--recipe or --graph",
        ),
        (
            bad(
                at,
                &["model", "run", "default", "--input", "x.npy", "--output", "y.npy"],
            ),
            2,
            "coarse, fine",
        ),
        (
            bad(
                at,
                &[
                    "model", "run", "default", "--stage", "fine", "--input", "x.npy", "--output", "y.npy",
                ],
            ),
            3,
            "not a NumPy file",
        ),
        (bad(at, &["model", "export", "default", "-o", "e"]), 2, "--onnx"),
    ] {
        assert!(error.contains(part), "{part}: {error}");
        assert_eq!(code, expected, "{error}");
    }
    write_npy(&at.join("x.npy"), &[2, 64, 64, 64], &vec![0.0; 2 << 18]).unwrap();
    let run = [
        "model", "run", "default", "--stage", "fine", "--input", "x.npy", "--output", "y.npy",
    ];
    let (_, error) = bad(at, &run);
    assert!(error.contains("x.npy"), "{error}");
    assert!(!at.join("m.safetensors").exists() && !at.join("y.npy").exists());
}
