//! What a run is said to take, against what it takes.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use viscera_engine::{Engine, MemoryNeed, Precision};
use viscera_net::builders::named;
use viscera_net::{Executor, Tensor, Weights};

struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all work is the system's; this only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        PEAK.fetch_max(now, Ordering::SeqCst);
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a training step keeps for its way back: no values behind norms, which are made again, and in bf16 half as much.
fn a_training_step_keeps_little() {
    let graph = named("net1").unwrap().architecture.build().unwrap();
    let weights = Weights::init(&graph, 1);
    let size = [64; 3];
    let input = Tensor::zeros([1, 1, size[0], size[1], size[2]]);
    // Between both passes, on top of engine and outputs.
    let kept = |precision: Precision| {
        let mut engine = Engine::with_options(&graph, &weights, precision.into()).unwrap();
        // Packs weights.
        engine.run(&input).unwrap();
        let before = NOW.load(Ordering::SeqCst);
        let outputs = engine.forward(&input, 1).unwrap();
        let heads: usize = outputs.iter().map(|o| 4 * o.data().len()).sum();
        NOW.load(Ordering::SeqCst) - before - heads
    };
    let of_f32 = |id: &usize| {
        let (channels, extent) = graph.shapes(size).unwrap().nodes[*id];
        4 * channels * extent.iter().product::<usize>()
    };
    // All values that a graph of convolutions, norms and activations names, each once.
    let all: usize = (0..graph.nodes.len()).map(|id| of_f32(&id)).sum();
    let [full, half] = [Precision::F32, Precision::Bf16].map(kept);
    assert!(full < all / 2, "{full} of {all}");
    assert!(half as f64 <= 0.6 * full as f64, "{half} of {full}");
}

/// One test, because what is counted is the process's.
#[test]
fn a_run_takes_what_was_said() {
    a_forward_pass_takes_what_was_said();
    a_training_step_keeps_little();
}

fn a_forward_pass_takes_what_was_said() {
    let threads = 2;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let networks = [("net1", 64), ("net2", 64), ("d-fine", 96)];
    let precisions = [Precision::F32, Precision::Bf16];
    for ((name, size), precision) in networks.into_iter().flat_map(|n| precisions.map(|p| (n, p))) {
        let graph = named(name).unwrap().architecture.build().unwrap();
        let weights = Weights::init(&graph, 1);
        let input = Tensor::zeros([1, 1, size, size, size]);
        let need = MemoryNeed::with_precision(&graph, 1, [size; 3], threads, precision).unwrap();
        let before = NOW.load(Ordering::SeqCst);
        PEAK.store(before, Ordering::SeqCst);
        let engine = Engine::with_options(&graph, &weights, precision.into()).unwrap();
        let outputs = pool.install(|| engine.run(&input)).unwrap();
        let output: usize = outputs.iter().map(|o| 4 * o.data().len()).sum();
        // In f32 the engine shares the weights with whoever made them.
        let shared = if precision == Precision::F32 { need.weights } else { 0 };
        let taken = PEAK.load(Ordering::SeqCst) - before + shared;
        // Scratch may be there once more per thread, as rayon splits work; the output may come after the peak.
        assert!(
            taken <= need.total() + output + need.scratch + (1 << 20),
            "{name}, {precision:?}: {taken} of {need:?}"
        );
        assert!(
            taken as f64 >= 0.9 * need.total() as f64,
            "{name}, {precision:?}: {taken} of {need:?}"
        );
    }
}
