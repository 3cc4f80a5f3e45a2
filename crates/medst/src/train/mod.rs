//! Pre-training.
