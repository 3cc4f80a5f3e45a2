//! Object storage: `s3://BUCKET/PREFIX` wherever a corpus folder, a table or a picture is accepted.
//! What is kept there as a corpus is the business of [`crate::corpus::remote`].
//!
//! | file | what |
//! |---|---|
//! | [`address`] | what is an address |
//! | `client` | requests, and their failures in words |
//! | [`objects`] | tables and pictures that a corpus is made from |
//!
//! Location and credentials come from the environment variables that all programs for S3 read:
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
//! `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, … (`object_store` reads them, and asks a cloud machine for
//! the role it runs as); the folder of the cache comes from `MEDST_CACHE`.
//!
//! Without the feature `s3`, an address is an error that explains this.

pub mod address;
#[cfg(feature = "s3")]
pub(crate) mod client;
pub mod objects;

pub use address::Address;

use std::path::PathBuf;

use crate::{Error, Result};

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
