//! One training on the page: curves, scores, a picture, where the time went, settings.

use super::State;
use super::history::History;
use super::overlay::Slice;
use super::series::Series;
use super::summary::{mib, state_of};
use crate::TrainError;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use viscera_image::LabelEntry;
use viscera_io::class_colour;
use viscera_page::{Line, Look, NONE, OUTLINE_KEY, Page, Table, Text, line_plot, number, organ, rgb};

/// Colours of what has none of its own: Okabe and Ito's, which the colour-blind can tell apart.
const COLOURS: [[u8; 3]; 6] = [
    [0, 114, 178],
    [230, 159, 0],
    [0, 158, 115],
    [213, 94, 0],
    [204, 121, 167],
    [86, 180, 233],
];

/// Up to so many validations are shown as dots.
const MOST_DOTS: u64 = 60;

pub(super) fn section(
    page: &mut Page,
    training: &History,
    slice: Option<&Slice>,
    run: &State,
) -> Result<(), TrainError> {
    page.section(&training.name);
    let [step, steps] = training.progress();
    let mut text = format!(
        "{}, step {step} of {steps}, {} so far",
        state_of(training, run),
        duration(training.spent())
    );
    if training.finished() {
        text = format!("finished after {step} steps in {}", duration(training.spent()));
    } else if let (None, State::Running, Some(last)) = (&training.ended, run, &training.step) {
        let _ = write!(text, ", {} left", duration(last.seconds_left));
    }
    page.push(&format!(
        "<p>{text}.<br><progress value=\"{step}\" max=\"{}\" style=\"width:100%;max-width:460px;accent-color:var(--accent)\"></progress></p>",
        steps.max(1)
    ));
    let classes = training.started.as_ref().map_or(&[][..], |s| &s.classes);
    if training.count > 0 {
        loss(page, training);
    }
    if training.validation.is_some() {
        scores(page, training, classes);
        last_validation(page, training, classes);
    }
    if let Some(slice) = slice {
        page.push(OUTLINE_KEY);
        page.figure(
            &slice.markup(classes)?,
            "The first validation case as the last validation found it: the slice with most classes. The patient's right is on the left.",
        );
    }
    if training.count > 0 {
        pace(page, training);
    }
    settings(page, training);
    Ok(())
}

fn loss(page: &mut Page, training: &History) {
    let line = |points, what: &str, look| Line {
        points,
        what: what.to_owned(),
        look,
    };
    let total = [
        line(training.loss.points(), "loss", Look::Faint),
        line(training.loss.smooth(), "loss, smoothed", Look::Plain),
    ];
    let colours = COLOURS.iter().copied().cycle();
    let terms: Vec<(&String, [u8; 3], Line)> = training
        .terms
        .iter()
        .zip(colours)
        .map(|((name, series), colour)| (name, colour, line(series.smooth(), name, Look::Coloured(colour))))
        .collect();
    let lines: Vec<Line> = terms.iter().map(|(_, _, line)| line.clone()).collect();
    let rate = line(training.rate.points(), "learning rate", Look::Plain);
    let picture = format!(
        "<div class=\"pair\">{}<div>{}{}</div>{}</div>",
        line_plot(&total, ["step", "loss"], false),
        line_plot(&lines, ["step", "terms of the loss"], false),
        legend(terms.iter().map(|(name, colour, _)| (name.as_str(), *colour))),
        line_plot(&[rate], ["step", "learning rate"], false),
    );
    page.figure(
        &picture,
        "Loss before each step, as it is and smoothed; its terms before their weights, smoothed; and the learning rate. \
         In a long training a point is the mean of several steps.",
    );
}

fn scores(page: &mut Page, training: &History, classes: &[LabelEntry]) {
    let dots = training.validations <= MOST_DOTS;
    let plot = |scores: &BTreeMap<String, Series>, title: &str| {
        let lines: Vec<Line> = scores
            .iter()
            .map(|(class, series)| {
                let colour = colour(classes, class);
                Line {
                    points: series.points(),
                    what: organ(class),
                    look: if dots {
                        Look::Dotted(colour)
                    } else {
                        Look::Coloured(colour)
                    },
                }
            })
            .collect();
        line_plot(&lines, ["step", title], false)
    };
    let [dice, nsd] = &training.scores;
    let names: Vec<(String, [u8; 3])> = dice.keys().map(|c| (organ(c), colour(classes, c))).collect();
    let picture = format!(
        "<div class=\"pair\">{}{}</div>{}",
        plot(dice, "Dice"),
        plot(nsd, "surface Dice at 2 mm"),
        legend(names.iter().map(|(name, colour)| (name.as_str(), *colour)))
    );
    page.figure(
        &picture,
        "Scores of the validations, on the grid on which the cases were prepared; means over the cases that annotate the class.",
    );
}

fn last_validation(page: &mut Page, training: &History, classes: &[LabelEntry]) {
    let Some(last) = &training.validation else { return };
    let best = training.best.as_ref();
    let mut table = Table::new("").head(["Class", "Dice", "surface Dice at 2 mm", "Dice, best validation"]);
    for (class, dice) in &last.dice {
        let title = format!(
            "<i class=\"swatch\" style=\"background:{}\"></i><bdi>{}</bdi>",
            rgb(colour(classes, class)),
            Text(&organ(class))
        );
        let before = best.and_then(|b| b.dice.get(class)).copied();
        let nsd = last.nsd.get(class).copied();
        table.row("", &title, [number(Some(*dice), 3), number(nsd, 3), number(before, 3)]);
    }
    let nsd = (!last.nsd.is_empty()).then(|| last.nsd.values().sum::<f64>() / last.nsd.len() as f64);
    table.row(
        "sum",
        "mean",
        [
            number(Some(last.mean_dice), 3),
            number(nsd, 3),
            number(best.map(|b| b.mean_dice), 3),
        ],
    );
    let at = best.map_or(NONE.to_owned(), |b| b.step.to_string());
    page.table(
        &format!(
            "The last validation, at step {}; cases: {}. The best was at step {at}.",
            last.step, last.cases
        ),
        &table,
    );
}

fn pace(page: &mut Page, training: &History) {
    let lines = [
        (&training.pace, "whole step", COLOURS[0]),
        (&training.waiting, "waiting for the batch", COLOURS[3]),
    ];
    let plotted = lines.map(|(series, what, colour)| Line {
        points: series.points(),
        what: what.to_owned(),
        look: Look::Coloured(colour),
    });
    let seconds = &training.seconds;
    let parts = [
        ("waiting for the batch", seconds.data),
        ("forward", seconds.forward),
        ("loss", seconds.loss),
        ("backward", seconds.backward),
        ("optimiser", seconds.optimizer),
        ("whole step", seconds.total()),
    ];
    let mut table = Table::new("").head(["Part of a step", "seconds", "share"]);
    for (what, sum) in parts {
        let class = if what == "whole step" { "sum" } else { "" };
        let share = 100.0 * sum / seconds.total().max(f64::MIN_POSITIVE);
        let mean = sum / training.count.max(1) as f64;
        table.row(class, what, [number(Some(mean), 4), format!("{share:.1} %")]);
    }
    let picture = format!(
        "<div class=\"pair\"><div>{}{}</div><div class=\"scroll\" tabindex=\"0\">{}</div></div>",
        line_plot(&plotted, ["step", "seconds per step"], false),
        legend(lines.map(|(_, what, colour)| (what, colour)).into_iter()),
        table.markup()
    );
    page.figure(
        &picture,
        "Where the time of a step goes, and its means over all steps. A network that waits for its batches is starved.",
    );
}

fn settings(page: &mut Page, training: &History) {
    let Some(start) = &training.started else { return };
    let mut table = Table::new("settings");
    let peak = training.validation.as_ref().and_then(|v| v.memory_bytes);
    let classes: Vec<String> = start.classes.iter().map(|c| organ(&c.name)).collect();
    for (what, value) in [
        ("Device", start.device.clone()),
        ("Seed", start.seed.to_string()),
        ("Cases to train on", start.cases.to_string()),
        ("Cases to validate on", start.validation_cases.to_string()),
        ("Batch size", start.batch_size.to_string()),
        ("Weights of the network", start.parameters.to_string()),
        ("Classes", classes.join(", ")),
        ("Time of validations", duration(training.validation_seconds)),
        (
            "Peak memory of the process",
            peak.map_or(NONE.to_owned(), |bytes| format!("{} MiB", mib(bytes))),
        ),
    ] {
        table.row("", what, [Text(&value).to_string()]);
    }
    page.push(&table.markup());
}

fn colour(classes: &[LabelEntry], name: &str) -> [u8; 3] {
    let entry = classes.iter().find(|c| c.name == name);
    entry.map_or_else(|| class_colour(name, 0), |c| c.rgb)
}

fn legend<'a>(entries: impl Iterator<Item = (&'a str, [u8; 3])>) -> String {
    let entry = |(name, colour)| {
        format!(
            "<li><i class=\"swatch\" style=\"background:{}\"></i><bdi>{}</bdi></li>",
            rgb(colour),
            Text(name)
        )
    };
    format!("<ul class=\"legend\">{}</ul>", entries.map(entry).collect::<String>())
}

/// A time for people.
pub(super) fn duration(seconds: f64) -> String {
    let all = seconds.max(0.0).round() as u64;
    match all {
        0..60 => format!("{all} s"),
        60..3600 => format!("{} min {:02} s", all / 60, all % 60),
        _ => format!("{} h {:02} min", all / 3600, all % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let texts = [-1.0, 59.4, 59.6, 3599.0, 7260.0].map(duration);
        assert_eq!(texts, ["0 s", "59 s", "1 min 00 s", "59 min 59 s", "2 h 01 min"]);
    }
}
