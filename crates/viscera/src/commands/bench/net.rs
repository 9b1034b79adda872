//! `viscera bench net`.

use crate::args::BenchNetArgs;
use crate::printer::{Printer, Side};
use anyhow::Context;
#[cfg(not(feature = "train"))]
use anyhow::bail;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use viscera_engine::{Engine, Isa, MemoryNeed, Precision, StepTime, peak_gflops};
use viscera_monitor::{Spread, own_peak_bytes};
#[cfg(feature = "train")]
use viscera_net::Executor;
use viscera_net::builders::named;
use viscera_net::{Graph, Tensor, Weights};
#[cfg(feature = "train")]
use viscera_train::{Device, StepMeasure};

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    network: String,
    /// `[z, y, x]`.
    input: [usize; 3],
    batch: usize,
    train: bool,
    /// The kernels' instruction set, or the device.
    path: String,
    /// How values are stored.
    precision: &'static str,
    threads: usize,
    runs: usize,
    seconds: Spread,
    /// Two per multiply-accumulate that the network asks for, three times as many for a training step.
    gflop: f64,
    gflops: f64,
    /// Of multiply-adds in registers, measured just before.
    peak_gflops: f64,
    /// Of a forward pass, as known before it: weights, packed weights, values, scratch.
    planned_mib: [f64; 4],
    /// Of the whole process so far.
    process_peak_mib: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer>,
}

/// The median time of one step.
#[derive(Debug, Serialize)]
struct Layer {
    node: String,
    op: &'static str,
    seconds: f64,
    gflops: f64,
}

const MIB: f64 = 1_048_576.0;

pub(super) fn run(args: &BenchNetArgs, printer: &Printer) -> anyhow::Result<()> {
    let (graph, weights, usual) = network(args)?;
    let input = args.input.unwrap_or(usual);
    let macs = graph.counts(input)?.macs as f64 * args.batch as f64;
    let gflop = 2e-9 * macs * if args.train { 3.0 } else { 1.0 };
    let channels = graph.shapes(input)?.nodes.first().map_or(1, |node| node.0);
    let tensor = image([args.batch, channels, input[0], input[1], input[2]])?;
    let precision: Precision = args.precision.into();
    let peak = peak_gflops(precision);
    let mut runner = Runner::new(args, &graph, weights, precision)?;
    let threads = rayon::current_num_threads();
    let need = MemoryNeed::with_precision(&graph, args.batch, input, threads, precision)?;
    let mut seconds = Vec::new();
    let mut layers: BTreeMap<usize, Vec<StepTime>> = BTreeMap::new();
    // The first run packs weights and takes memory: it does not count.
    for run in 0..=args.runs {
        let start = Instant::now();
        let times = runner.run(&tensor, run as u64)?;
        if run > 0 {
            seconds.push(start.elapsed().as_secs_f64());
            for (index, time) in times.into_iter().enumerate() {
                layers.entry(index).or_default().push(time);
            }
        }
    }
    let seconds = Spread::of(seconds).context("nothing was run")?;
    let report = Report {
        network: args.network.clone(),
        input,
        batch: args.batch,
        train: args.train,
        path: runner.path(),
        precision: precision.name(),
        threads,
        runs: args.runs,
        seconds,
        gflop,
        gflops: gflop / seconds.median,
        peak_gflops: peak,
        planned_mib: [need.weights, need.packed, need.values, need.scratch].map(|bytes| bytes as f64 / MIB),
        process_peak_mib: own_peak_bytes().map(|bytes| bytes as f64 / MIB),
        layers: if args.layers {
            layers.into_values().filter_map(layer).collect()
        } else {
            Vec::new()
        },
    };
    if printer.is_json() {
        return printer.value(&report);
    }
    show(&report, printer);
    Ok(())
}

/// What is measured.
enum Runner {
    Engine(Engine),
    /// Training steps, or forward passes elsewhere than on the engine.
    #[cfg(feature = "train")]
    Device {
        executor: Box<dyn Executor>,
        name: &'static str,
        training: Option<StepMeasure>,
    },
}

impl Runner {
    fn new(args: &BenchNetArgs, graph: &Graph, weights: Weights, precision: Precision) -> anyhow::Result<Self> {
        #[cfg(feature = "train")]
        if args.train || args.device != Device::Cpu {
            return Ok(Self::Device {
                executor: args.device.executor(graph, &weights, precision)?,
                name: args.device.name(),
                training: args.train.then(|| StepMeasure::new(&graph.params, weights)),
            });
        }
        #[cfg(not(feature = "train"))]
        if args.train {
            bail!("this build cannot train; build it with the feature `train`");
        }
        Ok(Self::Engine(Engine::with_options(graph, &weights, precision.into())?))
    }

    /// Runs once; the engine's forward pass gives the time of each step.
    #[cfg_attr(not(feature = "train"), expect(unused_variables, reason = "the seed is of dropout"))]
    fn run(&mut self, input: &Tensor, seed: u64) -> anyhow::Result<Vec<StepTime>> {
        Ok(match self {
            Self::Engine(engine) => {
                let (outputs, times) = engine.run_timed(input)?;
                std::hint::black_box(outputs);
                times
            }
            #[cfg(feature = "train")]
            Self::Device { executor, training, .. } => {
                match training {
                    Some(training) => training.step(executor.as_mut(), input, seed)?,
                    None => drop(std::hint::black_box(executor.infer(input)?)),
                }
                Vec::new()
            }
        })
    }

    fn path(&self) -> String {
        let isa = Isa::detect().name().to_owned();
        match self {
            Self::Engine(_) => isa,
            #[cfg(feature = "train")]
            Self::Device { name: "cpu", .. } => isa,
            #[cfg(feature = "train")]
            Self::Device { name, .. } => (*name).to_owned(),
        }
    }
}

/// The network, weights for it, and the input size that it is made for.
fn network(args: &BenchNetArgs) -> anyhow::Result<(Graph, Weights, [usize; 3])> {
    if let Some(found) = named(&args.network) {
        let graph = found.architecture.build()?;
        let weights = Weights::init(&graph, 1);
        return Ok((graph, weights, found.input));
    }
    let path = Path::new(&args.network);
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
    {
        let (graph, weights) = viscera_convert::onnx::import(path)?;
        let input = args
            .input
            .context("an ONNX file does not say its input size: give --input Z,Y,X")?;
        return Ok((graph, weights, input));
    }
    let model = crate::commands::models().load(&args.network)?;
    let network = match &args.stage {
        Some(_) => model.network(args.stage.as_deref())?,
        None => model.networks().last().context("the model has no network")?,
    };
    let weights = network.folds.first().context("the model has no weights")?.clone();
    Ok((network.graph.clone(), weights, network.stage.network_size()))
}

/// Values without structure, the same each time.
fn image(shape: [usize; 5]) -> anyhow::Result<Tensor> {
    let value = |i: usize| ((i.wrapping_mul(7919)) % 2003) as f32 / 1001.0 - 1.0;
    Ok(Tensor::new(shape, (0..shape.iter().product()).map(value).collect())?)
}

fn layer(times: Vec<StepTime>) -> Option<Layer> {
    let seconds = Spread::of(times.iter().map(|time| time.seconds))?.median;
    let time = times.into_iter().next()?;
    Some(Layer {
        gflops: 2e-9 * time.macs as f64 / seconds.max(1e-9),
        node: time.node,
        op: time.op,
        seconds,
    })
}

fn show(report: &Report, printer: &Printer) {
    let [z, y, x] = report.input;
    let what = if report.train { "training step" } else { "forward pass" };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let [weights, packed, values, scratch] = report.planned_mib;
    let rows = [
        row(
            "network",
            format!("{}, {} × {z}×{y}×{x}, {what}", report.network, report.batch),
        ),
        row(
            "path",
            format!("{}, {}, {} threads", report.path, report.precision, report.threads),
        ),
        row(
            "time",
            format!(
                "{:.3} s median, {:.3} s minimum of {}",
                report.seconds.median, report.seconds.min, report.runs
            ),
        ),
        row("work", format!("{:.1} GFLOP", report.gflop)),
        row(
            "rate",
            format!(
                "{:.0} GFLOP/s, {:.0} % of the {:.0} of multiply-adds in registers",
                report.gflops,
                100.0 * report.gflops / report.peak_gflops,
                report.peak_gflops
            ),
        ),
        row(
            "memory",
            format!(
                "{:.0} MiB for a forward pass ({weights:.0} weights, {packed:.0} packed, {values:.0} values, {scratch:.0} \
                 scratch), {} MiB peak of the process",
                report.planned_mib.iter().sum::<f64>(),
                report
                    .process_peak_mib
                    .map_or_else(|| "?".to_owned(), |mib| format!("{mib:.0}"))
            ),
        ),
    ];
    printer.table(&[Side::Left, Side::Left], &rows);
    if report.layers.is_empty() {
        return;
    }
    let total: f64 = report.layers.iter().map(|layer| layer.seconds).sum();
    let head = ["step", "", "ms", "share", "GFLOP/s"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    rows.extend(report.layers.iter().map(|layer| {
        vec![
            layer.node.clone(),
            layer.op.to_owned(),
            format!("{:.2}", 1e3 * layer.seconds),
            format!("{:.1} %", 100.0 * layer.seconds / total),
            if layer.gflops > 0.0 {
                format!("{:.0}", layer.gflops)
            } else {
                String::new()
            },
        ]
    }));
    printer.line("");
    printer.table(&[Side::Left, Side::Left, Side::Right, Side::Right, Side::Right], &rows);
}
