//! More requests than can be computed at once, and jobs that fail together with jobs that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst_infer::infer::{Radiograph, Views};
use medst_serve::memory::CancellationToken;
use medst_serve::state::Shared;
use medst_serve::{Error, Limits};
use serde_json::json;

use super::setup::{close, floats, get, picture, post, send, service};

#[tokio::test(flavor = "multi_thread")]
async fn under_overload_clients_are_told_to_come_back() {
    let (shared, router, _) = service(Limits { requests: 2, ..Limits::default() }, None);
    let held = shared.places.acquire_many(2).await.unwrap();
    let (status, answer) = post(&router, "/v1/embed", &json!({"texts": ["edema"]})).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some("busy")));
    let health = Request::get("/health").body(Body::empty()).unwrap();
    assert_eq!(send(&router, health).await.0, StatusCode::OK, "health is reported even under overload");
    drop(held);
    assert_eq!(post(&router, "/v1/embed", &json!({"texts": ["edema"]})).await.0, StatusCode::OK);
}

/// Keeps a model's thread busy until the sender signals or is dropped. Returns once the thread is
/// busy.
async fn hold(shared: &Arc<Shared>) -> Sender<()> {
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let (begun, begin) = tokio::sync::oneshot::channel();
    let worker = shared.model(Some("tiny")).unwrap().1.worker.clone();
    tokio::spawn(async move {
        let task = move |_: &medst_infer::infer::Engine| {
            let _ = begun.send(());
            let _ = wait.recv();
            Ok(())
        };
        worker.task(task).await
    });
    begin.await.unwrap();
    go
}

/// Waits until so many jobs wait for the first model.
async fn until(shared: &Arc<Shared>, jobs: usize) {
    while shared.model(None).unwrap().1.worker.waiting() != jobs {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_tells_clients_to_come_back_and_forgets_nobody() {
    let (shared, router, _) = service(Limits { queue: 3, ..Limits::default() }, None);
    let go = hold(&shared).await;
    let ask = |model: &'static str| {
        let router = router.clone();
        tokio::spawn(async move { post(&router, "/v1/embed", &json!({"texts": ["edema"], "model": model})).await })
    };
    let waiting = [ask("tiny"), ask("tiny"), ask("tiny")];
    until(&shared, 3).await;
    // `post` holds every 429 to a Retry-After.
    let (status, answer) = ask("tiny").await.unwrap();
    assert_eq!((status, answer["error"]["code"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some("busy")));
    let figures = get(&router, "/metrics").await;
    for line in
        ["medst_queue_jobs{model=\"tiny\"} 3", "medst_queue_jobs{model=\"other\"} 0", "medst_requests_in_flight 3"]
    {
        assert!(figures.lines().any(|printed| printed == line), "{line}\n{figures}");
    }
    assert_eq!(ask("other").await.unwrap().0, StatusCode::OK, "each model has a separate queue");
    drop(go);
    for request in waiting {
        assert_eq!(request.await.unwrap().0, StatusCode::OK);
    }
    assert_eq!(ask("tiny").await.unwrap().0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_crashes_or_fails_takes_no_others_answer() {
    let (shared, router, engine) = service(Limits::default(), None);
    let expected = |n: u32| {
        let views = Views::Frontal(engine.preprocessing().decode(&picture(n, 64)).unwrap());
        engine.images(&[&views]).unwrap().embeddings.row(0).to_vec()
    };
    let worker = shared.model(None).unwrap().1.worker.clone();
    let go = hold(&shared).await;
    // In one batch: pictures of three clients, a picture of a size that makes the batch fail, and a
    // task that panics.
    let good: Vec<_> = (0..3)
        .map(|n| {
            let (router, vector) = (router.clone(), expected(n));
            tokio::spawn(async move {
                let body = json!({"frontal": STANDARD.encode(picture(n, 64))});
                let (status, answer) = post(&router, "/v1/embed", &body).await;
                assert_eq!(status, StatusCode::OK, "{answer}");
                assert!(close(&floats(&answer["studies"][0]["image"]), &vector));
            })
        })
        .collect();
    let small = Views::Frontal(Radiograph::new(10, vec![0; 100]).unwrap());
    let (first, second) = (worker.clone(), worker.clone());
    let wrong = tokio::spawn(async move { first.images(vec![small]).await });
    let crash = tokio::spawn(async move { second.task(|_| -> medst_model::Result<()> { panic!("on purpose") }).await });
    until(&shared, 5).await;
    drop(go);
    for request in good {
        request.await.unwrap();
    }
    assert!(matches!(wrong.await.unwrap(), Err(Error::Bad(message)) if message.contains("pixels, not 10")));
    assert!(matches!(crash.await.unwrap(), Err(Error::Internal)));
    assert!(worker.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let (shared, router, _) = service(Limits::default(), None);
    let go = hold(&shared).await;
    let gone = router.clone();
    let request = tokio::spawn(async move { post(&gone, "/v1/embed", &json!({"texts": ["edema"]})).await });
    until(&shared, 1).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    drop(go);
    let places = shared.limits.requests;
    assert_eq!((shared.places.available_permits(), shared.metrics.in_flight.get()), (places, 0));
    assert_eq!(post(&router, "/v1/embed", &json!({"texts": ["edema"]})).await.0, StatusCode::OK);
    assert_eq!(shared.metrics.in_flight.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_not_computed() {
    let (shared, router, _) =
        service(Limits { answer: Duration::ZERO, receive: Duration::from_millis(300), ..Limits::default() }, None);
    let worker = shared.model(None).unwrap().1.worker.clone();
    let go = hold(&shared).await;
    // Requests whose time is over: a batch of texts, and tasks.
    let good = STANDARD.encode(picture(1, 64));
    for (path, body) in [
        ("/v1/embed", json!({"texts": ["edema"]})),
        ("/v1/zero-shot", json!({"frontal": good, "classes": ["edema"]})),
        ("/v1/compare", json!({"time_points": [{"frontal": good}, {"frontal": good}]})),
    ] {
        let (status, answer) = post(&router, path, &body).await;
        assert_eq!(
            (status, answer["error"]["code"].as_str()),
            (StatusCode::GATEWAY_TIMEOUT, Some("timeout")),
            "{path}"
        );
    }
    // A task of a client that goes away.
    let waiting = worker.waiting();
    let (done, of_client) = (Arc::new(AtomicBool::new(false)), worker.clone());
    let flag = done.clone();
    let set = move |_: &medst_infer::infer::Engine| {
        flag.store(true, Ordering::SeqCst);
        Ok(())
    };
    let task = tokio::spawn(async move { of_client.task(set).await });
    until(&shared, waiting + 1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    drop(go);
    // What was asked for last is computed last.
    worker.task(|_| Ok(())).await.unwrap();
    assert!(!done.load(Ordering::SeqCst));
    let figures = get(&router, "/metrics").await;
    assert!(!figures.contains("medst_batch_texts_count"), "{figures}");

    // On the cores that decode, too.
    let (done, of_client) = (Arc::new(AtomicBool::new(false)), shared.clone());
    let (begun, begin) = tokio::sync::oneshot::channel();
    let (ended, end) = channel();
    let flag = done.clone();
    let decoding = tokio::spawn(async move {
        let steps = move |cancellation: &CancellationToken| {
            let _ = begun.send(());
            while cancellation.check().is_ok() {
                std::thread::yield_now();
            }
            flag.store(true, Ordering::SeqCst);
            let _ = ended.send(());
            cancellation.check()
        };
        of_client.on_core(steps).await
    });
    begin.await.unwrap();
    assert!(!done.load(Ordering::SeqCst));
    decoding.abort();
    end.recv().unwrap();
}
