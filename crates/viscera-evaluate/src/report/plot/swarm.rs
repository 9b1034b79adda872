//! Points of one row, moved apart so that each can be seen.

/// For each place along a row how far to move its point aside, so that circles of radius `radius` do not overlap; at
/// most by `room` to either side. Where there is no room, points do overlap.
pub(super) fn swarm(places: &[f64], radius: f64, room: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|&a, &b| places[a].total_cmp(&places[b]));
    let mut aside = vec![0.0; places.len()];
    let mut placed: Vec<usize> = Vec::new();
    for at in order {
        placed.retain(|&other| places[at] - places[other] < 2.0 * radius);
        let free = |offset: f64| {
            placed.iter().all(|&other| {
                let (dx, dy) = (places[at] - places[other], offset - aside[other]);
                dx * dx + dy * dy >= 4.0 * radius * radius - 1e-9
            })
        };
        let steps = (room / radius).floor() as usize;
        let candidates = (0..=steps).flat_map(|step| [step as f64 * radius, step as f64 * -radius]);
        // Without room, spread by number over what there is.
        let crowded = (placed.len() % (2 * steps + 1)) as f64 * radius - steps as f64 * radius;
        aside[at] = candidates.into_iter().find(|&offset| free(offset)).unwrap_or(crowded);
        placed.push(at);
    }
    aside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_one_place_stand_side_by_side() {
        let places = [5.0, 5.0, 5.0, 40.0];
        let aside = swarm(&places, 2.0, 9.0);
        assert_eq!(aside[3], 0.0);
        for a in 0..3 {
            for b in 0..a {
                assert!((aside[a] - aside[b]).abs() >= 4.0, "{aside:?}");
            }
        }
        assert!(aside.iter().all(|y| y.abs() <= 9.0));
    }

    #[test]
    fn a_crowd_stays_in_its_row() {
        let aside = swarm(&[1.0; 100], 2.0, 8.0);
        assert!(aside.iter().all(|y| y.abs() <= 8.0));
    }
}
