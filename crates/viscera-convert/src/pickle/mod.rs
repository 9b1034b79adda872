//! PyTorch checkpoints, read without running their pickle.
//!
//! A `.pth` file since PyTorch 1.6 is a zip archive: `NAME/data.pkl` says what there is, `NAME/data/KEY` holds the raw
//! values of each storage. Python's pickle is a small program whose GLOBAL and REDUCE instructions may call any
//! function. Here it runs on a machine that knows a short list of names and builds plain data of them; every other name
//! is refused, and nothing is ever called. Storages are read only when their tensor is asked for, so that an
//! optimiser's state costs nothing.

mod archive;
mod checkpoint;
mod machine;
mod reduce;
mod state;
mod tensor;

pub use checkpoint::{Checkpoint, Item};
pub use tensor::{Kind, TensorRef};
