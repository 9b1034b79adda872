//! `viscera model run`: the bare network on an array.

use crate::printer::Printer;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use viscera_engine::Precision;
use viscera_io::{read_npy, write_npy};
use viscera_net::Tensor;

pub(super) fn run(
    model: &str,
    stage: Option<&str>,
    [input, output]: [&PathBuf; 2],
    all_heads: bool,
    precision: Precision,
    printer: &Printer,
) -> anyhow::Result<()> {
    let model = crate::commands::models().load(model)?;
    let network = model.network(stage)?;
    let array = read_npy(input)?;
    let shape: [usize; 5] = match array.shape[..] {
        [n, c, z, y, x] => [n, c, z, y, x],
        [c, z, y, x] => [1, c, z, y, x],
        _ => bail!(
            "{} has the shape {:?}; a network takes (c, z, y, x) or (n, c, z, y, x)",
            input.display(),
            array.shape
        ),
    };
    let axes = array.shape.len();
    let mut heads = network
        .run_with_precision(&Tensor::new(shape, array.data)?, precision)
        .with_context(|| format!("cannot run the network on {}", input.display()))?;
    if !all_heads {
        heads.truncate(1);
    }
    let mut written = Vec::new();
    for (i, head) in heads.iter().enumerate() {
        let path = if all_heads {
            numbered(output, i)
        } else {
            output.to_owned()
        };
        write_npy(&path, &head.shape()[5 - axes..], head.data())?;
        printer.line(format!("{}: {:?}", path.display(), &head.shape()[5 - axes..]));
        written.push(path);
    }
    if printer.is_json() {
        printer.value(&written)?;
    }
    Ok(())
}

/// `Y.npy` to `Y_0.npy`.
fn numbered(path: &Path, i: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}_{i}.npy"))
}
