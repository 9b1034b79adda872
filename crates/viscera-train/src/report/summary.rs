//! The head of the page: how the run is, and its trainings as a table.

use super::history::History;
use super::training::duration;
use super::{RunPage, State};
use std::fmt::Write as _;
use viscera_page::{NONE, Page, Table, Text, number};

pub(super) fn section(page: &mut Page, run: &RunPage) {
    let trainings = &run.log.trainings;
    let state = match &run.state {
        State::Running => "running".to_owned(),
        State::Stopped => "stopped; it goes on with --resume".to_owned(),
        State::Finished => "finished".to_owned(),
        State::Failed(error) => format!("ended by an error: {error}"),
    };
    let mut out = format!(
        "<header><h1>Training of <bdi>{}</bdi></h1><dl class=\"what\"><dt>State</dt><dd>{}</dd>",
        Text(&run.name),
        Text(&state)
    );
    for (what, value) in &run.facts {
        let _ = write!(out, "<dt>{what}</dt><dd><bdi>{}</bdi></dd>", Text(value));
    }
    out.push_str("</dl><div class=\"headline\">");
    let mut show = |value: &str, unit: &str, what: &str| {
        let _ = write!(
            out,
            "<div><strong>{value}<small>{unit}</small></strong><span>{what}</span></div>"
        );
    };
    let running = trainings.iter().rfind(|t| t.started.is_some() && t.ended.is_none());
    if let Some(now) = running.or(trainings.last()) {
        let [step, steps] = now.progress();
        let what = format!("steps of <bdi>{}</bdi>", Text(&now.name));
        show(&step.to_string(), &format!("of {steps}"), &what);
        if let Some(last) = now
            .step
            .as_ref()
            .filter(|_| run.state == State::Running && now.ended.is_none())
        {
            show(&duration(last.seconds_left), "", "left for it");
        }
        if now.count > 0 && now.seconds.total() > 0.0 {
            let speed = now.count as f64 / now.seconds.total();
            show(
                &number(Some(speed), if speed < 10.0 { 2 } else { 0 }),
                "",
                "steps per second",
            );
        }
        if let Some(best) = &now.best {
            show(
                &number(Some(best.mean_dice), 3),
                "",
                "best mean Dice, each class counts once",
            );
        }
    }
    if let Some(bytes) = viscera_pipeline::peak_memory_bytes() {
        show(&mib(bytes), "MiB", "peak memory of the process");
    }
    out.push_str("</div></header>");
    page.push(&out);
    if trainings.len() > 1 {
        overview(page, trainings, &run.state);
    }
}

fn overview(page: &mut Page, trainings: &[History], state: &State) {
    page.section("Trainings");
    let mut table = Table::new("").head(["Training", "state", "steps", "time", "best mean Dice", "at step"]);
    for training in trainings {
        let [step, steps] = training.progress();
        let best = training.best.as_ref();
        table.row(
            "",
            &format!("<bdi>{}</bdi>", Text(&training.name)),
            [
                state_of(training, state).to_owned(),
                format!("{step} of {steps}"),
                duration(training.spent()),
                number(best.map(|b| b.mean_dice), 3),
                best.map_or(NONE.to_owned(), |b| b.step.to_string()),
            ],
        );
    }
    page.table("The trainings of this run, in their order.", &table);
}

/// How a training is, in a word.
pub(super) fn state_of(training: &History, run: &State) -> &'static str {
    match (&training.ended, run) {
        (Some(end), _) if end.finished => "finished",
        (None, State::Running) => "running",
        _ => "stopped",
    }
}

/// Bytes in MiB.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}
