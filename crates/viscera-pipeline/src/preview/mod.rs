//! A picture of a result: one axial, one coronal and one sagittal slice with coloured masks, and a legend.
//!
//! Radiological convention: the patient's right is on the picture's left, the front and the head are up, and the sagittal
//! slice looks at the patient from the left (front on the left). All three slices have one scale in mm. The window is
//! that of soft tissue, centre 40 and width 400 HU.

mod canvas;
mod cut;
mod panel;
mod slices;

pub use canvas::Picture;
pub use cut::{Cut, Plane};

use crate::statistics::Organ;
use crate::{PipelineError, Severity, Warning, Warnings};
use canvas::{Align, CHAR_HEIGHT, Canvas};
use panel::Panel;
use slices::{Best, RasView};
use viscera_image::{ImageError, Intensity, LabelMap, LabelTable, Volume};

/// Pixels that the three slices share side by side.
const SLICES_WIDTH: f64 = 1500.0;
/// Most pixels of a slice's height.
const SLICES_HEIGHT: f64 = 860.0;
/// Pixels between parts.
const GAP: usize = 12;
/// Pixels of a legend row.
const ROW: usize = 22;
const LEGEND_WIDTH: usize = 290;
const BRIGHT: [u8; 3] = [230, 230, 230];
const DIM: [u8; 3] = [130, 130, 130];

/// Draws a scan with its label map.
///
/// `organs` are the classes of the legend, with colours from `table`; those that `warnings` speak of stand in yellow or red
/// there, and the warnings' codes below. `title` stands at the top, plain or Latin-1 text.
///
/// # Errors
/// [`ImageError::GridMismatch`] when scan and label map have different shapes.
pub fn preview<T: Intensity>(
    scan: &Volume<T>,
    labels: &LabelMap,
    table: &LabelTable,
    organs: &[Organ],
    warnings: &Warnings,
    title: &str,
) -> Result<Picture, PipelineError> {
    if scan.shape() != labels.shape() {
        return Err(ImageError::GridMismatch {
            left: scan.shape(),
            right: labels.shape(),
        }
        .into());
    }
    let view = RasView::new(scan.geometry());
    let best = Best::new(labels, &view);
    let extent = view.extent_mm();
    let scale = scale(extent);
    let panels: Vec<Panel> = Plane::ALL
        .into_iter()
        .map(|plane| Panel::new(plane, extent, scale))
        .collect();

    let top = GAP + CHAR_HEIGHT + GAP;
    let tallest = panels.iter().map(|p| p.height).max().unwrap_or(0);
    let doubts: Vec<&Warning> = warnings.list().iter().filter(|w| w.is_quality()).collect();
    let legend_height = ROW * (organs.len() + 2 + doubts.len());
    let height = top + (CHAR_HEIGHT + 4 + tallest).max(legend_height) + GAP + CHAR_HEIGHT + GAP;
    let slices_width: usize = panels.iter().map(|p| p.width + GAP).sum();
    let mut canvas = Canvas::new(GAP + slices_width + LEGEND_WIDTH + GAP, height);

    canvas.text(GAP, GAP, title, BRIGHT, Align::Left);
    let mut left = GAP;
    for panel in &panels {
        panel.caption(&mut canvas, left, top, &view, best.slices);
        let top = top + CHAR_HEIGHT + 4;
        panel.draw(&mut canvas, [left, top], scan, labels, table, &view, best.slices);
        left += panel.width + GAP;
    }
    legend(&mut canvas, left + GAP, top, table, organs, warnings);
    for (i, warning) in doubts.iter().enumerate() {
        let y = top + ROW * (organs.len() + 2 + i);
        let text = format!("! {}", warning.code().replace('-', " "));
        canvas.text(left + GAP, y, &text, colour(Some(warning.severity())), Align::Left);
    }
    let foot = "Window 40/400 HU. Patient's right is on the left. For research, not for diagnosis.";
    canvas.text(GAP, height - GAP - CHAR_HEIGHT, foot, DIM, Align::Left);
    Ok(canvas.into_picture())
}

/// Pixels per mm, for extents `[z, y, x]` in mm.
fn scale([z, y, x]: [f64; 3]) -> f64 {
    let width = SLICES_WIDTH / (x + x + y);
    let height = SLICES_HEIGHT / y.max(z);
    width.min(height)
}

/// The colour of text about something in doubt.
fn colour(severity: Option<Severity>) -> [u8; 3] {
    match severity {
        Some(Severity::Error) => [255, 80, 70],
        Some(Severity::Warning) => [255, 200, 60],
        Some(Severity::Note) | None => BRIGHT,
    }
}

fn legend(canvas: &mut Canvas, left: usize, top: usize, table: &LabelTable, organs: &[Organ], warnings: &Warnings) {
    let right = left + LEGEND_WIDTH - GAP;
    canvas.text(right, top, "ml", DIM, Align::Right);
    for (i, organ) in organs.iter().enumerate() {
        let y = top + ROW * (i + 1);
        let found = organ.voxels > 0;
        let rgb = table.by_id(organ.id).map_or(DIM, |e| e.rgb);
        if found {
            canvas.fill([left, y + 1], [14, 14], rgb);
        } else {
            canvas.frame([left, y + 1], [14, 14], DIM);
        }
        let colour = match warnings.of_organ(&organ.name) {
            None if !found => DIM,
            severity => colour(severity),
        };
        let mut name = organ.name.replace('_', " ");
        if organ.touches_border {
            name.push_str(" *");
        }
        canvas.text(left + 22, y, &name, colour, Align::Left);
        let volume = match organ.volume_ml {
            _ if !found => "-".to_owned(),
            ml if ml < 9.95 => format!("{ml:.1}"),
            ml => format!("{ml:.0}"),
        };
        canvas.text(right, y, &volume, colour, Align::Right);
    }
    if organs.iter().any(|o| o.touches_border) {
        let y = top + ROW * (organs.len() + 1) + 4;
        canvas.text(left, y, "* reaches the border of the scan", DIM, Align::Left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::{AxisMap, Geometry};

    /// Air with one bright block at the patient's right, front and top, in a file whose axes lie in some odd way, and a
    /// labelled block at the left, back and bottom.
    fn picture(map: AxisMap) -> (Picture, usize) {
        let grid = Geometry::ras([40, 50, 60], [5.0, 3.0, 3.0]);
        let mut scan = Volume::filled(grid.clone(), -1000i16).unwrap();
        let mut labels = Volume::filled(grid, 0u8).unwrap();
        let mut block = |from: [usize; 3], hu: i16, label: u8| {
            for z in from[0]..from[0] + 12 {
                for y in from[1]..from[1] + 12 {
                    for x in from[2]..from[2] + 12 {
                        let at = scan.offset([z, y, x]);
                        scan.data_mut()[at] = hu;
                        labels.data_mut()[at] = label;
                    }
                }
            }
        };
        // They meet in the middle, so that one slice of each plane shows both.
        block([19, 24, 29], 1000, 0);
        block([8, 13, 18], 0, 3);
        let (scan, labels) = (map.apply(&scan), map.apply(&labels));
        let table = LabelTable::flare13();
        let organs = crate::statistics::measure(&scan, &labels, &table).unwrap();
        let mut warnings = Warnings::default();
        warnings.push(Warning::ImplausibleVolume {
            organs: vec!["spleen".to_owned()],
        });
        let picture = preview(&scan, &labels, &table, &organs, &warnings, "test").unwrap();
        let width = panel_width();
        (picture, width)
    }

    fn panel_width() -> usize {
        let extent = [200.0, 150.0, 180.0];
        Panel::new(Plane::Axial, extent, scale(extent)).width
    }

    /// Mean place (column, row) of the pixels of a part of the picture that satisfy a condition.
    fn mean(picture: &Picture, columns: std::ops::Range<usize>, is: impl Fn([u8; 3]) -> bool) -> Option<[f64; 2]> {
        let (mut n, mut sum) = (0.0, [0.0; 2]);
        for y in 60..picture.height - 40 {
            for x in columns.clone() {
                if is(picture.pixel(x, y)) {
                    n += 1.0;
                    sum[0] += x as f64;
                    sum[1] += y as f64;
                }
            }
        }
        (n > 0.0).then(|| sum.map(|s| s / n))
    }

    #[test]
    fn the_picture_is_the_right_way_up_whatever_the_file() {
        let table = LabelTable::flare13();
        let spleen = table.by_id(3).unwrap().rgb;
        for map in AxisMap::all().step_by(7) {
            let (picture, width) = picture(map);
            for panel in 0..3 {
                let left = GAP + panel * (width + GAP);
                // The sagittal panel is as wide as the patient is deep.
                let columns = left + 20..left + if panel == 2 { width * 150 / 180 } else { width } - 20;
                let white = mean(&picture, columns.clone(), |p| p.iter().all(|c| *c > 250)).unwrap();
                let red = mean(&picture, columns, |p| p == spleen).unwrap();
                // Right of the patient is left in the picture; front is left in the sagittal one; front and top are up.
                assert!(
                    white[0] < red[0] && white[1] < red[1],
                    "{map:?}, panel {panel}: {white:?} {red:?}"
                );
            }
        }
    }

    #[test]
    fn organs_in_doubt_stand_in_yellow() {
        let (picture, _) = picture(AxisMap::IDENTITY);
        let rows = |y: usize| (0..picture.width).any(|x| picture.pixel(x, y) == colour(Some(Severity::Warning)));
        let top = GAP + CHAR_HEIGHT + GAP;
        // The third organ, and the warning below all of them.
        let yellow: Vec<bool> = (1..=15)
            .map(|i| (0..CHAR_HEIGHT).any(|y| rows(top + ROW * i + y)))
            .collect();
        assert_eq!((1..=15).filter(|i| yellow[i - 1]).collect::<Vec<_>>(), [3, 15]);
    }

    #[test]
    fn other_orders_of_axes_give_the_same_picture() {
        let (first, _) = picture(AxisMap::IDENTITY);
        for map in AxisMap::all().step_by(5) {
            assert!(picture(map).0 == first, "{map:?}");
        }
    }

    #[test]
    fn millimetres_are_square() {
        let extent = [300.0, 200.0, 400.0];
        let s = scale(extent);
        let axial = Panel::new(Plane::Axial, extent, s);
        let coronal = Panel::new(Plane::Coronal, extent, s);
        assert!((axial.width as f64 / axial.height as f64 - 2.0).abs() < 0.02);
        assert_eq!(axial.width, coronal.width);
        assert!((coronal.width as f64 / coronal.height as f64 - 4.0 / 3.0).abs() < 0.02);
    }
}
