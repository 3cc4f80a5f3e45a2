//! What is asked for is bounded before it is done: values, memory, messages; and errors have one
//! form.

use std::io::Write;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use medst_data::image::dicom::write::{Pixels, Wrap};
use medst_serve::{Access, Limits, ServeConfig, Service};
use serde_json::json;
use tower::ServiceExt;

use super::setup::{form, parts, picture, post, quick, send, service};

#[tokio::test(flavor = "multi_thread")]
async fn values_and_texts_are_counted_before_they_are_built() {
    let (_, router, _) = service(Limits::default(), None);
    for body in [
        format!("{{\"studies\": [{}{{}}]}}", "{},".repeat(1 << 17)),
        format!("{{\"texts\": [{}\"\"]}}", "\"\",".repeat(1 << 17)),
        format!("{{\"frontal\": [{}0]}}", "[],".repeat(1 << 17)),
    ] {
        let request = Request::post("/v1/embed").header(header::CONTENT_TYPE, "application/json").body(body.into());
        let (status, answer) = send(&router, request.unwrap()).await;
        assert!(status == StatusCode::BAD_REQUEST && answer.to_string().contains("too many values"), "{answer}");
    }
    let part = format!("[{}0]", "0,".repeat(1 << 17));
    let (status, answer) = form(&router, "/v1/embed", parts(&[("texts", None, part.as_bytes())])).await;
    assert!(status == StatusCode::BAD_REQUEST && answer.to_string().contains("too many values"), "{answer}");
    let long = "a ".repeat((1 << 16) + 1);
    for body in [json!({"texts": [long]}), json!({"report": long})] {
        let (status, answer) = post(&router, "/v1/embed", &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_shared_and_never_exceeded() {
    // A third for bodies, two MiB for pictures.
    let limits = Limits { memory: 3 << 20, body: 1 << 19, ..Limits::default() };
    let (shared, router, _) = service(limits, None);
    let ask = |picture: Vec<u8>| {
        let router = router.clone();
        async move { form(&router, "/v1/embed", parts(&[("frontal", Some("a"), &picture)])).await }
    };
    // Small to send, and three bytes of memory a pixel.
    let mut flat = Vec::new();
    let mut encoder = png::Encoder::new(&mut flat, 1000, 1000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[7; 1_000_000]).unwrap();
    assert_eq!(ask(picture(1, 64)).await.0, StatusCode::OK);
    let (status, answer) = ask(flat).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(status == StatusCode::PAYLOAD_TOO_LARGE && message.contains("of memory"), "{answer}");
    // While others hold most of the memory, clients are asked to retry; `send` expects Retry-After.
    let mut held = shared.memory.hold();
    held.add((1 << 20) - 1024).unwrap();
    assert_eq!(ask(picture(1, 64)).await.0, StatusCode::TOO_MANY_REQUESTS);
    drop(held);
    assert_eq!(ask(picture(1, 64)).await.0, StatusCode::OK);
    // An answer holds memory until it is sent.
    held = shared.memory.hold();
    held.add((1 << 20) - 4096).unwrap();
    let texts: Vec<String> = (0..20).map(|n| format!("edema {n}")).collect();
    assert_eq!(post(&router, "/v1/embed", &json!({"texts": texts})).await.0, StatusCode::TOO_MANY_REQUESTS);
    let config = |memory| {
        let limits = Limits { memory, ..Limits::default() };
        let config = ServeConfig::new("127.0.0.1:0".parse().unwrap(), Access::Open, &[], limits).unwrap();
        Service::new(&config).map(|_| ())
    };
    assert!(config(100 << 20).unwrap_err().to_string().contains("set it to 384 or more") && config(384 << 20).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn deflated_files_hold_no_more_than_they_declare() {
    let (_, router, _) = service(quick(), None);
    let deflated = "1.2.840.10008.1.2.1.99";
    let small = Wrap { transfer_syntax: deflated, ..Wrap::new(Pixels::Grey8(&[7; 64 * 64]), 64, 64) };
    let small = small.to_bytes().unwrap();
    let ask = |bytes: Vec<u8>| {
        let router = router.clone();
        async move { form(&router, "/v1/embed", parts(&[("frontal", Some("a"), &bytes)])).await }
    };
    assert_eq!(ask(small.clone()).await.0, StatusCode::OK);
    // The data set again, and 30 MB after it.
    let group = u32::from_le_bytes(small[140..144].try_into().unwrap()) as usize;
    let plain = Wrap::new(Pixels::Grey8(&[7; 64 * 64]), 64, 64).to_bytes().unwrap();
    let start = 144 + u32::from_le_bytes(plain[140..144].try_into().unwrap()) as usize;
    let deflated = |data: &[u8]| {
        let mut encoder = DeflateEncoder::new(small[..144 + group].to_vec(), Compression::fast());
        encoder.write_all(data).unwrap();
        (0..30).for_each(|_| encoder.write_all(&vec![0; 1 << 20]).unwrap());
        encoder.finish().unwrap()
    };
    // What follows the pixels is not inflated; pixels that are longer than their rows are refused.
    assert_eq!(ask(deflated(&plain[start..])).await.0, StatusCode::OK);
    let mut long = plain[start..].to_vec();
    let at = long.windows(4).position(|bytes| bytes == [0xe0, 0x7f, 0x10, 0x00]).unwrap() + 8;
    long[at..at + 4].copy_from_slice(&(29u32 << 20).to_le_bytes());
    let (status, answer) = ask(deflated(&long)).await;
    assert!(status == StatusCode::BAD_REQUEST && answer.to_string().contains("expected 4096"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_json_and_short() {
    let (_, router, _) = service(quick(), Some("0123456789abcdef"));
    let long = "x".repeat(100_000);
    let token = |path: &str| Request::post(path).header(header::AUTHORIZATION, "Bearer 0123456789abcdef");
    let json = |text: String| {
        token("/v1/embed").header(header::CONTENT_TYPE, "application/json").body(Body::from(text)).unwrap()
    };
    let empty = |request: axum::http::request::Builder| request.body(Body::empty()).unwrap();
    for (request, status, code) in [
        (empty(token("/nothing")), 404, "not_found"),
        (empty(token("/page/none.js").method(Method::GET)), 404, "not_found"),
        (empty(token("/v1/models")), 405, "method"),
        (empty(token("/").method(Method::from_bytes(&long.as_bytes()[..5000]).unwrap())), 405, "method"),
        (empty(token("/v1/examples/%ff/x.png").method(Method::GET)), 400, "bad_request"),
        (empty(Request::get("/v1/models")), 401, "unauthorized"),
        (empty(Request::get("/").header(header::HOST, format!("{}.example", &long[..5000]))), 403, "host"),
        (empty(token("/v1/embed")), 415, "media_type"),
        (json(format!("{{\"{long}\": 1}}")), 400, "bad_request"),
        (json(format!("{{\"studies\": \"{long}\"}}")), 400, "bad_request"),
        (json(" ".repeat(2 << 20)), 413, "too_large"),
    ] {
        let mut request = request;
        request.headers_mut().entry(header::HOST).or_insert("localhost".parse().unwrap());
        let what = format!("{} {}", &request.method().as_str()[..3], request.uri());
        let answer = router.clone().oneshot(request).await.unwrap();
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_string();
        let found = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (found, value["error"]["code"].as_str(), &*kind),
            (status, Some(code), "application/json"),
            "{what}"
        );
        assert!(bytes.len() < 2500, "{what}: {} bytes", bytes.len());
    }
}
