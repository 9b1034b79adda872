//! PyTorch checkpoints, read without running their pickle.
