//! `viscera train`.

use crate::args::{FoldChoice, TrainArgs};
use crate::exit::Outcome;
use crate::interrupt;
use crate::printer::{Printer, Side};
use indicatif::{HumanDuration, ProgressBar};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use viscera_io::Dataset;
use viscera_pipeline::{Recipe, peak_memory_bytes};
use viscera_train::{
    CrossReport, Progress, StepReport, TrainOptions, TrainReport, ValidationReport, cross_validate, train,
};

pub(super) fn run(args: TrainArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let file = Path::new(&args.recipe);
    let recipe = if file.is_file() {
        Recipe::load_for(file, Dataset::open(&args.data)?.labels())?
    } else {
        Recipe::builtin(&args.recipe)?
    };
    let defaults = TrainOptions::default();
    let options = TrainOptions {
        stages: args.stages.unwrap_or_default(),
        device: args.device,
        precision: args.precision.into(),
        resume: args.resume,
        seed: args.seed,
        iterations: args.iterations,
        hours: args.hours,
        fold: match args.fold {
            FoldChoice::One(number) => number,
            FoldChoice::All => 0,
        },
        validation_share: args.validation_share.unwrap_or(defaults.validation_share),
        cache: args.cache,
        init: args.init,
        ..defaults
    };
    let mut watcher = Watcher::new(printer)?;
    if args.fold == FoldChoice::All {
        let report = cross_validate(&recipe, &args.data, &args.out, &options, &mut watcher)?;
        watcher.bar.finish_and_clear();
        if printer.is_json() {
            printer.value(&report)?;
        } else {
            cross_summary(&report, printer);
        }
        return Ok(watcher.outcome());
    }
    let report = train(&recipe, &args.data, &args.out, &options, &mut watcher)?;
    watcher.bar.finish_and_clear();
    if printer.is_json() {
        printer.value(&report)?;
    } else {
        summary(&report, printer);
    }
    Ok(watcher.outcome())
}

fn summary(report: &TrainReport, printer: &Printer) {
    for stage in &report.stages {
        let best = stage.best.map_or_else(String::new, |(dice, step)| {
            format!(", best mean Dice {dice:.4} at step {step}")
        });
        let end = if stage.finished {
            ""
        } else {
            ", not finished: go on with --resume"
        };
        let spent = HumanDuration(Duration::from_secs_f64(stage.seconds.max(0.0)));
        printer.line(format!("{}: {} steps in {spent}{best}{end}", stage.stage, stage.steps));
        if let Some(validation) = &stage.validation {
            printer.line(SCORES);
            printer.table(&SIDES, &scores(validation));
        }
    }
    if let Some(model) = &report.model {
        printer.line(format!("model: {}", model.display()));
    }
}

fn cross_summary(report: &CrossReport, printer: &Printer) {
    let number = |value: f64| format!("{value:.4}");
    for (stage, classes) in &report.dice {
        printer.line(format!(
            "{stage}: Dice, mean and standard deviation over {} folds",
            report.folds.len()
        ));
        let rows: Vec<Vec<String>> = classes
            .iter()
            .map(|(class, scores)| vec![class.clone(), number(scores.mean), number(scores.std)])
            .collect();
        printer.table(&SIDES, &rows);
    }
    if let Some(model) = &report.model {
        printer.line(format!("model, an ensemble: {}", model.display()));
    }
    if report
        .folds
        .iter()
        .flat_map(|fold| &fold.stages)
        .any(|stage| !stage.finished)
    {
        printer.line("not finished: go on with --resume");
    }
}

/// Above a table of [`scores`].
const SCORES: &str = "class: Dice, surface Dice at 2 mm";
const SIDES: [Side; 3] = [Side::Left, Side::Right, Side::Right];

/// Class, Dice, surface Dice.
fn scores(validation: &ValidationReport) -> Vec<Vec<String>> {
    let row = |(class, dice): (&String, &f64)| {
        let nsd = validation
            .nsd
            .get(class)
            .map_or("–".to_owned(), |nsd| format!("{nsd:.4}"));
        vec![class.clone(), format!("{dice:.4}"), nsd]
    };
    validation.dice.iter().map(row).collect()
}

/// Shows a run as a bar per stage, and a line per validation; Ctrl-C ends it after a checkpoint.
pub(super) struct Watcher {
    printer: Printer,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    /// Seconds of a step, averaged over the last dozen or so; 0 before the first.
    pace: f64,
    /// How it goes: loss, speed, memory, time left.
    now: String,
}

impl Watcher {
    pub(super) fn new(printer: &Printer) -> anyhow::Result<Self> {
        Ok(Self {
            printer: *printer,
            bar: ProgressBar::hidden(),
            stop: interrupt::watch()?,
            pace: 0.0,
            now: String::new(),
        })
    }

    /// How it ended, where nothing failed.
    pub(super) fn outcome(&self) -> Outcome {
        self.bar.finish_and_clear();
        if self.stop.load(Ordering::Relaxed) {
            Outcome::Interrupted
        } else {
            Outcome::Done
        }
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Progress for Watcher {
    fn note(&mut self, text: &str) {
        self.bar.suspend(|| self.printer.note(text));
    }

    fn stage(&mut self, id: &str, step: u64, steps: u64) {
        self.bar.finish_and_clear();
        self.bar = self.printer.bar(usize::try_from(steps).unwrap_or(usize::MAX));
        self.bar.set_position(step);
        self.bar.set_message(id.to_owned());
        self.pace = 0.0;
    }

    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        let seconds = report.seconds.total();
        self.pace = if self.pace > 0.0 {
            0.9 * self.pace + 0.1 * seconds
        } else {
            seconds
        };
        let left = HumanDuration(Duration::from_secs_f64(report.seconds_left.max(0.0)));
        let memory = peak_memory_bytes().map_or_else(String::new, |bytes| format!(", {} MiB", bytes >> 20));
        self.now = format!(
            "loss {:.4}, {:.2} steps/s{memory}, {left} left",
            report.loss.total,
            1.0 / self.pace.max(f64::MIN_POSITIVE)
        );
        self.bar.set_position(report.step);
        self.bar.set_message(format!("{} {}", report.stage, self.now));
        self.go_on()
    }

    fn labelling(&mut self, case: &str, number: usize, count: usize) -> ControlFlow<()> {
        if number == 0 || self.bar.length() != Some(count as u64) {
            self.bar.finish_and_clear();
            self.bar = self.printer.bar(count);
        }
        self.bar.set_position(number as u64);
        self.bar.set_message(format!("labelling {case}"));
        self.go_on()
    }

    fn validated(&mut self, report: &ValidationReport) {
        if report.cases == 0 {
            return;
        }
        let best = if report.best { ", best so far" } else { "" };
        let text = format!(
            "{} step {}: mean Dice {:.4}{best}; {}",
            report.stage, report.step, report.mean_dice, self.now
        );
        self.bar.suspend(|| {
            self.printer.note(text);
            self.printer.note_table(&SIDES, &scores(report));
        });
    }
}
