//! Smooth functions of eight values at once. Absolute errors are below 3 · 10⁻⁷; those of `exp` are relative.

use crate::vector::Vector;

/// e^x, from e^−87 on; what lies below gives that (10⁻³⁸).
#[inline(always)]
pub(super) fn exp<V: Vector>(x: V) -> V {
    // x = n · ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts keeps r exact (Cody and Waite 1980). NaN passes.
    let x = V::splat(88.0).min(V::splat(-87.0).max(x));
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(V::splat(-0.693_359_4), x);
    let r = n.mul_add(V::splat(2.121_944_4e-4), r);
    // Taylor's series: the next term is below 2⁻²⁷.
    let mut sum = V::splat(1.0 / 5040.0);
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum.mul_add(r, V::splat(factor));
    }
    sum.mul(n.exp2_whole())
}

/// A function with its derivative.
pub(super) trait Function {
    /// f(x).
    fn value<V: Vector>(x: V) -> V;
    /// f′(x).
    fn derivative<V: Vector>(x: V) -> V;
}

/// 1 / (1 + e^−x).
pub(super) struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    fn value<V: Vector>(x: V) -> V {
        let one = V::splat(1.0);
        one.div(one.add(exp(V::splat(0.0).sub(x))))
    }

    #[inline(always)]
    fn derivative<V: Vector>(x: V) -> V {
        let y = Self::value(x);
        y.mul(V::splat(1.0).sub(y))
    }
}

/// x · sigmoid(x).
pub(super) struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value<V: Vector>(x: V) -> V {
        x.mul(Sigmoid::value(x))
    }

    #[inline(always)]
    fn derivative<V: Vector>(x: V) -> V {
        let s = Sigmoid::value(x);
        s.mul(x.mul_add(V::splat(1.0).sub(s), V::splat(1.0)))
    }
}

/// Hyperbolic tangent.
pub(super) struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    fn value<V: Vector>(x: V) -> V {
        Sigmoid::value(x.add(x)).mul_add(V::splat(2.0), V::splat(-1.0))
    }

    #[inline(always)]
    fn derivative<V: Vector>(x: V) -> V {
        let y = Self::value(x);
        V::splat(1.0).sub(y.mul(y))
    }
}

/// x · Φ(x).
pub(super) struct Gelu;

impl Gelu {
    /// Φ(x) and e^(−x²/2). Φ by formula 7.1.26 of Abramowitz and Stegun 1964.
    #[inline(always)]
    fn normal<V: Vector>(x: V) -> [V; 2] {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let size = x.max(zero.sub(x)).mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let bell = exp(zero.sub(size.mul(size)));
        let t = one.div(size.mul_add(V::splat(0.327_591_1), one));
        let mut sum = V::splat(1.061_405_4);
        for factor in [-1.453_152_1, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            sum = sum.mul_add(t, V::splat(factor));
        }
        let tail = sum.mul(t).mul(bell).mul(V::splat(0.5));
        [x.if_positive(one.sub(tail), tail), bell]
    }
}

impl Function for Gelu {
    #[inline(always)]
    fn value<V: Vector>(x: V) -> V {
        x.mul(Self::normal(x)[0])
    }

    #[inline(always)]
    fn derivative<V: Vector>(x: V) -> V {
        let [below, bell] = Self::normal(x);
        // φ(x) = e^(−x²/2) / √(2π).
        x.mul(bell).mul_add(V::splat(0.398_942_3), below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::layout::Lane;
    use crate::vector::Kernel;

    struct Apply<F>(f32, F);

    impl<F: Function> Kernel for Apply<F> {
        type Output = [f32; 2];

        #[inline(always)]
        fn run<V: Vector>(self) -> [f32; 2] {
            let x = V::splat(self.0);
            [F::value(x), F::derivative(x)].map(|v| {
                let mut lane = Lane::ZERO;
                v.store(&mut lane);
                lane.0[5]
            })
        }
    }

    struct Exp;

    impl Function for Exp {
        #[inline(always)]
        fn value<V: Vector>(x: V) -> V {
            exp(x)
        }

        #[inline(always)]
        fn derivative<V: Vector>(x: V) -> V {
            exp(x)
        }
    }

    /// Φ by Simpson's rule from 0.
    fn normal(x: f64) -> f64 {
        let steps = 2000;
        let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let h = x / f64::from(steps);
        let inner: f64 = (1..steps)
            .map(|i| density(h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 })
            .sum();
        0.5 + (density(0.0) + inner + density(x)) * h / 3.0
    }

    #[test]
    fn functions_and_derivatives_are_those_of_f64() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for isa in Isa::available() {
            for i in -300..=300 {
                let x = i as f32 / 20.0;
                let exact = f64::from(x);
                let check = |what: &str, found: [f32; 2], value: f64, derivative: f64, scale: f64| {
                    for (found, expected) in found.into_iter().zip([value, derivative]) {
                        let error = (f64::from(found) - expected).abs();
                        assert!(error < 4e-7 * scale, "{what}({x}) is {found}, not {expected}");
                    }
                };
                let s = sigmoid(exact);
                check("exp", isa.run(Apply(x, Exp)), exact.exp(), exact.exp(), exact.exp());
                check("sigmoid", isa.run(Apply(x, Sigmoid)), s, s * (1.0 - s), 1.0);
                let size = exact.abs().max(1.0);
                check(
                    "silu",
                    isa.run(Apply(x, Silu)),
                    exact * s,
                    s * (1.0 + exact * (1.0 - s)),
                    size,
                );
                let t = exact.tanh();
                check("tanh", isa.run(Apply(x, Tanh)), t, 1.0 - t * t, 2.0);
                let (phi, density) = (
                    normal(exact),
                    (-exact * exact / 2.0).exp() / std::f64::consts::TAU.sqrt(),
                );
                check(
                    "gelu",
                    isa.run(Apply(x, Gelu)),
                    exact * phi,
                    phi + exact * density,
                    size,
                );
            }
        }
    }

    #[test]
    fn extremes_stay_finite_and_nan_stays() {
        for isa in Isa::available() {
            for x in [f32::NEG_INFINITY, -1e30, 1e30] {
                let [value, slope] = isa.run(Apply(x, Sigmoid));
                assert!(
                    (value - f32::from(x > 0.0)).abs() < 1e-6 && slope.abs() < 1e-6,
                    "{x}: {value}"
                );
            }
            assert!(isa.run(Apply(f32::NAN, Sigmoid))[0].is_nan());
            assert!(isa.run(Apply(f32::NAN, Gelu))[0].is_nan());
        }
    }
}
