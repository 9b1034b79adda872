//! Every buffer between two pages that cannot be touched: a kernel that reads or writes past its own ends the process.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "an allocator with guard pages")]

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use viscera_engine::{Engine, Isa, Options, Precision};
use viscera_net::builders::{CoarseUnet, EfficientSegNet, Encoder, Heads, Naming, Norm, Plane, UNet, UNetStage};
use viscera_net::{Executor, Graph, Tensor, Weights};

const PAGE: usize = 4096;
/// Smaller ones are no buffers of values or weights.
const LEAST: usize = 1024;

struct Guarded;
/// Whether a buffer ends at its page's end (past it is a guard), or begins at its page's beginning.
static AT_END: AtomicBool = AtomicBool::new(true);

/// Bytes between the guards.
fn room(layout: Layout) -> usize {
    layout.size().next_multiple_of(PAGE)
}

// SAFETY: memory comes from the system, with the size and the alignment asked for.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() < LEAST || layout.align() > PAGE {
            // SAFETY: passed on from the caller.
            return unsafe { System.alloc(layout) };
        }
        let room = room(layout);
        // SAFETY: a new mapping of its own; the pages changed are part of it.
        unsafe {
            let flags = ProtFlags::READ | ProtFlags::WRITE;
            let Ok(start) = mmap_anonymous(null_mut(), room + 2 * PAGE, flags, MapFlags::PRIVATE) else {
                return null_mut();
            };
            let bytes: *mut u8 = start.cast();
            let guards = [start, bytes.add(PAGE + room).cast()];
            if guards
                .iter()
                .any(|&guard| mprotect(guard, PAGE, MprotectFlags::empty()).is_err())
            {
                return null_mut();
            }
            let rest = room - layout.size();
            let gap = if AT_END.load(Ordering::SeqCst) {
                rest - rest % layout.align()
            } else {
                0
            };
            bytes.add(PAGE + gap)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.size() < LEAST || layout.align() > PAGE {
            // SAFETY: passed on from the caller.
            return unsafe { System.dealloc(pointer, layout) };
        }
        let start = (pointer as usize / PAGE - 1) * PAGE;
        // SAFETY: the mapping that `alloc` made; the pointer lies in its first page behind the guard.
        unsafe {
            let _ = munmap(pointer.with_addr(start).cast(), room(layout) + 2 * PAGE);
        }
    }
}

#[global_allocator]
static GUARDED: Guarded = Guarded;

fn networks() -> Vec<(Graph, [usize; 5])> {
    let coarse = CoarseUnet {
        in_channels: 1,
        base_features: 5,
        out_channels: 3,
        decoder_blocks: 1,
        dropout: 0.2,
    };
    let fine = EfficientSegNet {
        in_channels: 2,
        base_features: 4,
        out_channels: 13,
        dropout: 0.2,
        plane: Plane::Paper,
        context: true,
    };
    let stage = |features, stride| UNetStage {
        features,
        kernel: [3; 3],
        stride: [stride; 3],
        depth: 1,
        decoder_depth: 1,
    };
    let residual = UNet {
        in_channels: 1,
        out_channels: 3,
        encoder: Encoder::Residual { stem: None },
        stages: vec![stage(16, 1), stage(24, 2), stage(9, 2)],
        conv_bias: true,
        up_bias: true,
        head_bias: true,
        norm: Norm::Instance {
            eps: 1e-5,
            affine: true,
        },
        slope: 0.01,
        dropout: 0.0,
        heads: Heads::All,
        naming: Naming::NnUnetV2,
    };
    vec![
        (coarse.build(), [2, 1, 17, 19, 33]),
        (fine.build(), [1, 2, 64, 64, 65]),
        (residual.build().unwrap(), [2, 1, 12, 20, 36]),
    ]
}

#[test]
fn no_kernel_leaves_its_buffers() {
    for at_end in [true, false] {
        AT_END.store(at_end, Ordering::SeqCst);
        for (graph, shape) in networks() {
            let data = (0..shape.iter().product())
                .map(|i: usize| (i % 17) as f32 - 8.0)
                .collect();
            let input = Tensor::new(shape, data).unwrap();
            // The plain path shares all driving code with the fast one; the large network would take it long.
            let paths = if shape[2] < 64 {
                Isa::available().collect()
            } else {
                vec![Isa::detect()]
            };
            for isa in paths {
                let mut engine = Engine::with_isa(&graph, &Weights::init(&graph, 3), isa).unwrap();
                let outputs = engine.infer(&input).unwrap();
                assert!(outputs[0].data().iter().all(|v| v.is_finite()));
                let outputs = engine.forward(&input, 1).unwrap();
                assert!(engine.backward(&outputs).is_ok());
                drop(engine);
                let options = Options {
                    precision: Precision::Bf16,
                    isa,
                    shared: false,
                };
                let mut engine = Engine::with_options(&graph, &Weights::init(&graph, 3), options).unwrap();
                let outputs = engine.infer(&input).unwrap();
                assert!(outputs[0].data().iter().all(|v| v.is_finite()));
                let outputs = engine.forward(&input, 1).unwrap();
                assert!(engine.backward(&outputs).is_ok());
            }
        }
    }
}
