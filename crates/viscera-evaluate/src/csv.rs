//! Comma-separated values by RFC 4180: written with quotes where a field needs them, read with quotes anywhere.
//!
//! A field is never changed on the way out. A case whose name begins with `=` stays so, in quotes; a spreadsheet that
//! takes quoted text for a formula must be told to import the column as text.

use crate::EvaluateError;
use std::path::Path;

/// Appends one record, ended by CR LF.
pub(crate) fn write_record<S: AsRef<str>>(out: &mut String, fields: impl IntoIterator<Item = S>) {
    for (i, field) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let field = field.as_ref();
        if needs_quotes(field) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push_str("\r\n");
}

/// By RFC 4180 for separators, quotes and line breaks; for blanks at the ends and for what a spreadsheet may take for a
/// formula as well. Numbers stay bare.
fn needs_quotes(field: &str) -> bool {
    let special = field.contains([',', '"', '\n', '\r']) || field.trim() != field;
    special || (field.starts_with(['=', '+', '-', '@', '\t']) && field.parse::<f64>().is_err())
}

/// A table with a head: each record has as many fields as the head.
#[derive(Debug, PartialEq)]
pub(crate) struct CsvTable {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Reads a file of comma-separated values in UTF-8, with or without a byte-order mark; empty lines are left out.
///
/// # Errors
/// [`EvaluateError::Io`] when the system refuses, [`EvaluateError::Table`] for text that is no UTF-8, an open quote, a
/// record of another length than the head, or a file without a head.
pub(crate) fn read_table(path: &Path) -> Result<CsvTable, EvaluateError> {
    let bytes = std::fs::read(path).map_err(|source| viscera_io::IoError::Read {
        path: path.to_owned(),
        source,
    })?;
    let fault = |line, reason: String| EvaluateError::Table {
        path: path.to_owned(),
        line,
        reason,
    };
    let text = String::from_utf8(bytes).map_err(|_| fault(None, "the table is not UTF-8 text".to_owned()))?;
    let mut records = parse(text.strip_prefix('\u{feff}').unwrap_or(&text))
        .map_err(|line| fault(Some(line), "a quoted field does not end".to_owned()))?
        .into_iter();
    let (_, head) = records
        .next()
        .ok_or_else(|| fault(None, "the table is empty".to_owned()))?;
    let mut rows = Vec::new();
    for (line, row) in records {
        if row.len() != head.len() {
            let reason = format!("{} fields under {} columns", row.len(), head.len());
            return Err(fault(Some(line), reason));
        }
        rows.push(row);
    }
    Ok(CsvTable { head, rows })
}

/// The records with the lines that they start on; else the line of a quote that does not end.
fn parse(text: &str) -> Result<Vec<(usize, Vec<String>)>, usize> {
    let mut records = Vec::new();
    let mut record: Vec<String> = Vec::new();
    let mut field = String::new();
    let (mut line, mut start, mut quote_line) = (1, 1, 0);
    let (mut quoted, mut any) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            _ if quoted => field.push(c),
            '"' if field.is_empty() => {
                (quoted, any, quote_line) = (true, true, line);
            }
            ',' => {
                any = true;
                record.push(std::mem::take(&mut field));
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                if any || !field.is_empty() {
                    record.push(std::mem::take(&mut field));
                    records.push((start, std::mem::take(&mut record)));
                }
                (start, any) = (line, false);
            }
            c => field.push(c),
        }
    }
    if quoted {
        return Err(quote_line);
    }
    if any || !field.is_empty() {
        record.push(field);
        records.push((start, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_stand_where_they_must() {
        let mut out = String::new();
        write_record(
            &mut out,
            ["plain", "a,b", "say \"x\"", "two\nlines", "=1+1", "-1.5", " x", ""],
        );
        assert_eq!(
            out,
            "plain,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\"=1+1\",-1.5,\" x\",\r\n"
        );
    }

    #[test]
    fn tables_are_read_as_people_write_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "\u{feff}case,centre\r\na,\"X, Y\"\n\n\"b\"\"\",\n").unwrap();
        let table = read_table(&path).unwrap();
        assert_eq!(table.head, ["case", "centre"]);
        assert_eq!(table.rows, [["a", "X, Y"], ["b\"", ""]]);

        for (text, line) in [("a,b\n1\n", Some(2)), ("a\n\n\"x\n\n", Some(3)), ("\n", None)] {
            std::fs::write(&path, text).unwrap();
            let Err(EvaluateError::Table { line: found, .. }) = read_table(&path) else {
                panic!("{text:?} was read");
            };
            assert_eq!(found, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(rows in prop::collection::vec(prop::collection::vec("[a,\"\r\n =é]{0,6}", 2), 1..6)) {
            let mut out = String::new();
            rows.iter().for_each(|row| write_record(&mut out, row));
            let back: Vec<Vec<String>> = parse(&out).unwrap().into_iter().map(|(_, r)| r).collect();
            prop_assert_eq!(back, rows);
        }
    }
}
