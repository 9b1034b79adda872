//! The one place where a kernel path is chosen.

/// Instruction sets that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust: the reference, and what runs on other processors.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
}

impl Isa {
    /// The best that this processor has, unless the environment variable `VISCERA_ISA` (`scalar`, `avx2`) asks for less.
    #[must_use]
    pub fn detect() -> Self {
        let best = Self::best();
        match std::env::var("VISCERA_ISA").as_deref() {
            Ok("scalar") => Self::Scalar,
            _ => best,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Self::Avx2
        } else {
            Self::Scalar
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn best() -> Self {
        Self::Scalar
    }
}
