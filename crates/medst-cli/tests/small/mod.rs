//! A model small enough for tests of the command.

/// Settings that make a model small enough for a test.
pub const SMALL: &[&str] = &[
    "model.image.size=48",
    "model.image.patch=16",
    "model.image.width=32",
    "model.image.depth=1",
    "model.image.heads=2",
    "model.image.mlp=64",
    "model.text.width=32",
    "model.text.layers=1",
    "model.text.heads=2",
    "model.text.intermediate=64",
    "model.projection.hidden=48",
    "model.projection.embedding=32",
    "train.sequences_per_batch=4",
    "train.max_steps=5",
];
