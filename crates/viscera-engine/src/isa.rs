//! The one place where a kernel path is chosen.

use crate::vector::{Kernel, Plain};

/// Instruction sets that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust: the reference, and what runs on other processors.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C, which processors with AVX2 have.
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

    /// Runs a kernel on this path.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar => kernel.run::<Plain>(),
            // SAFETY: an engine takes this path only where `best` has found AVX2, FMA and F16C.
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            Self::Avx2 => unsafe { crate::vector::run_avx2(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 => kernel.run::<Plain>(),
        }
    }

    /// Whether this processor multiplies matrices of bf16 (AMX).
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_bf16_products() -> bool {
        // Bits 22 (AMX-BF16) and 24 (AMX-TILE) of leaf 7; the library's own detection of them is not stable yet.
        let bits = 1 << 22 | 1 << 24;
        #[allow(unused_unsafe, unsafe_code, reason = "safe from Rust 1.94 on")]
        // SAFETY: every x86-64 processor has the instruction, and leaf 7 is read only where there is one.
        unsafe {
            std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & bits == bits
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn has_bf16_products() -> bool {
        false
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
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
