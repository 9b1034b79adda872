//! `viscera bench` as its users meet it.
#![cfg(unix)]

use assert_cmd::Command;
use std::process::Output;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("viscera").unwrap();
    command
        .args(["bench", "run", "--baseline", "0"])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_is_as_it_would_be_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cost.json");
    let out = ["-o", file.to_str().unwrap()];
    let script = "cat; echo out; echo err >&2; exit 3";
    let mut command = Command::cargo_bin("viscera").unwrap();
    command
        .args(["bench", "run", "--baseline", "0", "--runs", "3"])
        .args(out);
    let output = command
        .args(["--", "sh", "-c", script])
        .write_stdin("in\n")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "in\nout\n");
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("err\n"), "{stderr}");
    assert!(
        stderr.contains("wall clock") && stderr.contains("run 1 of 3 ended with exit code 3"),
        "{stderr}"
    );
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 1);
    assert_eq!(json["runs"][0]["exit_code"], 3);
    assert_eq!(json["command"][2], script);
}

#[test]
fn json_is_alone_on_standard_output() {
    let output = bench(&["--runs", "3", "--json", "--", "sh", "-c", "echo out"]);
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    assert!(json["wall_s"]["min"].as_f64() <= json["wall_s"]["median"].as_f64());
    assert_eq!(text(&output.stderr), "out\nout\nout\n");
}

#[test]
fn arguments_of_the_command_are_its_own() {
    // With and without the two dashes; `--json` is the command's here.
    for dashes in [&["--"][..], &[]] {
        let output = bench(&[dashes, &["echo", "--json", "-o", "x"]].concat());
        assert_eq!(
            (output.status.code(), text(&output.stdout).as_str()),
            (Some(0), "--json -o x\n")
        );
    }
}

#[test]
fn what_cannot_be_started_is_named() {
    let output = bench(&["--", "no-such-program-anywhere"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("\"no-such-program-anywhere\" cannot be started"),
        "{stderr}"
    );
    assert!(stderr.contains("No such file"), "{stderr}");
    assert_eq!(bench(&["--interval", "0", "--", "true"]).status.code(), Some(2));
    assert_eq!(bench(&["--gpu", "99", "--", "true"]).status.code(), Some(2));
}
