//! Seconds to open a model and make its networks ready to run: `time_load MODEL [RUNS]`.
//!
//! Prints one JSON object per run: `open` ([`Model::load`]), `ready` (an engine for every network) and `read` (all values
//! looked at once, which the first forward pass does as it packs them).

use std::path::Path;
use std::time::Instant;
use viscera_engine::Engine;
use viscera_pipeline::Model;

#[allow(clippy::print_stdout)]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runs: usize = arguments.get(1).map_or(5, |runs| runs.parse().unwrap());
    for _ in 0..runs {
        let start = Instant::now();
        let model = Model::load(Path::new(&arguments[0])).unwrap();
        let open = start.elapsed().as_secs_f64();
        let all = || model.networks().flat_map(|n| n.folds.iter().map(move |fold| (n, fold)));
        let engines: Vec<Engine> = all().map(|(n, fold)| Engine::new(n.graph, fold).unwrap()).collect();
        let ready = start.elapsed().as_secs_f64();
        let values = all().flat_map(|(_, fold)| &fold.values);
        let sum: f64 = values.map(|v| v.iter().map(|&v| f64::from(v)).sum::<f64>()).sum();
        let read = start.elapsed().as_secs_f64() - ready;
        println!(
            "{}",
            serde_json::json!({ "open": open, "ready": ready, "read": read, "networks": engines.len(), "sum": sum })
        );
    }
}
