//! Requests to a hub, and explanations of their failures.
//!
//! Redirects are followed here, not by the client, for two reasons: the hub's first response has
//! the checksum of a file (the response of the storage that it redirects to does not), and the
//! token must be sent only to the hub.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LOCATION, RANGE,
};
use reqwest::redirect::Policy;
use reqwest::{Client as Http, Method, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::Name;
use crate::progress::Progress;
use crate::{Error, Result};

/// Attempts in a row that bring nothing, with pauses that grow to six seconds.
const ATTEMPTS: u32 = 5;
const REDIRECTS: usize = 10;
/// Names the content of a file that is stored elsewhere.
const LINKED: &str = "x-linked-etag";
/// Bytes of a list of files.
const LONGEST_LIST: usize = 16 << 20;
const CONNECT: Duration = Duration::from_secs(10);
/// Without a byte.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two looks whether to stop.
const LOOK: Duration = Duration::from_millis(250);

/// Settings from environment variables.
pub struct Settings {
    endpoint: Url,
    pub cache: PathBuf,
    pub offline: bool,
    token: Option<Token>,
}

/// A secret: not to be shown.
struct Token {
    header: HeaderValue,
    /// The variable or file that it comes from.
    from: String,
}

/// A variable that is set to something.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty())
}

impl Settings {
    /// # Errors
    /// A variable that cannot be understood; no place for a cache.
    pub fn of_environment() -> Result<Settings> {
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = Url::parse(endpoint.trim_end_matches('/')).ok().filter(Url::has_host);
        let endpoint = endpoint
            .ok_or_else(|| Error::Usage("HF_ENDPOINT: expected an address such as https://huggingface.co".into()))?;
        let cache = set("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")));
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| cache.map(|cache| cache.join("huggingface")));
        let cache = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join("hub")));
        let cache = cache.ok_or_else(|| {
            Error::Usage("cannot locate the cache of models: HOME is not set; set it, or HF_HOME".into())
        })?;
        let offline =
            set("HF_HUB_OFFLINE").is_some_and(|on| ["1", "true", "yes", "on"].contains(&on.to_lowercase().as_str()));
        let file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home.map(|home| home.join("token")));
        let stored = || {
            let file = file?;
            let text =
                fs::read_to_string(&file).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())?;
            Some((text, file.display().to_string()))
        };
        let token = set("HF_TOKEN").map(|token| (token, "HF_TOKEN".to_string())).or_else(stored);
        let token = token.map(|(text, from)| {
            let mut header = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| {
                Error::Usage(format!("{from}: expected a token, which is one line of letters, digits and punctuation"))
            })?;
            header.set_sensitive(true);
            Ok::<Token, Error>(Token { header, from })
        });
        Ok(Settings { endpoint, cache, offline, token: token.transpose()? })
    }
}

/// Why a request brought nothing.
enum Failed {
    /// It may go better the next time.
    Passing(String),
    /// The hub does not answer.
    Unreachable(String),
    Refused(String),
    /// A failure on this machine.
    Here(Error),
}

/// A model at its hub.
pub struct Client<'a> {
    name: &'a Name,
    settings: &'a Settings,
    progress: &'a dyn Progress,
    http: Http,
    runtime: Runtime,
}

/// The files of a revision.
#[derive(Deserialize)]
pub struct List {
    #[serde(rename = "sha")]
    pub commit: String,
    #[serde(rename = "siblings")]
    pub files: Vec<Listed>,
}

#[derive(Deserialize)]
pub struct Listed {
    #[serde(rename = "rfilename")]
    pub name: String,
}

/// The description of a file by the hub.
pub struct About {
    /// Names the content: SHA-256 of a large file, git's checksum of a small one.
    pub etag: String,
    pub size: u64,
}

impl<'a> Client<'a> {
    /// # Errors
    /// A system that gives no threads or no certificates.
    pub fn new(name: &'a Name, settings: &'a Settings, progress: &'a dyn Progress) -> Result<Client<'a>> {
        // Only one provider of cryptography is compiled in, so a failure means that it is installed
        // already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| name.error(error.to_string(), false))?;
        let http = Http::builder().redirect(Policy::none()).connect_timeout(CONNECT).read_timeout(SILENCE);
        let http = http.user_agent(concat!("medst/", env!("CARGO_PKG_VERSION"))).build();
        let http = http.map_err(|error| name.error(innermost(&error), false))?;
        Ok(Client { name, settings, progress, http, runtime })
    }

    /// # Errors
    /// Names the cause of the failure.
    pub fn list(&self, revision: &str) -> Result<List> {
        let path = format!("api/models/{}/revision/{}", self.name.repository, revision.replace('/', "%2F"));
        let bytes = self.persist(&|| 0, &|| {
            self.runtime.block_on(async {
                let mut answer = self.send(&Method::GET, self.url(&path), 0, false).await?;
                if answer.status() == StatusCode::NOT_FOUND {
                    return Err(Failed::Refused(format!(
                        "{} has no such model or no revision `{revision}` of it (404)",
                        self.shown()
                    )));
                }
                let mut bytes = Vec::new();
                self.accepted(&answer)?;
                while let Some(piece) = self.piece(&mut answer).await? {
                    bytes.extend_from_slice(&piece);
                    if bytes.len() > LONGEST_LIST {
                        return Err(Failed::Refused("the hub's list of its files is too long".into()));
                    }
                }
                Ok(bytes)
            })
        })?;
        let list: Result<List, _> = serde_json::from_slice(&bytes);
        let hexadecimal =
            |list: &List| list.commit.len() == 40 && list.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        match list {
            Ok(list) if hexadecimal(&list) => Ok(list),
            Ok(_) => Err(self.name.error("the hub does not state the commit", false)),
            Err(error) => Err(self.name.error(format!("not a hub's list of files: {error}"), false)),
        }
    }

    /// # Errors
    /// Names the cause of the failure.
    pub fn about(&self, commit: &str, file: &str) -> Result<About> {
        self.persist(&|| 0, &|| {
            let answer = self.runtime.block_on(self.send(&Method::HEAD, self.file(commit, file), 0, true))?;
            if !answer.status().is_redirection() {
                self.accepted(&answer)?;
            }
            let text = |names: [&str; 2]| names.into_iter().find_map(|name| answer.headers().get(name)?.to_str().ok());
            let etag = text([LINKED, ETAG.as_str()]).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"');
            // It becomes the name of a file.
            let plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
            let size = text(["x-linked-size", CONTENT_LENGTH.as_str()]).and_then(|size| size.parse().ok());
            match size {
                Some(size) if !etag.is_empty() && etag.bytes().all(plain) => Ok(About { etag: etag.into(), size }),
                _ => Err(Failed::Refused(format!("the hub returned no checksum or size for {file}"))),
            }
        })
    }

    /// Appends to `out` what it lacks of a file; continues where a connection broke.
    ///
    /// # Errors
    /// Names the cause of the failure; `out` keeps what arrived before it.
    pub fn download(&self, commit: &str, file: &str, size: u64, out: &File) -> Result<()> {
        let there = || out.metadata().map_or(0, |meta| meta.len());
        let advance = |from: u64, to: u64| self.progress.advance(to / MEGABYTE - from / MEGABYTE);
        advance(0, there());
        self.persist(&there, &|| {
            self.runtime.block_on(async {
                let mut from = there();
                if from == size {
                    return Ok(());
                }
                let mut answer = self.send(&Method::GET, self.file(commit, file), from, false).await?;
                self.accepted(&answer)?;
                let starts = format!("bytes {from}-");
                let continues = answer.status() == StatusCode::PARTIAL_CONTENT
                    && answer
                        .headers()
                        .get(CONTENT_RANGE)
                        .is_some_and(|range| range.as_bytes().starts_with(starts.as_bytes()));
                let disk = |error| Failed::Here(self.disk(error));
                if from > 0 && !continues {
                    // A server that sends everything, or another part.
                    if answer.status() == StatusCode::PARTIAL_CONTENT {
                        return Err(Failed::Refused(format!("the hub returned the wrong byte range of {file}")));
                    }
                    out.set_len(0).map_err(disk)?;
                    from = 0;
                }
                while let Some(piece) = self.piece(&mut answer).await? {
                    (&mut &*out).write_all(&piece).map_err(disk)?;
                    let to = from + piece.len() as u64;
                    advance(from, to);
                    from = to;
                    if from > size {
                        return Err(Failed::Refused(format!(
                            "the hub sends more of {file} than the {size} bytes that it announced"
                        )));
                    }
                }
                match from == size {
                    true => Ok(()),
                    false => {
                        Err(Failed::Passing(format!("the connection ended after {from} of {size} bytes of {file}")))
                    }
                }
            })
        })
    }

    /// A failure to write to the cache.
    pub fn disk(&self, error: std::io::Error) -> Error {
        let cache = self.settings.cache.display();
        self.name
            .error(format!("cannot write to the cache {cache}: {error} (HF_HUB_CACHE names another folder)"), false)
    }

    fn url(&self, path: &str) -> Url {
        let endpoint = self.settings.endpoint.as_str().trim_end_matches('/');
        Url::parse(&format!("{endpoint}/{path}")).expect("names were checked")
    }

    /// The hub in messages: without a password that its address may have.
    fn shown(&self) -> String {
        let endpoint = &self.settings.endpoint;
        format!("{}{}", endpoint.origin().ascii_serialization(), endpoint.path().trim_end_matches('/'))
    }

    fn file(&self, commit: &str, file: &str) -> Url {
        self.url(&format!("{}/resolve/{commit}/{file}", self.name.repository))
    }

    /// Sends a request and follows redirects.
    ///
    /// * `from`: the first byte wanted.
    /// * `stay`: only until an answer is about the file.
    async fn send(&self, method: &Method, mut url: Url, from: u64, stay: bool) -> Result<Response, Failed> {
        for _ in 0..REDIRECTS {
            let home = url.origin() == self.settings.endpoint.origin();
            let mut headers = HeaderMap::new();
            // Sizes are those of the files, not of a compressed transfer.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if from > 0 {
                headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={from}-")).expect("digits"));
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| home) {
                headers.insert(AUTHORIZATION, token.header.clone());
            }
            let answer =
                self.http.request(method.clone(), url.clone()).headers(headers).send().await.map_err(|error| {
                    let origin = url.origin().ascii_serialization();
                    let message = format!("cannot reach {origin}: {}", innermost(&error));
                    if home && error.is_connect() { Failed::Unreachable(message) } else { Failed::Passing(message) }
                })?;
            let target = answer.headers().get(LOCATION).and_then(|target| url.join(target.to_str().ok()?).ok());
            match target.filter(|_| answer.status().is_redirection()) {
                Some(target) if !stay => url = target,
                // A model that has a new name; not yet the file.
                Some(target)
                    if target.origin() == self.settings.endpoint.origin() && !answer.headers().contains_key(LINKED) =>
                {
                    url = target;
                }
                _ => return Ok(answer),
            }
        }
        Err(Failed::Refused(format!("more than {REDIRECTS} redirects")))
    }

    /// The next bytes of an answer.
    async fn piece(&self, answer: &mut Response) -> Result<Option<Vec<u8>>, Failed> {
        loop {
            match timeout(LOOK, answer.chunk()).await {
                Ok(Ok(piece)) => return Ok(piece.map(|bytes| bytes.to_vec())),
                Ok(Err(error)) => return Err(Failed::Passing(format!("the connection broke: {}", innermost(&error)))),
                Err(_) if self.progress.stop_requested() => return Err(Failed::Here(Error::Stopped)),
                Err(_) => {}
            }
        }
    }

    fn accepted(&self, answer: &Response) -> Result<(), Failed> {
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let number = status.as_u16();
        let page = format!("{}/{}", self.shown(), self.name.repository);
        let message = match (status, &self.settings.token) {
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                return Err(Failed::Passing("the hub is limiting requests (429)".into()));
            }
            _ if status.is_server_error() => {
                return Err(Failed::Passing(format!("the hub returned a server error ({number})")));
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => format!(
                "the hub gives it only to accounts with access ({number}). If the model is gated, accept its terms at {page}, then set HF_TOKEN to a \
                 token of your account, or run `huggingface-cli login`. If it is not, check the name: hubs answer alike for names that do not exist"
            ),
            (StatusCode::UNAUTHORIZED, Some(token)) => format!(
                "the hub does not accept the token in {} (401), or has no model of this name. Set HF_TOKEN to a valid token of an account that has \
                 accepted the terms at {page}",
                token.from
            ),
            (StatusCode::FORBIDDEN, Some(token)) => format!(
                "the account of the token in {} has no access (403). Accept the model's terms at {page} with that account, and allow the token to read \
                 gated models",
                token.from
            ),
            (StatusCode::NOT_FOUND, _) => format!("the hub lists {} but does not have it (404)", file_of(answer.url())),
            _ => format!("the hub returned {number} for {}", file_of(answer.url())),
        };
        Err(Failed::Refused(message))
    }

    /// Tries again what may pass, as long as attempts bring something.
    ///
    /// * `there`: how much has come.
    fn persist<T>(&self, there: &dyn Fn() -> u64, attempt: &dyn Fn() -> Result<T, Failed>) -> Result<T> {
        let mut vain = 0;
        loop {
            let before = there();
            let message = match attempt() {
                Ok(value) => return Ok(value),
                Err(Failed::Here(error)) => return Err(error),
                Err(Failed::Refused(message)) => return Err(self.name.error(message, false)),
                // If a download has begun, the hub was reachable a moment ago, so it is worth
                // trying again.
                Err(Failed::Unreachable(message)) if before == 0 => return Err(self.name.error(message, true)),
                Err(Failed::Passing(message) | Failed::Unreachable(message)) => message,
            };
            vain = if there() > before { 0 } else { vain + 1 };
            if vain == ATTEMPTS {
                let kept =
                    if there() > 0 { "; what has come is kept, and the next attempt goes on from there" } else { "" };
                return Err(self.name.error(format!("{message}{kept}"), true));
            }
            std::thread::sleep(Duration::from_millis(75) * 3u32.pow(vain));
            if self.progress.stop_requested() {
                return Err(Error::Stopped);
            }
        }
    }
}

pub const MEGABYTE: u64 = 1_000_000;

/// The last part of an address; the rest may hold a signature.
fn file_of(url: &Url) -> String {
    url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_string()
}

/// The innermost source of an error, which names the cause instead of the action that failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
