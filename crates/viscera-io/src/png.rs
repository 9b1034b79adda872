//! Pictures.

use crate::{IoError, atomic_write};
use std::path::Path;

/// Writes an 8-bit RGB picture as PNG.
///
/// `rgb` has three bytes per pixel, row after row from the top left.
///
/// # Errors
/// [`IoError::PictureSize`] when `rgb` does not have `3 · width · height` bytes or a side is 0;
/// [`IoError::Write`] when the system refuses.
pub fn write_png(path: &Path, width: usize, height: usize, rgb: &[u8]) -> Result<(), IoError> {
    let wrong_size = || IoError::PictureSize {
        width,
        height,
        found: rgb.len(),
    };
    let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(3));
    if bytes != Some(rgb.len()) || rgb.is_empty() {
        return Err(wrong_size());
    }
    let (w, h) = (u32::try_from(width), u32::try_from(height));
    let (Ok(w), Ok(h)) = (w, h) else {
        return Err(wrong_size());
    };
    atomic_write(path, |file| {
        let mut encoder = png::Encoder::new(file, w, h);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(std::io::Error::other)?;
        writer.write_image_data(rgb).map_err(std::io::Error::other)?;
        writer.finish().map_err(std::io::Error::other)
    })
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
