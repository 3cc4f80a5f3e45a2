//! Corpora in object storage: which objects a corpus consists of, and when they are read and
//! written. The requests themselves are those of [`crate::storage`].
//!
//! | file | what |
//! |---|---|
//! | `cache` | the folder of this machine in which objects are kept, checked and evicted |
//! | `fetch` | shards that arrive while others are used |
//! | `upload` | a prepared corpus to its address |
//! | `verify` | whether the objects of a corpus hold what was written to them |

#[cfg(feature = "s3")]
pub mod cache;
#[cfg(feature = "s3")]
pub(crate) mod fetch;
#[cfg(feature = "s3")]
pub(crate) mod upload;
#[cfg(feature = "s3")]
mod verify;

#[cfg(feature = "s3")]
pub use verify::faults;

#[cfg(not(feature = "s3"))]
use crate::{Result, files::sums::Fault, progress::Progress, storage::Address};

/// Reads every object of a corpus.
///
/// # Errors
/// Always: this replaces the real function in a build without object storage.
#[cfg(not(feature = "s3"))]
pub fn faults(address: &Address, _: &dyn Progress) -> Result<(usize, Vec<Fault>)> {
    Err(address.unsupported())
}
