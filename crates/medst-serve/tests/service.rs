//! The service in-process and over a real socket: answers equal to those of the engine, and every kind of bad request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst::infer::{Engine, Views};
use medst::model::config::ModelConfig;
use medst::model::{MedSt, config};
use medst::train::checkpoint::{ModelCard, OpenedModel};
use medst_data::report::WordPiece;
use medst_serve::service::{Calibrations, Shared};
use medst_serve::{Limits, ServeConfig, Service, listen};
use serde_json::{Value, json};
use tch::{Device, Kind};
use tower::ServiceExt;

/// A small model with random weights.
fn engine(folder: &Path) -> Engine {
    let mut config = ModelConfig { initial_deviation: 0.2, ..ModelConfig::default() };
    config.image =
        config::ImageConfig { size: 48, patch: 16, width: 32, depth: 1, heads: 2, mlp: 64, ..Default::default() };
    config.text.width = 32;
    (config.text.layers, config.text.heads, config.text.intermediate, config.text.max_positions) = (1, 2, 64, 112);
    config.projection = config::ProjectionConfig { hidden: 48, embedding: 32 };
    let model = MedSt::new(&config, 1, Device::Cpu, Kind::Float).unwrap();
    model.save(&folder.join("model.safetensors"), None).unwrap();
    let pieces = WordPiece::bert_cased();
    let card = ModelCard::new(&config, &pieces, 0, "none".into());
    Engine::new(OpenedModel { model, card, pieces, path: folder.to_path_buf() }).unwrap()
}

fn service(limits: Limits, token: Option<&str>) -> (Arc<Shared>, Router, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let config = ServeConfig::new("127.0.0.1:0".parse().unwrap(), token.map(str::to_string), false, limits).unwrap();
    let mut service = Service::new(&config);
    service.add_model("tiny", engine(folder.path()), &Calibrations::default()).unwrap();
    assert!(service.add_model("tiny", engine(folder.path()), &Calibrations::default()).is_err());
    service.add_model("other", engine(folder.path()), &Calibrations::default()).unwrap();
    let (shared, router) = service.finish().unwrap();
    (shared, router, engine(folder.path()))
}

fn quick() -> Limits {
    Limits { receive: Duration::from_millis(400), body: 1 << 20, ..Limits::default() }
}

/// A PNG of noise.
fn picture(seed: u32, side: u32) -> Vec<u8> {
    let pixels: Vec<u8> =
        (0..side * side).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 9) as u8).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let busy = response.headers().get(header::RETRY_AFTER).is_some();
    assert_eq!(status == StatusCode::TOO_MANY_REQUESTS, busy);
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn post(router: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body.to_string().into());
    send(router, request.unwrap()).await
}

/// A multipart body: name, file name, value.
fn parts(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, value) in parts {
        let file = file
            .map(|file| format!("; filename=\"{file}\"\r\nContent-Type: application/octet-stream"))
            .unwrap_or_default();
        body.extend(format!("--line\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--line--\r\n");
    body
}

async fn form(router: &Router, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let kind = "multipart/form-data; boundary=line";
    send(router, Request::post(path).header(header::CONTENT_TYPE, kind).body(body.into()).unwrap()).await
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_engine_whoever_asks_at_the_same_time() {
    let (_, router, engine) = service(Limits::default(), None);
    let expected = |bytes: &[u8]| {
        let views = Views::Frontal(engine.sight().decode(bytes).unwrap());
        engine.images(&[&views]).unwrap().embeddings.row(0).to_vec()
    };
    let mut waiting = Vec::new();
    for n in 0..24u32 {
        let router = router.clone();
        let (bytes, own) = (picture(n, 64), expected(&picture(n, 64)));
        waiting.push(tokio::spawn(async move {
            // Every fourth is bad, and takes no other's answer.
            let body =
                if n % 4 == 3 { json!({"frontal": "AAAA"}) } else { json!({"frontal": STANDARD.encode(&bytes)}) };
            let (status, answer) = post(&router, "/v1/embed", &body).await;
            match n % 4 {
                3 => assert_eq!(status, StatusCode::BAD_REQUEST),
                _ => assert!(close(&floats(&answer["studies"][0]["image"]), &own), "{answer}"),
            }
        }));
    }
    for one in waiting {
        one.await.unwrap();
    }
    let text = "No pleural effusion.";
    let (_, answer) = post(&router, "/v1/embed", &json!({"texts": [text], "model": "other"})).await;
    let own = engine.texts(&[&engine.reader().prompt(text).unwrap()]).unwrap();
    assert!(close(&floats(&answer["texts"][0]), own.row(0)));
    // The same as multipart, with both views and a report.
    let (a, b) = (picture(1, 64), picture(2, 70));
    let report = b"FINDINGS: The lungs are clear.".as_slice();
    let body =
        parts(&[("frontal", Some("../../etc/passwd"), &a), ("lateral", Some("b"), &b), ("report", None, report)]);
    let (status, answer) = form(&router, "/v1/embed", body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let json = json!({"studies": [{"frontal": STANDARD.encode(&a), "lateral": STANDARD.encode(&b), "report": "FINDINGS: The lungs are clear."}]});
    let (_, same) = post(&router, "/v1/embed", &json).await;
    for kind in ["image", "report"] {
        assert!(close(&floats(&answer["studies"][0][kind]), &floats(&same["studies"][0][kind])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers() {
    let (_, router, _) = service(Limits::default(), None);
    let (a, b) = (STANDARD.encode(picture(1, 64)), STANDARD.encode(picture(2, 64)));
    let classes = json!(["edema", {"name": "line", "positive": ["a line"], "negative": ["no line"]}]);
    let (status, answer) = post(&router, "/v1/zero-shot", &json!({"frontal": a, "classes": classes})).await;
    assert_eq!((status, answer["classes"][1].as_str()), (StatusCode::OK, Some("line")), "{answer}");
    let points = json!([{"frontal": a, "day": 0, "report": "The lungs are clear."}, {"frontal": b, "day": "7.5", "name": "later"}]);
    let (status, answer) = post(&router, "/v1/compare", &json!({"time_points": points, "findings": ["edema"]})).await;
    assert_eq!((status, answer["steps"][0]["days"].as_f64()), (StatusCode::OK, Some(7.5)), "{answer}");
    let body = json!({"frontal": a, "phrase": "left effusion", "pictures": true});
    let (status, answer) = post(&router, "/v1/ground", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let drawn = STANDARD.decode(answer["pictures"][0]["png"].as_str().unwrap()).unwrap();
    assert!(drawn.starts_with(b"\x89PNG") && answer["words"].as_array().unwrap().len() == 3);
    let (status, _) = post(&router, "/v1/search", &json!({"text": "edema"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "there is no index");
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let (status, models) = send(&router, get("/v1/models")).await;
    assert_eq!((status, models["models"].as_array().unwrap().len()), (StatusCode::OK, 2));
    assert_eq!(send(&router, get("/health")).await.1, json!({"status": "ok"}));
    let (_, interface) = send(&router, get("/openapi.json")).await;
    for path in
        ["/v1/embed", "/v1/zero-shot", "/v1/compare", "/v1/ground", "/v1/search", "/v1/models", "/health", "/metrics"]
    {
        assert!(interface["paths"][path].is_object(), "{path}");
    }
    let page = router.clone().oneshot(get("/reference")).await.unwrap();
    let page = String::from_utf8(to_bytes(page.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
    assert!(page.contains("/v1/compare") && page.contains("text_share") && page.contains("Retry-After"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"), "loads nothing");
    let figures = router.clone().oneshot(get("/metrics")).await.unwrap();
    let figures = String::from_utf8(to_bytes(figures.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
    assert!(figures.contains("medst_requests_total{route=\"/v1/ground\",status=\"200\"} 1"), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_clear_and_take_nothing_with_them() {
    let (shared, router, _) = service(Limits { pixels: 100 * 100, images: 2, ..quick() }, None);
    let good = STANDARD.encode(picture(1, 64));
    // A picture that declares 65536×65536 pixels.
    let mut bomb = picture(1, 8);
    bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let long = "pneumonia ".repeat(10_000);
    let study = json!({"frontal": good});
    for (path, body, status, expected) in [
        ("/v1/embed", json!({}), 400, "nothing to embed"),
        ("/v1/embed", json!({"frontal": "%%%"}), 400, "frontal"),
        ("/v1/embed", json!({"frontal": "part:0"}), 400, "no such part"),
        ("/v1/embed", json!({"frontal": STANDARD.encode(b"GIF89a")}), 400, "neither a JPEG"),
        ("/v1/embed", json!({"frontal": STANDARD.encode(&bomb)}), 413, "a picture may have 10000"),
        ("/v1/embed", json!({"frontal": STANDARD.encode(picture(1, 101))}), 413, "101×101"),
        ("/v1/embed", json!({"studies": [study, study, study]}), 413, "a request may hold 2"),
        ("/v1/embed", json!({"studies": [{"id": "x"}]}), 400, "neither a picture nor a report"),
        ("/v1/embed", json!({"texts": [long]}), 400, "say it shorter"),
        ("/v1/embed", json!({"texts": ["?"]}), 400, "no words"),
        ("/v1/embed", json!({"texts": ["edema"], "model": "../tiny"}), 404, "there are tiny, other"),
        ("/v1/embed", json!({"texts": ["edema"], "file": "/etc/passwd"}), 400, "unknown field"),
        ("/v1/zero-shot", json!({"frontal": good, "classes": []}), 400, "no classes"),
        ("/v1/zero-shot", json!({"frontal": good, "classes": [long]}), 400, "say it shorter"),
        ("/v1/compare", json!({"time_points": [study]}), 400, "two or more"),
        (
            "/v1/compare",
            json!({"time_points": [study, {"report": "The lungs are clear."}]}),
            400,
            "time_points.1.no picture",
        ),
        ("/v1/ground", json!({"frontal": good, "phrase": ""}), 400, "no words"),
        ("/v1/ground", json!({"frontal": good, "phrase": "edema", "threshold": 7}), 400, "below 1"),
        ("/v1/nothing", json!({}), 404, "nothing at this address"),
    ] {
        let (found, answer) = post(&router, path, &body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(found.as_u16() == status && message.contains(expected), "{path} {expected}: {found} {answer}");
    }
    let raw = |kind: &'static str, body: Vec<u8>| {
        Request::post("/v1/embed").header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
    };
    let multipart = "multipart/form-data; boundary=line";
    let whole = parts(&[("frontal", Some("a.png"), &picture(1, 64))]);
    let many: Vec<(&str, Option<&str>, &[u8])> = (0..300).map(|_| ("model", None, &b"x"[..])).collect();
    for (request, status) in [
        (raw("text/plain", b"x".to_vec()), 415),
        (raw("application/json", b"{\"texts\": [".to_vec()), 400),
        (raw("application/json", vec![b' '; 2 << 20]), 413),
        (raw(multipart, whole[..whole.len() - 60].to_vec()), 400),
        (raw("multipart/form-data", whole.clone()), 400),
        (raw(multipart, parts(&[("frontal", Some("a.png"), &vec![0; 2 << 20])])), 413),
        (raw(multipart, parts(&[("studies.99999999999.frontal", Some("a"), b"x")])), 400),
        (raw(multipart, parts(&[("../../frontal", Some("a"), b"x")])), 400),
        (raw(multipart, parts(&[("frontal", None, b"part:0")])), 400),
        (raw(multipart, parts(&[("model", None, b"\xff\xfe")])), 400),
        (raw(multipart, parts(&many)), 400),
        (Request::get("/v1/embed").body(Body::empty()).unwrap(), 405),
    ] {
        let (found, answer) = send(&router, request).await;
        assert_eq!(found.as_u16(), status, "{answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    let (status, _) = form(&router, "/v1/embed", whole).await;
    assert_eq!(status, StatusCode::OK, "all is well after all of that");
    assert_eq!(shared.places.available_permits(), shared.limits.requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_but_health_is_told() {
    let token = "0123456789abcdef0123";
    let (_, router, _) = service(Limits::default(), Some(token));
    let ask = |path: &str, value: Option<String>| {
        let mut request = Request::get(path);
        if let Some(value) = value {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Body::empty()).unwrap()
    };
    for path in ["/v1/models", "/metrics"] {
        for value in [
            None,
            Some("Bearer".into()),
            Some(format!("Bearer {token}0")),
            Some(format!("Basic {token}")),
            Some("Bearer 0123456789abcdef012".into()),
        ] {
            let (status, answer) = send(&router, ask(path, value)).await;
            assert_eq!((status, answer["error"]["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("unauthorized")));
        }
        assert_eq!(send(&router, ask(path, Some(format!("Bearer {token}")))).await.0, StatusCode::OK);
    }
    assert_eq!(send(&router, ask("/health", None)).await.0, StatusCode::OK);
    let (status, _) = post(&router, "/v1/embed", &json!({"texts": ["edema"]})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_overload_clients_are_told_to_come_back() {
    let (shared, router, _) = service(Limits { requests: 2, ..Limits::default() }, None);
    let held = shared.places.acquire_many(2).await.unwrap();
    let (status, answer) = post(&router, "/v1/embed", &json!({"texts": ["edema"]})).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some("busy")));
    let health = Request::get("/health").body(Body::empty()).unwrap();
    assert_eq!(send(&router, health).await.0, StatusCode::OK, "health is told all the same");
    drop(held);
    assert_eq!(post(&router, "/v1/embed", &json!({"texts": ["edema"]})).await.0, StatusCode::OK);
}

/// A service on a real socket, and the flag that ends it.
fn listening(limits: Limits) -> (SocketAddr, Arc<AtomicBool>, std::thread::JoinHandle<()>) {
    let (shared, router, _) = service(limits, None);
    let (stop, (sender, receiver)) = (Arc::new(AtomicBool::new(false)), std::sync::mpsc::channel());
    let flag = stop.clone();
    let thread = std::thread::spawn(move || {
        let config = ServeConfig::new("127.0.0.1:0".parse().unwrap(), None, false, limits).unwrap();
        let ready = |address| sender.send(address).unwrap();
        listen::serve(&config, (shared, router), || flag.load(Ordering::SeqCst), ready).unwrap();
    });
    (receiver.recv().unwrap(), stop, thread)
}

fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> String {
    // The service may close before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn slow_and_broken_clients_over_a_socket_and_a_drain() {
    let (address, stop, thread) = listening(quick());
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let head = |length: usize| {
        format!(
            "POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let body = json!({"texts": ["edema"]}).to_string();
    let whole = format!("{}{body}", head(body.len()));
    assert!(exchange(&mut connect(), whole.as_bytes()).starts_with("HTTP/1.1 200"));
    // Headers that never end: the connection is closed.
    let answer = exchange(&mut connect(), b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    // A body that never ends: an answer that says so.
    let answer = exchange(&mut connect(), format!("{}{{\"texts\"", head(4000)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("slow_request"), "{answer}");
    // A length that is too large is refused at once, and a body that is cut off harms nobody.
    assert!(exchange(&mut connect(), head(1 << 40).as_bytes()).starts_with("HTTP/1.1 4"));
    drop(connect().write_all(format!("{}{{", head(4000)).as_bytes()));
    assert!(exchange(&mut connect(), b"\x16\x03\x01 no http\r\n\r\n").starts_with("HTTP/1.1 400"));
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
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
