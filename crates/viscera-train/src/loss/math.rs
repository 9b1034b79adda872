//! Exponential, logarithm and powers without branches or calls, so that the compiler makes vectors of them, and sums in a
//! fixed order.

/// Voxels side by side, for vector registers.
pub(super) const LANES: usize = 8;
/// The least share that a logarithm is taken of.
pub(super) const LEAST: f32 = 1.2e-38;

pub(super) type Lanes = [f32; LANES];

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = exp_neg(x.abs());
    let one = 1.0 / (1.0 + e);
    if x >= 0.0 { one } else { e * one }
}

/// `exp(−a)` for a ≥ 0 to 5e-7 relative (and 1e-7 more per unit of a), not less than exp(−87): 2^n · 2^f with a polynomial
/// for f in −½..½. NaN stays NaN.
#[inline(always)]
pub(super) fn exp_neg(a: f32) -> f32 {
    /// 1.5 · 2^23: adding it rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let t = -(if a > 87.0 { 87.0 } else { a }) * std::f32::consts::LOG2_E;
    let rounded = t + ROUND;
    let f = t - (rounded - ROUND);
    // ln(2)^k / k!
    let mut p = 1.540_353e-4;
    for c in [
        1.333_355_8e-3,
        9.618_129e-3,
        5.550_411e-2,
        2.402_265e-1,
        std::f32::consts::LN_2,
        1.0,
    ] {
        p = p * f + c;
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// `ln(1 + e)` for e in 0..1 to 4e-7: 2 artanh(e / (2 + e)) as a series.
#[inline(always)]
pub(super) fn ln_1p(e: f32) -> f32 {
    let y = e / (2.0 + e);
    let square = y * y;
    let mut sum = 0.0;
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    2.0 * y * sum
}

/// `ln x` for x > 0, to 3e-7 relative or absolute; of at least [`LEAST`]. NaN stays NaN.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    /// The bits of √½: exponents are counted from there, so that the rest lies in √½..√2.
    const ROOT: u32 = 0x3f35_04f3;
    let x = if x < LEAST { LEAST } else { x };
    let above = x.to_bits().wrapping_sub(ROOT);
    let exponent = (above as i32) >> 23;
    let rest = f32::from_bits((above & 0x007f_ffff).wrapping_add(ROOT));
    let y = (rest - 1.0) / (rest + 1.0);
    let square = y * y;
    let mut sum = 0.0;
    for odd in [9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    let result = exponent as f32 * std::f32::consts::LN_2 + 2.0 * y * sum;
    if x.is_nan() { x } else { result }
}

/// `x^power` for a share x of 0 to 1 and a power of at least 0.
#[inline(always)]
pub(super) fn power(x: f32, power: f32) -> f32 {
    let a = -power * ln(x);
    exp_neg(if a < 0.0 { 0.0 } else { a })
}

/// The sum of values, in eight interleaved parts.
pub(super) fn sum(values: &[f32]) -> f64 {
    let mut sums = [0.0f32; LANES];
    let (groups, rest) = values.as_chunks::<LANES>();
    for group in groups {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += value;
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value;
    }
    sums.iter().map(|&v| f64::from(v)).sum()
}

/// The sum of products.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().map(|&v| f64::from(v)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_functions_are_exact_enough() {
        for i in 0..=8700 {
            let a = i as f32 / 100.0;
            let want = (-f64::from(a)).exp();
            let tolerance = (5e-7 + 1e-7 * f64::from(a)) * want;
            assert!(
                (f64::from(exp_neg(a)) - want).abs() < tolerance,
                "{a}: {} against {want}",
                exp_neg(a)
            );
            let e = want as f32;
            let found = f64::from(ln(e));
            assert!(
                (found - f64::from(e).ln()).abs() < 3e-7 * found.abs().max(1.0),
                "ln {e}: {found}"
            );
            let found = f64::from(power(e, 0.7));
            let want = f64::from(e).powf(0.7);
            assert!((found - want).abs() < 2e-5 * want, "{e}: {found} against {want}");
            let want = f64::from(e).ln_1p();
            assert!((f64::from(ln_1p(e)) - want).abs() < 4e-7 * want, "{e}");
        }
        assert!(exp_neg(f32::INFINITY) < 1e-37 && sigmoid(f32::NAN).is_nan());
        assert!(ln(f32::NAN).is_nan() && ln(0.0) < -87.0 && power(0.0, 0.1) < 2e-4 && power(1.0, 0.3) == 1.0);
    }

    #[test]
    fn sums_take_every_value() {
        let values: Vec<f32> = (0..21).map(|v| v as f32).collect();
        assert_eq!((sum(&values), dot(&values, &values)), (210.0, 2870.0));
    }
}
