//! A client of one connection that is kept alive, and multipart bodies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for a byte of an answer; the service promises to be faster.
const PATIENCE: Duration = Duration::from_secs(120);
const BOUNDARY: &str = "a-line-that-no-picture-holds";

pub struct Client {
    address: SocketAddr,
    /// Sent with every request, where it is not empty.
    pub token: String,
    kept: Option<BufReader<TcpStream>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: bool,
    pub body: Vec<u8>,
}

/// A body and its type.
#[derive(Clone)]
pub struct Body {
    pub kind: String,
    pub bytes: Vec<u8>,
}

impl Body {
    pub fn json(value: &serde_json::Value) -> Body {
        Body { kind: "application/json".into(), bytes: value.to_string().into_bytes() }
    }

    /// * `parts`: name, value, whether it is a file.
    pub fn parts(parts: &[(&str, &[u8], bool)]) -> Body {
        let mut bytes = Vec::new();
        for (name, value, file) in parts {
            let file = if *file { "; filename=\"x\"\r\nContent-Type: application/octet-stream" } else { "" };
            let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        Body { kind: format!("multipart/form-data; boundary={BOUNDARY}"), bytes }
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        Client { address, token: String::new(), kept: None }
    }

    pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"), &[])
    }

    pub fn post(&mut self, path: &str, body: &Body) -> io::Result<Answer> {
        self.send(&head(path, &body.kind, body.bytes.len()), &body.bytes)
    }

    /// Sends on the kept connection, or on a new one if that was closed in the meantime.
    pub fn send(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        let head = match self.token.as_str() {
            "" => head.to_string(),
            token => head.replacen("\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n"), 1),
        };
        if let Some(kept) = self.kept.take()
            && let Ok(answer) = self.exchange(kept, &head, body)
        {
            return Ok(answer);
        }
        self.exchange(BufReader::new(Client::connect(self.address)?), &head, body)
    }

    fn exchange(&mut self, mut stream: BufReader<TcpStream>, head: &str, body: &[u8]) -> io::Result<Answer> {
        // A service that refuses a body answers before it has read all of it.
        let written = stream.get_mut().write_all(head.as_bytes()).and_then(|()| stream.get_mut().write_all(body));
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(written.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        }
        let wrong = |line: &str| io::Error::other(format!("no answer of HTTP: {line:?}"));
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| wrong(&line))?;
        let (mut length, mut closed, mut retry_after) = (0, false, false);
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", value) => length = value.parse().map_err(|_| wrong(value))?,
                ("connection", value) => closed = value.eq_ignore_ascii_case("close"),
                ("retry-after", _) => retry_after = true,
                _ => {}
            }
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes)?;
        if !closed && written.is_ok() {
            self.kept = Some(stream);
        }
        Ok(Answer { status, retry_after, body: bytes })
    }
}

/// The head of a request.
pub fn head(path: &str, kind: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
}

/// The values of a figure of Prometheus' format, over all its labels.
pub fn figure(text: &str, name: &str) -> f64 {
    let of_figure = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    text.lines().filter(of_figure).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
