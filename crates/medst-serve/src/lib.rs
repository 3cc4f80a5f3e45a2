//! Med-ST models over HTTP: embed, classify, compare, ground, search.
//!
//! | file | what |
//! |---|---|
//! | `config` | what is served, to whom, within which limits |
//! | `worker` | one thread per model, which computes the requests of many clients together |
//! | [`state`] | what all requests share: models, indexes and limits |
//! | `service` | a service that is put together, and the router |
//! | `api` | one file per operation |
//! | `upload` | JSON and multipart bodies, pictures in them |
//! | [`auth`], `origin`, `limits` | who may ask, from where, and how much |
//! | [`memory`] | what uploads and answers may take together |
//! | `metrics` | Prometheus |
//! | `openapi`, `reference` | the interface, for programs and as a page |
//! | `page`, `examples` | the page for people, and patients to try it with |
//! | [`listen`], `connections` | sockets, slow clients, draining |
//!
//! Uploads are never written to disk or logged: a log line has the route, the status, sizes and
//! times.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub(crate) mod api;
pub mod auth;
pub(crate) mod config;
pub(crate) mod connections;
pub(crate) mod error;
pub(crate) mod examples;
pub(crate) mod limits;
pub mod listen;
pub mod memory;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod origin;
pub(crate) mod page;
pub(crate) mod reference;
pub(crate) mod service;
pub mod state;
pub(crate) mod upload;
pub(crate) mod worker;

pub use config::{Access, Limits, ServeConfig};
pub use error::{Error, Result};
pub use service::Service;
pub use state::Model;
