//! Scores of folders of label maps: pairing, tables, statistics over cases, and a report to look at.
