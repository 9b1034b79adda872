//! Text and numbers in HTML.

use std::fmt;

/// Text from outside, escaped for HTML elements and quoted attributes. Control characters, which HTML does not allow,
/// become U+FFFD.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() && c != '\n' && c != '\t' => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Name of a class for people: `kidney_right` is "kidney right".
#[must_use]
pub fn organ(name: &str) -> String {
    name.replace('_', " ")
}

/// A colour in CSS.
#[must_use]
pub fn rgb([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Stands for a value that is not there.
pub const NONE: &str = "–";

/// A number with so many digits behind the point and a true minus sign; [`NONE`] when there is none.
#[must_use]
pub fn number(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(v) if v.is_finite() => {
            let text = format!("{v:.digits$}");
            let zero = text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
            match text.strip_prefix('-') {
                Some(positive) if zero => positive.to_owned(),
                Some(positive) => format!("\u{2212}{positive}"),
                None => text,
            }
        }
        Some(_) => "∞".to_owned(),
        None => NONE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let hostile = "<img src=x onerror='alert(1)'> & \"q\"\u{1b}[31m é";
        let text = Text(hostile).to_string();
        assert_eq!(
            text,
            "&lt;img src=x onerror=&#39;alert(1)&#39;&gt; &amp; &quot;q&quot;\u{fffd}[31m é"
        );
    }

    #[test]
    fn numbers_have_a_minus_and_no_negative_zero() {
        assert_eq!(number(Some(-1.25), 1), "\u{2212}1.2");
        assert_eq!(number(Some(-0.0001), 2), "0.00");
        assert_eq!(number(None, 2), "–");
        assert_eq!(number(Some(f64::INFINITY), 2), "∞");
    }
}
