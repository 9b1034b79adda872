//! One slice with its masks.

use super::canvas::{Align, CHAR_HEIGHT, Canvas};
use super::cut::{Cut, Plane, Samples};
use super::slices::RasView;
use super::{BRIGHT, DIM};
use viscera_image::{Intensity, LabelMap, LabelTable, Volume};

/// Colour of the frame around a slice.
const FRAME: [u8; 3] = [45, 45, 45];
/// Opacity of a mask's inside and of its outline.
const INSIDE: f32 = 0.30;
const OUTLINE: f32 = 1.0;

/// The frame of a slice.
pub(super) struct Panel {
    plane: Plane,
    pub(super) width: usize,
    pub(super) height: usize,
    scale: f64,
}

impl Panel {
    /// For a scan of `extent` mm `[z, y, x]` at `scale` pixels per mm.
    pub(super) fn new(plane: Plane, extent: [f64; 3], scale: f64) -> Self {
        let [_, down, along] = plane.axes();
        let pixels = |mm: f64| ((mm * scale).round() as usize).max(1);
        Self {
            plane,
            width: pixels(extent[along]),
            height: pixels(extent[down]),
            scale,
        }
    }

    /// Writes the plane's name and the slice's place in the world.
    pub(super) fn caption(&self, canvas: &mut Canvas, left: usize, top: usize, view: &RasView, slices: [usize; 3]) {
        let across = self.plane.axes()[0];
        // Array axes z, y, x against world components R, A, S.
        let place = view.grid.world_of(slices.map(|s| s as f64))[2 - across];
        let text = format!("{}  {} {place:+.0} mm", self.plane.name(), ["S", "A", "R"][across]);
        canvas.text(left, top, &text, DIM, Align::Left);
    }

    /// Draws the slice at a place of the canvas.
    pub(super) fn draw<T: Intensity>(
        &self,
        canvas: &mut Canvas,
        [left, top]: [usize; 2],
        scan: &Volume<T>,
        labels: &LabelMap,
        table: &LabelTable,
        view: &RasView,
        slices: [usize; 3],
    ) {
        let [across, down, along] = self.plane.axes();
        let index = |row: usize, column: usize| {
            let mut index = [0; 3];
            index[across] = slices[across];
            index[down] = row;
            index[along] = column;
            view.offset(index)
        };
        let edges = |axis: usize| [0.0, view.grid.shape[axis] as f64];
        let cut = Cut {
            plane: self.plane,
            position: slices[across],
            rows: edges(down),
            columns: edges(along),
            height: self.height,
            width: self.width,
        };
        let grey = cut.grey_in(scan, view);
        let rows = Samples::new(self.height, view.grid.shape[down], cut.rows);
        let columns = Samples::new(self.width, view.grid.shape[along], cut.columns);
        let mut shown = vec![0u8; self.width * self.height];
        for (y, row) in rows.0.iter().enumerate() {
            for (x, column) in columns.0.iter().enumerate() {
                let at = y * self.width + x;
                canvas.blend(left + x, top + y, [grey[at]; 3], 1.0);
                shown[at] = labels.data()[index(row.nearest, column.nearest)];
            }
        }
        self.masks(canvas, [left, top], &shown, table);
        canvas.frame([left, top], [self.width, self.height], FRAME);
        self.marks(canvas, [left, top], view, slices);
    }

    /// Tints the inside of each mask and draws its outline.
    fn masks(&self, canvas: &mut Canvas, [left, top]: [usize; 2], shown: &[u8], table: &LabelTable) {
        for y in 0..self.height {
            for x in 0..self.width {
                let label = shown[y * self.width + x];
                let Some(entry) = table.by_id(label) else { continue };
                let other = |x: usize, y: usize| shown[y * self.width + x] != label;
                let border = (x > 0 && other(x - 1, y))
                    || (x + 1 < self.width && other(x + 1, y))
                    || (y > 0 && other(x, y - 1))
                    || (y + 1 < self.height && other(x, y + 1));
                canvas.blend(left + x, top + y, entry.rgb, if border { OUTLINE } else { INSIDE });
            }
        }
    }

    /// Draws the letters of the sides, ticks where the other slices cut, and a bar of 5 cm in the axial slice.
    fn marks(&self, canvas: &mut Canvas, [left, top]: [usize; 2], view: &RasView, slices: [usize; 3]) {
        const TICK: usize = 8;
        const TICK_COLOUR: [u8; 3] = [90, 160, 200];
        let [_, down, along] = self.plane.axes();
        let pixel = |axis: usize, extent: usize| {
            let n = view.grid.shape[axis];
            ((n - 1 - slices[axis]) as f64 + 0.5) / n as f64 * extent as f64
        };
        let (x, y) = (pixel(along, self.width) as usize, pixel(down, self.height) as usize);
        canvas.fill([left + x, top], [1, TICK], TICK_COLOUR);
        canvas.fill(
            [left + x, top + self.height.saturating_sub(TICK)],
            [1, TICK],
            TICK_COLOUR,
        );
        canvas.fill([left, top + y], [TICK, 1], TICK_COLOUR);
        canvas.fill(
            [left + self.width.saturating_sub(TICK), top + y],
            [TICK, 1],
            TICK_COLOUR,
        );

        let [l, r, t, b] = self.plane.letters();
        let (middle_x, middle_y) = (
            left + self.width / 2,
            top + (self.height / 2).saturating_sub(CHAR_HEIGHT / 2),
        );
        canvas.text_on_image(left + 4, middle_y, l, BRIGHT, Align::Left);
        canvas.text_on_image(left + self.width - 4, middle_y, r, BRIGHT, Align::Right);
        canvas.text_on_image(middle_x, top + 2, t, BRIGHT, Align::Centre);
        let bottom = (top + self.height).saturating_sub(CHAR_HEIGHT + 2);
        canvas.text_on_image(middle_x, bottom, b, BRIGHT, Align::Centre);

        let bar = (50.0 * self.scale) as usize;
        if self.plane == Plane::Axial && bar + 20 < self.width / 2 {
            let y = (top + self.height).saturating_sub(8);
            canvas.fill([left + 10, y], [bar, 2], BRIGHT);
            canvas.text_on_image(
                left + 10,
                y.saturating_sub(CHAR_HEIGHT + 2),
                "5 cm",
                BRIGHT,
                Align::Left,
            );
        }
    }
}
