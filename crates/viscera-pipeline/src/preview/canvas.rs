//! A picture and the few things that are drawn on it.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

/// Height of a line of text in pixels.
pub(super) const CHAR_HEIGHT: usize = 16;
const SIZE: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;

/// A finished picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green, blue per pixel, row after row from the top left.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Colour of a pixel; black outside.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * self.width + x);
        match self.rgb.get(at..at + 3) {
            Some(&[r, g, b]) if x < self.width => [r, g, b],
            _ => [0; 3],
        }
    }
}

/// Which end of a text lies at the given place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// A picture in the making; what is drawn outside is left out.
pub(super) struct Canvas {
    picture: Picture,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            picture: Picture {
                width,
                height,
                rgb: vec![0; 3 * width * height],
            },
        }
    }

    pub(super) fn into_picture(self) -> Picture {
        self.picture
    }

    /// Mixes a colour into a pixel; `opacity` 1 replaces it.
    pub(super) fn blend(&mut self, x: usize, y: usize, rgb: [u8; 3], opacity: f32) {
        if x >= self.picture.width || y >= self.picture.height {
            return;
        }
        let at = 3 * (y * self.picture.width + x);
        for (old, new) in self.picture.rgb[at..at + 3].iter_mut().zip(rgb) {
            let mixed = f32::from(*old) + opacity * (f32::from(new) - f32::from(*old));
            *old = mixed.round() as u8;
        }
    }

    pub(super) fn fill(&mut self, [left, top]: [usize; 2], [width, height]: [usize; 2], rgb: [u8; 3]) {
        for y in top..top + height {
            for x in left..left + width {
                self.blend(x, y, rgb, 1.0);
            }
        }
    }

    pub(super) fn frame(&mut self, [left, top]: [usize; 2], [width, height]: [usize; 2], rgb: [u8; 3]) {
        self.fill([left, top], [width, 1], rgb);
        self.fill([left, top + height.saturating_sub(1)], [width, 1], rgb);
        self.fill([left, top], [1, height], rgb);
        self.fill([left + width.saturating_sub(1), top], [1, height], rgb);
    }

    /// Writes one line; `x` is its left end, middle or right end, `y` its top. Characters beyond Latin-1 become `?`.
    pub(super) fn text(&mut self, x: usize, y: usize, text: &str, rgb: [u8; 3], align: Align) {
        let step = get_raster_width(WEIGHT, SIZE);
        let width = step * text.chars().count();
        let mut left = match align {
            Align::Left => x,
            Align::Centre => x.saturating_sub(width / 2),
            Align::Right => x.saturating_sub(width),
        };
        for c in text.chars() {
            let glyph = get_raster(c, WEIGHT, SIZE).or_else(|| get_raster('?', WEIGHT, SIZE));
            for (dy, row) in glyph.iter().flat_map(RasterizedChar::rows).enumerate() {
                for (dx, &strength) in row.iter().enumerate() {
                    if strength > 0 {
                        self.blend(left + dx, y + dy, rgb, f32::from(strength) / 255.0);
                    }
                }
            }
            left += step;
        }
    }

    /// As [`Self::text`], on a dark edge that keeps it readable on anything.
    pub(super) fn text_on_image(&mut self, x: usize, y: usize, text: &str, rgb: [u8; 3], align: Align) {
        for [dx, dy] in [[0, 1], [2, 1], [1, 0], [1, 2]] {
            self.text(
                (x + dx).saturating_sub(1),
                (y + dy).saturating_sub(1),
                text,
                [0; 3],
                align,
            );
        }
        self.text(x, y, text, rgb, align);
    }
}
