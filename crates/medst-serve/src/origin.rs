//! Checks the host name of a request and the web page that sent it.
//!
//! A browser sends requests on behalf of any web page that it shows, and so reaches services that
//! are open only to its own machine. Two checks keep other sites' pages out, on every route and
//! whether or not a token is required:
//!
//! * `Host` must be a name of this service. A page whose own name its DNS server suddenly resolves
//!   to this address ("DNS rebinding") would otherwise count as a page of this service and could
//!   read answers.
//! * `Origin` and `Sec-Fetch-Site`, which scripts cannot forge, must not name another site: a form
//!   of any page can post pictures without asking first.
//!
//! Programs send neither of the latter two headers.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, header};

use crate::{Error, Result};

/// The names in `Host` that are accepted.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// In lower case; besides `localhost` and names that end with `.localhost`.
    names: Vec<String>,
    /// Whether addresses other than those of the loopback are accepted. No DNS is involved in
    /// reaching an address.
    addresses: bool,
}

impl Hosts {
    /// # Errors
    /// Something other than the name of a host.
    pub fn new(bind: &SocketAddr, names: &[String]) -> Result<Hosts> {
        let names = names.iter().map(|name| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            match !name.is_empty() && name.bytes().all(plain) {
                true => Ok(name.trim_end_matches('.').to_ascii_lowercase()),
                false => Err(Error::Config(format!(
                    "--allow-host {name:?}: expected a host name such as medst.example.org, without scheme, port \
                     or path"
                ))),
            }
        });
        Ok(Hosts { names: names.collect::<Result<_>>()?, addresses: !bind.ip().is_loopback() })
    }

    fn accept(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        match address.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback() || self.addresses || self.names.contains(&host),
            Err(_) => host == "localhost" || host.ends_with(".localhost") || self.names.contains(&host),
        }
    }
}

/// Refuses requests to names of others, and requests that pages of other sites make.
///
/// # Errors
/// 400 without a `Host` header, 403 for a foreign host or site.
pub fn check(hosts: &Hosts, request: &Request) -> Result<()> {
    let host = host(request).ok_or_else(|| Error::Bad("the request must have exactly one Host header".into()))?;
    if !hosts.accept(host.host()) {
        return Err(Error::Host(host.host().to_string()));
    }
    if is_foreign(request.method(), request.headers(), &host) {
        return Err(Error::CrossSite);
    }
    Ok(())
}

/// The host that a request names: once, and the same in its first line if it names one there too.
fn host(request: &Request) -> Option<Authority> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let host = Authority::try_from(value.as_bytes()).ok().filter(|host| !host.as_str().contains('@'))?;
    request.uri().authority().is_none_or(|named| *named == host).then_some(host)
}

fn is_foreign(method: &Method, headers: &HeaderMap, host: &Authority) -> bool {
    let value = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let same = |origin: &[u8]| {
        // A proxy in front of the service may have removed the encryption, so the scheme is not
        // compared.
        let authority = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
        authority.and_then(|authority| Authority::try_from(authority).ok()).is_some_and(|authority| authority == *host)
    };
    if headers.get_all(header::ORIGIN).iter().any(|origin| !same(origin.as_bytes())) {
        return true;
    }
    // Following a link from another site to the page is harmless: the other site learns nothing
    // from it.
    let opened = matches!(*method, Method::GET | Method::HEAD)
        && value("sec-fetch-mode") == Some(b"navigate")
        && value("sec-fetch-dest") == Some(b"document");
    !opened && value("sec-fetch-site").is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(bind: &str, names: &[&str]) -> Hosts {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Hosts::new(&bind.parse().unwrap(), &names).unwrap()
    }

    #[test]
    fn the_loopback_answers_to_its_names_and_to_those_that_are_allowed() {
        let loopback = hosts("127.0.0.1:80", &["Medst.Example.org"]);
        for host in ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.8.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(loopback.accept(host), "{host}");
        }
        assert!(loopback.accept("medst.example.org") && loopback.accept("medst.example.org."));
        for foreign in
            ["example.org", "a.medst.example.org", "localhost.example.org", "10.0.0.1", "0.0.0.0", "[::]", "x"]
        {
            assert!(!loopback.accept(foreign), "{foreign}");
        }
    }

    #[test]
    fn addresses_that_others_reach_are_names_too() {
        let open = hosts("0.0.0.0:80", &[]);
        assert!(open.accept("10.0.0.1") && open.accept("[fe80::1]") && open.accept("localhost"));
        assert!(!open.accept("rebound.example.org"));
        for wrong in ["", "a:80", "http://a", "a/b", "*"] {
            assert!(Hosts::new(&"127.0.0.1:80".parse().unwrap(), &[wrong.to_string()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_foreign() {
        let foreign = |method: &Method, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            fields.iter().for_each(|(name, value)| _ = headers.append(*name, value.parse().unwrap()));
            is_foreign(method, &headers, &"localhost:8750".parse().unwrap())
        };
        let post = |fields: &[(&'static str, &'static str)]| foreign(&Method::POST, fields);
        assert!(!post(&[]), "a program");
        assert!(!post(&[("origin", "http://localhost:8750"), ("sec-fetch-site", "same-origin")]));
        assert!(!post(&[("origin", "https://LOCALHOST:8750")]));
        for origin in ["null", "http://localhost", "http://localhost:3000", "http://evil.example", "localhost:8750", ""]
        {
            assert!(post(&[("origin", origin)]), "{origin}");
        }
        assert!(post(&[("origin", "http://localhost:8750"), ("origin", "http://evil.example")]));
        for site in ["cross-site", "same-site", "new-value"] {
            let opened = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
            assert!(post(&[("sec-fetch-site", site)]) && post(&opened));
            assert!(foreign(&Method::GET, &opened[..2]) && !foreign(&Method::GET, &opened));
            let framed = [opened[0], opened[1], ("sec-fetch-dest", "iframe")];
            assert!(foreign(&Method::GET, &framed));
        }
    }
}
