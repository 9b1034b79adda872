//! `viscera plan`.

use crate::args::PlanArgs;
use crate::exit::Outcome;
use crate::printer::Printer;
use anyhow::Context;
use viscera_image::LabelTable;
use viscera_io::{Dataset, atomic_write};
use viscera_train::{Encoder, Fingerprint, Plan, PlanOptions};

pub(super) fn run(args: &PlanArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let dataset = Dataset::open(&args.data)?;
    let same = |table: &LabelTable| {
        let classes = |t: &LabelTable| t.entries().iter().map(|e| (e.id, e.name.clone())).collect::<Vec<_>>();
        classes(table) == classes(dataset.labels())
    };
    // Other classes come with the data set.
    let known = [LabelTable::flare13(), LabelTable::flare14()].into_iter().find(same);
    let table = known.unwrap_or_else(|| dataset.labels().clone());
    let fingerprint = match &args.fingerprint {
        Some(path) => Fingerprint::load(path)?,
        None => super::data::fingerprint(&dataset)?,
    };
    let (encoder, most_of_data) = if args.residual {
        (Encoder::Residual, 1.0)
    } else {
        (Encoder::Plain, 0.05)
    };
    let options = PlanOptions {
        encoder,
        memory_gb: args.memory,
        outputs: table.entries().len() + 1,
        most_of_data,
    };
    let plan = Plan::new(&fingerprint, &options)?;
    let stem = args.out.file_stem().and_then(|s| s.to_str());
    let name = args.name.as_deref().or(stem).context("the recipe needs a --name")?;
    let text = plan.recipe(name, &fingerprint, &table)?.canonical()?;
    atomic_write(&args.out, |file| file.write_all(text.as_bytes()))?;
    if printer.is_json() {
        printer.value(&plan)?;
    } else {
        printer.line(format!(
            "{:?} voxels of {:?} mm, batch {}, {} levels up to {} channels, wrote {}",
            plan.patch,
            plan.spacing,
            plan.batch_size,
            plan.features.len(),
            plan.features.last().copied().unwrap_or_default(),
            args.out.display()
        ));
    }
    Ok(Outcome::Done)
}
