//! Files that appear whole or not at all.

use crate::IoError;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes a file under a temporary name in the same folder, then renames it to `path`.
///
/// The folder is made if it is not there. When `write` or the system fails, nothing stays behind and an older file of
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
    let mut builder = tempfile::Builder::new();
    builder.prefix(".viscera-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    let mut buffered = BufWriter::with_capacity(1 << 16, file.as_file_mut());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(failed)?;
    drop(buffered);
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
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
