//! Seconds per forward pass and per training step of the two networks of the default model.

use std::time::Instant;
use viscera_engine::Engine;
use viscera_net::builders::{CoarseUnet, EfficientSegNet, Plane};
use viscera_net::{Executor, Graph, Tensor, Weights};

#[allow(clippy::print_stdout)]
fn time(graph: &Graph, size: usize) {
    let counts = graph.counts([size; 3]).unwrap();
    let mut engine = Engine::new(graph, &Weights::init(graph, 1)).unwrap();
    let x = Tensor::new(
        [1, 1, size, size, size],
        (0..size.pow(3))
            .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
            .collect(),
    )
    .unwrap();
    let mut infer = Vec::new();
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let t = Instant::now();
        engine.infer(&x).unwrap();
        infer.push(t.elapsed().as_secs_f64());
    }
    for _ in 0..4 {
        let t = Instant::now();
        let y = engine.forward(&x, 0).unwrap();
        forward.push(t.elapsed().as_secs_f64());
        let t = Instant::now();
        engine.backward(&y).unwrap();
        backward.push(t.elapsed().as_secs_f64());
    }
    for v in [&mut infer, &mut forward, &mut backward] {
        v.sort_by(f64::total_cmp);
    }
    let gflop = 2e-9 * counts.macs as f64;
    println!(
        "{} {size}: {gflop:.1} GFLOP; infer {:.3} s ({:.0} GFLOP/s), forward {:.3} s, backward {:.3} s ({:.0} GFLOP/s)",
        graph.name,
        infer[0],
        gflop / infer[0],
        forward[0],
        backward[0],
        2.0 * gflop / backward[0]
    );
}

fn main() {
    time(
        &CoarseUnet {
            in_channels: 1,
            base_features: 8,
            out_channels: 13,
            decoder_blocks: 1,
            dropout: 0.0,
        }
        .build(),
        64,
    );
    time(
        &EfficientSegNet {
            in_channels: 1,
            base_features: 8,
            out_channels: 13,
            dropout: 0.0,
            plane: Plane::Paper,
        }
        .build(),
        96,
    );
    time(
        &EfficientSegNet {
            in_channels: 1,
            base_features: 16,
            out_channels: 13,
            dropout: 0.0,
            plane: Plane::Paper,
        }
        .build(),
        96,
    );
}
