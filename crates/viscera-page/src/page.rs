//! The frame of a page: its head, its style, numbered tables and figures.

use super::text::Text;
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");

/// A page in the making.
#[derive(Debug, Clone, Default)]
pub struct Page {
    body: String,
    /// Seconds after which whoever shows the page reads it again.
    refresh: Option<u64>,
    tables: usize,
    figures: usize,
}

impl Page {
    /// Makes the page show itself anew after so many seconds, for one that is still being written.
    pub fn refresh(&mut self, seconds: u64) {
        self.refresh = Some(seconds);
    }

    /// Appends markup as it is.
    pub fn push(&mut self, markup: &str) {
        self.body.push_str(markup);
    }

    /// Begins a section; the one before ends.
    pub fn section(&mut self, title: &str) {
        if self.body.contains("<section>") {
            self.body.push_str("</section>");
        }
        let _ = write!(self.body, "<section><h2>{}</h2>", Text(title));
    }

    /// A paragraph of plain text.
    pub fn paragraph(&mut self, text: &str) {
        let _ = write!(self.body, "<p>{}</p>", Text(text));
    }

    /// A numbered table; `caption` is markup.
    pub fn table(&mut self, caption: &str, table: &Table) {
        self.tables += 1;
        let _ = write!(
            self.body,
            "<figure class=\"table\"><figcaption><b>Table {}.</b> {caption}</figcaption><div class=\"scroll\" tabindex=\"0\">{}</div></figure>",
            self.tables,
            table.markup()
        );
    }

    /// A numbered figure; `caption` is markup.
    pub fn figure(&mut self, picture: &str, caption: &str) {
        self.figures += 1;
        let _ = write!(
            self.body,
            "<figure class=\"picture\">{picture}<figcaption><b>Figure {}.</b> {caption}</figcaption></figure>",
            self.figures
        );
    }

    /// The whole file.
    #[must_use]
    pub fn finish(self, title: &str) -> String {
        let refresh = self.refresh.map_or_else(String::new, |seconds| {
            format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n")
        });
        // A policy that forbids scripts and everything from outside, should any name slip through as markup.
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n{refresh}<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n{}</section>\n</main>\n</body>\n</html>\n",
            Text(title),
            self.body
        )
    }
}

/// A table: a head, and rows of cells. Cells are markup.
#[derive(Debug, Clone, Default)]
pub struct Table {
    class: &'static str,
    /// Cells of the heads, each row with its own `th`s.
    head: Vec<String>,
    rows: Vec<String>,
}

impl Table {
    /// An empty table of a class of the page's style; `""` for the usual one.
    #[must_use]
    pub fn new(class: &'static str) -> Self {
        Self {
            class,
            ..Self::default()
        }
    }

    /// A row of plain column titles.
    #[must_use]
    pub fn head<S: AsRef<str>>(mut self, titles: impl IntoIterator<Item = S>) -> Self {
        let cell = |title: S| format!("<th scope=\"col\">{}</th>", Text(title.as_ref()));
        self.head.push(titles.into_iter().map(cell).collect());
        self
    }

    /// A row of the head as markup, for titles over several columns.
    #[must_use]
    pub fn head_markup(mut self, cells: String) -> Self {
        self.head.push(cells);
        self
    }

    /// A row: its title as markup, then its values as markup.
    pub fn row<S: AsRef<str>>(&mut self, class: &str, title: &str, values: impl IntoIterator<Item = S>) {
        let cells: String = values.into_iter().map(|v| format!("<td>{}</td>", v.as_ref())).collect();
        self.rows.push(format!(
            "<tr class=\"{class}\"><th scope=\"row\">{title}</th>{cells}</tr>"
        ));
    }

    /// A row as markup of whole cells.
    pub fn row_markup(&mut self, cells: &str) {
        self.rows.push(format!("<tr>{cells}</tr>"));
    }

    /// The whole table.
    #[must_use]
    pub fn markup(&self) -> String {
        let head: String = self.head.iter().map(|cells| format!("<tr>{cells}</tr>")).collect();
        format!(
            "<table class=\"{}\"><thead>{head}</thead><tbody>{}</tbody></table>",
            self.class,
            self.rows.concat()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_figures_are_numbered_and_sections_close() {
        let mut page = Page::default();
        page.section("A & B");
        page.table("one", &Table::new("").head(["<x>"]));
        page.section("C");
        page.table("two", &Table::new(""));
        page.figure("<svg></svg>", "a picture");
        let html = page.finish("<title>");
        for part in [
            "Table 1.",
            "Table 2.",
            "Figure 1.",
            "A &amp; B",
            "&lt;x&gt;",
            "<title>&lt;title&gt;</title>",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<section>").count(), html.matches("</section>").count());
        assert!(!html.contains("<script") && !html.contains("refresh"));
        let mut page = Page::default();
        page.refresh(30);
        assert!(page.finish("").contains("<meta http-equiv=\"refresh\" content=\"30\">"));
    }
}
