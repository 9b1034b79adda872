//! The report of a comparison.

use super::text::{NONE, Text, number, organ, value, with_unit};
use crate::Comparison;
use std::fmt::Write as _;
use viscera_metrics::Better;
use viscera_metrics::stats::RankMethod;
use viscera_page::{Page, Table};

/// The report as HTML.
pub(crate) fn comparison_report(comparison: &Comparison, command: &[String]) -> String {
    let mut page = Page::default();
    head(&mut page, comparison);
    tests(&mut page, comparison);
    ranking(&mut page, comparison);
    page.section("Settings");
    let settings = &comparison.settings;
    let mut table = Table::new("settings");
    let mut row = |name: &str, value: String| table.row("", name, [Text(&value).to_string()]);
    row("Program", format!("viscera {}", comparison.viscera));
    for (name, path) in &comparison.systems {
        row(name, path.clone());
    }
    let keys: Vec<&str> = settings.metrics.iter().map(|m| m.key()).collect();
    row("Measures", keys.join(", "));
    row(
        "Test",
        format!(
            "Wilcoxon signed rank, two-sided; pairs of equal values: {:?}",
            settings.zero
        ),
    );
    let bootstrap = &settings.bootstrap;
    row(
        "Stability",
        format!(
            "{} bootstrap resamples of the cases, seed {}",
            bootstrap.resamples, bootstrap.seed
        ),
    );
    if !command.is_empty() {
        row("Command", command.join(" "));
    }
    page.push("<figure class=\"table\">");
    page.push(&table.markup());
    page.push("</figure>");
    page.finish("Comparison of segmentations")
}

fn head(page: &mut Page, comparison: &Comparison) {
    let mut out = String::from("<header><h1>Comparison of segmentations</h1><dl class=\"what\">");
    for (name, path) in &comparison.systems {
        let _ = write!(out, "<dt><bdi>{}</bdi></dt><dd>{}</dd>", Text(name), Text(path));
    }
    let _ = write!(
        out,
        "</dl><div class=\"headline\"><div><strong>{}</strong><span>results</span></div><div><strong>{}</strong><span>common cases</span></div><div><strong>{}</strong><span>common classes</span></div></div>",
        comparison.systems.len(),
        comparison.cases.len(),
        comparison.classes.len()
    );
    if comparison.left_out > 0 {
        let _ = write!(
            out,
            "<ul class=\"notes\"><li>{} pairs of case and class are not scored in all results and are left out.</li></ul>",
            comparison.left_out
        );
    }
    out.push_str("</header>");
    page.push(&out);
}

fn tests(page: &mut Page, comparison: &Comparison) {
    let [(a, _), (b, _)] = comparison.systems.as_slice() else {
        return;
    };
    if comparison.tests.is_empty() {
        return;
    }
    page.section("Paired tests");
    let mut metrics: Vec<_> = comparison.tests.iter().map(|t| t.metric).collect();
    metrics.dedup();
    for metric in metrics {
        let head = [
            "Class",
            "n",
            a.as_str(),
            b.as_str(),
            "median difference",
            "p",
            "p (Holm)",
        ];
        let mut table = Table::new("tests").head(head);
        for test in comparison.tests.iter().filter(|t| t.metric == metric) {
            let w = &test.wilcoxon;
            let [mean_a, mean_b] = test.means;
            let a_better = match metric.better() {
                Some(Better::Higher) => mean_a > mean_b,
                Some(Better::Lower) => mean_a < mean_b,
                _ => mean_a.abs() < mean_b.abs(),
            };
            let found = test.p_holm < 0.05;
            let mark = |v: f64, better: bool| {
                let text = value(metric, Some(v));
                if found && better {
                    format!("<b>{text}</b>")
                } else {
                    text
                }
            };
            let (class, name) = match &test.class {
                Some(name) => ("", organ(name)),
                None => ("sum", "All, per case".to_owned()),
            };
            let cells = [
                w.n.to_string(),
                mark(mean_a, a_better),
                mark(mean_b, !a_better),
                value(metric, Some(w.median_difference)),
                p_value(w.p),
                p_value(test.p_holm),
            ];
            table.row(class, &Text(&name).to_string(), cells);
        }
        page.table(
            &format!(
                "{}: means over the cases that both have a value for, median of the differences (first minus second), and the \
                 two-sided Wilcoxon signed-rank test. Holm's adjustment covers all {} tests of this page; the better mean is bold \
                 where it stays below 0.05.",
                with_unit(metric),
                comparison.tests.len()
            ),
            &table,
        );
    }
}

fn p_value(p: f64) -> String {
    if p < 0.001 {
        "&lt; 0.001".to_owned()
    } else {
        number(Some(p), 3)
    }
}

fn ranking(page: &mut Page, comparison: &Comparison) {
    page.section("Ranking");
    let ranking = &comparison.ranking;
    let mut order: Vec<usize> = (0..ranking.systems.len()).collect();
    order.sort_by(|&a, &b| {
        ranking.systems[a]
            .rank
            .total_cmp(&ranking.systems[b].rank)
            .then(a.cmp(&b))
    });
    let mut head = vec![
        "Result".to_owned(),
        "rank".to_owned(),
        "interval".to_owned(),
        "mean rank".to_owned(),
    ];
    head.extend(comparison.means.keys().map(|&m| with_unit(m)));
    let mut table = Table::new("ranking").head(head);
    let rank_text = |rank: f64| {
        if rank.fract() == 0.0 {
            number(Some(rank), 0)
        } else {
            number(Some(rank), 1)
        }
    };
    for &at in &order {
        let system = &ranking.systems[at];
        let [low, high] = system.interval.map(rank_text);
        let mut cells = vec![
            rank_text(system.rank),
            format!("{low} to {high}"),
            number(Some(system.mean_rank), 2),
        ];
        cells.extend(
            comparison
                .means
                .iter()
                .map(|(&m, values)| value(m, values.get(at).copied().flatten())),
        );
        table.row("", &format!("<bdi>{}</bdi>", Text(&system.name)), cells);
    }
    let method = match ranking.method {
        RankMethod::PerCase => "results are ranked for every case, class and measure, and the ranks averaged",
        RankMethod::OfMean => "results are ranked by their means for every class and measure, and the ranks averaged",
    };
    let tau = ranking.stability.map_or_else(
        || NONE.to_owned(),
        |s| {
            format!(
                "{} ({} to {})",
                number(Some(s.mean_tau), 2),
                number(Some(s.interval[0]), 2),
                number(Some(s.interval[1]), 2)
            )
        },
    );
    page.table(
        &format!(
            "Ranking: {method}. The interval is that of the rank over bootstrap resamples of the cases. Kendall's τ-b between this \
             ranking and those of the resamples: {tau}. The last columns are means over classes."
        ),
        &table,
    );

    let mut head = String::from("<th scope=\"col\">Result</th>");
    for place in 1..=ranking.systems.len() {
        let _ = write!(head, "<th scope=\"col\">place {place}</th>");
    }
    let mut table = Table::new("matrix").head_markup(head);
    for &at in &order {
        let system = &ranking.systems[at];
        let mut cells = format!("<th scope=\"row\"><bdi>{}</bdi></th>", Text(&system.name));
        for &share in &system.frequencies {
            let _ = write!(
                cells,
                "<td style=\"--bad:{share:.3}\">{} %</td>",
                number(Some(share * 100.0), 0)
            );
        }
        table.row_markup(&cells);
    }
    page.table("How often each result takes each place among the resamples.", &table);
}
