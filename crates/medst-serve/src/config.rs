//! What is served, to whom, within which limits.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Error, Result};

/// How much one client, and all of them, may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Pixels of a picture, as its file declares.
    pub pixels: usize,
    /// Pictures of a request.
    pub images: usize,
    /// Texts of a request.
    pub texts: usize,
    /// Requests that are read or answered at the same time; more are told to come back.
    pub requests: usize,
    /// Jobs that wait for a model; more are told to come back.
    pub queue: usize,
    /// Open connections; more wait to be accepted.
    pub connections: usize,
    /// Time for a request's headers, and for its body.
    pub receive: Duration,
    /// Time for an answer once the request was read.
    pub answer: Duration,
    /// Time for the requests in progress when the service is told to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 64 << 20,
            pixels: 50_000_000,
            images: 32,
            texts: 256,
            requests: 128,
            queue: 256,
            connections: 1024,
            receive: Duration::from_secs(20),
            answer: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// Where and for whom.
#[derive(Clone)]
pub struct ServeConfig {
    pub bind: SocketAddr,
    /// The bearer token that requests must carry; `None` asks for none.
    pub token: Option<String>,
    pub limits: Limits,
}

impl ServeConfig {
    /// # Errors
    /// No token on an address that others can reach (`open` says that this is meant); a token too short to be one; limits of zero.
    pub fn new(bind: SocketAddr, token: Option<String>, open: bool, limits: Limits) -> Result<ServeConfig> {
        let fail = |message: String| Err(Error::Config(message));
        match &token {
            None if !bind.ip().is_loopback() && !open => {
                return fail(format!("{bind}: others can reach this address, so a token is needed"));
            }
            Some(token) if token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return fail("a token has at least 16 letters, digits or signs, and no blanks".into());
            }
            _ => {}
        }
        let least = [limits.body, limits.pixels, limits.images, limits.texts, limits.requests, limits.queue];
        if least.contains(&0) || limits.connections == 0 {
            return fail("a limit of 0 lets nothing through".into());
        }
        Ok(ServeConfig { bind, token, limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_reach_need_a_token() {
        let config = |bind: &str, token: Option<&str>, open| {
            ServeConfig::new(bind.parse().unwrap(), token.map(str::to_string), open, Limits::default())
        };
        assert!(config("127.0.0.1:0", None, false).is_ok() && config("[::1]:0", None, false).is_ok());
        for bind in ["0.0.0.0:80", "10.0.0.1:80", "[::]:80"] {
            assert!(config(bind, None, false).is_err() && config(bind, None, true).is_ok());
            assert!(config(bind, Some("0123456789abcdef"), false).is_ok());
        }
        assert!(config("127.0.0.1:0", Some("short"), false).is_err());
        assert!(config("127.0.0.1:0", Some("with a blank 0123456789"), false).is_err());
        let none = Limits { queue: 0, ..Limits::default() };
        assert!(ServeConfig::new("127.0.0.1:0".parse().unwrap(), None, false, none).is_err());
    }
}
