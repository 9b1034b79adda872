//! Measures what a command costs: time, processor, memory of its process tree and GPU memory, sampled as it runs.
