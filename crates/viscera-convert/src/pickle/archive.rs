//! The zip archive of a checkpoint: where its entries lie. Only stored (uncompressed) entries, as PyTorch writes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Longest list of entries that is read.
const MAX_DIRECTORY: u64 = 64 << 20;
/// End of central directory, without its comment.
const END: usize = 22;
/// Longest comment after it.
const MAX_COMMENT: u64 = 65_535;

/// Bytes of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// An open archive.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    size: u64,
    /// Where each entry's header lies and how long its content is, by name.
    entries: BTreeMap<String, Span>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

impl Archive {
    /// Reads the list of entries. The error says what is wrong.
    pub(super) fn open(mut file: File) -> Result<Self, String> {
        let size = file.metadata().map_err(|e| e.to_string())?.len();
        let mut first = [0; 4];
        file.read_exact(&mut first)
            .map_err(|_| format!("a file of {size} bytes is too short"))?;
        if first != *b"PK\x03\x04" {
            return Err(match first {
                [0x80, ..] => "written in the old form, before PyTorch 1.6; load it in Python and \
                                                 save it again with torch.save"
                    .to_owned(),
                _ => format!("no zip archive: it begins with {first:02x?}"),
            });
        }
        let mut archive = Self {
            file,
            size,
            entries: BTreeMap::new(),
        };
        let directory = archive.directory()?;
        archive.list(&directory)?;
        Ok(archive)
    }

    /// Bytes of the whole file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Reads bytes that lie wholly inside the file, so that no more is allocated than there is.
    pub(super) fn read(&self, span: Span) -> Result<Vec<u8>, String> {
        let end = span.start.checked_add(span.len).filter(|&end| end <= self.size);
        let (Some(_), Ok(len)) = (end, usize::try_from(span.len)) else {
            return Err(format!(
                "names bytes {} to {} of a file of {}",
                span.start,
                span.start.saturating_add(span.len),
                self.size
            ));
        };
        let mut bytes = vec![0; len];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(span.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    /// Where the content of an entry lies; `None` for one that there is not.
    pub(super) fn find(&self, name: &str) -> Result<Option<Span>, String> {
        let Some(&entry) = self.entries.get(name) else {
            return Ok(None);
        };
        let header = self.read(Span {
            start: entry.start,
            len: 30,
        })?;
        let wrong = || format!("the entry \"{name}\" has no header");
        if header.get(..4) != Some(b"PK\x03\x04") {
            return Err(wrong());
        }
        let (Some(name_len), Some(extra)) = (u16_at(&header, 26), u16_at(&header, 28)) else {
            return Err(wrong());
        };
        // No overflow: the header was read, so that its place is a place in the file.
        let start = entry.start + 30 + u64::from(name_len) + u64::from(extra);
        if start.checked_add(entry.len).is_none_or(|end| end > self.size) {
            let (len, size) = (entry.len, self.size);
            return Err(format!(
                "the entry \"{name}\" of {len} bytes does not fit a file of {size}"
            ));
        }
        Ok(Some(Span { start, len: entry.len }))
    }

    /// The bytes of the central directory.
    fn directory(&self) -> Result<Vec<u8>, String> {
        let cut = "the zip archive has no list of its entries; the file is cut short";
        let tail_len = self.size.min(END as u64 + MAX_COMMENT);
        let tail_start = self.size - tail_len;
        let tail = self.read(Span {
            start: tail_start,
            len: tail_len,
        })?;
        let end = (0..=tail.len().saturating_sub(END))
            .rev()
            .find(|&at| tail.get(at..).is_some_and(|t| t.starts_with(b"PK\x05\x06")))
            .ok_or(cut)?;
        let mut len = u32_at(&tail, end + 12).map(u64::from).ok_or(cut)?;
        let mut start = u32_at(&tail, end + 16).map(u64::from).ok_or(cut)?;
        // Zip64: a locator of 20 bytes stands before the end and names a record with 8-byte numbers.
        let locator = end.checked_sub(20).and_then(|at| tail.get(at..end));
        if let Some(record) = locator
            .filter(|l| l.starts_with(b"PK\x06\x07"))
            .and_then(|l| u64_at(l, 8))
        {
            let record = self.read(Span { start: record, len: 56 })?;
            if !record.starts_with(b"PK\x06\x06") {
                return Err(cut.to_owned());
            }
            len = u64_at(&record, 40).ok_or(cut)?;
            start = u64_at(&record, 48).ok_or(cut)?;
        }
        if len > MAX_DIRECTORY {
            return Err(format!("its list of entries has {len} bytes; no checkpoint needs that"));
        }
        self.read(Span { start, len })
    }

    fn list(&mut self, directory: &[u8]) -> Result<(), String> {
        let mut rest = directory;
        while !rest.is_empty() {
            let (entry, name, after) = one_entry(rest).ok_or("its list of entries is damaged")?;
            let entry = entry.map_err(|reason| format!("the entry \"{name}\" {reason}"))?;
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(format!("the entry \"{name}\" comes twice"));
            }
            rest = after;
        }
        Ok(())
    }
}

/// The first entry of a central directory, its name, and what follows.
fn one_entry(bytes: &[u8]) -> Option<(Result<Span, String>, String, &[u8])> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let name_end = 46usize.checked_add(usize::from(u16_at(bytes, 28)?))?;
    let extra_end = name_end.checked_add(usize::from(u16_at(bytes, 30)?))?;
    let end = extra_end.checked_add(usize::from(u16_at(bytes, 32)?))?;
    let name = String::from_utf8_lossy(bytes.get(46..name_end)?).into_owned();
    let mut extra = bytes.get(name_end..extra_end)?;
    let after = bytes.get(end..)?;
    let mut packed = u64::from(u32_at(bytes, 20)?);
    let mut size = u64::from(u32_at(bytes, 24)?);
    let mut start = u64::from(u32_at(bytes, 42)?);
    while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let body = extra.get(4..4usize.checked_add(usize::from(len))?)?;
        if id == 1 {
            // The 8-byte forms of those numbers that are all ones, in this order.
            let all_ones = u64::from(u32::MAX);
            let mut at = 0;
            for number in [&mut size, &mut packed, &mut start] {
                if *number == all_ones {
                    *number = u64_at(body, at)?;
                    at += 8;
                }
            }
        }
        extra = extra.get(4 + body.len()..)?;
    }
    let entry = if u16_at(bytes, 8)? & 1 != 0 {
        Err("is encrypted".to_owned())
    } else if u16_at(bytes, 10)? != 0 || packed != size {
        Err("is compressed, which PyTorch never does; unpack the archive and pack it with `zip -0`".to_owned())
    } else {
        Ok(Span { start, len: size })
    };
    Some((entry, name, after))
}
