//! The corpus on disk: writing and reading.
