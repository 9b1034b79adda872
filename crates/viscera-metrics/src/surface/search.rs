//! The nearest corner in a slice by looking around: faster than a transform where surfaces lie near each other.

/// A slice of steps along z, to be searched.
pub(super) struct Search<'a> {
    /// Steps of the whole box, in the order (y, z, x).
    pub(super) steps: &'a [u16],
    /// Squared distance in mm² for a number of steps; shorter than the number that stands for none.
    pub(super) squares: &'a [f64],
    /// Corners along `[z, y, x]`.
    pub(super) corners: [usize; 3],
    /// Distance of corners along y and x in mm.
    pub(super) spacing: [f64; 2],
    /// The slice.
    pub(super) z: usize,
    /// Corners that may still be looked at.
    pub(super) budget: usize,
}

impl Search<'_> {
    /// The squared distance in mm² from a corner of the slice to the nearest one of the surface.
    ///
    /// Rows nearby come first, and the search ends with the row that lies farther away than the best so far. `None`
    /// when the budget is used up.
    pub(super) fn nearest(&mut self, y: usize, x: usize) -> Option<f64> {
        let [_, ny, _] = self.corners;
        let mut best = self.in_row(y, x, 0.0, f64::INFINITY)?;
        for dy in 1..ny {
            let across = dy as f64 * self.spacing[0];
            let across = across * across;
            if across >= best || (dy > y && y + dy >= ny) {
                break;
            }
            if let Some(y) = y.checked_sub(dy) {
                best = self.in_row(y, x, across, best)?;
            }
            if y + dy < ny {
                best = self.in_row(y + dy, x, across, best)?;
            }
        }
        Some(best)
    }

    /// The smaller of `best` and the squared distance to the nearest corner of one row, `across` being its own part.
    fn in_row(&mut self, y: usize, x: usize, across: f64, best: f64) -> Option<f64> {
        let [nz, _, nx] = self.corners;
        let row = self.steps.get((y * nz + self.z) * nx..)?.get(..nx)?;
        let (left, right) = row.split_at_checked(x)?;
        let best = self.outwards(right.iter(), 0, across, best)?;
        self.outwards(left.iter().rev(), 1, across, best)
    }

    /// Goes along a row from `first` corners away until no corner can be nearer.
    fn outwards<'s>(
        &mut self,
        row: impl Iterator<Item = &'s u16>,
        first: usize,
        across: f64,
        mut best: f64,
    ) -> Option<f64> {
        let mut looked = 0;
        for (&steps, dx) in row.zip(first..) {
            let along = dx as f64 * self.spacing[1];
            let along = along * along;
            if across + along >= best {
                break;
            }
            looked += 1;
            // No entry stands for no corner in this column.
            if let Some(square) = self.squares.get(usize::from(steps)) {
                best = best.min(square + across + along);
            }
        }
        self.budget = self.budget.checked_sub(looked)?;
        Some(best)
    }
}
