//! Authentication: a bearer token for programs, and a cookie for browsers that opened the link with
//! the token.
//!
//! The link `/?token=TOKEN` is answered with a cookie and a redirection to `/`, so that the token
//! remains in neither the address bar nor the history. The cookie contains a secret of this run of
//! the service instead of the token, because servers on other ports of the same host also receive a
//! browser's cookies and must not learn a token that outlives this run.

use std::fs::File;
use std::io::Read;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::{Error, Result};

/// Secrets with which a client can prove that it has access.
#[derive(Clone)]
pub struct Keys {
    token: String,
    /// The value of the cookie.
    session: String,
}

impl Keys {
    /// # Errors
    /// A token that is too short or cannot be sent in a header; no random numbers.
    pub fn new(token: String) -> Result<Keys> {
        if token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "the token must have at least 16 letters, digits or punctuation marks, and no spaces";
            return Err(Error::Config(message.into()));
        }
        Ok(Keys { token, session: random()? })
    }

    fn accept(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let name = cookie_name(headers);
        let session = headers.get_all(header::COOKIE).iter().find_map(|value| cookie(value.as_bytes(), &name));
        is_same(bearer.unwrap_or_default(), self.token.as_bytes())
            || is_same(session.unwrap_or_default(), self.session.as_bytes())
    }
}

/// A new secret of 48 hexadecimal digits.
///
/// # Errors
/// A system without random numbers.
pub fn random() -> Result<String> {
    let mut bytes = [0; 24];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Error::Config(format!("cannot generate a random token: /dev/urandom: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Accepts the headers of requests with the token or the cookie; those of all requests if no token
/// is required.
///
/// # Errors
/// 401 without either.
pub fn check(keys: Option<&Keys>, headers: &HeaderMap) -> Result<()> {
    match keys.is_some_and(|keys| !keys.accept(headers)) {
        true => Err(Error::Unauthorized),
        false => Ok(()),
    }
}

/// Answers `/?token=TOKEN`: a redirection to `/`, with the cookie if the token is right; `None` if
/// the query has no token.
///
/// A wrong token leads to the page as well, which then asks for the right one.
pub fn enter(keys: Option<&Keys>, query: Option<&str>, headers: &HeaderMap) -> Option<Response> {
    let given = query?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
    if let Some(keys) = keys.filter(|keys| is_same(given.as_bytes(), keys.token.as_bytes())) {
        // If a proxy encrypts the connection, the browser must never send the cookie in the clear.
        let encrypted = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        let name = cookie_name(headers);
        let secure = if encrypted { "; Secure" } else { "" };
        let value = format!("{name}={}; Path=/; HttpOnly; SameSite=Strict{secure}", keys.session);
        response.headers_mut().insert(header::SET_COOKIE, value.parse().ok()?);
    }
    Some(response)
}

/// Browsers send cookies to every port of a host; the port in the name keeps services on one host
/// apart.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port =
        host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    format!("medst-{}", port.unwrap_or_default())
}

/// The value of a cookie in a `Cookie` header.
fn cookie<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    value
        .split(|&byte| byte == b';')
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The token after `Bearer`, in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// Whether two secrets are equal, in a time that depends on the length of the given one alone.
fn is_same(given: &[u8], secret: &[u8]) -> bool {
    let differs = given.iter().enumerate().fold(0u8, |sum, (n, byte)| sum | (byte ^ secret[n % secret.len()]));
    std::hint::black_box(differs) == 0 && given.len() == secret.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_the_token() {
        assert_eq!(bearer(b"bearer abc "), Some(&b"abc"[..]));
        assert_eq!((bearer(b"Basic abc"), bearer(b"Bear")), (None, None));
        assert!(is_same(b"0123456789abcdef", b"0123456789abcdef"));
        for given in [&b""[..], b"0123456789abcde", b"0123456789abcdeg", b"0123456789abcdef0123456789abcdef"] {
            assert!(!is_same(given, b"0123456789abcdef"));
        }
        assert!(Keys::new("short".into()).is_err() && Keys::new("with a blank 0123456789".into()).is_err());
        assert!(random().unwrap() != random().unwrap());
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let value = b"a=1; medst-8750=secret;b=medst-8750=x";
        assert_eq!(cookie(value, "medst-8750"), Some(&b"secret"[..]));
        assert_eq!((cookie(value, "medst-875"), cookie(value, "b")), (None, Some(&b"medst-8750=x"[..])));
    }
}
