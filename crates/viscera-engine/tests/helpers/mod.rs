//! What several tests need.

use viscera_net::Tensor;

/// Values without structure, from an index.
pub(crate) fn noise(shape: [usize; 5], salt: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let value = |i: usize| {
        let x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        let x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((x ^ (x >> 32)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    Tensor::new(shape, (0..n).map(value).collect()).unwrap()
}

/// Fails where two arrays differ by more than `tolerance` times the first's largest value.
pub(crate) fn assert_close(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    // Not `> allowed`, which NaN would pass.
    assert!(
        a.len() == b.len() && worst <= tolerance * largest,
        "{what}: {worst} of {largest}"
    );
    assert!(b.iter().all(|v| v.is_finite()), "{what}: not finite");
}
