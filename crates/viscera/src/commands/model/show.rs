//! `viscera model list` and `show`.

use super::extents;
use crate::printer::{Printer, Side};
use serde::Serialize;
use viscera_engine::{MemoryNeed, Precision};
use viscera_pipeline::{Model, ModelFacts};

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

/// A model in a list.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    facts: ModelFacts,
    networks: Vec<Network>,
}

/// One stage's network.
#[derive(Serialize)]
struct Network {
    stage: String,
    architecture: String,
    /// Voxels of one input: the fixed size, or the patch.
    input: [usize; 3],
    /// Of one fold.
    parameters: usize,
    /// Of one fold and one input.
    gmac: f64,
    heads: usize,
    folds: Vec<String>,
    /// Of one fold and one forward pass: weights, packed weights, values and scratch.
    memory_mib: f64,
}

fn networks(model: &Model, input: Option<[usize; 3]>, precision: Precision) -> anyhow::Result<Vec<Network>> {
    let network = |n: viscera_pipeline::Network<'_>| {
        let input = input.unwrap_or(n.stage.network_size());
        let counts = n.graph.counts(input)?;
        let memory = MemoryNeed::with_precision(n.graph, 1, input, rayon::current_num_threads(), precision)?;
        Ok(Network {
            stage: n.stage.id.clone(),
            architecture: n.graph.name.clone(),
            input,
            parameters: counts.params,
            gmac: counts.macs as f64 / 1e9,
            heads: n.graph.outputs.len(),
            folds: n.stage.inference.folds.clone(),
            memory_mib: memory.total() as f64 / 1_048_576.0,
        })
    };
    model.networks().map(network).collect()
}

/// A model that cannot be loaded is listed with the reason; the others are still of use.
pub(super) fn list(printer: &Printer) -> anyhow::Result<()> {
    let store = crate::commands::models();
    let mut found = Vec::new();
    for name in store.names() {
        match store.load(&name) {
            Ok(model) => found.push(Listed {
                facts: ModelFacts::new(&model)?,
                networks: networks(&model, None, Precision::Auto)?,
            }),
            Err(error) => printer.warning(format!("model \"{name}\": {error}")),
        }
    }
    let row = |m: &Listed| {
        let hash = m.facts.weights_sha256.as_deref().unwrap_or_default();
        let parameters: usize = m.networks.iter().map(|n| n.parameters * n.folds.len().max(1)).sum();
        let inputs: Vec<String> = m.networks.iter().map(|n| extents(n.input)).collect();
        vec![
            m.facts.name.clone(),
            m.facts.recipe.clone(),
            m.facts.labels.clone(),
            format!("{:.1} M", parameters as f64 / 1e6),
            inputs.join(" + "),
            hash.chars().take(12).collect(),
        ]
    };
    let mut sides = [Side::Left; 6];
    sides[3] = Side::Right;
    printer.table(&sides, &found.iter().map(row).collect::<Vec<_>>());
    if printer.is_json() {
        printer.value(&found)?;
    }
    Ok(())
}

pub(super) fn show(
    model: &Model,
    input: Option<[usize; 3]>,
    precision: Precision,
    printer: &Printer,
) -> anyhow::Result<()> {
    let shown = Shown {
        facts: ModelFacts::new(model)?,
        networks: networks(model, input, precision)?,
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
        let mut text = format!(
            "{} at {}: {} parameters, {:.1} GMAC, {:.0} MiB of memory",
            n.architecture,
            extents(n.input),
            n.parameters,
            n.gmac,
            n.memory_mib
        );
        if n.heads > 1 {
            text.push_str(&format!(", {} heads", n.heads));
        }
        if !n.folds.is_empty() {
            text.push_str(&format!(", folds {}", n.folds.join(", ")));
        }
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
