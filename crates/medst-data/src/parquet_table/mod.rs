//! Tables in Parquet, on the low-level interface of the crate `parquet`: those of this program, and
//! those of others. (Its interface to `arrow` would double the time that this crate's dependencies
//! take to compile.)
//!
//! A Parquet file consists of *row groups*; a row group holds the values of each column one after
//! the other, without what is empty. Nested columns are stored as their innermost ones, the
//! *leaves*. Each value or gap of a leaf has two numbers: its *definition level* is how
//! many of the optional or repeated fields around it exist, and a *repetition level* of 0 begins a
//! row, 1 the next element of the row's list, and so on.
//!
//! | file | what |
//! |---|---|
//! | `write` | [`Writer`]: texts, numbers and lists of numbers |
//! | `read` | [`Reader`]: columns by name and type, a row group at a time |
//! | `cells` | columns of any type as text |
//! | `schema` | how columns are nested, and what their values mean |
//! | `pages` | pages whose declared counts are possible |

mod cells;
mod pages;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;

pub use read::{Group, Reader};
pub use write::{Cells, ColumnType, Field, Writer};

/// Why a table cannot be read or written; its file is not named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("column `{0}` is missing")]
    Missing(String),
    #[error("column `{column}` has the type {found}")]
    Type { column: String, found: String },
    #[error("{0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Turns a panic into an error: the decoders of `parquet` slice and assert where a file is damaged.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Damaged("its pages cannot be decoded")))
}
