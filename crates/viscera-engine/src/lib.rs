//! Runs a [`viscera_net::Graph`] on the CPU, forward and backward, on all threads of rayon's pool.
//!
//! A graph becomes steps (`plan.rs`: norm, dropout and activation run as one, sums with the activation behind them),
//! values lie in blocks of eight channels with a frame of zeros (`layout.rs`), in f32 or bf16 (`element.rs`) while all arithmetic
//! is f32, every kind of convolution is one mechanism
//! (`kernels/conv.rs`), and the instruction set is chosen in one place (`isa.rs`). All sums have an order that depends on
//! shapes alone: the same bits come out for any number of threads.
//!
//! This is the only crate with `unsafe`: in the two inner kernels and where tasks share an output.

mod element;
mod engine;
mod isa;
mod kernels;
mod layout;
mod memory;
mod operations;
mod peak;
mod plan;
mod vector;

pub use element::Precision;
pub use engine::{Engine, Options, StepTime};
pub use isa::Isa;
pub use memory::MemoryNeed;
pub use peak::peak_gflops;
