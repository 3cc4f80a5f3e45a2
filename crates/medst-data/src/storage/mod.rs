//! Object storage: `s3://BUCKET/PREFIX` wherever a corpus folder, a table or a picture is accepted.
//! What is kept there as a corpus is the business of [`crate::corpus::remote`].
//!
//! | file | what |
//! |---|---|
//! | `address` | what is an address |
//! | `client` | requests, and their failures in words |
//! | [`objects`] | tables and pictures that a corpus is made from |
//!
//! Location and credentials come from the environment variables that all programs for S3 read:
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
//! `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, … (`object_store` reads them, and asks a cloud machine for
//! the role it runs as); the folder of the cache from `MEDST_CACHE` ([`crate::cache`]).
//!
//! Without the feature `s3`, an address is an error that explains this.

pub(crate) mod address;
#[cfg(feature = "s3")]
pub(crate) mod client;
pub mod objects;

pub use address::Address;
