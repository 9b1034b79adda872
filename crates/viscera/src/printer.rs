//! The one place that prints. Results go to standard output, everything else to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::Write as _;

/// Prints for people, or as JSON for programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

/// Which side of its column a cell stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results go out as JSON; commands then call [`Self::value`] once and nothing else of the result kind.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a whole result as JSON.
    pub(crate) fn value(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.out(&text);
        Ok(())
    }

    /// Prints a line of a result for people.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            self.out(text.as_ref());
        }
    }

    /// Prints a table for people, two blanks between columns.
    pub(crate) fn table(&self, sides: &[Side], rows: &[Vec<String>]) {
        for line in layout(sides, rows) {
            self.line(line);
        }
    }

    /// The same on standard error.
    pub(crate) fn note_table(&self, sides: &[Side], rows: &[Vec<String>]) {
        for line in layout(sides, rows) {
            self.note(line);
        }
    }

    /// Tells people what happens, on standard error.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.json {
            eprintln!("{}", text.as_ref());
        }
    }

    /// Warns, on standard error.
    pub(crate) fn warning(&self, text: impl AsRef<str>) {
        if !self.json {
            eprintln!("warning: {}", text.as_ref());
        }
    }

    /// Prints an error with its causes and, where there is one, a line of help.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        eprintln!("error: {error}");
        for cause in error.chain().skip(1) {
            eprintln!("caused by: {cause}");
        }
        if let Some(help) = crate::exit::help(error) {
            eprintln!("help: {help}");
        }
    }

    /// Prints why a case failed, which does not end the run.
    pub(crate) fn failure<'a>(&self, case: &str, errors: impl Iterator<Item = &'a str>, help: Option<&str>) {
        eprintln!("error: case \"{case}\" failed");
        for cause in errors {
            eprintln!("caused by: {cause}");
        }
        if let Some(help) = help {
            eprintln!("help: {help}");
        }
    }

    /// Prints an event of a run as one line of JSON, at once.
    pub(crate) fn event(&self, event: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(event) {
            self.out(&text);
        }
    }

    /// A bar for so many steps on standard error; invisible when that is no terminal, or for JSON.
    pub(crate) fn bar(&self, steps: usize) -> ProgressBar {
        if self.json {
            return ProgressBar::hidden();
        }
        self.bar_always(steps)
    }

    /// The same, for JSON too.
    pub(crate) fn bar_always(&self, steps: usize) -> ProgressBar {
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {elapsed} (left: {eta}) {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        bar
    }

    /// A closed pipe at the other end (`viscera … | head`) is no error of ours.
    fn out(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

fn layout(sides: &[Side], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..sides.len()).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(sides.iter().zip(&widths))
                .map(|(cell, (side, &width))| match side {
                    Side::Left => format!("{cell:<width$}"),
                    Side::Right => format!("{cell:>width$}"),
                })
                .collect();
            format!("  {}", cells.join("  ").trim_end())
        })
        .collect()
}
