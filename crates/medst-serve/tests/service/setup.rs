//! A service with two tiny models, and ways to ask it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use medst_data::report::WordPiece;
use medst_infer::infer::Engine;
use medst_model::model::card::ModelCard;
use medst_model::model::config::ModelConfig;
use medst_model::model::head::HeadConfig;
use medst_model::model::{MedSt, config};
use medst_model::open::OpenedModel;
use medst_serve::state::{Calibrations, Shared};
use medst_serve::{Access, Limits, ServeConfig, Service, listen};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tower::ServiceExt;

/// A small model with random weights.
pub fn engine(folder: &Path) -> Engine {
    with_head(folder, None)
}

/// As [`engine`], fine-tuned by hand.
pub fn with_head(folder: &Path, head: Option<HeadConfig>) -> Engine {
    let tuned = head.is_some();
    let mut config = ModelConfig { initial_deviation: 0.2, head, ..ModelConfig::default() };
    config.image = config::ImageConfig {
        size: 48,
        patch: 16,
        hidden_size: 32,
        num_layers: 1,
        num_heads: 2,
        intermediate_size: 64,
        ..Default::default()
    };
    config.text.hidden_size = 32;
    (config.text.num_layers, config.text.num_heads, config.text.intermediate_size, config.text.max_positions) =
        (1, 2, 64, 112);
    config.projection = config::ProjectionConfig { hidden: 48, embedding: 32 };
    let model = MedSt::new(&config, 1, Device::Cpu, Kind::Float).unwrap();
    // A head begins at zero, and is made last.
    for parameter in model.parameters().iter().rev().take(if tuned { 2 } else { 0 }) {
        parameter.fill(
            &(Tensor::arange(parameter.tensor.numel() as i64, (Kind::Float, Device::Cpu)) * 1.3)
                .sin()
                .view_as(&parameter.tensor),
        );
    }
    model.save(&folder.join("model.safetensors"), None).unwrap();
    let pieces = WordPiece::bert_cased();
    let checksum = medst_model::model::builtin::checksum(&folder.join("model.safetensors")).unwrap();
    let card = ModelCard::new(&config, &pieces, 0, "none".into());
    Engine::new(OpenedModel { model, card, pieces, path: folder.to_path_buf(), checksum }).unwrap()
}

fn config(limits: Limits, token: Option<&str>) -> ServeConfig {
    let access = token.map_or(Access::Open, |token| Access::Token(token.into()));
    ServeConfig::new("127.0.0.1:0".parse().unwrap(), access, &["medst.example".into()], limits).unwrap()
}

pub fn service(limits: Limits, token: Option<&str>) -> (Arc<Shared>, Router, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let config = config(limits, token);
    let mut service = Service::new(&config).unwrap();
    service.add_model("tiny", engine(folder.path()), &Calibrations::default()).unwrap();
    assert!(service.add_model("tiny", engine(folder.path()), &Calibrations::default()).is_err());
    service.add_model("other", engine(folder.path()), &Calibrations::default()).unwrap();
    let (shared, router) = service.finish().unwrap();
    (shared, router, engine(folder.path()))
}

/// A service of fine-tuned models, with their engines.
pub fn tuned(heads: &[(&str, HeadConfig)]) -> (Router, Vec<Engine>) {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::new(&config(Limits::default(), None)).unwrap();
    for (name, head) in heads {
        let engine = with_head(folder.path(), Some(head.clone()));
        service.add_model(name, engine, &Calibrations::default()).unwrap();
    }
    let engines = heads.iter().map(|(_, head)| with_head(folder.path(), Some(head.clone()))).collect();
    (service.finish().unwrap().1, engines)
}

pub fn quick() -> Limits {
    Limits { receive: Duration::from_millis(400), body: 1 << 20, ..Limits::default() }
}

/// A PNG of noise.
pub fn picture(seed: u32, side: u32) -> Vec<u8> {
    let pixels: Vec<u8> =
        (0..side * side).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 9) as u8).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

pub async fn send(router: &Router, mut request: Request<Body>) -> (StatusCode, Value) {
    // As every client of HTTP/1.1 does.
    request.headers_mut().entry(header::HOST).or_insert("localhost".parse().unwrap());
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let busy = response.headers().get(header::RETRY_AFTER).is_some();
    assert_eq!(status == StatusCode::TOO_MANY_REQUESTS, busy);
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// The text at an address.
pub async fn get(router: &Router, path: &str) -> String {
    let request = Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let body = router.clone().oneshot(request).await.unwrap().into_body();
    String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap()
}

pub async fn post(router: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body.to_string().into());
    send(router, request.unwrap()).await
}

/// A multipart body: name, file name, value.
pub fn parts(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
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

pub async fn form(router: &Router, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let kind = "multipart/form-data; boundary=line";
    send(router, Request::post(path).header(header::CONTENT_TYPE, kind).body(body.into()).unwrap()).await
}

pub fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

pub fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

/// A service on a real socket, and the flag that ends it.
pub fn listening(limits: Limits) -> (SocketAddr, Arc<AtomicBool>, std::thread::JoinHandle<()>) {
    let (shared, router, _) = service(limits, None);
    let (stop, (sender, receiver)) = (Arc::new(AtomicBool::new(false)), std::sync::mpsc::channel());
    let flag = stop.clone();
    let thread = std::thread::spawn(move || {
        let config = config(limits, None);
        let ready = |address| sender.send(address).unwrap();
        listen::serve(&config, (shared, router), || flag.load(Ordering::SeqCst), ready).unwrap();
    });
    (receiver.recv().unwrap(), stop, thread)
}

pub fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> String {
    // The service may close before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The head of a request to embed that is the last of its connection.
pub fn head(length: usize) -> String {
    format!(
        "POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}
