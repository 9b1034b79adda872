//! What a patient has that no label map shows: lesions inside organs, vessels inside the liver.

use super::draw::Draw;
use super::shape::{Point, smoothstep};
use super::texture;
use super::tissue::{Appearance, Tissue};
use crate::{Geometry, Volume};

/// Organs that get lesions, as the tissues they are made of.
const HOSTS: [&[Tissue]; 3] = [
    &[Tissue::Liver],
    &[Tissue::Spleen],
    &[Tissue::RenalCortex, Tissue::RenalMedulla],
];

/// Paints cysts, dark and bright lumps into organs of a share of scans; how many. RAS+.
pub(super) fn lesions(
    hu: &mut [f32],
    tissue: &Volume<Option<Tissue>>,
    appearance: &Appearance,
    share: f32,
    draw: &mut Draw,
) -> usize {
    if !draw.chance(share) {
        return 0;
    }
    // Half of all patients with lesions have them in the liver alone.
    let host = HOSTS[draw.count(0, 5).saturating_sub(3)];
    let inside = voxels(tissue, host);
    let wanted = if inside.is_empty() { 0 } else { draw.count(1, 6) };
    let geometry = tissue.geometry();
    for _ in 0..wanted {
        let middle = geometry_point(geometry, inside[draw.count(0, inside.len() - 1)]);
        let radius = (draw.within(3f32.ln(), 28f32.ln())).exp();
        let look = [
            Tissue::DarkTumour,
            Tissue::DarkTumour,
            Tissue::BrightTumour,
            Tissue::Bile,
        ][draw.count(0, 3)];
        let (seed, uneven) = (draw.seed(), draw.within(0.0, 0.35) * radius);
        ball(geometry, middle, radius + uneven + 2.0, |at, p| {
            if !tissue.data()[at].is_some_and(|t| host.contains(&t)) {
                return;
            }
            let depth = radius - apart(p, middle) + uneven * texture::noise(seed, p, 0.8 * radius);
            hu[at] += smoothstep(-1.5, 1.5, depth) * (appearance.hu(look, p) - hu[at]);
        });
    }
    wanted
}

/// Paints bent tubes with the look of the portal and hepatic veins into the liver of a share of scans; how many. RAS+.
pub(super) fn vessels(
    hu: &mut [f32],
    tissue: &Volume<Option<Tissue>>,
    appearance: &Appearance,
    share: f32,
    draw: &mut Draw,
) -> usize {
    if !draw.chance(share) {
        return 0;
    }
    let liver = voxels(tissue, &[Tissue::Liver]);
    let wanted = if liver.is_empty() { 0 } else { draw.count(4, 12) };
    let geometry = tissue.geometry();
    for _ in 0..wanted {
        let look = [Tissue::PortalVein, Tissue::HepaticVein][draw.count(0, 1)];
        let (mut p, mut way) = (
            geometry_point(geometry, liver[draw.count(0, liver.len() - 1)]),
            draw.direction(),
        );
        let (length, thick) = (draw.within(25.0, 110.0), draw.within(1.5, 6.0));
        let mut along = 0.0;
        while along < length {
            let radius = thick * (1.0 - 0.7 * along / length);
            ball(geometry, p, radius + 1.0, |at, q| {
                if tissue.data()[at] == Some(Tissue::Liver) {
                    let share = smoothstep(-0.7, 0.7, radius - apart(q, p));
                    hu[at] += share * (appearance.hu(look, q) - hu[at]);
                }
            });
            let bend = draw.direction();
            way = std::array::from_fn(|a| way[a] + 0.2 * bend[a]);
            let norm = apart(way, [0.0; 3]).max(1e-3);
            way = way.map(|c| c / norm);
            let step = (0.6 * radius).max(1.0);
            p = std::array::from_fn(|a| p[a] + step * way[a]);
            along += step;
        }
    }
    wanted
}

fn voxels(tissue: &Volume<Option<Tissue>>, wanted: &[Tissue]) -> Vec<usize> {
    let all = tissue.data().iter().enumerate();
    let found = all.filter(|(_, t)| t.is_some_and(|t| wanted.contains(&t)));
    found.map(|(at, _)| at).collect()
}

fn apart(a: Point, b: Point) -> f32 {
    (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f32>().sqrt()
}

/// World point of a voxel by its offset.
fn geometry_point(geometry: &Geometry, at: usize) -> Point {
    let [_, ny, nx] = geometry.shape;
    let index = [at / (ny * nx), at / nx % ny, at % nx].map(|i| i as f64);
    geometry.world_of(index).map(|c| c as f32)
}

/// Visits the voxels of a RAS+ grid within `reach` mm along each axis of a world point: offset and world point.
fn ball(geometry: &Geometry, middle: Point, reach: f32, mut visit: impl FnMut(usize, Point)) {
    let index = geometry.index_of(middle.map(f64::from));
    let range = |a: usize| {
        let reach = f64::from(reach) / geometry.spacing[a];
        let low = (index[a] - reach).ceil().max(0.0) as usize;
        let high = (index[a] + reach).floor().min(geometry.shape[a] as f64 - 1.0);
        low..(high + 1.0).max(0.0) as usize
    };
    let [_, ny, nx] = geometry.shape;
    for z in range(0) {
        for y in range(1) {
            for x in range(2) {
                let at = (z * ny + y) * nx + x;
                visit(at, geometry_point(geometry, at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom::Phase;

    /// A liver in fat, on a grid with slices thicker than its voxels are wide.
    fn body() -> Volume<Option<Tissue>> {
        let mut tissue =
            Volume::filled(Geometry::ras([24, 40, 40], [4.0, 2.5, 2.5]), Some(Tissue::VisceralFat)).unwrap();
        for at in 0..tissue.data().len() {
            let [z, y, x] = [at / 1600, at / 40 % 40, at % 40];
            if (4..20).contains(&z) && (8..32).contains(&y) && (8..32).contains(&x) {
                tissue.data_mut()[at] = Some(Tissue::Liver);
            }
        }
        tissue
    }

    type Paint = fn(&mut [f32], &Volume<Option<Tissue>>, &Appearance, f32, &mut Draw) -> usize;

    #[test]
    fn they_show_inside_their_organ_and_nowhere_else() {
        let tissue = body();
        for (paint, mean) in [(lesions as Paint, 0.0), (vessels as Paint, 400.0)] {
            let mut shown = 0;
            for seed in 0..20 {
                let mut look = Appearance::realistic(Phase::PortalVenous, &mut Draw::new(seed, 1));
                for tissue in [
                    Tissue::DarkTumour,
                    Tissue::BrightTumour,
                    Tissue::Bile,
                    Tissue::PortalVein,
                    Tissue::HepaticVein,
                ] {
                    look.set_mean(tissue, mean);
                }
                let mut hu = vec![200f32; tissue.data().len()];
                let count = paint(&mut hu, &tissue, &look, 1.0, &mut Draw::new(seed, 2));
                let changed = |wanted: bool| {
                    let voxels = hu.iter().zip(tissue.data());
                    voxels
                        .filter(|(v, t)| (**t == Some(Tissue::Liver)) == wanted && (**v - 200.0).abs() > 20.0)
                        .count()
                };
                assert_eq!(changed(false), 0, "seed {seed}");
                // Spleen and kidneys are not there, and a patient with lesions in them has none.
                assert!(changed(true) > 0 || count == 0, "seed {seed}");
                shown += usize::from(count > 0);
                let mut none = vec![200f32; hu.len()];
                assert_eq!(paint(&mut none, &tissue, &look, 0.0, &mut Draw::new(seed, 2)), 0);
                assert!(none.iter().all(|v| *v == 200.0));
            }
            assert!(shown >= 8, "{shown}");
        }
    }

    #[test]
    fn a_ball_has_the_volume_of_a_ball() {
        let geometry = Geometry::ras([30, 30, 30], [2.0, 1.0, 1.5]);
        let middle = geometry.world_of([15.0, 14.0, 13.0]).map(|c| c as f32);
        let mut inside = 0;
        ball(&geometry, middle, 12.0, |_, p| {
            inside += usize::from(apart(p, middle) <= 12.0)
        });
        let wanted = 4.0 / 3.0 * std::f64::consts::PI * 12f64.powi(3) / 3.0;
        assert!((inside as f64 / wanted - 1.0).abs() < 0.05, "{inside} {wanted}");
        // Partly and wholly outside the grid.
        let mut all = 0;
        ball(
            &geometry,
            geometry.world_of([0.0; 3]).map(|c| c as f32),
            5.0,
            |at, _| all = all.max(at),
        );
        assert!(all > 0 && all < geometry.len());
        ball(&geometry, [-500.0; 3], 5.0, |_, _| panic!("nothing is there"));
    }
}
