//! TOML to [`Recipe`], with errors that help: the line, and the nearest known key for a misspelt one.

use super::Recipe;
use crate::PipelineError;

pub(super) fn parse(text: &str, source: &str) -> Result<Recipe, PipelineError> {
    toml::from_str(text).map_err(|error| PipelineError::Recipe {
        recipe: source.to_owned(),
        line: error.span().map(|span| line_of(text, span.start)),
        reason: explain(error.message()),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// Serde's message; an unknown key (or variant) with the nearest known one behind it.
///
/// Serde words it "unknown field `a`, expected one of `b`, `c`": the names stand between backticks, the wrong one first.
fn explain(message: &str) -> String {
    if !(message.starts_with("unknown field") || message.starts_with("unknown variant")) {
        return message.to_owned();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(wrong) = names.next() else {
        return message.to_owned();
    };
    let known: Vec<&str> = names.collect();
    let what = if message.starts_with("unknown field") {
        "key"
    } else {
        "value"
    };
    match known.iter().min_by_key(|name| distance(wrong, name)) {
        Some(nearest) if distance(wrong, nearest) <= 1 + wrong.chars().count() / 3 => {
            format!("unknown {what} `{wrong}`; did you mean `{nearest}`?")
        }
        Some(_) => format!("unknown {what} `{wrong}`; known here: {}", known.join(", ")),
        None => format!("unknown {what} `{wrong}`"),
    }
}

/// Levenshtein's distance: single-character insertions, deletions and replacements between two words.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: (&str, &str)) -> String {
        let text = Recipe::builtin_text("flare21-efficientsegnet").unwrap();
        assert!(text.contains(change.0));
        Recipe::parse(&text.replacen(change.0, change.1, 1), "r.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_misspelt_key_names_the_nearest_and_its_line() {
        let text = Recipe::builtin_text("flare21-efficientsegnet").unwrap();
        let line = 1 + text.lines().position(|l| l.contains("margin_mm")).unwrap();
        assert_eq!(
            error(("margin_mm", "margins_mm")),
            format!("recipe r.toml, line {line}: unknown key `margins_mm`; did you mean `margin_mm`?")
        );
        assert!(
            error(("[training.coarse]\nsupervision", "[training.coarse]\nsupervison"))
                .ends_with("did you mean `supervision`?")
        );
        // Inside a tagged table, too.
        let line = 1 + text.lines().position(|l| l.contains("coarse_unet")).unwrap();
        assert_eq!(
            error(("dropout", "drop_out")),
            format!("recipe r.toml, line {line}: unknown key `drop_out`; did you mean `dropout`?")
        );
    }

    #[test]
    fn a_key_far_from_all_lists_those_there_are() {
        assert!(error(("margin_mm", "quux")).ends_with("unknown key `quux`; known here: from, margin_mm"));
    }

    #[test]
    fn misspelt_values_are_named() {
        assert!(
            error(("\"localise\"", "\"localize\"")).ends_with("unknown value `localize`; did you mean `localise`?")
        );
        assert!(error(("\"align_corners\"", "\"align_corner\"")).contains("did you mean `align_corners`?"));
    }

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
