//! Clients over a socket: slow, broken, and there while the service ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use medst_serve::Limits;
use serde_json::json;

use super::setup::{connect, exchange, head, listening, parts, picture, quick};

#[test]
fn slow_and_broken_clients_over_a_socket_and_a_drain() {
    let (address, stop, thread) = listening(quick());
    let connect = || connect(address);
    let head = |length: usize| {
        format!(
            "POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let body = json!({"texts": ["edema"]}).to_string();
    let whole = format!("{}{body}", head(body.len()));
    assert!(exchange(&mut connect(), whole.as_bytes()).starts_with("HTTP/1.1 200"));
    // Headers that never end: the connection is closed.
    let answer = exchange(&mut connect(), b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    // A body that never ends: the answer names the slow request.
    let answer = exchange(&mut connect(), format!("{}{{\"texts\"", head(4000)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("slow_request"), "{answer}");
    // A length that is too large is refused at once, and a body that is cut off does no harm.
    assert!(exchange(&mut connect(), head(1 << 40).as_bytes()).starts_with("HTTP/1.1 4"));
    drop(connect().write_all(format!("{}{{", head(4000)).as_bytes()));
    // What no handler sees is answered in JSON as well.
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: 1\r\n".repeat(200));
    for (request, status, code) in [
        (&b"\x16\x03\x01 no http\r\n\r\n"[..], 400, "bad_request"),
        (b"GET /health HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (long.as_bytes(), 414, "too_large"),
        (many.as_bytes(), 431, "too_large"),
    ] {
        let answer = exchange(&mut connect(), request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")) && head.contains("application/json"), "{answer}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], code);
    }
    // A request in progress is answered while the service drains; then it ends.
    let mut slow = connect();
    slow.write_all(head(body.len()).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    assert!(exchange(&mut slow, body.as_bytes()).starts_with("HTTP/1.1 200"));
    thread.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(TcpStream::connect(address).is_err(), "the service still listens");
}

/// Sends bytes one by one, more slowly than the service waits; what it answers.
fn trickle(stream: &mut TcpStream, bytes: &[u8]) -> String {
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(60));
    }
    exchange(stream, &[])
}

#[test]
fn a_trickle_does_not_hold_a_place_and_others_are_answered_meanwhile() {
    let (address, stop, thread) = listening(Limits { requests: 4, connections: 16, ..quick() });
    let slow: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut stream = connect(address);
                match n % 2 {
                    0 => trickle(&mut stream, b"GET /health HTTP/1.1\r\nX-Header: 0123456789"),
                    _ => {
                        stream.write_all(head(4000).as_bytes()).unwrap();
                        trickle(&mut stream, b"{\"texts\": [\"edema\"")
                    }
                }
            })
        })
        .collect();
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(exchange(&mut connect(address), health.as_bytes()).starts_with("HTTP/1.1 200"));
    for (n, client) in slow.into_iter().enumerate() {
        let answer = client.join().unwrap();
        let timed_out = answer.starts_with("HTTP/1.1 408");
        assert!(timed_out || (n % 2 == 0 && answer.is_empty()), "{n}: {answer}");
    }
    let body = json!({"texts": ["edema"]}).to_string();
    let whole = format!("{}{body}", head(body.len()));
    assert!(exchange(&mut connect(address), whole.as_bytes()).starts_with("HTTP/1.1 200"));
    stop.store(true, Ordering::SeqCst);
    thread.join().unwrap();
}

#[test]
fn bodies_that_are_cut_off_or_too_large_are_told_so() {
    let (address, stop, thread) = listening(quick());
    let whole = parts(&[("frontal", Some("a.png"), &picture(1, 64))]);
    let form = |length: usize| {
        let kind = "multipart/form-data; boundary=line";
        head(length).replace("application/json", kind)
    };
    // Fewer bytes than the length says, and the client's side closed.
    for cut in [0, 30, 90, whole.len() - 60] {
        let mut stream = connect(address);
        stream.write_all(form(whole.len()).as_bytes()).unwrap();
        stream.write_all(&whole[..cut]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = exchange(&mut stream, &[]);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{cut}: {answer}");
    }
    // A whole body without its end.
    let answer =
        exchange(&mut connect(address), &[form(whole.len() - 10).as_bytes(), &whole[..whole.len() - 10]].concat());
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("multipart"), "{answer}");
    // Too large by its length: all of it may be sent before the answer is read.
    let start = Instant::now();
    let answer = exchange(&mut connect(address), &[head(2 << 20).as_bytes(), &vec![b' '; 2 << 20]].concat());
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"), "{answer}");
    // Nothing of it is sent: an answer all the same.
    assert!(exchange(&mut connect(address), head(1 << 40).as_bytes()).starts_with("HTTP/1.1 413"));
    assert!(start.elapsed() < Duration::from_secs(15));
    // Too large without a length.
    let chunked = head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    let answer = exchange(&mut connect(address), format!("{chunked}{chunk}{chunk}0\r\n\r\n").as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    for wrong in ["Content-Length: x", "Content-Length: -1", "Content-Length: 5\r\nContent-Length: 6"] {
        let request = head(0).replace("Content-Length: 0", wrong);
        assert!(exchange(&mut connect(address), request.as_bytes()).starts_with("HTTP/1.1 400"), "{wrong}");
    }
    let headers = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = exchange(&mut connect(address), headers.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    stop.store(true, Ordering::SeqCst);
    thread.join().unwrap();
}

#[test]
fn requests_that_came_before_the_end_are_answered() {
    let (address, stop, thread) = listening(Limits::default());
    let body = json!({"texts": ["edema", "a large left pleural effusion"]}).to_string();
    let streams: Vec<TcpStream> = (0..32)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(head(body.len()).as_bytes()).unwrap();
            stream
        })
        .collect();
    // The heads are read; the bodies come once the service ends.
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(100));
    for mut stream in streams {
        let answer = exchange(&mut stream, body.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    thread.join().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

/// Asks for the page's largest asset many times over and reads nothing of the answers.
fn ask_and_never_read(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let request = "GET /reference HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _ = stream.write_all(request.repeat(2000).as_bytes());
    stream
}

#[test]
fn clients_that_never_read_hold_up_nobody() {
    let limits = Limits { connections: 40, peer_connections: 40, ..Limits::default() };
    let (address, stop, thread) = listening(limits);
    let silent: Vec<TcpStream> = (0..120).map(|_| ask_and_never_read(address)).collect();
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for _ in 0..5 {
        assert!(exchange(&mut connect(address), health.as_bytes()).starts_with("HTTP/1.1 200"));
        let body = json!({"texts": ["edema"]}).to_string();
        let whole = format!("{}{body}", head(body.len()));
        assert!(exchange(&mut connect(address), whole.as_bytes()).starts_with("HTTP/1.1 200"));
    }
    drop(silent);
    stop.store(true, Ordering::SeqCst);
    thread.join().unwrap();
}

#[test]
fn connections_end_when_nothing_is_taken_or_asked_and_when_they_are_old() {
    let limits = Limits { send: Duration::from_millis(300), lifetime: Duration::from_secs(2), ..quick() };
    let (address, stop, thread) = listening(limits);
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Nothing more is asked.
    let mut idle = connect(address);
    let answer = exchange(&mut idle, request);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    // Nothing is taken: the connection is closed before all answers are sent.
    let mut silent = ask_and_never_read(address);
    std::thread::sleep(Duration::from_millis(1500));
    let taken = exchange(&mut silent, &[]).matches("HTTP/1.1 200").count();
    assert!(taken < 2000, "{taken} answers were kept for a client that took none");
    // Requests keep coming: one of the answers announces that it is the last.
    let mut busy = connect(address);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("connection: close") {
        let mut piece = [0; 4096];
        let read = busy.write_all(request).and_then(|()| busy.read(&mut piece)).unwrap_or(0);
        if read == 0 {
            break;
        }
        seen.extend_from_slice(&piece[..read]);
        std::thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::SeqCst);
    thread.join().unwrap();
}
