//! Pictures.

use crate::{IoError, atomic_write};
use std::path::Path;

/// The bytes of a picture, 8 bits a sample, row after row from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels<'a> {
    /// One byte per pixel.
    Grey(&'a [u8]),
    /// Red, green, blue per pixel.
    Rgb(&'a [u8]),
}

/// A picture as the bytes of a PNG file.
///
/// # Errors
/// [`IoError::PictureSize`] when there is not one sample (or three) per pixel or a side is 0.
pub fn png_bytes(width: usize, height: usize, pixels: Pixels<'_>) -> Result<Vec<u8>, IoError> {
    let (colour, samples, bytes) = match pixels {
        Pixels::Grey(bytes) => (png::ColorType::Grayscale, 1, bytes),
        Pixels::Rgb(bytes) => (png::ColorType::Rgb, 3, bytes),
    };
    let wrong_size = || IoError::PictureSize {
        width,
        height,
        found: bytes.len(),
    };
    let expected = width.checked_mul(height).and_then(|n| n.checked_mul(samples));
    if expected != Some(bytes.len()) || bytes.is_empty() {
        return Err(wrong_size());
    }
    let (Ok(w), Ok(h)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(wrong_size());
    };
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, w, h);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    // Into memory, so that only the size could be refused.
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(bytes)?;
        writer.finish()
    });
    written.map_err(|_| wrong_size())?;
    Ok(file)
}

/// Writes an 8-bit RGB picture as PNG.
///
/// `rgb` has three bytes per pixel, row after row from the top left.
///
/// # Errors
/// [`IoError::PictureSize`] when `rgb` does not have `3 · width · height` bytes or a side is 0;
/// [`IoError::Write`] when the system refuses.
pub fn write_png(path: &Path, width: usize, height: usize, rgb: &[u8]) -> Result<(), IoError> {
    let bytes = png_bytes(width, height, Pixels::Rgb(rgb))?;
    atomic_write(path, |file| file.write_all(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_back() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.png");
        let rgb: Vec<u8> = (0..5 * 3 * 3).map(|i| (i * 37 % 256) as u8).collect();
        write_png(&path, 5, 3, &rgb).expect("written");
        let file = std::io::BufReader::new(std::fs::File::open(&path).expect("there"));
        let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
        let mut back = vec![0; reader.output_buffer_size().expect("small")];
        let info = reader.next_frame(&mut back).expect("a frame");
        assert_eq!((info.width, info.height, &back), (5, 3, &rgb));
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for (w, h, n) in [(2, 2, 11), (0, 5, 0), (usize::MAX, 2, 12)] {
            let refused = write_png(Path::new("never-written.png"), w, h, &vec![0; n]);
            assert!(matches!(refused, Err(IoError::PictureSize { .. })));
        }
    }
}
