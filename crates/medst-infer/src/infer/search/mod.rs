//! Nearest studies: a corpus (or files) is indexed once, then asked by image, text, or both.
//!
//! | file | what |
//! |---|---|
//! | [`index`] | the index on disk |
//! | [`query`] | what is asked, and which studies may answer |
//! | [`exact`] | exact search |
//! | [`graph`] | approximate search for large indexes |
//!
//! Exact search is a product of the query with every vector: 227,000 studies of 128 values take
//! milliseconds, so it is what is done unless an index is large. A filter is applied first and what
//! is left is searched exactly.

pub mod exact;
#[cfg(feature = "approximate")]
pub mod graph;
#[cfg(not(feature = "approximate"))]
#[path = "no_graph.rs"]
pub mod graph;
pub mod index;
pub mod query;

pub use index::{Among, Index, Indexed, StudyRecord, WithGraph, build, check_target};
pub use query::{Answer, Filter, Hit, Query, together};

const MISSING: &str = "this medst was built without approximate search; build it with --features medst-cli/approximate";

/// Why the graph of an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    #[error("graph: {0}")]
    Unreadable(String),
    #[error("graph: links {linked} studies of {studies}")]
    OtherIndex { linked: usize, studies: usize },
    #[error("its graph needs approximate search: {MISSING}")]
    NotCompiled,
}
