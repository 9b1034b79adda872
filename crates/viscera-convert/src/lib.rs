//! Reads and writes networks of other tools. Nothing that a file holds is executed.
//!
//! All input is untrusted: what is allocated is bounded by the file, every fault is an error that names it.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod error;
pub mod nnunet;
pub mod onnx;
pub mod pickle;
pub mod weights;

pub use error::ConvertError;
