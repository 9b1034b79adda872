//! Files that appear whole or not at all.

use crate::IoError;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Begin and end of temporary names.
const PREFIX: &str = ".viscera-";
const SUFFIX: &str = ".part";

/// Writes a file under a temporary name in the same folder, then renames it to `path`.
///
/// The temporary name begins with `.viscera-` and ends in `.part`. The file is locked while it is written; one that a
/// killed program left is not, and [`remove_stale`] removes it. The folder is made if it is not there. When `write` or the system fails, nothing stays behind and an older file of
/// that name is as it was. The new file has the usual permissions (by the process's umask).
///
/// # Errors
/// What `write` returns; [`IoError::Write`] when the system refuses.
pub fn atomic_write(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), std::io::Error>,
) -> Result<(), IoError> {
    let failed = |source| IoError::Write {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = temporary(folder).map_err(failed)?;
    let mut buffered = BufWriter::with_capacity(1 << 16, file.as_file_mut());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(failed)?;
    drop(buffered);
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// A new temporary file, locked.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder)?;
        // Between making and locking it, another program may take it for one that was left, and remove it. Where the
        // file system cannot lock, no file counts as left.
        if file.as_file().lock().is_err() || file.path().exists() {
            return Ok(file);
        }
    }
}

/// Removes the temporary files of [`atomic_write`] that lie in a folder and that no running program writes. A folder
/// that is not there has none.
///
/// # Errors
/// [`IoError::Read`] when the folder cannot be read. Files that cannot be removed stay.
pub fn remove_stale(folder: &Path) -> Result<(), IoError> {
    let failed = |source| IoError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(PREFIX.as_bytes()) || !name.ends_with(SUFFIX.as_bytes()) {
            continue;
        }
        // Network file systems lock only what may be written.
        if let Ok(file) = OpenOptions::new().read(true).write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Removes a file, if it is there.
///
/// # Errors
/// [`IoError::Write`] when the system refuses.
pub fn remove_file(path: &Path) -> Result<(), IoError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(IoError::Write {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Writes a value as indented JSON with a newline at the end, through [`atomic_write`].
///
/// # Errors
/// [`IoError::Json`] when the value has no JSON form; [`IoError::Write`] when the system refuses.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), IoError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| IoError::Json {
        path: path.to_owned(),
        source,
    })?;
    text.push(b'\n');
    atomic_write(path, |w| w.write_all(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("new/a.txt");
        atomic_write(&path, |w| w.write_all(b"old")).expect("written");
        let failed = atomic_write(&path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::other("disk on fire"))
        });
        assert!(matches!(failed, Err(IoError::Write { .. })));
        assert_eq!(std::fs::read(&path).expect("readable"), b"old");
        assert_eq!(std::fs::read_dir(dir.path().join("new")).expect("readable").count(), 1);
    }

    #[test]
    fn only_what_nobody_writes_is_stale() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let names = || {
            let entries = std::fs::read_dir(dir.path()).expect("readable");
            let mut names: Vec<_> = entries.map(|e| e.expect("readable").file_name()).collect();
            names.sort();
            names
        };
        for name in [".viscera-old.part", ".viscera-note", "viscera.part"] {
            std::fs::write(dir.path().join(name), b"x").expect("written");
        }
        let path = dir.path().join("a.txt");
        atomic_write(&path, |w| {
            assert_eq!(names().len(), 4);
            remove_stale(dir.path()).expect("cleaned");
            // The old one went, ours stayed.
            assert_eq!(names().len(), 3);
            w.write_all(b"new")
        })
        .expect("written");
        assert_eq!(names(), [".viscera-note", "a.txt", "viscera.part"]);
        assert_eq!(std::fs::read(&path).expect("readable"), b"new");
        remove_stale(&dir.path().join("not there")).expect("nothing to do");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_we_write() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary folder");
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        atomic_write(&ours, |w| w.write_all(b"x")).expect("written");
        std::fs::write(&plain, b"x").expect("written");
        let mode = |p: &Path| std::fs::metadata(p).expect("there").permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
