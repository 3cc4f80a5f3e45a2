//! Studies, reports, radiographs and corpus files for Med-ST.
//!
//! This crate contains no deep learning: it turns what researchers have (tables, radiographs,
//! reports) into a *corpus*, a folder of a few files that every other part of Med-ST reads. The
//! words used everywhere:
//!
//! * a [`study::Study`] is one visit of a subject: a frontal radiograph, optionally a lateral
//!   radiograph and a report;
//! * a [`sequence::Sequence`] is the time-ordered studies of one subject, cut into chunks;
//! * a [`corpus::Corpus`] is the prepared data on disk.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod boxes;
pub mod cache;
mod cell;
pub mod corpus;
pub mod error;
pub mod files;
pub mod gather;
pub mod hub;
pub mod image;
pub mod import;
pub mod input;
pub mod json;
mod owner_only;
pub mod parquet_table;
pub mod permutation;
pub mod printable;
pub mod progress;
pub mod ranks;
pub mod report;
pub mod sequence;
pub mod split;
pub mod storage;
pub mod study;
pub mod warning;

pub use error::{Error, Reason, Result};
