//! The folder in which copies of what is stored elsewhere are kept, and notes about files.

use std::path::PathBuf;

use crate::{Error, Result};

/// The cache's folder.
///
/// # Errors
/// Neither `MEDST_CACHE` nor a home.
pub fn root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MEDST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("medst")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/medst")))
        .ok_or_else(|| {
            Error::Usage("cannot locate the cache of corpora: HOME is not set; set it, or MEDST_CACHE".into())
        })
}
