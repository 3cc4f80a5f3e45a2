//! Good requests: answers are those of the engine, from whichever of several models.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst_infer::infer::Views;
use medst_model::model::head::{HeadConfig, HeadTask};
use medst_serve::Limits;
use serde_json::json;

use super::setup::{close, floats, form, get, parts, picture, post, send, service, tuned};

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_engine_also_for_concurrent_requests() {
    let (_, router, engine) = service(Limits::default(), None);
    let expected = |bytes: &[u8]| {
        let views = Views::Frontal(engine.preprocessing().decode(bytes).unwrap());
        engine.images(&[&views]).unwrap().embeddings.row(0).to_vec()
    };
    let mut waiting = Vec::new();
    for n in 0..24u32 {
        let router = router.clone();
        let (bytes, vector) = (picture(n, 64), expected(&picture(n, 64)));
        waiting.push(tokio::spawn(async move {
            // Every fourth is bad, and takes no other's answer.
            let body =
                if n % 4 == 3 { json!({"frontal": "AAAA"}) } else { json!({"frontal": STANDARD.encode(&bytes)}) };
            let (status, answer) = post(&router, "/v1/embed", &body).await;
            match n % 4 {
                3 => assert_eq!(status, StatusCode::BAD_REQUEST),
                _ => assert!(close(&floats(&answer["studies"][0]["image"]), &vector), "{answer}"),
            }
        }));
    }
    for request in waiting {
        request.await.unwrap();
    }
    let text = "No pleural effusion.";
    let (_, answer) = post(&router, "/v1/embed", &json!({"texts": [text], "model": "other"})).await;
    let vector = engine.texts(&[&engine.reader().prompt(text).unwrap()]).unwrap();
    assert!(close(&floats(&answer["texts"][0]), vector.row(0)));
    // A multipart request, with both views and a report.
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
    assert_eq!(status, StatusCode::NOT_FOUND, "the service has no index");
    let ask = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let (status, models) = send(&router, ask("/v1/models")).await;
    assert_eq!((status, models["models"].as_array().unwrap().len()), (StatusCode::OK, 2));
    assert_eq!(send(&router, ask("/health")).await.1, json!({"status": "ok"}));
    let (_, interface) = send(&router, ask("/openapi.json")).await;
    for path in
        ["/v1/embed", "/v1/zero-shot", "/v1/compare", "/v1/ground", "/v1/search", "/v1/models", "/health", "/metrics"]
    {
        assert!(interface["paths"][path].is_object(), "{path}");
    }
    let page = get(&router, "/reference").await;
    assert!(page.contains("/v1/compare") && page.contains("text_share") && page.contains("Retry-After"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"), "loads nothing");
    let figures = get(&router, "/metrics").await;
    assert!(figures.contains("medst_requests_total{route=\"/v1/ground\",status=\"200\"} 1"), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_and_pictures_are_taken_as_people_write_them() {
    let (_, router, _) = service(Limits::default(), None);
    let bytes = picture(1, 64);
    let (base64, report) = (STANDARD.encode(&bytes), "[**2150-3-1**] FINDINGS: The lungs are clear.");
    let (_, expected) = post(&router, "/v1/embed", &json!({"frontal": base64, "report": report})).await;
    let expected = &expected["studies"][0];
    assert!(expected["image"].is_array() && expected["report"].is_array());
    let is_expected = |(status, answer): (StatusCode, serde_json::Value), what: &str| {
        assert_eq!(status, StatusCode::OK, "{what}: {answer}");
        for kind in ["image", "report"] {
            assert!(close(&floats(&answer["studies"][0][kind]), &floats(&expected[kind])), "{what}: {kind}");
        }
    };
    // A report that begins as a list does, as a part and as a file.
    for file in [None, Some("report.txt")] {
        let body = parts(&[("frontal", Some("a.png"), &bytes), ("report", file, report.as_bytes())]);
        is_expected(form(&router, "/v1/embed", body).await, "multipart");
    }
    let lines: Vec<&str> = base64.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    for text in [
        format!("data:image/png;base64,{base64}"),
        lines.join("\r\n"),
        base64.trim_end_matches('=').to_string(),
        base64.replace('+', "-").replace('/', "_"),
    ] {
        is_expected(post(&router, "/v1/embed", &json!({"frontal": text, "report": report})).await, &text[..30]);
        let body = parts(&[("frontal", None, text.as_bytes()), ("report", None, report.as_bytes())]);
        is_expected(form(&router, "/v1/embed", body).await, &text[..30]);
    }
    for text in ["data:image/png,%89PNG", "https://example.org/a.png", "part:0"] {
        let (status, answer) = post(&router, "/v1/embed", &json!({"frontal": text})).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == StatusCode::BAD_REQUEST && message.starts_with("studies.0.frontal: "), "{message}");
    }
    // Lists are JSON, in a part as in a file.
    for file in [None, Some("classes.json")] {
        let body = parts(&[("frontal", Some("a.png"), &bytes), ("classes", file, b"[\"edema\"]")]);
        let (status, answer) = form(&router, "/v1/zero-shot", body).await;
        assert_eq!((status, &answer["classes"]), (StatusCode::OK, &json!(["edema"])), "{answer}");
    }
    let body = parts(&[("frontal", Some("a.png"), &bytes), ("classes", None, b"[edema]")]);
    let (status, answer) = form(&router, "/v1/zero-shot", body).await;
    assert!(status == StatusCode::BAD_REQUEST && answer.to_string().contains("classes"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fine_tuned_models_head_answers() {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let findings = HeadConfig { task: HeadTask::Findings, labels: words(&["edema", "pneumonia"]), classes: Vec::new() };
    let classes = words(&["improving", "stable", "worsening"]);
    let change = HeadConfig { task: HeadTask::Change, labels: words(&["edema"]), classes };
    let (router, engines) = tuned(&[("findings", findings), ("change", change)]);
    let pictures = [1, 2, 3].map(|seed| picture(seed, 64));
    let views = pictures.each_ref().map(|bytes| Views::Frontal(engines[0].preprocessing().decode(bytes).unwrap()));
    let features = engines[0].images(&views.each_ref()).unwrap().features;
    let studies: Vec<_> = pictures
        .iter()
        .enumerate()
        .map(|(n, bytes)| json!({"id": format!("s{n}"), "frontal": STANDARD.encode(bytes)}))
        .collect();
    let (status, answer) = post(&router, "/v1/predict", &json!({"studies": studies})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["names"], json!(["edema", "pneumonia"]));
    let expected = engines[0].predict(&features).unwrap();
    for (n, probabilities) in expected.iter().enumerate() {
        let probabilities: Vec<f32> = probabilities.iter().map(|p| *p as f32).collect();
        assert!(close(&floats(&answer["studies"][n]["probabilities"]), &probabilities), "{answer}");
    }
    assert_ne!(expected[0], expected[1]);
    let (status, answer) = post(&router, "/v1/predict", &json!({"model": "change", "studies": studies})).await;
    assert_eq!((status, answer["studies"].as_array().unwrap().len()), (StatusCode::OK, 2), "{answer}");
    assert_eq!(
        (answer["studies"][1]["study"].as_str(), answer["studies"][1]["previous"].as_str()),
        (Some("s2"), Some("s1"))
    );
    let probabilities: Vec<f32> = engines[1].predict(&features).unwrap()[1].iter().map(|p| *p as f32).collect();
    assert!(close(&floats(&answer["studies"][1]["probabilities"]), &probabilities), "{answer}");
    let (status, answer) = post(&router, "/v1/predict", &json!({"model": "change", "studies": [studies[0]]})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer.to_string().contains("two or more studies"), "{answer}");
}
