//! `viscera model count`, and `show --dot`.

use super::extents;
use crate::printer::{Printer, Side};
use serde::Serialize;
use viscera_net::Graph;
use viscera_net::builders::{NamedNetwork, named, networks};
use viscera_pipeline::PipelineError;

/// Counts of one network.
#[derive(Serialize)]
struct Counted {
    name: String,
    about: String,
    input: [usize; 3],
    parameters: usize,
    macs: u64,
}

impl Counted {
    fn new(name: &str, about: &str, graph: &Graph, input: [usize; 3]) -> anyhow::Result<Self> {
        let counts = graph.counts(input)?;
        Ok(Self {
            name: name.to_owned(),
            about: about.to_owned(),
            input,
            parameters: counts.params,
            macs: counts.macs,
        })
    }

    fn named(network: &NamedNetwork, input: Option<[usize; 3]>) -> anyhow::Result<Self> {
        let graph = network.architecture.build()?;
        Self::new(network.name, network.about, &graph, input.unwrap_or(network.input))
    }
}

pub(super) fn count(name: Option<&str>, input: Option<[usize; 3]>, printer: &Printer) -> anyhow::Result<()> {
    let counted: Vec<Counted> = match name {
        None => networks()
            .iter()
            .map(|n| Counted::named(n, None))
            .collect::<Result<_, _>>()?,
        Some(name) => match named(name) {
            Some(network) => vec![Counted::named(&network, input)?],
            None => load(name)?
                .networks()
                .map(|n| {
                    let input = input.unwrap_or(n.stage.network_size());
                    Counted::new(&n.stage.id, &n.graph.name, n.graph, input)
                })
                .collect::<Result<_, _>>()?,
        },
    };
    let head = ["network", "parameters", "GMAC", "input", "what it is"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(counted.iter().map(|c| {
        vec![
            c.name.clone(),
            c.parameters.to_string(),
            format!("{:.2}", c.macs as f64 / 1e9),
            extents(c.input),
            c.about.clone(),
        ]
    }));
    printer.table(&[Side::Left, Side::Right, Side::Right, Side::Right, Side::Left], &rows);
    if printer.is_json() {
        printer.value(&counted)?;
    }
    Ok(())
}

pub(super) fn draw(name: &str, stage: Option<&str>, printer: &Printer) -> anyhow::Result<()> {
    let dot = match named(name) {
        Some(network) => network.architecture.build()?.dot(network.input)?,
        None => {
            let model = load(name)?;
            let network = model.network(stage)?;
            network.graph.dot(network.stage.network_size())?
        }
    };
    if printer.is_json() {
        printer.value(&dot)?;
    }
    printer.line(dot.trim_end());
    Ok(())
}

/// A model; the error names the networks as well.
fn load(name: &str) -> Result<viscera_pipeline::Model, PipelineError> {
    crate::commands::models().load(name).map_err(|error| match error {
        PipelineError::UnknownModel { name, mut known } => {
            known.extend(networks().iter().map(|n| n.name.to_owned()));
            PipelineError::UnknownModel { name, known }
        }
        other => other,
    })
}
