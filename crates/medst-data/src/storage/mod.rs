//! Corpora in object storage: `s3://BUCKET/PREFIX` wherever a corpus folder is accepted.
//!
//! | file | what |
//! |---|---|
//! | [`address`] | what is an address |
//! | `client` | requests, and their failures in words |
//! | `cache` | the folder of this machine in which objects are kept, checked and evicted |
//! | `fetch` | shards that arrive while others are used |
//! | [`objects`] | tables and pictures that a corpus is made from |
//! | `upload` | a prepared corpus to its address |
//! | `verify` | whether the objects of a corpus hold what was written to them |
//!
//! Location and credentials come from the environment variables that all programs for S3 read:
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
//! `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, … (`object_store` reads them, and asks a cloud machine for
//! the role it runs as); those of the cache from `MEDST_CACHE` and `MEDST_CACHE_GIB`. This is the
//! only part of the library that reads the environment.
//!
//! Without the feature `s3`, an address is an error that explains this.

pub mod address;
#[cfg(feature = "s3")]
pub mod cache;
#[cfg(feature = "s3")]
pub(crate) mod client;
#[cfg(feature = "s3")]
pub(crate) mod fetch;
pub mod objects;
#[cfg(feature = "s3")]
pub(crate) mod upload;
#[cfg(feature = "s3")]
mod verify;

pub use address::Address;

use std::path::PathBuf;

use crate::{Error, Result};
#[cfg(not(feature = "s3"))]
use crate::{files::sums::Fault, progress::Progress};

#[cfg(feature = "s3")]
pub use verify::faults;

/// Reads every object of a corpus.
///
/// # Errors
/// Always: this replaces the real function in a build without object storage.
#[cfg(not(feature = "s3"))]
pub fn faults(address: &Address, _: &dyn Progress) -> Result<(usize, Vec<Fault>)> {
    Err(address.unsupported())
}

/// The cache's folder.
///
/// # Errors
/// Neither `MEDST_CACHE` nor a home.
pub fn cache_root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MEDST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("medst")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/medst")))
        .ok_or_else(|| {
            Error::Usage("cannot locate the cache of corpora: HOME is not set; set it, or MEDST_CACHE".into())
        })
}
