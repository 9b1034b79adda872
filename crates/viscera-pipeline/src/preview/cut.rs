//! The grey values of a slice.

use super::slices::RasView;
use viscera_image::{Intensity, Volume};

/// Window of soft tissue in HU: centre 40, width 400.
const WINDOW: [f32; 2] = [-160.0, 240.0];

/// Which way a slice is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Across the body.
    Axial,
    /// From the front.
    Coronal,
    /// From the side.
    Sagittal,
}

impl Plane {
    /// All three, in the usual order.
    pub const ALL: [Self; 3] = [Self::Axial, Self::Coronal, Self::Sagittal];

    /// Axes of RAS+ (0 = z, 1 = y, 2 = x): across the slice, down the picture, along its rows. Rows and columns both run
    /// against their axis: from the front or the top downwards, from the right or the front rightwards.
    #[must_use]
    pub fn axes(self) -> [usize; 3] {
        match self {
            Self::Axial => [0, 1, 2],
            Self::Coronal => [1, 0, 2],
            Self::Sagittal => [2, 0, 1],
        }
    }

    /// Sides of the body at the left, right, top and bottom.
    #[must_use]
    pub fn letters(self) -> [&'static str; 4] {
        match self {
            Self::Axial => ["R", "L", "A", "P"],
            Self::Coronal => ["R", "L", "S", "I"],
            Self::Sagittal => ["A", "P", "S", "I"],
        }
    }

    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Axial => "axial",
            Self::Coronal => "coronal",
            Self::Sagittal => "sagittal",
        }
    }
}

/// A rectangle of a slice, and how many pixels to show it with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// Which way.
    pub plane: Plane,
    /// Position along the plane's first axis, in voxels of the scan turned to RAS+.
    pub position: usize,
    /// Upper and lower edge of the rectangle in voxels from the top of the slice, so that 0.0 and the number of voxels
    /// are the slice's own edges. It may reach beyond.
    pub rows: [f64; 2],
    /// Left and right edge, in the same way from the left of the slice.
    pub columns: [f64; 2],
    /// Pixels down.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
}

impl Cut {
    /// Grey values of a scan, row after row, interpolated linearly: 0 is -160 HU and less, 255 is 240 HU and more.
    /// What lies outside the scan is 0. The scan's axes may lie in any way.
    #[must_use]
    pub fn grey<T: Intensity>(&self, scan: &Volume<T>) -> Vec<u8> {
        self.grey_in(scan, &RasView::new(scan.geometry()))
    }

    pub(super) fn grey_in<T: Intensity>(&self, scan: &Volume<T>, view: &RasView) -> Vec<u8> {
        let [across, down, along] = self.plane.axes();
        let rows = Samples::new(self.height, view.grid.shape[down], self.rows);
        let columns = Samples::new(self.width, view.grid.shape[along], self.columns);
        let mut grey = vec![0; self.width * self.height];
        if self.position >= view.grid.shape[across] {
            return grey;
        }
        let at = |row: usize, column: usize| {
            let mut index = [0; 3];
            index[across] = self.position;
            index[down] = row;
            index[along] = column;
            scan.data()[view.offset(index)].to_f32()
        };
        for (y, row) in rows.0.iter().enumerate() {
            for (x, column) in columns.0.iter().enumerate() {
                if !(row.inside && column.inside) {
                    continue;
                }
                let upper = mix(at(row.lo, column.lo), at(row.lo, column.hi), column.weight);
                let lower = mix(at(row.hi, column.lo), at(row.hi, column.hi), column.weight);
                let hu = mix(upper, lower, row.weight);
                grey[y * self.width + x] = ((hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0]) * 255.0).clamp(0.0, 255.0) as u8;
            }
        }
        grey
    }
}

fn mix(a: f32, b: f32, weight: f32) -> f32 {
    a + weight * (b - a)
}

/// For each pixel of a row or column, where it lies among the voxels of an axis that runs against it.
pub(super) struct Samples(pub(super) Vec<Sample>);

pub(super) struct Sample {
    lo: usize,
    hi: usize,
    weight: f32,
    pub(super) nearest: usize,
    inside: bool,
}

impl Samples {
    /// `edges` as [`Cut::rows`].
    pub(super) fn new(pixels: usize, voxels: usize, [from, to]: [f64; 2]) -> Self {
        let last = voxels - 1;
        let sample = |pixel: usize| {
            let from_top = from + (pixel as f64 + 0.5) * (to - from) / pixels as f64;
            let place = (voxels as f64 - 0.5 - from_top).clamp(0.0, last as f64);
            let lo = place.floor() as usize;
            Sample {
                lo,
                hi: (lo + 1).min(last),
                weight: (place - lo as f64) as f32,
                nearest: (place.round() as usize).min(last),
                inside: (0.0..voxels as f64).contains(&from_top),
            }
        };
        Self((0..pixels).map(sample).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::{AxisMap, Geometry};

    #[test]
    fn a_rectangle_shows_its_voxels_and_black_beyond() {
        // RAS+: x grows to the right of the patient, so the first column of a picture is the last voxel of x.
        let data: Vec<i16> = (0..2 * 3 * 4).map(|i| i as i16 * 10).collect();
        let scan = Volume::new(Geometry::ras([2, 3, 4], [1.0; 3]), data).unwrap();
        let cut = Cut {
            plane: Plane::Axial,
            position: 1,
            rows: [-1.0, 2.0],
            columns: [2.0, 4.0],
            height: 3,
            width: 2,
        };
        let level = |hu: f32| ((hu + 160.0) / 400.0 * 255.0) as u8;
        // Rows from the front: y = 2, 1; columns from the right: x = 1, 0.
        let expected = [0, 0, level(210.0), level(200.0), level(170.0), level(160.0)];
        for map in AxisMap::all() {
            assert_eq!(cut.grey(&map.apply(&scan)), expected, "{map:?}");
        }
    }
}
