//! Files mapped into memory: large ones are there at once, and only what is looked at is read.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file, mapped. Nothing is copied.
///
/// The file must not be changed or cut in place while it is mapped. Programs that write a new file and rename it, as
/// [`crate::atomic_write`] does, leave the mapped one as it is.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// What the system says: not there, not readable, or nothing that can be mapped, such as a folder.
    #[allow(unsafe_code)] // the one place outside the engine: there is no safe call for it
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: the mapping is read-only and private to this value. That nobody changes the file under it is part of
        // this type's contract.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
