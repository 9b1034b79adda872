//! Tables of what was measured.

use crate::printer::{Printer, Side};
use viscera_monitor::{Bench, Curve, Machine, Record, Spread};

/// A number, or a dash.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// One command: on standard error, as standard output is the command's own.
pub(super) fn command(bench: &Bench, printer: &Printer) {
    let Some(typical) = bench.typical() else { return };
    printer.note("");
    printer.note(bench.command.join(" "));
    costs(bench, printer);
    printer.note("");
    curves(typical, printer);
    printer.note(format!(
        "{}; read every {} s, which took {:.1} % of a core",
        machine(&typical.machine),
        typical.interval_s,
        100.0 * typical.monitor_cpu_s / (typical.wall_s + typical.baseline.as_ref().map_or(0.0, |b| b.seconds))
    ));
    for missing in &typical.not_measured {
        printer.note(format!("not measured: {missing}"));
    }
}

fn costs(bench: &Bench, printer: &Printer) {
    let of = |value: &dyn Fn(&Record) -> Option<f64>| Spread::of(bench.runs.iter().filter_map(value));
    let rows = [
        ("wall clock", "s", Some(bench.wall_s), 3),
        ("processor time", "s", Some(bench.cpu_s), 3),
        ("  user", "s", of(&|r| Some(r.usage.user_s)), 3),
        ("  system", "s", of(&|r| Some(r.usage.system_s)), 3),
        ("cores at work, mean", "", of(&|r| Some(r.usage.cpu_s() / r.wall_s)), 2),
        ("peak memory, all processes", "MiB", bench.peak_rss_mib, 1),
        ("peak memory, largest process", "MiB", of(&|r| r.usage.max_rss_mib), 1),
        ("peak GPU memory, FLARE21/22", "MiB", of(&|r| r.gpu_max_flare22_mib), 0),
        ("peak GPU memory, FLARE23", "MiB", of(&|r| r.gpu_max_flare23_mib), 0),
    ];
    let several = bench.runs.len() > 1;
    let mut table = Vec::new();
    if several {
        let runs = format!("{} runs", bench.runs.len());
        table.push([&runs, "median", "min", "max", ""].map(str::to_owned).to_vec());
    }
    for (what, unit, spread, digits) in rows {
        let mut row = vec![what.to_owned(), number(spread.map(|s| s.median), digits)];
        if several {
            row.push(number(spread.map(|s| s.min), digits));
            row.push(number(spread.map(|s| s.max), digits));
        }
        row.push(unit.to_owned());
        table.push(row);
    }
    let mut sides = vec![Side::Left, Side::Right];
    if several {
        sides.extend([Side::Right, Side::Right]);
    }
    sides.push(Side::Left);
    printer.note_table(&sides, &table);
}

/// Areas under the curves of one run.
fn curves(record: &Record, printer: &Printer) {
    let head = ["area under the curve", "peak", "as FLARE", "integral", "less idle", ""];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for &curve in Curve::ALL {
        let Some(area) = record.areas.get(&curve) else { continue };
        table.push(vec![
            curve.title().to_owned(),
            number(record.peaks.get(&curve).copied(), 1),
            number(Some(area.flare), 1),
            number(Some(area.integral), 1),
            number(area.integral_above_idle, 1),
            format!("{u}, {u}·s", u = curve.unit()),
        ]);
    }
    let right = Side::Right;
    printer.note_table(&[Side::Left, right, right, right, right, Side::Left], &table);
}

/// Many cases, a line each, and their mean.
pub(super) fn cases(benches: &[Bench], printer: &Printer) {
    type Column = (&'static str, usize, fn(&Bench, &Record) -> Option<f64>);
    let columns: &[Column] = &[
        ("wall s", 2, |bench, _| Some(bench.wall_s.median)),
        ("CPU s", 2, |bench, _| Some(bench.cpu_s.median)),
        ("peak MiB", 0, |bench, _| bench.peak_rss_mib.map(|peak| peak.median)),
        ("GPU MiB", 0, |_, record| record.gpu_max_flare23_mib),
        ("AUC GPU", 0, |_, record| flare(record, Curve::Gpu)),
        ("AUC CPU", 1, |_, record| flare(record, Curve::CpuFlare)),
        ("AUC RAM", 0, |_, record| flare(record, Curve::Ram)),
    ];
    let head = std::iter::once("case")
        .chain(columns.iter().map(|column| column.0))
        .chain(["exit"]);
    let mut table = vec![head.map(str::to_owned).collect::<Vec<_>>()];
    let mut sums = vec![Some(0.0); columns.len()];
    for bench in benches {
        let (Some(typical), Some(last)) = (bench.typical(), bench.runs.last()) else {
            continue;
        };
        let mut row = vec![bench.case.clone().unwrap_or_default()];
        for ((_, digits, value), sum) in columns.iter().zip(&mut sums) {
            let value = value(bench, typical);
            *sum = sum.zip(value).map(|(sum, value)| sum + value);
            row.push(number(value, *digits));
        }
        row.push(last.exit_code.to_string());
        table.push(row);
    }
    if benches.len() > 1 {
        let means = columns.iter().zip(&sums);
        let means = means.map(|((_, digits, _), sum)| number(sum.map(|sum| sum / benches.len() as f64), *digits));
        table.push(std::iter::once("mean".to_owned()).chain(means).collect());
    }
    let sides: Vec<Side> = (0..columns.len() + 2)
        .map(|column| if column == 0 { Side::Left } else { Side::Right })
        .collect();
    printer.table(&sides, &table);
    if let Some(record) = benches.first().and_then(Bench::typical) {
        let idle = |curve| {
            record
                .baseline
                .as_ref()
                .and_then(|baseline| baseline.mean.get(&curve).copied())
        };
        printer.note(format!(
            "{}; areas by FLARE's formula, of the whole system: MiB·s and %·s; idle before the start: {} % CPU \
             ({} % by FLARE's formula), {} MiB RAM, {} MiB GPU",
            machine(&record.machine),
            number(idle(Curve::Cpu), 1),
            number(idle(Curve::CpuFlare), 1),
            number(idle(Curve::Ram), 0),
            number(idle(Curve::Gpu), 0),
        ));
    }
}

fn flare(record: &Record, curve: Curve) -> Option<f64> {
    record.areas.get(&curve).map(|area| area.flare)
}

fn machine(machine: &Machine) -> String {
    let cores = format!("{} cores", machine.cores);
    let ram = machine.ram_mib.map(|mib| format!("{:.1} GiB", mib as f64 / 1024.0));
    let gpu = machine
        .gpu
        .as_ref()
        .map_or_else(|| "no GPU".to_owned(), |gpu| gpu.name.clone());
    let parts = [machine.cpu.clone(), Some(cores), ram, Some(gpu)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
