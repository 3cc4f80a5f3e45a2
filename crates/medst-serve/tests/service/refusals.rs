//! Requests that are wrong in themselves: each gets a clear 4xx and takes nothing with it.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst_serve::Limits;
use serde_json::json;

use super::setup::{form, parts, picture, post, quick, send, service};

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
        ("/v1/embed", json!({"frontal": "part:0"}), 400, "not base64"),
        ("/v1/embed", json!({"frontal": STANDARD.encode(b"GIF89a")}), 400, "GIF files are not supported"),
        ("/v1/embed", json!({"frontal": STANDARD.encode(&bomb)}), 413, "(limit 10000)"),
        ("/v1/embed", json!({"frontal": STANDARD.encode(picture(1, 101))}), 413, "101×101"),
        ("/v1/embed", json!({"studies": [study, study, study]}), 413, "too many images: 3 (limit 2)"),
        ("/v1/embed", json!({"studies": [{"id": "x"}]}), 400, "give an image or a report"),
        ("/v1/embed", json!({"texts": [long]}), 400, "shorten it"),
        ("/v1/embed", json!({"texts": ["?"]}), 400, "no words"),
        ("/v1/embed", json!({"texts": ["edema"], "model": "../tiny"}), 404, "the models are tiny, other"),
        ("/v1/embed", json!({"texts": ["edema"], "file": "/etc/passwd"}), 400, "unknown field"),
        ("/v1/zero-shot", json!({"frontal": good, "classes": []}), 400, "give at least one class"),
        ("/v1/predict", json!({"frontal": good}), 400, "has no head"),
        ("/v1/zero-shot", json!({"frontal": good, "classes": [long]}), 400, "shorten it"),
        ("/v1/compare", json!({"time_points": [study]}), 400, "two or more"),
        (
            "/v1/compare",
            json!({"time_points": [study, {"report": "The lungs are clear."}]}),
            400,
            "time_points.1.no image",
        ),
        ("/v1/ground", json!({"frontal": good, "phrase": ""}), 400, "no words"),
        ("/v1/ground", json!({"frontal": good, "phrase": "edema", "threshold": 7}), 400, "below 1"),
        ("/v1/nothing", json!({}), 404, "not found; see /reference"),
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
async fn numbers_that_are_none_and_names_that_lead_elsewhere() {
    let (_, router, _) = service(quick(), None);
    let good = STANDARD.encode(picture(1, 64));
    let raw = |path: &str, text: String| {
        Request::post(path).header(header::CONTENT_TYPE, "application/json").body(Body::from(text)).unwrap()
    };
    for number in ["NaN", "Infinity", "-Infinity", "1e999", "\"NaN\"", "\"inf\"", "\"-1\"", "true", "[0.5]"] {
        let text = format!("{{\"frontal\": \"{good}\", \"phrase\": \"edema\", \"threshold\": {number}}}");
        let (status, answer) = send(&router, raw("/v1/ground", text)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{number}: {answer}");
        if number != "true" && number != "[0.5]" {
            let text = format!(
                "{{\"time_points\": [{{\"frontal\": \"{good}\", \"day\": {number}}}, {{\"frontal\": \"{good}\"}}]}}"
            );
            let (status, answer) = send(&router, raw("/v1/compare", text)).await;
            assert!(status == StatusCode::BAD_REQUEST || number == "\"-1\"", "{number}: {status} {answer}");
        }
    }
    for name in ["../tiny", "/etc/passwd", "tiny/../tiny", "tiny\0", "..", "", "TINY", "file:///etc/passwd"] {
        let (status, answer) = post(&router, "/v1/embed", &json!({"texts": ["edema"], "model": name})).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{name}: {answer}");
        let (status, _) = post(&router, "/v1/search", &json!({"text": "edema", "index": name})).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{name}");
    }
    // A file's name is never looked at, whatever it is.
    for name in ["../../etc/passwd", "C:\\\\windows\\\\system.ini", "x.png;rm -rf", "%2e%2e%2f", &"a".repeat(5000)] {
        let body = parts(&[("frontal", Some(name), &picture(1, 64))]);
        let (status, answer) = form(&router, "/v1/embed", body).await;
        assert_eq!(status, StatusCode::OK, "{name}: {answer}");
        assert!(!answer.to_string().contains("passwd"));
    }
    for name in [
        "../frontal",
        "/frontal",
        "studies.-1.frontal",
        "studies.1e3.frontal",
        "__proto__.x",
        "frontal.0",
        "request.frontal",
    ] {
        let body = parts(&[(name, Some("a.png"), &picture(1, 64))]);
        let (status, answer) = form(&router, "/v1/embed", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}: {answer}");
    }
    for path in ["/../etc/passwd", "/v1/../../etc/passwd", "/%2e%2e/etc/passwd", "/v1/embed/../embed", "//etc/passwd"] {
        let (status, _) = send(&router, raw(path, "{}".into())).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_none() {
    let (_, router, _) = service(quick(), None);
    let raw = |kind: &str, body: Vec<u8>| {
        Request::post("/v1/embed").header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
    };
    for kind in ["", "application/octet-stream", "application/x-www-form-urlencoded", "application/jsonx", "image/png"]
    {
        assert_eq!(send(&router, raw(kind, b"{}".to_vec())).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    for body in
        [b"{\"texts\": [\"\xff\xfe\"]}".to_vec(), b"\xef\xbb\xbf{}".to_vec(), deep, Vec::new(), b"null".to_vec()]
    {
        let (status, answer) = send(&router, raw("application/json", body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    let words = "pneumonia ".repeat(10_000);
    let good = STANDARD.encode(picture(1, 64));
    for (path, body) in [
        ("/v1/embed", json!({"texts": [words]})),
        (
            "/v1/zero-shot",
            json!({"frontal": good, "classes": [{"name": "x", "positive": [words], "negative": ["no"]}]}),
        ),
        ("/v1/ground", json!({"frontal": good, "phrase": words})),
        ("/v1/compare", json!({"time_points": [{"frontal": good}, {"frontal": good}], "findings": [words]})),
        ("/v1/zero-shot", json!({"frontal": good, "classes": ["edema", "Edema"]})),
        ("/v1/zero-shot", json!({"frontal": good, "classes": ["edema"], "kind": "exclusive"})),
    ] {
        let (status, answer) = post(&router, path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
        assert!(answer.to_string().len() < 2000, "{path}: the answer repeats the text");
    }
    // A report is truncated at the end of the model's window, which the answer reports.
    let (status, answer) = post(&router, "/v1/embed", &json!({"report": "The lungs are clear. ".repeat(2000)})).await;
    assert_eq!((status, &answer["studies"][0]["truncated"]), (StatusCode::OK, &true.into()));
}
