//! Med-ST models over HTTP: embed, classify, compare, ground, search.
//!
//! | file | what |
//! |---|---|
//! | [`config`] | what is served, to whom, within which limits |
//! | [`worker`] | one thread per model, which computes the requests of many clients together |
//! | [`state`] | what all requests share: models, indexes and limits |
//! | [`service`] | a service that is put together, and the router |
//! | [`api`] | one file per operation |
//! | [`upload`] | JSON and multipart bodies, pictures in them |
//! | [`auth`], [`origin`], [`limits`] | who may ask, from where, and how much |
//! | [`memory`] | what uploads and answers may take together |
//! | [`metrics`] | Prometheus |
//! | [`openapi`], [`mod@reference`] | the interface, for programs and as a page |
//! | [`page`], [`examples`] | the page for people, and patients to try it with |
//! | [`listen`], [`connections`] | sockets, slow clients, draining |
//!
//! Uploads are never written to disk or logged: a log line has the route, the status, sizes and
//! times.

pub mod api;
pub mod auth;
pub mod config;
pub mod connections;
pub mod error;
pub mod examples;
pub mod limits;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod openapi;
pub mod origin;
pub mod page;
pub mod reference;
pub mod service;
pub mod state;
pub mod upload;
pub mod worker;

pub use config::{Access, Limits, ServeConfig};
pub use error::{Error, Result};
pub use service::Service;
pub use state::Model;
