//! `viscera recipe`.

use crate::args::RecipeCommand;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use serde::Serialize;
use std::path::Path;
use viscera_pipeline::Recipe;

/// A recipe in a list.
#[derive(Serialize)]
struct Listed {
    name: String,
    stages: Vec<String>,
    labels: String,
    reference: String,
    sha256: String,
}

impl Listed {
    fn new(recipe: &Recipe) -> anyhow::Result<Self> {
        Ok(Self {
            name: recipe.recipe.name.clone(),
            stages: recipe.stages.iter().map(|s| s.id.clone()).collect(),
            labels: recipe.recipe.labels.clone(),
            reference: recipe.recipe.reference.clone(),
            sha256: recipe.hash()?,
        })
    }
}

pub(super) fn run(command: &RecipeCommand, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        RecipeCommand::List => {
            let mut all = Vec::new();
            for name in Recipe::builtin_names() {
                all.push(Listed::new(&Recipe::builtin(name)?)?);
            }
            let row = |r: &Listed| {
                vec![
                    r.name.clone(),
                    r.stages.join(" + "),
                    r.labels.clone(),
                    r.reference.clone(),
                ]
            };
            printer.table(&[Side::Left; 4], &all.iter().map(row).collect::<Vec<_>>());
            if printer.is_json() {
                printer.value(&all)?;
            }
        }
        RecipeCommand::Show { recipe: name } => {
            let (recipe, text) = find(name)?;
            if printer.is_json() {
                printer.value(&recipe)?;
            }
            printer.line(text.trim_end());
        }
        RecipeCommand::Check { recipes } => {
            let mut all = Vec::new();
            for name in recipes {
                let (recipe, _) = find(name)?;
                recipe.check_supported()?;
                printer.line(format!("{name}: {} stages, all well", recipe.stages.len()));
                all.push(Listed::new(&recipe)?);
            }
            if printer.is_json() {
                printer.value(&all)?;
            }
        }
        RecipeCommand::Page { recipe: name } => {
            let (recipe, _) = find(name)?;
            printer.line(recipe.page(&recipe.label_table()?)?.trim_end());
        }
        RecipeCommand::Schema => {
            let schema = Recipe::schema();
            if printer.is_json() {
                printer.value(&schema)?;
            }
            printer.line(&serde_json::to_string_pretty(&schema)?);
        }
    }
    Ok(Outcome::Done)
}

/// A recipe by name or path, with its text.
pub(super) fn find(name: &str) -> anyhow::Result<(Recipe, String)> {
    if Path::new(name).is_file() {
        let recipe = Recipe::load(Path::new(name))?;
        let text = recipe.canonical()?;
        return Ok((recipe, text));
    }
    Ok((Recipe::builtin(name)?, Recipe::builtin_text(name)?.to_owned()))
}
