//! Limits the number of open connections, and decides which one is closed to make room for a new
//! one.
//!
//! A connection for which the service computes is never closed. All others wait for their clients,
//! which may send nothing or never read their answers. When there are too many, the one that has
//! waited longest is closed, so that slow clients hold up only each other.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

/// An answer of which nothing was taken for so long is stalled.
const STALLED: Duration = Duration::from_secs(2);

/// All open connections.
pub struct Connections {
    most: usize,
    most_of_peer: usize,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
}

impl Connections {
    /// * `most_of_peer`: connections of one address, or one network of IPv6.
    pub fn new(most: usize, most_of_peer: usize) -> Connections {
        Connections { most, most_of_peer, open: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Accepts a connection, if necessary in place of another one; `None` if the service is
    /// computing for all of them.
    pub fn take_in(self: &Arc<Self>, peer: IpAddr) -> Option<Open> {
        let peer = network(peer);
        let mut open = self.open();
        if open.values().filter(|connection| connection.peer == peer).count() >= self.most_of_peer {
            close_stalest(&mut open, |connection| connection.peer == peer).then_some(())?;
        } else if open.len() >= self.most {
            close_stalest(&mut open, |_| true).then_some(())?;
        }
        let connection = Arc::new(Connection::new(peer));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, connection.clone());
        Some(Open { connections: self.clone(), number, connection })
    }

    /// Makes room where the system has none left for another connection.
    pub fn close_one(&self) {
        close_stalest(&mut self.open(), |_| true);
    }

    /// Closes connections whose clients do not read their answers; called when the memory of those
    /// answers is needed.
    pub fn close_stalled(&self) {
        let open = self.open();
        let stalled = |state: &State| !state.busy && state.until.is_some() && state.last.elapsed() > STALLED;
        open.values()
            .filter(|connection| stalled(&connection.state()))
            .for_each(|connection| connection.closed.notify_one());
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close_stalest(open: &mut HashMap<u64, Arc<Connection>>, among: impl Fn(&Connection) -> bool) -> bool {
    let waiting = open.iter().filter(|(_, connection)| among(connection)).filter_map(|(number, connection)| {
        let state = connection.state();
        (!state.busy).then_some((state.last, *number))
    });
    let Some((_, number)) = waiting.min() else { return false };
    if let Some(connection) = open.remove(&number) {
        connection.closed.notify_one();
    }
    true
}

/// A client with one IPv6 address has a whole network of 2⁶⁴ addresses, so all of them count as
/// one.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

/// A connection that counts until this is dropped.
pub struct Open {
    connections: Arc<Connections>,
    number: u64,
    pub connection: Arc<Connection>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
    }
}

/// One connection, as its stream, its requests and the service see it.
pub struct Connection {
    peer: IpAddr,
    state: Mutex<State>,
    closed: Notify,
}

struct State {
    /// Whether the service computes for it.
    busy: bool,
    /// When bytes came or went, or a request was answered.
    last: Instant,
    /// When its answer must have been taken.
    until: Option<Instant>,
}

impl Connection {
    fn new(peer: IpAddr) -> Connection {
        let state = State { busy: false, last: Instant::now(), until: None };
        Connection { peer, state: Mutex::new(state), closed: Notify::new() }
    }

    /// Returns once it must make way.
    pub async fn must_close(&self) {
        self.closed.notified().await;
    }

    /// A request has come.
    pub fn request_arrived(&self) {
        *self.state() = State { busy: true, last: Instant::now(), until: None };
    }

    /// Its answer is ready, and must be taken in time.
    pub fn answered(&self, time: Duration) {
        let now = Instant::now();
        *self.state() = State { busy: false, last: now, until: Some(now + time) };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of a connection, with a time limit for what is written.
pub struct Stream {
    stream: TcpStream,
    connection: Arc<Connection>,
    time: Duration,
    /// Runs while the client takes nothing.
    patience: Option<Pin<Box<Sleep>>>,
    /// The response to send instead of hyper's default.
    instead: Vec<u8>,
}

impl Stream {
    /// * `time`: for what is written outside of answers.
    pub fn new(stream: TcpStream, connection: Arc<Connection>, time: Duration) -> Stream {
        Stream { stream, connection, time, patience: None, instead: Vec::new() }
    }

    fn limited<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            self.connection.state().last = Instant::now();
            return written;
        }
        // The deadline for an answer does not move, however many small pieces the client takes.
        let until = self.connection.state().until.unwrap_or_else(|| Instant::now() + self.time);
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
        match patience.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.connection.state().last = Instant::now();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_empty() {
            self.instead = json_answer(bytes).unwrap_or_default();
        }
        if self.instead.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(context, bytes);
            return self.limited(context, written);
        }
        loop {
            let Stream { stream, instead, .. } = &mut *self;
            let written = Pin::new(stream).poll_write(context, instead);
            match self.limited(context, written) {
                Poll::Ready(Ok(count)) if count > 0 => _ = self.instead.drain(..count),
                other => return other,
            }
            if self.instead.is_empty() {
                return Poll::Ready(Ok(bytes.len()));
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = parts.first()
            && (!self.instead.is_empty() || json_answer(first).is_some())
        {
            return self.poll_write(context, first);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.limited(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The answer in JSON to what hyper refuses before any handler sees it, which has a status and no
/// body. Answers of handlers always have one.
fn json_answer(head: &[u8]) -> Option<Vec<u8>> {
    let head = head.strip_suffix(b"\r\n\r\n").filter(|head| head.starts_with(b"HTTP/1.1 4"))?;
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?;
    if !lines.any(|line| line.eq_ignore_ascii_case("content-length: 0")) {
        return None;
    }
    let (code, message) = match status.get(9..12)? {
        "414" => ("too_large", "the address is too long"),
        "431" => ("too_large", "the headers are too long"),
        _ => ("bad_request", "this is not a request in HTTP/1.1"),
    };
    let body = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}");
    let length = body.len();
    let kind = "Connection: close\r\nContent-Type: application/json";
    Some(format!("{status}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stalest_makes_way_and_what_is_computed_for_does_not() {
        let connections = Arc::new(Connections::new(3, 2));
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let take = |text: &str| connections.take_in(peer(text));
        let numbers = || {
            let mut numbers: Vec<u64> = connections.open().keys().copied().collect();
            numbers.sort_unstable();
            numbers
        };
        let (a, b) = (take("10.0.0.1").unwrap(), take("10.0.0.1").unwrap());
        let c = take("10.0.0.2").unwrap();
        // A third connection of the same peer replaces that peer's stalest one; one of another peer
        // replaces the stalest of all.
        let _d = take("::ffff:10.0.0.1").unwrap();
        assert_eq!(numbers(), [1, 2, 3]);
        c.connection.request_arrived();
        b.connection.state().last = Instant::now();
        let _e = take("10.0.0.3").unwrap();
        assert_eq!(numbers(), [1, 2, 4], "the one that had waited longest has gone");
        // A connection that was closed to make room is not counted twice when it ends.
        drop(a);
        assert_eq!(numbers(), [1, 2, 4]);
        b.connection.request_arrived();
        let other = Arc::new(Connections::new(1, 1));
        let only = other.take_in(peer("10.0.0.1")).unwrap();
        only.connection.request_arrived();
        assert!(other.take_in(peer("10.0.0.1")).is_none());
        only.connection.answered(Duration::ZERO);
        assert!(other.take_in(peer("10.0.0.1")).is_some());
        assert_eq!(network(peer("2001:db8::1")), network(peer("2001:db8::2")));
        assert_ne!(network(peer("2001:db8::1")), network(peer("2001:db8:0:1::1")));
    }
}
