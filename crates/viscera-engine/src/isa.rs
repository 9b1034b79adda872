//! The one place where a kernel path is chosen.

use crate::vector::{Kernel, Plain};
use std::sync::OnceLock;

/// Instruction sets that kernels are written for, from the least to the best; each processor that has one has those
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust that goes about convolutions of bf16 as AMX does: the reference for it. Slow.
    ScalarTiles,
    /// Plain Rust: the reference, and what runs on other processors.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C, which processors with AVX2 have.
    Avx2,
    /// The same with AVX-512 (F and VL): convolutions in registers of sixteen floats.
    Avx512,
    /// The same with AMX (tiles of bf16): convolutions of values that are stored in bf16 multiply whole tiles.
    Amx,
}

impl Isa {
    /// The best that this processor has, unless the environment variable `VISCERA_ISA` (`scalar-tiles`, `scalar`,
    /// `avx2`, `avx512`, `amx`) asks for less.
    #[must_use]
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        let best = *BEST.get_or_init(Self::best);
        let wanted = std::env::var("VISCERA_ISA");
        let named = |isa: &Self| wanted.as_deref() == Ok(isa.name());
        Self::ALL.into_iter().find(named).map_or(best, |isa| isa.min(best))
    }

    const ALL: [Self; 5] = [Self::ScalarTiles, Self::Scalar, Self::Avx2, Self::Avx512, Self::Amx];

    /// What can run here, the least first.
    pub fn available() -> impl Iterator<Item = Self> {
        let best = Self::detect();
        Self::ALL.into_iter().filter(move |isa| *isa <= best)
    }

    /// As the environment variable has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScalarTiles => "scalar-tiles",
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Runs a kernel on this path.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::ScalarTiles | Self::Scalar => kernel.run::<Plain>(),
            // SAFETY: an engine takes these paths only where `best` has found AVX2, FMA and F16C.
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            Self::Avx2 | Self::Avx512 | Self::Amx => unsafe { crate::vector::run_avx2(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Amx => kernel.run::<Plain>(),
        }
    }

    /// Whether convolutions of values in bf16 multiply whole tiles of them on this path.
    #[must_use]
    pub fn multiplies_tiles(self) -> bool {
        matches!(self, Self::ScalarTiles | Self::Amx)
    }

    /// Blocks of output channels that one tile of a convolution holds at most.
    pub(crate) fn blocks(self) -> usize {
        match self {
            Self::ScalarTiles | Self::Scalar | Self::Avx2 => 2,
            Self::Avx512 | Self::Amx => 4,
        }
    }

    /// Floats in a register.
    pub(crate) fn floats(self) -> usize {
        match self {
            Self::ScalarTiles | Self::Scalar | Self::Avx2 => 8,
            Self::Avx512 | Self::Amx => 16,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")) {
            return Self::Scalar;
        }
        if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")) {
            return Self::Avx2;
        }
        if tiles::may_be_used() { Self::Amx } else { Self::Avx512 }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn best() -> Self {
        Self::Scalar
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
mod tiles {
    /// Whether the processor multiplies tiles of bf16, and the system lets this process use them. Linux wants to be asked,
    /// because the registers take eight KiB that it has to save (`arch_prctl(2)`).
    pub(super) fn may_be_used() -> bool {
        /// AMX-BF16 and AMX-TILE, in edx of leaf 7; the library's own detection of them is not stable yet.
        const FEATURES: u32 = 1 << 22 | 1 << 24;
        const ARCH_PRCTL: i64 = 158;
        const REQUEST_PERMISSION: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        #[allow(unused_unsafe, reason = "safe from Rust 1.94 on")]
        // SAFETY: every x86-64 processor has the instruction, and leaf 7 is read only where there is one.
        let has = unsafe {
            std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & FEATURES == FEATURES
        };
        if !has {
            return false;
        }
        let answer: i64;
        // SAFETY: a system call that reads no memory; it changes rcx and r11.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => answer,
                in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack, nomem)
            );
        }
        answer == 0
    }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
mod tiles {
    /// Only Linux has been taught.
    pub(super) fn may_be_used() -> bool {
        false
    }
}
