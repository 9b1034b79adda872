//! Copy-paste: small cubes around foreground appear elsewhere too, so that small targets are seen more often and in other
//! surroundings (the published StMt's: ten cubes of 6³ voxels).

use super::drawn;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use viscera_pipeline::recipe::Augment;

/// Voxels along a cube's edge.
const EDGE: usize = 6;

/// Copies cubes of `hu` and `labels` (both of `size`) that are centred on random labelled voxels to random places.
pub(crate) fn copy_paste(hu: &mut [f32], labels: &mut [u8], size: [usize; 3], augment: &Augment, rng: &mut ChaCha8Rng) {
    let Some(count) = drawn(augment.copy_paste, rng) else {
        return;
    };
    let foreground: Vec<usize> = (0..labels.len()).filter(|&at| labels[at] > 0).collect();
    if foreground.is_empty() || size.contains(&0) {
        return;
    }
    // From the sample as it was, so that no cube holds pieces of another.
    let (hu_before, labels_before) = (hu.to_vec(), labels.to_vec());
    let edge = size.map(|n| n.min(EDGE));
    for _ in 0..count.round() as usize {
        let centre = foreground[rng.random_range(0..foreground.len())];
        let centre = [
            centre / (size[1] * size[2]),
            centre / size[2] % size[1],
            centre % size[2],
        ];
        let from: [usize; 3] = std::array::from_fn(|a| centre[a].saturating_sub(edge[a] / 2).min(size[a] - edge[a]));
        let to: [usize; 3] = std::array::from_fn(|a| rng.random_range(0..=size[a] - edge[a]));
        for z in 0..edge[0] {
            for y in 0..edge[1] {
                let row = |start: [usize; 3]| ((start[0] + z) * size[1] + start[1] + y) * size[2] + start[2];
                let (from, to) = (row(from), row(to));
                hu[to..to + edge[2]].copy_from_slice(&hu_before[from..from + edge[2]]);
                labels[to..to + edge[2]].copy_from_slice(&labels_before[from..from + edge[2]]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use viscera_pipeline::recipe::Chance;

    #[test]
    fn cubes_carry_their_labels_along() {
        let size = [12, 20, 17];
        let count = size.iter().product();
        let mut labels = vec![0u8; count];
        labels[(6 * 20 + 10) * 17 + 8] = 14;
        let mut hu: Vec<f32> = labels.iter().map(|&l| if l > 0 { 90.0 } else { -50.0 }).collect();
        let before = (hu.clone(), labels.clone());
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        copy_paste(&mut hu, &mut labels, size, &Augment::default(), &mut rng);
        assert!((&hu, &labels) == (&before.0, &before.1));
        let augment = Augment {
            copy_paste: Some(Chance::new(1.0, [10.0, 10.0])),
            ..Augment::default()
        };
        copy_paste(&mut hu, &mut labels, size, &augment, &mut rng);
        let targets = labels.iter().filter(|&&l| l == 14).count();
        assert!((3..=11).contains(&targets), "{targets}");
        assert!(hu.iter().zip(&labels).all(|(&v, &l)| (v == 90.0) == (l == 14)));

        // Smaller than a cube, and without foreground.
        let (mut hu, mut labels) = (vec![1.0; 8], vec![1u8; 8]);
        copy_paste(&mut hu, &mut labels, [2, 2, 2], &augment, &mut rng);
        labels.fill(0);
        copy_paste(&mut hu, &mut labels, [2, 2, 2], &augment, &mut rng);
        assert_eq!(labels, [0; 8]);
    }
}
