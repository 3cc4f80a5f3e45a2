//! Who may ask: a bearer token, compared in constant time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use crate::service::Shared;
use crate::{Error, Result};

/// Lets requests with the token through; all of them where there is none.
///
/// # Errors
/// 401 without the token.
pub async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Result<Response> {
    if let Some(token) = &shared.token {
        let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(bearer).unwrap_or_default();
        if !same(given, token.as_bytes()) {
            return Err(Error::Unauthorized);
        }
    }
    Ok(next.run(request).await)
}

/// What follows `Bearer`, in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// Whether two are the same, in a time that depends on the length of the given one alone.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().enumerate().fold(0u8, |sum, (n, byte)| sum | (byte ^ token[n % token.len()]));
    std::hint::black_box(differs) == 0 && given.len() == token.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_the_token() {
        assert_eq!(bearer(b"bearer abc "), Some(&b"abc"[..]));
        assert_eq!((bearer(b"Basic abc"), bearer(b"Bear")), (None, None));
        assert!(same(b"0123456789abcdef", b"0123456789abcdef"));
        for given in [&b""[..], b"0123456789abcde", b"0123456789abcdeg", b"0123456789abcdef0123456789abcdef"] {
            assert!(!same(given, b"0123456789abcdef"));
        }
    }
}
