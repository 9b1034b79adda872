//! Erosion, opening and closing by a ball in millimetres, and filling of holes, of one class of a label map.
//!
//! What lies outside the grid is unknown: it neither lets an organ at the border of the scan grow nor eat it. In SciPy's
//! terms dilation has `border_value=0` and erosion `border_value=1`, so opening only takes away, closing only adds, and
//! doing either twice changes nothing more.
//!
//! Rows are kept as runs, so the work goes with the surface of the class and the cross-section of the ball.

use crate::{Box3, ImageError, LabelMap, bounding_box};
use rayon::prelude::*;

/// First voxel, and first voxel past the end.
type Run = [usize; 2];

/// Some voxels of a box, row by row; the runs of a row rise and do not touch.
struct Mask {
    shape: [usize; 3],
    rows: Vec<Vec<Run>>,
}

/// A piece of a ball: a step in z, a step in y, and half the length of its row along x.
type Chord = ([isize; 2], usize);

impl Mask {
    fn new(labels: &LabelMap, class: u8, region: &Box3) -> Self {
        let shape = region.shape();
        let rows = (0..shape[0] * shape[1])
            .into_par_iter()
            .map(|row| {
                let at = row_start(labels, region, row);
                runs_of(labels.data()[at..at + shape[2]].iter().map(|&v| v == class))
            })
            .collect();
        Self { shape, rows }
    }

    fn complement(&self) -> Self {
        let rows = self.rows.iter().map(|row| {
            let starts = std::iter::once(0).chain(row.iter().map(|r| r[1]));
            let ends = row.iter().map(|r| r[0]).chain([self.shape[2]]);
            starts.zip(ends).filter(|(s, e)| s < e).map(|(s, e)| [s, e]).collect()
        });
        Self {
            shape: self.shape,
            rows: rows.collect(),
        }
    }

    /// All voxels of the box within the ball around one of the mask.
    fn dilated(&self, ball: &[Chord]) -> Self {
        let [nz, ny, nx] = self.shape;
        let rows = (0..nz * ny)
            .into_par_iter()
            .map(|row| {
                let mut changes = vec![0i32; nx + 1];
                for &([dz, dy], half) in ball {
                    let (z, y) = ((row / ny).wrapping_add_signed(dz), (row % ny).wrapping_add_signed(dy));
                    if z < nz && y < ny {
                        for [start, end] in &self.rows[z * ny + y] {
                            changes[start.saturating_sub(half)] += 1;
                            changes[(end + half).min(nx)] -= 1;
                        }
                    }
                }
                let mut depth = 0;
                runs_of(changes[..nx].iter().map(|change| {
                    depth += change;
                    depth > 0
                }))
            })
            .collect();
        Self {
            shape: self.shape,
            rows,
        }
    }

    /// All voxels whose ball lies in the mask, as far as it lies in the box.
    fn eroded(&self, ball: &[Chord]) -> Self {
        self.complement().dilated(ball).complement()
    }
}

fn runs_of(inside: impl Iterator<Item = bool>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (x, _) in inside.enumerate().filter(|(_, inside)| *inside) {
        match runs.last_mut() {
            Some(run) if run[1] == x => run[1] = x + 1,
            _ => runs.push([x, x + 1]),
        }
    }
    runs
}

/// Offset in the data of the first voxel of a row of a box.
fn row_start(labels: &LabelMap, region: &Box3, row: usize) -> usize {
    let ny = region.shape()[1];
    labels.offset([region.start[0] + row / ny, region.start[1] + row % ny, region.start[2]])
}

/// Sets the voxels of a mask that are `from` to `to`, and says how many.
fn paint(labels: &mut LabelMap, region: &Box3, mask: &Mask, from: u8, to: u8) -> usize {
    let mut count = 0;
    for (row, runs) in mask.rows.iter().enumerate() {
        let at = row_start(labels, region, row);
        for &[start, end] in runs {
            for voxel in labels.data_mut()[at + start..at + end]
                .iter_mut()
                .filter(|v| **v == from)
            {
                *voxel = to;
                count += 1;
            }
        }
    }
    count
}

/// The voxels around the middle one whose centres lie within a radius, and twice their reach around a class: no ball that
/// matters ends at that box unless the grid ends there.
fn ball_and_region(labels: &LabelMap, class: u8, radius_mm: f64) -> Result<Option<(Vec<Chord>, Box3)>, ImageError> {
    if !(radius_mm >= 0.0 && radius_mm.is_finite()) {
        return Err(ImageError::BadParameter {
            what: "the radius of a ball in mm",
            value: radius_mm,
        });
    }
    let Some(found) = bounding_box(labels, |v| v == class) else {
        return Ok(None);
    };
    let (spacing, shape) = (labels.geometry().spacing, labels.shape());
    // So that a centre at exactly the radius is inside whatever rounding does.
    let radius = radius_mm * (1.0 + 1e-9);
    let reach: [usize; 3] = std::array::from_fn(|a| ((radius / spacing[a]) as usize).min(shape[a] - 1));
    let region = Box3 {
        start: std::array::from_fn(|a| found.start[a].saturating_sub(2 * reach[a])),
        end: std::array::from_fn(|a| (found.end[a] + 2 * reach[a]).min(shape[a])),
    };
    let [rz, ry] = [reach[0] as isize, reach[1] as isize];
    let steps = (-rz..=rz).flat_map(|dz| (-ry..=ry).map(move |dy| [dz, dy]));
    let ball = steps
        .filter_map(|step| {
            let [z, y] = [step[0] as f64 * spacing[0], step[1] as f64 * spacing[1]];
            let left = radius * radius - z * z - y * y;
            (left >= 0.0).then(|| (step, ((left.sqrt() / spacing[2]) as usize).min(shape[2])))
        })
        .collect();
    Ok(Some((ball, region)))
}

/// Takes away what of a class no ball of a radius inside the class reaches: thin bridges, spikes, specks. It becomes
/// background. Gives the number of voxels taken away.
///
/// ```
/// use viscera_image::{Geometry, Volume, morphology};
/// let mut labels = Volume::new(Geometry::ras([1, 3, 6], [1.0; 3]), vec![
///     1, 1, 1, 0, 0, 0, //
///     1, 1, 1, 1, 1, 0, //
///     1, 1, 1, 0, 0, 0,
/// ])?;
/// assert_eq!(morphology::open(&mut labels, 1, 1.0)?, 1);
/// assert_eq!(labels.data()[6..12], [1, 1, 1, 1, 0, 0]);
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
///
/// # Errors
/// [`ImageError::BadParameter`] when the radius is negative or not finite.
pub fn open(labels: &mut LabelMap, class: u8, radius_mm: f64) -> Result<usize, ImageError> {
    let Some((ball, region)) = ball_and_region(labels, class, radius_mm)? else {
        return Ok(0);
    };
    let opened = Mask::new(labels, class, &region).eroded(&ball).dilated(&ball);
    Ok(paint(labels, &region, &opened.complement(), class, 0))
}

/// Takes away what of a class has anything else within a radius; it becomes background. Gives the number of voxels taken
/// away.
///
/// # Errors
/// [`ImageError::BadParameter`] when the radius is negative or not finite.
pub fn erode(labels: &mut LabelMap, class: u8, radius_mm: f64) -> Result<usize, ImageError> {
    let Some((ball, region)) = ball_and_region(labels, class, radius_mm)? else {
        return Ok(0);
    };
    let core = Mask::new(labels, class, &region).eroded(&ball);
    Ok(paint(labels, &region, &core.complement(), class, 0))
}

/// Adds to a class the background within a radius of it. Other classes stay. Gives the number of voxels added.
///
/// # Errors
/// [`ImageError::BadParameter`] when the radius is negative or not finite.
pub fn dilate(labels: &mut LabelMap, class: u8, radius_mm: f64) -> Result<usize, ImageError> {
    let Some((ball, region)) = ball_and_region(labels, class, radius_mm)? else {
        return Ok(0);
    };
    let wider = Mask::new(labels, class, &region).dilated(&ball);
    Ok(paint(labels, &region, &wider, 0, class))
}

/// Adds to a class the background that no ball of a radius outside the class reaches: cracks, dents, small holes. Other
/// classes stay. Gives the number of voxels added.
///
/// # Errors
/// [`ImageError::BadParameter`] when the radius is negative or not finite.
pub fn close(labels: &mut LabelMap, class: u8, radius_mm: f64) -> Result<usize, ImageError> {
    let Some((ball, region)) = ball_and_region(labels, class, radius_mm)? else {
        return Ok(0);
    };
    let closed = Mask::new(labels, class, &region).dilated(&ball).eroded(&ball);
    Ok(paint(labels, &region, &closed, 0, class))
}

/// Adds to a class the background that it encloses: what is not of the class and has no way to the border of the grid
/// over faces of voxels, in the volume or in each slice across axis 0. Other classes inside stay. Gives the number of
/// voxels added. Equals `scipy.ndimage.binary_fill_holes`.
pub fn fill_holes(labels: &mut LabelMap, class: u8, slicewise: bool) -> usize {
    // A hole lies in the box of the class; what of the rest touches that box's faces is outside.
    let Some(region) = bounding_box(labels, |v| v == class) else {
        return 0;
    };
    let mut rest = Mask::new(labels, class, &region).complement();
    let [nz, ny, nx] = rest.shape;
    let mut first = Vec::with_capacity(nz * ny + 1);
    let mut count = 0;
    for row in &rest.rows {
        first.push(count);
        count += row.len();
    }
    // One more place stands for the outside.
    let mut parent: Vec<usize> = (0..=count).collect();
    for row in 0..nz * ny {
        let (z, y) = (row / ny, row % ny);
        let at_face = y == 0 || y + 1 == ny || (!slicewise && (z == 0 || z + 1 == nz));
        for (i, run) in rest.rows[row].iter().enumerate() {
            if at_face || run[0] == 0 || run[1] == nx {
                join(&mut parent, first[row] + i, count);
            }
        }
        let before = [(y > 0).then(|| row - 1), (z > 0 && !slicewise).then(|| row - ny)];
        for other in before.into_iter().flatten() {
            let (mut i, mut j) = (0, 0);
            while let (Some(a), Some(b)) = (rest.rows[row].get(i), rest.rows[other].get(j)) {
                if a[0] < b[1] && b[0] < a[1] {
                    join(&mut parent, first[row] + i, first[other] + j);
                }
                if a[1] < b[1] {
                    i += 1;
                } else {
                    j += 1;
                }
            }
        }
    }
    let outside = root(&mut parent, count);
    for (row, runs) in rest.rows.iter_mut().enumerate() {
        let mut at = first[row];
        runs.retain(|_| {
            at += 1;
            root(&mut parent, at - 1) != outside
        });
    }
    paint(labels, &region, &rest, 0, class)
}

fn root(parent: &mut [usize], mut at: usize) -> usize {
    while parent[at] != at {
        parent[at] = parent[parent[at]]; // halves the path
        at = parent[at];
    }
    at
}

fn join(parent: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parent, a), root(parent, b));
    parent[a.min(b)] = a.max(b);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Geometry, Volume};
    use proptest::prelude::*;

    prop_compose! {
        /// Blobs of two classes on grids of unequal spacing.
        fn maps()(shape in [1usize..8, 1usize..9, 1usize..12], spacing in [0.5f64..4.0, 0.5f64..2.0, 0.5f64..2.0])(
            shape in Just(shape),
            spacing in Just(spacing),
            data in prop::collection::vec(prop::sample::select(vec![0u8, 1, 1, 1, 2]), shape.iter().product::<usize>()),
        ) -> LabelMap {
            Volume::new(Geometry::ras(shape, spacing), data).unwrap()
        }
    }

    /// Centre by centre, as the definitions say.
    fn plain(labels: &LabelMap, inside: &[bool], radius: f64) -> Vec<bool> {
        let [_, ny, nx] = labels.shape();
        let place = |i: usize| [i / (ny * nx), i / nx % ny, i % nx];
        let near = |i: usize, j: usize| {
            let (a, b) = (place(i), place(j));
            let mm = (0..3).map(|k| (a[k] as f64 - b[k] as f64) * labels.geometry().spacing[k]);
            mm.map(|d| d * d).sum::<f64>() <= radius * radius * (1.0 + 1e-9)
        };
        let n = inside.len();
        (0..n).map(|i| (0..n).any(|j| inside[j] && near(i, j))).collect()
    }

    fn not(mask: Vec<bool>) -> Vec<bool> {
        mask.into_iter().map(|v| !v).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn opening_and_closing_follow_their_definitions(labels in maps(), radius in 0.0f64..5.0) {
            let class: Vec<bool> = labels.data().iter().map(|&v| v == 1).collect();
            let erode_plainly = |m: Vec<bool>| not(plain(&labels, &not(m), radius));
            let opened = plain(&labels, &erode_plainly(class.clone()), radius);
            let closed = erode_plainly(plain(&labels, &class, radius));
            let mut found = labels.clone();
            let removed = open(&mut found, 1, radius).unwrap();
            for (i, (&new, &old)) in found.data().iter().zip(labels.data()).enumerate() {
                prop_assert_eq!(new, if old == 1 && !opened[i] { 0 } else { old });
            }
            prop_assert_eq!(removed, class.iter().zip(&opened).filter(|(a, b)| **a && !**b).count());
            prop_assert_eq!(open(&mut found, 1, radius).unwrap(), 0);
            let mut found = labels.clone();
            erode(&mut found, 1, radius).unwrap();
            let core = erode_plainly(class);
            prop_assert!(found.data().iter().zip(&core).all(|(&v, &inside)| (v == 1) == inside));
            let mut found = labels.clone();
            close(&mut found, 1, radius).unwrap();
            for (i, (&new, &old)) in found.data().iter().zip(labels.data()).enumerate() {
                prop_assert_eq!(new, if old == 0 && closed[i] { 1 } else { old });
            }
        }

        #[test]
        fn filled_holes_are_those_without_a_way_out(labels in maps(), slicewise in prop::bool::ANY) {
            let [nz, ny, nx] = labels.shape();
            let mut outside = vec![false; labels.data().len()];
            let at = |z: usize, y: usize, x: usize| (z * ny + y) * nx + x;
            // Floods until nothing changes.
            loop {
                let before = outside.clone();
                for i in 0..outside.len() {
                    let (z, y, x) = (i / (ny * nx), i / nx % ny, i % nx);
                    let mut ways = vec![y == 0 || y + 1 == ny || x == 0 || x + 1 == nx];
                    if y > 0 { ways.push(outside[at(z, y - 1, x)]); }
                    if y + 1 < ny { ways.push(outside[at(z, y + 1, x)]); }
                    if x > 0 { ways.push(outside[at(z, y, x - 1)]); }
                    if x + 1 < nx { ways.push(outside[at(z, y, x + 1)]); }
                    if !slicewise {
                        ways.push(z == 0 || z + 1 == nz);
                        if z > 0 { ways.push(outside[at(z - 1, y, x)]); }
                        if z + 1 < nz { ways.push(outside[at(z + 1, y, x)]); }
                    }
                    outside[i] |= labels.data()[i] != 1 && ways.contains(&true);
                }
                if outside == before { break; }
            }
            let mut found = labels.clone();
            let added = fill_holes(&mut found, 1, slicewise);
            let mut expected = 0;
            for (i, (&new, &old)) in found.data().iter().zip(labels.data()).enumerate() {
                let fills = old == 0 && !outside[i];
                expected += usize::from(fills);
                prop_assert_eq!(new, if fills { 1 } else { old });
            }
            prop_assert_eq!(added, expected);
        }
    }

    #[test]
    fn impossible_radii_are_errors_and_absent_classes_nothing() {
        let mut labels = Volume::filled(Geometry::ras([2, 2, 2], [1.0; 3]), 1u8).unwrap();
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(open(&mut labels, 1, bad).is_err() && close(&mut labels, 1, bad).is_err());
        }
        assert_eq!(open(&mut labels, 7, 1.0), Ok(0));
        assert_eq!(close(&mut labels, 1, 1e30), Ok(0));
        assert_eq!(fill_holes(&mut labels, 7, false), 0);
    }
}
