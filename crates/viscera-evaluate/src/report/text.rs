//! Measures in HTML.

use viscera_metrics::Metric;
use viscera_metrics::stats::Described;
pub(super) use viscera_page::{NONE, Text, number, organ, rgb};

/// A value with the digits that its measure deserves: three for ratios, two for mm, one for ml.
pub(super) fn value(metric: Metric, value: Option<f64>) -> String {
    let digits = match metric.unit() {
        "" => 3,
        "mm" => 2,
        "ml" => 1,
        _ => 0,
    };
    number(value, digits)
}

/// Mean and standard deviation; the mean alone for a single value.
pub(super) fn mean_std(metric: Metric, described: Option<&Described>) -> String {
    match described {
        Some(d) => match d.std {
            Some(std) => format!("{} ± {}", value(metric, Some(d.mean)), value(metric, Some(std))),
            None => value(metric, Some(d.mean)),
        },
        None => NONE.to_owned(),
    }
}

/// A confidence interval; nothing for a single value, of which there is none.
pub(super) fn interval(metric: Metric, described: Option<&Described>) -> String {
    match described {
        Some(d) if d.n > 1 => {
            let [low, high] = d.ci.map(|v| value(metric, Some(v)));
            format!("{low}–{high}")
        }
        _ => NONE.to_owned(),
    }
}

/// Title with unit: "HD95 (mm)".
pub(super) fn with_unit(metric: Metric) -> String {
    match metric.unit() {
        "" => short(metric).to_owned(),
        unit => format!("{} ({unit})", short(metric)),
    }
}

/// Short name for people.
pub(super) fn short(metric: Metric) -> &'static str {
    match metric {
        Metric::SurfaceDice => "Surface Dice",
        Metric::Hausdorff95 => "HD95",
        Metric::Hausdorff => "HD",
        Metric::Assd => "ASSD",
        metric => metric.title(),
    }
}
