//! `viscera model`.

mod convert;
mod count;
mod run;
mod show;

use crate::args::{ModelCommand, Precision, RunPrecision};
use crate::exit::Outcome;
use crate::printer::Printer;
use anyhow::Context;
use viscera_pipeline::Storage;

pub(super) fn run(command: &ModelCommand, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        ModelCommand::List => show::list(printer)?,
        ModelCommand::Show {
            model,
            dot: true,
            stage,
            ..
        } => count::draw(model, stage.as_deref(), printer)?,
        ModelCommand::Show {
            model,
            input,
            precision,
            ..
        } => show::show(&super::models().load(model)?, *input, (*precision).into(), printer)?,
        ModelCommand::Edit {
            model,
            card,
            recipe,
            out,
        } => {
            let mut model = super::models().load(model)?;
            if let Some(recipe) = recipe {
                model = model.with_recipe(super::recipe::find(recipe)?.0)?;
            }
            if let Some(file) = card {
                let card = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                model = model.with_card(card);
            }
            model.save(out, model.exact_storage())?;
            printer.line(format!("model: {}", out.display()));
        }
        ModelCommand::Import(args) => convert::import(args, printer)?,
        ModelCommand::Init {
            recipe,
            seed,
            out,
            precision,
        } => {
            convert::init(recipe, *seed)?.save(out, (*precision).into())?;
            printer.line(format!("model: {}", out.display()));
        }
        ModelCommand::Run {
            model,
            input,
            output,
            all_heads,
            stage,
            precision,
        } => run::run(
            model,
            stage.as_deref(),
            [input, output],
            *all_heads,
            (*precision).into(),
            printer,
        )?,
        ModelCommand::Verify { model } => {
            let verified = super::models().load(model)?.verify()?;
            if printer.is_json() {
                printer.value(&verified)?;
            }
            if !verified.sealed {
                printer.warning("the file bears no hash of its own: an older version wrote it");
            }
            printer.line(format!("{} values, all in order", verified.values));
            printer.line(format!("sha256 {}", verified.sha256));
        }
        ModelCommand::Count { name, input } => count::count(name.as_deref(), *input, printer)?,
        ModelCommand::Export(args) => convert::export(args, printer)?,
    }
    Ok(Outcome::Done)
}

impl From<Precision> for Storage {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl From<RunPrecision> for viscera_engine::Precision {
    fn from(precision: RunPrecision) -> Self {
        match precision {
            RunPrecision::Auto => Self::Auto,
            RunPrecision::F32 => Self::F32,
            RunPrecision::Bf16 => Self::Bf16,
        }
    }
}

/// Three extents for people.
fn extents([z, y, x]: [usize; 3]) -> String {
    format!("{z}×{y}×{x}")
}
