//! The page of a run.

mod common;

use common::{recipe, write_data};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use viscera_train::{Progress, StepReport, TrainError, TrainOptions, TrainReport, ValidationReport, train};

const COARSE: &str = r#"
epochs = 4
iterations_per_epoch = 3
batch_size = 1
validate_every = 2
augment = { profile = "none" }
"#;
const FINE: &str = "epochs = 1\niterations_per_epoch = 1\nbatch_size = 1";
const REFRESH: &str = "http-equiv=\"refresh\"";

/// Reads the page at each step, and stops after some.
struct Reader {
    page: PathBuf,
    pages: Vec<String>,
    validations: Vec<ValidationReport>,
    stop_after: Option<u64>,
}

impl Progress for Reader {
    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        self.pages.push(std::fs::read_to_string(&self.page).unwrap());
        if self.stop_after == Some(report.step) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn validated(&mut self, report: &ValidationReport) {
        self.validations.push(report.clone());
    }
}

fn go(data: &Path, run: &Path, resume: bool, stop_after: Option<u64>) -> (Result<TrainReport, TrainError>, Reader) {
    let mut reader = Reader {
        page: run.join("report.html"),
        pages: Vec::new(),
        validations: Vec::new(),
        stop_after,
    };
    let options = TrainOptions {
        stages: vec!["coarse".to_owned()],
        resume,
        ..TrainOptions::default()
    };
    let report = train(&recipe(COARSE, FINE), data, run, &options, &mut reader);
    (report, reader)
}

/// Number of points of the loss as it is, the first curve of a page with one training.
fn loss_points(page: &str) -> usize {
    let curve = page.split("class=\"curve faint\" d=\"").nth(1).unwrap();
    let path = curve.split('"').next().unwrap();
    path.matches(['M', 'L']).count()
}

#[test]
fn the_page_follows_a_run_that_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_data(&data, 3);
    let read = || std::fs::read_to_string(run.join("report.html")).unwrap();

    let (first, reader) = go(&data, &run, false, Some(7));
    assert!(first.is_ok_and(|r| !r.stages[0].finished));
    assert!(
        reader
            .pages
            .iter()
            .all(|page| page.contains(REFRESH) && page.contains("<dd>running</dd>"))
    );
    // At the seventh step the page is that of the validation after the sixth.
    assert_eq!(loss_points(&reader.pages[6]), 6);
    assert!(reader.pages[6].contains("left for it"));
    let stopped = read();
    assert!(!stopped.contains(REFRESH) && stopped.contains("stopped, step 7 of 12"));
    assert_eq!(loss_points(&stopped), 7);
    let before = &reader.validations[0];

    // What another training said in the same log comes onto the page as text.
    let log = run.join("log.jsonl");
    let hostile = r#"{"event":"validation","stage":"<script>alert(1)</script>","step":1,"dice":{"<b>&x":0.25},"nsd":{},"mean_dice":0.25,"best":true,"cases":1,"seconds":1.0}"#;
    let text = std::fs::read_to_string(&log).unwrap() + hostile + "\nno event\n";
    std::fs::write(&log, text).unwrap();

    let (second, reader) = go(&data, &run, true, None);
    assert!(second.is_ok_and(|r| r.stages[0].finished));
    // The first page of the second session has the earlier curve and picture.
    assert!(reader.pages[0].contains(REFRESH) && reader.pages[0].contains("data:image/png;base64,"));
    let page = read();
    assert!(!page.contains(REFRESH) && page.contains("finished after 12 steps"));
    assert_eq!(loss_points(&page), 12);
    let after = &reader.validations[0];
    assert_eq!([before.step, after.step], [6, 12]);
    for found in [before, after] {
        for (class, dice) in &found.dice {
            let class = class.replace('_', " ");
            let dot = format!("<title>{class}, {}: {dice:.4}</title>", found.step);
            assert!(page.contains(&dot), "{dot}");
        }
    }
    assert_eq!(page.matches("data:image/png;base64,").count(), 1);
    assert!(page.contains("class=\"reference\" d=\"M"));
    for what in ["Device", "Seed", "MiB", "waiting for the batch", "whole step"] {
        assert!(page.contains(what), "{what}");
    }

    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("&lt;b&gt;&amp;x"));
    for outside in ["<script", "<b>&", "http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn a_run_that_fails_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_data(&data, 2);
    // Where the picture of the validation case is to go stands a folder.
    std::fs::create_dir_all(run.join("coarse.overlay.json/full")).unwrap();
    let (report, _) = go(&data, &run, false, None);
    assert!(report.is_err());
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("ended by an error") && page.contains("coarse.overlay.json") && !page.contains(REFRESH));
}
