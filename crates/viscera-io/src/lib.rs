//! Readers and writers of files from outside
