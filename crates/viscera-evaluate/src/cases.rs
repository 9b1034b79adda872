//! A table of cases: what is known of each, such as its centre or its scanner.

use crate::EvaluateError;
use crate::csv::read_table;
use std::collections::BTreeMap;
use std::path::Path;

/// Values of some columns per case.
#[derive(Debug, Default)]
pub(crate) struct CaseTable {
    columns: Vec<String>,
    rows: BTreeMap<String, Vec<String>>,
}

/// Stands for the value of a case that the table does not list, or whose field is empty.
const UNKNOWN: &str = "unknown";

impl CaseTable {
    /// Reads the columns `by` of a table whose cases stand in a column `case`.
    ///
    /// # Errors
    /// [`EvaluateError::UnknownColumn`], [`EvaluateError::Table`] for a table without `case` or with a case twice, and
    /// those of reading.
    pub(crate) fn read(path: &Path, by: &[String]) -> Result<Self, EvaluateError> {
        let table = read_table(path)?;
        let place = |column: &str| {
            let found = table.head.iter().position(|head| head.trim() == column);
            found.ok_or_else(|| EvaluateError::UnknownColumn {
                column: column.to_owned(),
                known: table.head.clone(),
            })
        };
        let case = place("case")?;
        let places = by.iter().map(|column| place(column)).collect::<Result<Vec<_>, _>>()?;
        let mut rows = BTreeMap::new();
        for row in &table.rows {
            let values = places.iter().map(|&at| row[at].trim().to_owned()).collect();
            if rows.insert(row[case].clone(), values).is_some() {
                return Err(EvaluateError::Table {
                    path: path.to_owned(),
                    line: None,
                    reason: format!("the case \"{}\" comes twice", row[case]),
                });
            }
        }
        Ok(Self {
            columns: by.to_vec(),
            rows,
        })
    }

    /// Column and value for each column that was asked for.
    pub(crate) fn of(&self, case: &str) -> BTreeMap<String, String> {
        let row = self.rows.get(case);
        let value = |at: usize| match row.and_then(|row| row.get(at)) {
            Some(value) if !value.is_empty() => value.clone(),
            _ => UNKNOWN.to_owned(),
        };
        let columns = self.columns.iter().enumerate();
        columns.map(|(at, column)| (column.clone(), value(at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_gaps_are_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cases.csv");
        std::fs::write(&path, "age,case,centre\n40,\"a,1\",Kiel\n50,b,\n").unwrap();
        let table = CaseTable::read(&path, &["centre".to_owned()]).unwrap();
        assert_eq!(table.of("a,1")["centre"], "Kiel");
        assert_eq!(table.of("b")["centre"], "unknown");
        assert_eq!(table.of("c")["centre"], "unknown");
        let missing = CaseTable::read(&path, &["scanner".to_owned()]);
        assert!(matches!(missing, Err(EvaluateError::UnknownColumn { .. })));
        std::fs::write(&path, "case\na\na\n").unwrap();
        assert!(matches!(CaseTable::read(&path, &[]), Err(EvaluateError::Table { .. })));
    }
}
