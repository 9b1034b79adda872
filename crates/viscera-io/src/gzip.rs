//! gzip (RFC 1952): reading of one or many members, writing of one member on all cores.

use flate2::bufread::GzDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};
use rayon::prelude::*;
use std::io::{self, BufRead, Read, Write};

/// First bytes of every gzip stream.
pub(crate) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// More than the greatest factor by which deflate can shrink data (1032).
pub(crate) const MAX_RATIO: u64 = 1040;

/// Reads the members of a gzip file one after the other, as `gzip -d` does. Bytes after the last member that do not
/// begin another one are left alone, and noted.
pub(crate) struct GzipReader<R: BufRead> {
    member: Option<GzDecoder<R>>,
    trailing: bool,
}

impl<R: BufRead> GzipReader<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            member: Some(GzDecoder::new(reader)),
            trailing: false,
        }
    }

    /// Whether bytes that are no gzip follow the last member; known once the end was read.
    pub(crate) fn trailing(&self) -> bool {
        self.trailing
    }
}

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let Some(member) = self.member.take() else { break };
            let mut reader = member.into_inner();
            match reader.fill_buf()?.first() {
                None => {}
                Some(&first) if first == MAGIC[0] => self.member = Some(GzDecoder::new(reader)),
                Some(_) => self.trailing = true,
            }
        }
        Ok(0)
    }
}

/// Bytes that are compressed at a time. Block borders are the same for any number of threads, and so is the file.
const BLOCK: usize = 1 << 18;

/// How far back deflate may point; a block is primed with that much of the one before it.
const WINDOW: usize = 1 << 15;

/// Bytes that are produced, compressed and written in one round: bounds the memory on top of the volume's own.
const ROUND: usize = 64 * BLOCK;

/// Writes `head` and then `len` bytes as one gzip member, compressed in blocks on all cores.
///
/// `fill(start, end, out)` appends bytes `start..end` of the content to `out`; starts are multiples of 2¹⁸, and calls come
/// in any order from many threads.
///
/// Each block is raw deflate that ends in a sync flush, so that blocks join to one stream (as pigz does); the checksums
/// are joined too. The bytes depend on content and `level` (1 fastest … 9 smallest) alone.
#[allow(clippy::indexing_slicing)] // our own blocks, nothing from outside
pub(crate) fn write_gzip(
    out: &mut dyn Write,
    head: &[u8],
    len: usize,
    level: u32,
    fill: impl Fn(usize, usize, &mut Vec<u8>) + Sync,
) -> io::Result<()> {
    // No name, no time (the same content gives the same file), unknown system.
    out.write_all(&[MAGIC[0], MAGIC[1], 8, 0, 0, 0, 0, 0, 0, 255])?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    out.write_all(&deflate_block(head, &[], level)?)?;
    let mut window = head.to_vec();
    for round in (0..len).step_by(ROUND) {
        let round_end = len.min(round + ROUND);
        let starts: Vec<usize> = (round..round_end).step_by(BLOCK).collect();
        let contents: Vec<Vec<u8>> = starts
            .par_iter()
            .map(|&start| {
                let end = round_end.min(start + BLOCK);
                let mut bytes = Vec::with_capacity(end - start);
                fill(start, end, &mut bytes);
                bytes
            })
            .collect();
        let blocks: Vec<(Vec<u8>, crc32fast::Hasher)> = (0..contents.len())
            .into_par_iter()
            .map(|i| {
                let before = if i == 0 { &window } else { &contents[i - 1] };
                let dictionary = &before[before.len().saturating_sub(WINDOW)..];
                let mut crc = crc32fast::Hasher::new();
                crc.update(&contents[i]);
                deflate_block(&contents[i], dictionary, level).map(|block| (block, crc))
            })
            .collect::<io::Result<_>>()?;
        for (block, block_crc) in &blocks {
            out.write_all(block)?;
            crc.combine(block_crc);
        }
        window = contents.into_iter().next_back().unwrap_or_default();
    }
    // An empty last block (fixed codes) ends the deflate stream.
    out.write_all(&[3, 0])?;
    out.write_all(&crc.finalize().to_le_bytes())?;
    out.write_all(&((head.len() + len) as u32).to_le_bytes()) // by the standard, the length modulo 2³²
}

/// Raw deflate of one block, flushed to a byte border.
fn deflate_block(content: &[u8], dictionary: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut deflate = Compress::new(Compression::new(level), false);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary)?;
    }
    let mut out = Vec::with_capacity(content.len() / 2 + 64);
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = content.get(taken..).unwrap_or_default();
        let status = deflate.compress_vec(rest, &mut out, FlushCompress::Sync)?;
        if out.len() < out.capacity() && deflate.total_in() == content.len() as u64 {
            return Ok(out);
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("deflate ended within a block"));
        }
        out.reserve(content.len() / 4 + 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compressed(content: &[u8], level: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let (head, body) = content.split_at(content.len().min(40));
        write_gzip(
            &mut out,
            head,
            body.len(),
            level,
            |start: usize, end: usize, bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(&body[start..end]);
            },
        )
        .expect("written");
        out
    }

    /// Bytes with long repeats and noise, `len` of them.
    fn content(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        (0..len)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if i / 5000 % 3 == 0 {
                    (i / 97 % 7) as u8
                } else {
                    (state >> 24) as u8
                }
            })
            .collect()
    }

    #[test]
    fn one_member_that_any_reader_understands() {
        for len in [
            0,
            1,
            511,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            3 * BLOCK + 77,
            ROUND + BLOCK + 5,
        ] {
            let content = content(len, 7);
            for level in [1, 6] {
                let bytes = compressed(&content, level);
                let mut back = Vec::new();
                // flate2's reader of a single member checks length and checksum.
                GzDecoder::new(&bytes[..]).read_to_end(&mut back).expect("valid gzip");
                assert_eq!(back, content);
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let content = content(9 * BLOCK + 3, 1);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            pool.install(|| compressed(&content, 3))
        };
        assert_eq!(with(1), with(5));
    }

    #[test]
    fn members_are_joined_and_trailing_bytes_noted() {
        let (a, b) = (content(10_000, 3), content(300_000, 4));
        let mut bytes = compressed(&a, 6);
        bytes.extend(compressed(&[], 6));
        bytes.extend(compressed(&b, 6));
        let read = |bytes: &[u8]| {
            let mut reader = GzipReader::new(bytes);
            let mut back = Vec::new();
            reader.read_to_end(&mut back).map(|_| (back, reader.trailing()))
        };
        let whole = [a, b].concat();
        assert_eq!(read(&bytes).expect("valid"), (whole.clone(), false));
        bytes.extend([0; 100]);
        assert_eq!(read(&bytes).expect("valid"), (whole, true));
        bytes[5000] ^= 0x55;
        assert!(read(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_content_comes_back(content in prop::collection::vec(any::<u8>(), 0..5000), level in 1u32..=9) {
            let mut back = Vec::new();
            GzipReader::new(&compressed(&content, level)[..]).read_to_end(&mut back).expect("valid gzip");
            prop_assert_eq!(back, content);
        }
    }
}
