//! Smooth random fields from a hash: the same point and seed give the same value on every machine and thread.

/// A hash of a lattice point, as 32 well-mixed bits.
pub(super) fn hash(seed: u32, x: i32, y: i32, z: i32) -> u32 {
    let mut h = seed
        ^ (x as u32).wrapping_mul(0x9E37_79B1)
        ^ (y as u32).wrapping_mul(0x85EB_CA77)
        ^ (z as u32).wrapping_mul(0xC2B2_AE3D);
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

/// A hash as a number in −1…1.
pub(super) fn unit(h: u32) -> f32 {
    (h as i32) as f32 * (1.0 / 2_147_483_648.0)
}

/// Value noise: random numbers in −1…1 on a lattice of `scale` mm, smoothly joined (deviation about 0.3).
pub(super) fn noise(seed: u32, point: [f32; 3], scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    // The lattice stands askew, so that its cells never line up with voxels.
    const TURN: [[f32; 3]; 3] = [[0.48, 0.6, 0.64], [-0.8, 0.6, 0.0], [-0.36, -0.52, 0.76]];
    let (mut base, mut weight) = ([0i32; 3], [0f32; 3]);
    for a in 0..3 {
        let v = (TURN[a][0] * point[0] + TURN[a][1] * point[1] + TURN[a][2] * point[2]) * inverse;
        let floor = v.floor();
        base[a] = floor as i32;
        let t = v - floor;
        weight[a] = t * t * (3.0 - 2.0 * t);
    }
    let corner = |dx: i32, dy: i32, dz: i32| unit(hash(seed, base[0] + dx, base[1] + dy, base[2] + dz));
    let edge = |dy: i32, dz: i32| {
        let low = corner(0, dy, dz);
        low + weight[0] * (corner(1, dy, dz) - low)
    };
    let face = |dz: i32| {
        let low = edge(0, dz);
        low + weight[1] * (edge(1, dz) - low)
    };
    let low = face(0);
    low + weight[2] * (face(1) - low)
}

/// Two octaves of [`noise`]: coarse with half as much detail at 0.45 of its scale.
pub(super) fn rough(seed: u32, point: [f32; 3], scale: f32) -> f32 {
    noise(seed, point, scale) + 0.5 * noise(seed ^ 0x5bd1_e995, point, scale * 0.45)
}

/// A standard normal number for voxel `index` (Box–Muller on two hashes).
pub(super) fn gaussian(seed: u32, x: usize, y: usize, z: usize) -> f32 {
    let (x, y, z) = (x as i32, y as i32, z as i32);
    let u = (hash(seed, x, y, z) as f32 + 1.0) * (1.0 / 4_294_967_300.0);
    let v = hash(seed ^ 0x68bc_21eb, x, y, z) as f32 * (std::f32::consts::TAU / 4_294_967_300.0);
    (-2.0 * u.ln()).sqrt() * v.cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_continuous_and_centred() {
        let mut sum = 0.0;
        for i in 0..4000 {
            let p = [i as f32 * 0.731, i as f32 * 1.377, i as f32 * -0.519];
            let step = [p[0] + 0.01, p[1], p[2]];
            assert!((noise(7, p, 5.0) - noise(7, step, 5.0)).abs() < 0.02);
            sum += noise(7, p, 5.0);
        }
        assert!((sum / 4000.0f32).abs() < 0.05);
    }

    #[test]
    fn gaussian_has_unit_deviation() {
        let n = 40_000;
        let values: Vec<f32> = (0..n).map(|i| gaussian(3, i % 200, i / 200, 5)).collect();
        let mean = values.iter().sum::<f32>() / n as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
