//! Outlines of masks.

/// Says, as markup, which style of line is whose: classes `reference` and `prediction` of paths in a `slices` block.
pub const OUTLINE_KEY: &str = "<p><span class=\"key\"><svg viewBox=\"0 0 34 14\" aria-hidden=\"true\"><path class=\"reference\" d=\"M3 7H31\"/></svg>reference</span>\
     <span class=\"key\"><svg viewBox=\"0 0 34 14\" aria-hidden=\"true\"><path class=\"prediction\" d=\"M3 7H31\"/></svg>prediction</span></p>";

/// Closed outlines of a mask of `rows` × `columns` pixels, as points `[row, column]` in pixels from the upper left
/// corner: through the middles of the edges between inside and outside, so that corners are cut at 45°.
///
/// Pixels that touch only at a corner have outlines of their own. Holes have outlines too.
#[must_use]
pub fn contours(mask: &[bool], rows: usize, columns: usize) -> Vec<Vec<[f64; 2]>> {
    // Edges between inside and outside leave each grid corner eastwards, southwards, westwards or northwards (bits 0 to
    // 3), with the inside at their right.
    const STEP: [[isize; 2]; 4] = [[0, 1], [1, 0], [0, -1], [-1, 0]];
    let inside = |row: usize, column: usize| {
        // Row and column counted from 1, so that 0 is outside.
        (1..=rows).contains(&row)
            && (1..=columns).contains(&column)
            && mask.get((row - 1) * columns + column - 1).copied().unwrap_or(false)
    };
    let width = columns + 1;
    let mut leaving = vec![0u8; (rows + 1) * width];
    for row in 1..=rows {
        for column in 1..=columns {
            if !inside(row, column) {
                continue;
            }
            // Corner (r, c) of the grid is the upper left one of pixel (r + 1, c + 1).
            let (top, left) = (row - 1, column - 1);
            let sides = [
                (inside(row - 1, column), top * width + left, 0),
                (inside(row, column + 1), top * width + left + 1, 1),
                (inside(row + 1, column), (top + 1) * width + left + 1, 2),
                (inside(row, column - 1), (top + 1) * width + left, 3),
            ];
            for (neighbour, corner, direction) in sides {
                if !neighbour {
                    leaving[corner] |= 1 << direction;
                }
            }
        }
    }
    let mut outlines = Vec::new();
    for start in 0..leaving.len() {
        while leaving[start] != 0 {
            let mut outline: Vec<[f64; 2]> = Vec::new();
            let mut direction = leaving[start].trailing_zeros() as usize;
            let first = direction;
            let (mut corner, mut before) = (start, None);
            loop {
                leaving[corner] &= !(1 << direction);
                let (row, column) = ((corner / width) as isize, (corner % width) as isize);
                let [down, right] = STEP[direction];
                // A point where the outline bends; straight runs need none between.
                if before != Some(direction) {
                    if let Some(last) = before {
                        let [d, r] = STEP[last];
                        outline.push([row as f64 - d as f64 / 2.0, column as f64 - r as f64 / 2.0]);
                    }
                    outline.push([row as f64 + down as f64 / 2.0, column as f64 + right as f64 / 2.0]);
                }
                before = Some(direction);
                corner = ((row + down) * width as isize + column + right) as usize;
                // Keep to the same pixel where two touch at a corner: right, straight on, left.
                let next = [1, 0, 3].map(|turn| (direction + turn) % 4);
                match next.into_iter().find(|&d| leaving[corner] & 1 << d != 0) {
                    Some(next) => direction = next,
                    None => break,
                }
            }
            if let Some(last) = before.filter(|&last| last != first) {
                let [d, r] = STEP[last];
                outline.push([
                    (start / width) as f64 - d as f64 / 2.0,
                    (start % width) as f64 - r as f64 / 2.0,
                ]);
            }
            outline.dedup();
            outlines.push(outline);
        }
    }
    outlines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(outline: &[[f64; 2]]) -> f64 {
        let next = outline.iter().cycle().skip(1);
        let twice: f64 = outline.iter().zip(next).map(|(a, b)| a[1] * b[0] - b[1] * a[0]).sum();
        twice / 2.0
    }

    fn mask(text: &[&str]) -> (Vec<bool>, usize, usize) {
        let bits = text.iter().flat_map(|row| row.chars().map(|c| c == '#')).collect();
        (bits, text.len(), text[0].len())
    }

    #[test]
    fn a_pixel_is_a_diamond() {
        let (bits, rows, columns) = mask(&["   ", " # ", "   "]);
        let found = contours(&bits, rows, columns);
        assert_eq!(found, [vec![[1.0, 1.5], [1.5, 2.0], [2.0, 1.5], [1.5, 1.0]]]);
    }

    #[test]
    fn outlines_at_the_border_holes_and_corners() {
        // A full picture: all but four triangles at its corners.
        let (bits, rows, columns) = mask(&["####", "####", "####"]);
        let found = contours(&bits, rows, columns);
        assert_eq!(found.len(), 1);
        assert!((area(&found[0]) - (12.0 - 4.0 / 8.0)).abs() < 1e-9, "{found:?}");
        // A ring: the hole goes the other way round.
        let (bits, rows, columns) = mask(&["###", "# #", "###"]);
        let areas: Vec<f64> = contours(&bits, rows, columns).iter().map(|o| area(o)).collect();
        assert_eq!(areas.len(), 2);
        assert!(
            (areas.iter().sum::<f64>() - (9.0 - 0.5 - 0.5)).abs() < 1e-9,
            "{areas:?}"
        );
        // Two pixels that touch at a corner.
        let (bits, rows, columns) = mask(&["# ", " #"]);
        assert_eq!(contours(&bits, rows, columns).len(), 2);
        assert!(contours(&[false; 4], 2, 2).is_empty());
    }
}
