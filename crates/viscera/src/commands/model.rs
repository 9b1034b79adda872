//! `viscera model`.

use crate::args::ModelCommand;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use anyhow::Context;
use serde::Serialize;
use viscera_pipeline::{Model, ModelFacts, Storage};

/// A model for programs.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    facts: ModelFacts,
    networks: Vec<Network>,
    classes: Vec<&'a str>,
    training: &'a serde_json::Value,
    card: &'a str,
}

/// One stage's network.
#[derive(Serialize)]
struct Network {
    stage: String,
    architecture: String,
    input: [usize; 3],
    parameters: usize,
    gmac: f64,
}

pub(super) fn run(command: &ModelCommand, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        ModelCommand::List => list(printer)?,
        ModelCommand::Show { model } => show(&super::models().load(model)?, printer)?,
        ModelCommand::Card { model, text, out } => {
            let card = std::fs::read_to_string(text).with_context(|| format!("cannot read {}", text.display()))?;
            let model = super::models().load(model)?.with_card(card);
            model.save(out, Storage::Bf16)?;
            printer.line(format!("model: {}", out.display()));
        }
    }
    Ok(Outcome::Done)
}

/// A model that cannot be loaded is listed with the reason; the others are still of use.
fn list(printer: &Printer) -> anyhow::Result<()> {
    let store = super::models();
    let mut found = Vec::new();
    for name in store.names() {
        match store.load(&name) {
            Ok(model) => found.push(ModelFacts::new(&model)?),
            Err(error) => printer.warning(format!("model \"{name}\": {error}")),
        }
    }
    let row = |m: &ModelFacts| {
        let hash = m.weights_sha256.as_deref().unwrap_or_default();
        vec![
            m.name.clone(),
            m.recipe.clone(),
            m.labels.clone(),
            hash.chars().take(12).collect(),
        ]
    };
    printer.table(&[Side::Left; 4], &found.iter().map(row).collect::<Vec<_>>());
    if printer.is_json() {
        printer.value(&found)?;
    }
    Ok(())
}

fn show(model: &Model, printer: &Printer) -> anyhow::Result<()> {
    let mut networks = Vec::new();
    for (stage, _) in model.stages() {
        let graph = model.graph(stage);
        let counts = graph.counts(stage.resample.size)?;
        networks.push(Network {
            stage: stage.id.clone(),
            architecture: graph.name.clone(),
            input: stage.resample.size,
            parameters: counts.params,
            gmac: counts.macs as f64 / 1e9,
        });
    }
    let shown = Shown {
        facts: ModelFacts::new(model)?,
        networks,
        classes: model.labels().entries().iter().map(|e| e.name.as_str()).collect(),
        training: model.training(),
        card: model.card(),
    };
    if printer.is_json() {
        return printer.value(&shown);
    }
    let facts = &shown.facts;
    let mut rows = vec![
        ("model", facts.name.clone()),
        ("recipe", facts.recipe.clone()),
        ("recipe sha256", facts.recipe_sha256.clone()),
        ("weights sha256", facts.weights_sha256.clone().unwrap_or_default()),
        ("classes", format!("{}: {}", facts.labels, shown.classes.join(", "))),
    ];
    for n in &shown.networks {
        let [z, y, x] = n.input;
        let text = format!(
            "{} at {z}×{y}×{x}: {} parameters, {:.1} GMAC",
            n.architecture, n.parameters, n.gmac
        );
        rows.push(("network", format!("{}: {text}", n.stage)));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    printer.table(&[Side::Left, Side::Left], &rows);
    if !shown.card.is_empty() {
        printer.line(format!("\n{}", shown.card.trim_end()));
    }
    Ok(())
}
