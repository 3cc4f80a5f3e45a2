//! A model hub on the loopback: lists of files, small files from the hub itself, large ones from a
//! storage of another origin, as Hugging Face's does. It remembers what it was asked for, and can
//! be made to fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use medst_data::files::sha256_of;
use serde_json::json;
use sha1::{Digest, Sha1};

/// The commit of every model.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Clone, Debug)]
pub struct HubRequest {
    pub method: String,
    pub path: String,
    /// The first byte, of a part.
    pub from: Option<usize>,
    /// `Authorization`.
    pub token: Option<String>,
    /// Of the storage rather than the hub.
    pub storage: bool,
}

#[derive(Default)]
pub struct State {
    /// Files of the models, by `OWNER/NAME`.
    pub models: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub requests: Vec<HubRequest>,
    /// Files are given only with this token.
    pub gate: Option<String>,
    /// After how many bytes of a large file the connection is cut, each time the list has another
    /// entry.
    pub cuts: Vec<usize>,
    /// One bit of large files is wrong.
    pub damaged: bool,
    /// A small file whose letters are not those of the checksum.
    pub spoilt: Option<String>,
    /// A file that is listed but missing.
    pub missing: Option<String>,
}

pub struct Hub {
    state: Arc<Mutex<State>>,
    pub endpoint: String,
}

impl Hub {
    pub fn start() -> Hub {
        let state = Arc::new(Mutex::new(State::default()));
        let storage = listen(&state, None);
        let endpoint = listen(&state, Some(storage));
        Hub { state, endpoint }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Shows the files of a folder as a model.
    pub fn add(&self, name: &str, folder: &Path) {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let files =
            files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(&path).unwrap()));
        self.state().models.insert(name.into(), files.collect());
    }

    /// What it was asked for since the last time.
    pub fn take_requests(&self) -> Vec<HubRequest> {
        std::mem::take(&mut self.state().requests)
    }
}

/// * `storage`: where large files are; `None` of the storage itself.
fn listen(state: &Arc<Mutex<State>>, storage: Option<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let state = state.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (state, storage) = (state.clone(), storage.clone());
            std::thread::spawn(move || while serve(stream.as_ref().unwrap(), &state, storage.as_deref()) {});
        }
    });
    address
}

fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors") || file.ends_with(".bin")
}

/// Answers one request; whether there may be another.
fn serve(stream: &TcpStream, state: &Mutex<State>, storage: Option<&str>) -> bool {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return false };
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_string())))
        .collect();
    let mut words = first.split(' ').map(str::to_string);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let from = headers.get("range").map(|range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
    let token = headers.get("authorization").cloned();
    let mut state = state.lock().unwrap();
    state.requests.push(HubRequest {
        method: method.clone(),
        path: path.clone(),
        from,
        token: token.clone(),
        storage: storage.is_none(),
    });
    let mut answer = Answer::find(&state, &path, token.as_deref(), storage);
    let size = answer.body.len();
    if let Some(from) = from.filter(|_| answer.status == 200) {
        answer.status = 206;
        answer.headers.push(("Content-Range", format!("bytes {from}-{}/{size}", size - 1)));
        answer.body.drain(..from);
    }
    let cut = match storage {
        None if method == "GET" => state.cuts.pop().map(|at| at.saturating_sub(from.unwrap_or(0))),
        _ => None,
    };
    drop(state);
    let mut head = format!("HTTP/1.1 {} -\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = &answer.body[..cut.unwrap_or(answer.body.len()).min(answer.body.len())];
    let mut stream = stream;
    let sent = stream.write_all((head + "\r\n").as_bytes());
    let sent = sent.and_then(|()| if method == "HEAD" { Ok(()) } else { stream.write_all(body) });
    if cut.is_some() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    sent.is_ok() && cut.is_none()
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn refusal(status: u16, code: &str) -> Answer {
        Answer { status, headers: vec![("X-Error-Code", code.into())], body: Vec::new() }
    }

    fn find(state: &State, path: &str, token: Option<&str>, storage: Option<&str>) -> Answer {
        let found = |headers, body| Answer { status: 200, headers, body };
        let Some(storage) = storage else {
            let wanted = path.trim_start_matches("/content/").split('?').next().unwrap();
            let mut contents = state.models.values().flat_map(BTreeMap::values);
            let mut body = contents.find(|bytes| sha256_of(bytes) == wanted).unwrap().clone();
            if state.damaged {
                *body.last_mut().unwrap() ^= 1;
            }
            return found(Vec::new(), body);
        };
        if let Some(rest) = path.strip_prefix("/api/models/") {
            let (name, revision) = rest.split_once("/revision/").unwrap();
            let known = ["main", "v1", "refs%2Fpr%2F1", COMMIT].contains(&revision);
            let Some(files) = state.models.get(name).filter(|_| known) else {
                return Answer::refusal(404, "RepoNotFound");
            };
            let files: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            return found(
                Vec::new(),
                json!({ "sha": COMMIT, "siblings": files, "gated": "manual" }).to_string().into_bytes(),
            );
        }
        // Small files are redirected within the hub.
        let (inside, path) = match path.strip_prefix("/api/resolve-cache/") {
            Some(path) => (true, path),
            None => (false, &path[1..]),
        };
        let (name, rest) = path.split_once("/resolve/").unwrap();
        let (commit, file) = rest.split_once('/').unwrap();
        assert_eq!(commit, COMMIT);
        if let Some(gate) = &state.gate {
            match token {
                None => return Answer::refusal(401, "GatedRepo"),
                Some(token) if token != format!("Bearer {gate}") => return Answer::refusal(403, "GatedRepo"),
                _ => {}
            }
        }
        let body = match state.models[name].get(file).filter(|_| state.missing.as_deref() != Some(file)) {
            Some(body) => body.clone(),
            None => return Answer::refusal(404, "EntryNotFound"),
        };
        let sum = sha256_of(&body);
        let commit = ("X-Repo-Commit", COMMIT.to_string());
        if is_large(file) {
            let to = format!("{storage}/content/{sum}?Signature=sesame");
            let size = body.len().to_string();
            let headers =
                vec![commit, ("Location", to), ("X-Linked-Etag", format!("\"{sum}\"")), ("X-Linked-Size", size)];
            return Answer { status: 302, headers, body: b"Found. Redirecting".to_vec() };
        }
        if !inside {
            return Answer {
                status: 307,
                headers: vec![commit, ("Location", format!("/api/resolve-cache/{path}"))],
                body: Vec::new(),
            };
        }
        let git = Sha1::new_with_prefix(format!("blob {}\0", body.len())).chain_update(&body).finalize();
        let body = if state.spoilt.as_deref() == Some(file) { body.to_ascii_uppercase() } else { body };
        found(vec![commit, ("ETag", format!("W/\"{git:x}\""))], body)
    }
}
