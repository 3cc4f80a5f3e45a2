//! Options that tests of both the library and the command train with.

/// Every option of the model and the losses that the paper does not have.
#[allow(dead_code, reason = "not every test program trains with them")]
pub const BEYOND_THE_PAPER: &[&str] = &[
    "model.image.stem=convolutions",
    "loss.global_temperature=learned",
    "model.findings=[\"edema\", \"pleural effusion\", \"pneumothorax\"]",
    "loss.findings_weight=1.0",
    "loss.boxes_weight=5.0",
    "loss.phrases_weight=0.5",
    "loss.courses_weight=0.5",
    "loss.change_weight=0.5",
    "loss.local=across",
    "data.sentences=drawn",
    "data.statements=0.5",
];
