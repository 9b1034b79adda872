//! `viscera model import`, `init` and `export`.

use crate::args::{CheckpointKind, ModelExportArgs, ModelImportArgs};
use crate::printer::Printer;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::path::Path;
use viscera_convert::nnunet::{self, Options, Which};
use viscera_convert::onnx;
use viscera_convert::weights::{read_checkpoint, read_graph, read_safetensors, safetensors_bytes};
use viscera_net::builders::named;
use viscera_net::{Graph, Weights};
use viscera_pipeline::{Model, ModelFacts, model::fresh};

pub(super) fn import(args: &ModelImportArgs, printer: &Printer) -> anyhow::Result<()> {
    let path = &args.path;
    let model = if path.is_dir() {
        let options = Options {
            folds: args.folds.clone(),
            checkpoint: match args.checkpoint {
                CheckpointKind::Final => Which::Final,
                CheckpointKind::Best => Which::Best,
            },
            configuration: args.configuration.clone(),
        };
        let imported = nnunet::import(path, &options)?;
        imported.warnings.iter().for_each(|w| printer.warning(w));
        imported.model
    } else {
        weights(args)?
    };
    model.save(&args.out, args.precision.into())?;
    // Read back what was written: the hash that is shown is the file's.
    let model = Model::load(&args.out)?;
    if printer.is_json() {
        return printer.value(&ModelFacts::new(&model)?);
    }
    printer.line(format!("model: {}", args.out.display()));
    super::show::show(&model, None, viscera_engine::Precision::Auto, printer)
}

/// A model of a file of weights, with a recipe or a graph.
fn weights(args: &ModelImportArgs) -> anyhow::Result<Model> {
    let path = &args.path;
    let name = args.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let recipe = args.recipe.as_deref().map(super::super::recipe::find).transpose()?;
    let mut graph = args.graph.as_deref().map(read_graph).transpose()?;
    let recipe = match recipe {
        None => None,
        Some((recipe, _)) => {
            let labels = recipe.label_table()?;
            let [stage] = recipe.stages.as_slice() else {
                bail!(
                    "the recipe has {} stages; weights of one network fit a recipe with one",
                    recipe.stages.len()
                );
            };
            let channels = (
                stage.normalise.channels(),
                stage.inference.channels(labels.entries().len()),
            );
            graph = Some(stage.network.graph(channels.0, channels.1)?);
            Some((recipe.clone(), labels))
        }
    };
    let (graph, weights) = load(path, graph)?;
    match recipe {
        None => Ok(Model::bare(&name, graph, weights, args.input)?),
        Some((recipe, labels)) => {
            let id = recipe.stages.first().map(|s| s.id.clone()).unwrap_or_default();
            let weights = BTreeMap::from([(id, weights)]);
            Ok(Model::new(name, recipe, labels, weights, "", serde_json::Value::Null)?)
        }
    }
}

fn load(path: &Path, graph: Option<Graph>) -> anyhow::Result<(Graph, Weights)> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "safetensors" => Ok(read_safetensors(path, graph)?),
        "pth" | "pt" | "ckpt" => {
            let graph = graph.context(
                "a checkpoint holds weights only: say what network they belong to with --recipe or --graph. (nnU-Net: \
                 give the folder with plans.json)",
            )?;
            let weights = read_checkpoint(path, &graph)?;
            Ok((graph, weights))
        }
        "onnx" => Ok(onnx::import(path)?),
        _ => bail!(
            "{}: a folder of nnU-Net, .onnx, .pth or .safetensors can be imported",
            path.display()
        ),
    }
}

/// A model with fresh weights.
pub(super) fn init(name: &str, seed: u64) -> anyhow::Result<Model> {
    if let Some(network) = named(name) {
        let graph = network.architecture.build()?;
        let weights = fresh(name, &graph, seed)?;
        return Ok(Model::bare(name, graph, weights, network.input)?);
    }
    let (recipe, _) = super::super::recipe::find(name)?;
    let labels = recipe.label_table()?;
    let name = recipe.recipe.name.clone();
    Ok(Model::fresh(&name, recipe, labels, seed)?)
}

pub(super) fn export(args: &ModelExportArgs, printer: &Printer) -> anyhow::Result<()> {
    let model = crate::commands::models().load(&args.model)?;
    let network = model.network(args.stage.as_deref())?;
    let names = &network.stage.inference.folds;
    let fold = match &args.fold {
        Some(fold) => names.iter().position(|name| name == fold),
        None => (network.folds.len() == 1).then_some(0),
    };
    let Some(weights) = fold.and_then(|fold| network.folds.get(fold)) else {
        bail!("choose a fold with --fold; there are: {}", names.join(", "));
    };
    if args.onnx {
        onnx::export(
            network.graph,
            weights,
            &args.out,
            onnx::ExportOptions { spatial: args.input },
        )?;
    } else {
        let bytes = safetensors_bytes(network.graph, weights, args.precision.into())?;
        viscera_io::atomic_write(&args.out, |file| file.write_all(&bytes))?;
    }
    printer.line(format!("network: {}", args.out.display()));
    Ok(())
}
