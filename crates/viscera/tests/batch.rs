//! Many scans in one run: what is read, what is skipped, what is told, and what is left when it is killed.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn viscera() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("viscera"));
    command.env_remove("VISCERA_MODELS").stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// A folder with small phantoms, and a small model with fresh weights.
struct Set {
    dir: TempDir,
}

impl Set {
    fn new(cases: usize) -> Self {
        let set = Self {
            dir: TempDir::new().unwrap(),
        };
        let made = output(
            viscera()
                .args(["phantom", "--seed", "5", "--spacing", "8,8,8", "--shape", "30,40,50"])
                .args(["--cases", &cases.to_string(), "-o"])
                .arg(set.path("set")),
        );
        assert_eq!(code(&made), 0, "{}", stderr(&made));
        set.model("model.safetensors", 1);
        set
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn images(&self) -> PathBuf {
        self.path("set/imagesTr")
    }

    fn model(&self, name: &str, seed: u32) -> PathBuf {
        let recipe = output(viscera().args(["recipe", "show", "efficientsegnet-small"]));
        let text = String::from_utf8(recipe.stdout).unwrap();
        let text = text
            .replace("[48, 48, 48]", "[32, 32, 32]")
            .replace("[96, 96, 96]", "[64, 64, 64]");
        let path = self.path("small.toml");
        std::fs::write(&path, text).unwrap();
        let made = output(
            viscera()
                .args(["model", "init", "--seed", &seed.to_string()])
                .arg(path)
                .arg("-o")
                .arg(self.path(name)),
        );
        assert_eq!(code(&made), 0, "{}", stderr(&made));
        self.path(name)
    }

    fn segment(&self, out: &str) -> Command {
        let mut command = viscera();
        command.arg("segment").arg(self.images()).arg("-o").arg(self.path(out));
        command.arg("--model").arg(self.path("model.safetensors"));
        command
    }

    fn events(&self, out: &str, more: &[&str]) -> (i32, Vec<Value>) {
        let output = output(self.segment(out).args(["--progress", "json"]).args(more));
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (code(&output), events.collect())
    }

    /// Names of the cases that a run with `--resume` does again.
    fn done_again(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (code, events) = self.events(out, &[&["--resume"], more].concat());
        assert_eq!(code, 0, "{events:?}");
        let finished = events.iter().filter(|e| e["event"] == "case-finished");
        finished.map(|e| e["case"].as_str().unwrap().to_owned()).collect()
    }
}

/// Names and contents of a folder. Manifests are without what differs from run to run.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |path: PathBuf| {
        let mut bytes = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".json") && !name.contains("statistics") {
            let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
            for key in ["seconds", "timings", "peak_memory_mib", "threads"] {
                assert!(manifest.as_object_mut().unwrap().remove(key).is_some(), "{key}");
            }
            bytes = manifest.to_string().into_bytes();
        }
        (name, bytes)
    };
    files(folder).into_iter().map(read).collect()
}

/// All files below a folder; none where it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    contents(folder).into_keys().collect()
}

#[test]
fn a_batch_gives_what_single_runs_give_on_any_number_of_threads() {
    let set = Set::new(3);
    for (out, threads) in [("one", "1"), ("three", "3")] {
        let run = output(set.segment(out).args(["--threads", threads, "--preview"]));
        assert_eq!(code(&run), 0, "{}", stderr(&run));
    }
    let images: Vec<PathBuf> = std::fs::read_dir(set.images())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    for image in &images {
        let mut command = viscera();
        command
            .arg("segment")
            .arg(image)
            .arg("-o")
            .arg(set.path("single"))
            .arg("--preview");
        let run = output(command.arg("--model").arg(set.path("model.safetensors")));
        assert_eq!(code(&run), 0, "{}", stderr(&run));
    }
    // Where memory is short, scans do not overlap; what comes of it is the same.
    let (_, events) = set.events("other", &[]);
    let most = events[0]["estimate"]["memory_bytes"].as_u64().unwrap();
    let limit = format!("{}K", most / 1024 - 1);
    let (exit, events) = set.events("tight", &["--preview", "--max-memory", &limit]);
    assert_eq!((exit, &events[0]["estimate"]["overlap"]), (0, &Value::Bool(false)));

    let single = contents(&set.path("single"));
    assert_eq!(single.len(), 3 * images.len());
    for out in ["one", "three", "tight"] {
        assert!(contents(&set.path(out)) == single, "{out}");
    }
}

#[test]
fn what_changed_is_done_again_and_nothing_else() {
    let set = Set::new(3);
    let all = ["phantom_5_0000", "phantom_5_0001", "phantom_5_0002"];
    let first = set.segment("out").arg("--statistics").output().unwrap();
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    let out = set.path("out");
    let before = contents(&out);
    assert_eq!(set.done_again("out", &["--statistics"]), [""; 0]);
    // The table has all cases, not only those of the last run.
    assert!(contents(&out) == before);

    std::fs::remove_file(out.join("phantom_5_0001.nii.gz")).unwrap();
    assert_eq!(set.done_again("out", &["--statistics"]), [all[1]]);
    let manifest = out.join("phantom_5_0002.json");
    let text = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    assert_eq!(set.done_again("out", &["--statistics"]), [all[2]]);
    // The same size, another time.
    let scan = std::fs::File::options()
        .write(true)
        .open(set.images().join("phantom_5_0000_0000.nii.gz"))
        .unwrap();
    scan.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(set.done_again("out", &["--statistics"]), [all[0]]);
    assert_eq!(set.done_again("out", &["--roi-subset", "liver"]), all);
    assert_eq!(set.done_again("out", &["--roi-subset", "liver"]), [""; 0]);
    assert_eq!(set.done_again("out", &[]), all);
    set.model("model.safetensors", 2);
    assert_eq!(set.done_again("out", &[]), all);
    assert_eq!(set.done_again("out", &[]), [""; 0]);
}

#[test]
fn events_tell_of_every_case_and_failures_do_not_stop_the_others() {
    let set = Set::new(2);
    std::fs::write(set.images().join("bad.nii.gz"), b"no scan").unwrap();
    let (exit, events) = set.events("out", &[]);
    assert_eq!(exit, 1);
    let names: Vec<&str> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("started", "finished"));
    assert_eq!(events[0]["cases"], 3);
    assert!(events[0]["estimate"]["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(events[0]["model"]["weights_sha256"].as_str().unwrap().len(), 64);
    let failed = events.iter().find(|e| e["event"] == "case-failed").unwrap();
    assert_eq!((&failed["case"], &failed["exit_code"]), (&"bad".into(), &3.into()));
    assert_eq!(failed["class"], "input");
    for case in ["phantom_5_0000", "phantom_5_0001"] {
        let of_case: Vec<&str> = events
            .iter()
            .filter(|e| e["case"] == case)
            .map(|e| e["event"].as_str().unwrap())
            .collect();
        assert_eq!(
            (of_case[0], of_case[of_case.len() - 1]),
            ("case-started", "case-finished")
        );
        assert!(of_case.contains(&"step"));
    }
    let last = &events[events.len() - 1];
    for (key, value) in [("finished", 2), ("failed", 1), ("skipped", 0), ("left", 0)] {
        assert_eq!(last[key], value, "{key}");
    }

    let plain = output(set.segment("out").arg("--resume"));
    assert_eq!(code(&plain), 1);
    let text = stderr(&plain);
    assert!(
        text.contains("2 of 3 scans are finished") && text.contains("1 of 3 scans failed\n  bad  "),
        "{text}"
    );

    let (exit, events) = set.events("fast", &["--fail-fast"]);
    let last = &events[events.len() - 1];
    assert_eq!(
        (exit, &last["failed"], &last["interrupted"]),
        (1, &1.into(), &false.into())
    );
    assert!(last["left"].as_u64().unwrap() >= 1, "{last}");
    let both = output(set.segment("out").args(["--json", "--progress", "json"]));
    assert_eq!(code(&both), 2);
}

#[test]
fn lists_patterns_and_parts_name_the_same_cases() {
    let set = Set::new(3);
    let images = set.images();
    let list = format!(
        "{0}/phantom_5_0002_0000.nii.gz\n\n{0}/*0_0000.nii.gz\n",
        images.display()
    );
    let mut command = viscera();
    command
        .args(["segment", "-", "-o"])
        .arg(set.path("listed"))
        .arg("--model")
        .arg(set.path("model.safetensors"));
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let expected = [
        "phantom_5_0000.json",
        "phantom_5_0000.nii.gz",
        "phantom_5_0002.json",
        "phantom_5_0002.nii.gz",
    ];
    assert_eq!(names(&set.path("listed")), expected);

    for id in ["0", "1"] {
        let run = output(
            set.segment("parts")
                .args(["--num-parts", "2", "--part-id", id, "--progress", "none"]),
        );
        assert_eq!(
            (code(&run), run.stdout.len(), stderr(&run).contains("about")),
            (0, 0, false),
            "{}",
            stderr(&run)
        );
        assert_eq!(names(&set.path("parts")).len(), if id == "0" { 4 } else { 6 });
    }
    let wrong = output(set.segment("parts").args(["--num-parts", "2", "--part-id", "2"]));
    assert_eq!(code(&wrong), 2);
    let copy = set.path("phantom_5_0000_0000.nii");
    std::fs::copy(images.join("phantom_5_0000_0000.nii.gz"), &copy).unwrap();
    let double = output(set.segment("parts").arg(&copy));
    assert_eq!(code(&double), 2);
    assert!(
        stderr(&double).contains("two inputs make the case \"phantom_5_0000\""),
        "{}",
        stderr(&double)
    );
}

#[test]
fn too_little_memory_is_said_before_anything_is_read() {
    let set = Set::new(1);
    let run = output(set.segment("out").args(["--max-memory", "20M"]));
    assert_eq!(code(&run), 4);
    let text = stderr(&run);
    assert!(
        text.contains("error: needs about ") && text.contains("20 MiB are allowed"),
        "{text}"
    );
    assert!(!set.path("out").exists());
}

/// Patches shrink before a scan is refused; the manifest says so, and patches of one size give the same bytes on one thread
/// and on two.
#[test]
fn where_memory_is_short_patches_shrink() {
    let set = Set::new(1);
    let recipe = r#"
        [recipe]
        name = "slide"
        labels = "flare13"
        modality = "ct"
        [[stage]]
        id = "organs"
        role = "segment"
        resample = { spacing_mm = [6, 6, 6], image = { method = "torch", order = 1 }, logits = { method = "torch", order = 1 } }
        normalise = { channels = [{ scheme = "fixed", window = [-150, 250], mean = 50, std = 80 }] }
        network = { arch = "plain_unet", features = [16, 24], kernels = [[3, 3, 3], [3, 3, 3]], strides = [[1, 1, 1], [2, 2, 2]], depths = [1, 1], decoder_depths = [1], conv_bias = true, norm_eps = 1e-5, norm_affine = true, slope = 0.01, dropout = 0.0, deep_supervision = false }
        inference = { mode = "sliding_window", activation = "softmax", window = { patch = [48, 64, 64], step = 0.5, weights = "gaussian" } }
    "#;
    std::fs::write(set.path("slide.toml"), recipe).unwrap();
    let model = set.path("slide.safetensors");
    let made = output(
        viscera()
            .args(["model", "init"])
            .arg(set.path("slide.toml"))
            .arg("-o")
            .arg(&model),
    );
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let run = |out: &str, more: &[&str]| {
        let mut command = viscera();
        command
            .arg("segment")
            .arg(set.images())
            .arg("-o")
            .arg(set.path(out))
            .arg("--model")
            .arg(&model);
        output(command.args(["--progress", "json"]).args(more))
    };
    let whole = run("whole", &[]);
    assert_eq!(code(&whole), 0, "{}", stderr(&whole));
    let first: Value = serde_json::from_slice(whole.stdout.split(|b| *b == b'\n').next().unwrap()).unwrap();
    let need = first["estimate"]["memory_bytes"].as_u64().unwrap();
    let limit = format!("{}K", need / 1024 - 1024);
    let tight = run("tight", &["--max-memory", &limit, "--threads", "1"]);
    assert_eq!(code(&tight), 0, "{}", stderr(&tight));
    let again = run("again", &["--max-memory", &limit, "--threads", "2"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    let manifest = |out: &str| std::fs::read_to_string(set.path(out).join("phantom_5_0000.json")).unwrap();
    let labels = |out: &str| std::fs::read(set.path(out).join("phantom_5_0000.nii.gz")).unwrap();
    assert!(!manifest("whole").contains("smaller-patches"));
    assert!(
        manifest("tight").contains("smaller-patches") && manifest("tight").contains("in place of 48×64×64"),
        "{}",
        manifest("tight")
    );
    assert_eq!(labels("tight"), labels("again"));
    // What cannot be made to fit is refused, with the least that would do.
    let refused = run("refused", &["--max-memory", "30M"]);
    assert_eq!(code(&refused), 4);
}

/// Looks at a folder while programs write there: whatever has a final name must be whole.
struct Watcher {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Watcher {
    fn start(folder: PathBuf) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            loop {
                let last = flag.load(std::sync::atomic::Ordering::SeqCst);
                for path in files(&folder) {
                    let Ok(facts) = path.metadata() else { continue };
                    let state = (facts.modified().unwrap(), facts.len());
                    if seen.get(&path) != Some(&state) && whole(&path) {
                        seen.insert(path, state);
                    }
                }
                if last {
                    return seen.len();
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        Self { stop, thread }
    }

    /// How many files it saw.
    fn end(self) -> usize {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Checks a file by its name. A temporary one, or one that is gone by now, is not looked at.
fn whole(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let Ok(bytes) = std::fs::read(path) else { return false };
    if name.starts_with(".viscera-") && name.ends_with(".part") {
        return false;
    }
    if name.ends_with(".nii.gz") {
        // The file may be replaced meanwhile, but by a whole one.
        viscera_io::read_label_map(path).unwrap();
    } else if name.ends_with(".json") {
        serde_json::from_slice::<Value>(&bytes).unwrap();
    } else if name.ends_with(".png") {
        assert!(bytes.ends_with(b"IEND\xaeB`\x82"), "{name}");
    } else {
        // For all cases, or for one.
        assert!(name == "statistics.csv" && bytes.ends_with(b"\n"), "{name}");
    }
    true
}

fn temporary_files(folder: &Path) -> usize {
    let temporary = |path: &PathBuf| path.extension().is_some_and(|e| e == "part");
    files(folder).iter().filter(|path| temporary(path)).count()
}

#[cfg(unix)]
#[test]
fn killed_at_any_moment_and_resumed_it_is_as_if_nothing_had_been() {
    use rustix::process::{Pid, Signal, kill_process};
    let set = Set::new(6);
    let undisturbed = output(set.segment("whole").args(["--statistics", "--preview"]));
    assert_eq!(code(&undisturbed), 0, "{}", stderr(&undisturbed));

    let out = set.path("killed");
    let watcher = Watcher::start(out.clone());
    let mut random = 12_345_u32;
    let mut draw = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    for round in 0..10 {
        let mut command = set.segment("killed");
        command.args(["--statistics", "--preview", "--resume", "--progress", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
        // A case has some 15 events, so that about one gets finished. Writing comes after the last of them.
        for _ in 0..draw(30) {
            let _ = events.next();
        }
        std::thread::sleep(std::time::Duration::from_micros(draw(20_000).into()));
        let pid = Pid::from_child(&child);
        let send = |signal| kill_process(pid, signal).unwrap();
        match round % 4 {
            0 | 2 => send(Signal::KILL),
            1 => send(Signal::INT),
            _ => send(Signal::TERM),
        }
        events.for_each(|line| drop(line.unwrap()));
        let status = child.wait().unwrap();
        if round % 2 == 1 {
            // A signal that comes before the program listens ends it as any other; after its work it does nothing.
            assert!(matches!(status.code(), Some(130 | 0) | None), "{status}");
            if status.code() == Some(130) {
                assert_eq!(temporary_files(&out), 0);
            }
        }
    }
    let last = output(set.segment("killed").args(["--statistics", "--preview", "--resume"]));
    assert_eq!(code(&last), 0, "{}", stderr(&last));
    assert_eq!(watcher.end(), 6 * 5 + 1);
    assert_eq!(temporary_files(&out), 0);
    assert!(contents(&out) == contents(&set.path("whole")));
}
