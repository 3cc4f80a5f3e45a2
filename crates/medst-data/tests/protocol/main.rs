//! Agreement with the reference's protocol: report text, word pieces, pictures.
//!
//! Reads the folder `MEDST_PROTOCOL_DIR`, by default the copy next to the tests. Real radiographs,
//! which are not part of this repository, are looked for in `MEDST_SHARED_DIR`, in `../shared`, and
//! two folders above the protocol's; pictures that are in none of these are skipped with a line
//! that reports it.

mod image;
mod text;

use std::path::{Path, PathBuf};

/// The protocol's folder.
fn folder() -> PathBuf {
    std::env::var_os("MEDST_PROTOCOL_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/protocol"), PathBuf::from)
}

/// A file of the shared data, wherever it is.
fn shared(file: &str) -> Option<PathBuf> {
    let roots = [
        std::env::var_os("MEDST_SHARED_DIR").map(PathBuf::from),
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")),
        Some(folder().join("../..")),
    ];
    roots.into_iter().flatten().map(|root| root.join(file)).find(|path| path.exists())
}
