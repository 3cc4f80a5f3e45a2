//! The address of the service, who may send requests, and the limits of requests.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::Keys;
use crate::origin::Hosts;
use crate::{Error, Result};

/// Limits for one client and for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Pixels of a picture, as its file declares.
    pub pixels: usize,
    /// Bytes of memory for all bodies, pictures that are decoded, and answers together.
    pub memory: usize,
    /// Pictures of a request.
    pub images: usize,
    /// Texts of a request.
    pub texts: usize,
    /// Requests that are read or answered at the same time; further ones are refused with a time to
    /// retry after.
    pub requests: usize,
    /// Jobs that wait for a model; further ones are refused with a time to retry after.
    pub queue: usize,
    /// Open connections; a new one takes the place of the one that has waited longest for its
    /// client.
    pub connections: usize,
    /// The same for connections of one address.
    pub peer_connections: usize,
    /// Time for a request's headers, for its body, and between requests.
    pub receive: Duration,
    /// Time for an answer once the request was read.
    pub answer: Duration,
    /// Time for the client to take an answer.
    pub send: Duration,
    /// Time after which a connection is closed once its request is answered.
    pub lifetime: Duration,
    /// Time for the requests in progress to finish on shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 64 << 20,
            pixels: 50_000_000,
            memory: 512 << 20,
            images: 32,
            texts: 256,
            requests: 128,
            queue: 256,
            connections: 1024,
            peer_connections: 256,
            receive: Duration::from_secs(20),
            answer: Duration::from_secs(60),
            send: Duration::from_secs(60),
            lifetime: Duration::from_secs(600),
            drain: Duration::from_secs(30),
        }
    }
}

/// Whether requests must prove that they may ask.
#[derive(Clone)]
pub enum Access {
    /// All but the page and the description of the interface require this token.
    Token(String),
    /// Any client that reaches the address may ask.
    Open,
}

/// The address of the service, and who may use it.
#[derive(Clone)]
pub struct ServeConfig {
    pub bind: SocketAddr,
    /// The names that requests may call the service by.
    pub hosts: Hosts,
    /// `None` gives every client access.
    pub keys: Option<Keys>,
    pub limits: Limits,
}

impl ServeConfig {
    /// * `names`: host names besides the loopback's and the address' own that requests may call the
    ///   service by.
    ///
    /// # Errors
    /// A token that is too short, an invalid host name, a limit of zero.
    pub fn new(bind: SocketAddr, access: Access, names: &[String], limits: Limits) -> Result<ServeConfig> {
        let least = [limits.body, limits.pixels, limits.images, limits.texts, limits.requests, limits.queue];
        if least.contains(&0) || limits.connections.min(limits.peer_connections) == 0 {
            return Err(Error::Config("limits must be at least 1".into()));
        }
        let keys = match access {
            Access::Token(token) => Some(Keys::new(token)?),
            Access::Open => None,
        };
        Ok(ServeConfig { bind, hosts: Hosts::new(&bind, names)?, keys, limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_served_is_refused() {
        let config = |access, names: &[String], limits| {
            ServeConfig::new("127.0.0.1:0".parse().unwrap(), access, names, limits).is_ok()
        };
        assert!(config(Access::Open, &[], Limits::default()));
        assert!(config(Access::Token("0123456789abcdef".into()), &["medst".into()], Limits::default()));
        assert!(!config(Access::Token("short".into()), &[], Limits::default()));
        assert!(!config(Access::Open, &["http://medst".into()], Limits::default()));
        assert!(!config(Access::Open, &[], Limits { queue: 0, ..Limits::default() }));
    }
}
