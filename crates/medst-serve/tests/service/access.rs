//! Who may ask: the token, the link, and which hosts and sites are answered.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use medst_serve::Limits;
use tower::ServiceExt;

use super::setup::{get, post, send, service};

const TOKEN: &str = "0123456789abcdef0123";

/// Every route, and an address that is not a route.
const ROUTES: [(&str, &str); 20] = [
    ("GET", "/"),
    ("GET", "/page/main.js"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/reference"),
    ("GET", "/v1/models"),
    ("GET", "/v1/examples"),
    ("GET", "/v1/examples/a/b.png"),
    ("POST", "/v1/embed"),
    ("POST", "/v1/zero-shot"),
    ("POST", "/v1/predict"),
    ("POST", "/v1/compare"),
    ("POST", "/v1/ground"),
    ("POST", "/v1/search"),
    ("POST", "/v1/report"),
    ("POST", "/v1/picture"),
    ("POST", "/nothing"),
    ("OPTIONS", "/v1/embed"),
    ("DELETE", "/v1/embed"),
];

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Body::empty()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_hosts_and_sites_are_refused_on_every_route() {
    let (_, router, _) = service(Limits::default(), None);
    for (method, path) in ROUTES {
        for (headers, code) in [
            (&[("host", "rebound.example"), ("origin", "http://rebound.example")][..], "host"),
            (&[("host", "rebound.example:8750")], "host"),
            (&[("host", "localhost:8750"), ("origin", "http://localhost:3000")], "cross_site"),
            (&[("host", "localhost:8750"), ("origin", "null")], "cross_site"),
            (
                &[("host", "127.0.0.1:8750"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
                "cross_site",
            ),
            (&[("host", "localhost:8750"), ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")], "cross_site"),
        ] {
            let (status, answer) = send(&router, request(method, path, headers)).await;
            let found = answer["error"]["code"].as_str();
            assert_eq!((status, found), (StatusCode::FORBIDDEN, Some(code)), "{method} {path} {headers:?}: {answer}");
        }
        for headers in [
            &[("host", ""), ("origin", "")][..],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "a@localhost")],
        ] {
            let (status, answer) = send(&router, request(method, path, headers)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path} {headers:?}: {answer}");
        }
        // The page itself, and programs.
        for headers in [
            &[("host", "localhost:8750"), ("origin", "http://localhost:8750"), ("sec-fetch-site", "same-origin")][..],
            &[("host", "medst.example"), ("origin", "https://medst.example")],
            &[("host", "[::1]:8750")],
        ] {
            let (status, answer) = send(&router, request(method, path, headers)).await;
            assert_ne!(status, StatusCode::FORBIDDEN, "{method} {path} {headers:?}: {answer}");
        }
    }
    // A name in the first line of the request counts as well.
    let (status, _) = send(&router, request("GET", "http://rebound.example/health", &[("host", "localhost")])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_only_what_holds_no_data_is_answered() {
    let (_, router, _) = service(Limits::default(), Some(TOKEN));
    for (method, path) in
        ROUTES.iter().filter(|route| route.0 != "OPTIONS" && route.0 != "DELETE" && route.1 != "/nothing")
    {
        let free = ["/", "/page/main.js", "/health", "/openapi.json", "/reference"].contains(path);
        let (status, _) = send(&router, request(method, path, &[])).await;
        assert_eq!(status == StatusCode::UNAUTHORIZED, !free, "{path}: {status}");
        let (status, _) = send(&router, request(method, path, &[("authorization", &format!("Bearer {TOKEN}"))])).await;
        assert_ne!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
    for value in ["Bearer", &format!("Bearer {TOKEN}0"), &format!("Basic {TOKEN}"), "Bearer 0123456789abcdef012"] {
        let (status, answer) = send(&router, request("GET", "/v1/models", &[("authorization", value)])).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("unauthorized")));
    }
    let (status, _) = post(&router, "/v1/embed", &serde_json::json!({"texts": ["edema"]})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_gives_a_browser_a_cookie_and_hides_the_token() {
    let (_, router, _) = service(Limits::default(), Some(TOKEN));
    let open = |query: String, headers: &[(&str, &str)]| {
        let headers = [&[("host", "localhost:8750")], headers].concat();
        router.clone().oneshot(request("GET", &format!("/?{query}"), &headers))
    };
    let answer = open(format!("token={TOKEN}"), &[]).await.unwrap();
    assert_eq!((answer.status(), &answer.headers()[header::LOCATION]), (StatusCode::SEE_OTHER, &"/".parse().unwrap()));
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap().to_string();
    let (pair, rest) = cookie.split_once(';').unwrap();
    assert!(pair.starts_with("medst-8750=") && !cookie.contains(TOKEN), "{cookie}");
    assert_eq!(rest, " Path=/; HttpOnly; SameSite=Strict");
    let proxied = open(format!("token={TOKEN}"), &[("x-forwarded-proto", "https")]).await.unwrap();
    assert!(proxied.headers()[header::SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
    // A wrong token leads to the page, which asks for the right one.
    let wrong = open("token=0123456789abcdef0124".into(), &[]).await.unwrap();
    assert_eq!((wrong.status(), wrong.headers().get(header::SET_COOKIE)), (StatusCode::SEE_OTHER, None));
    assert_eq!(open("other=1".into(), &[]).await.unwrap().status(), StatusCode::OK);

    let models = |cookie: &str, host: &str| {
        let request = request("GET", "/v1/models", &[("host", host), ("cookie", cookie)]);
        let router = router.clone();
        async move { send(&router, request).await.0 }
    };
    assert_eq!(models(&format!("a=b; {pair}"), "localhost:8750").await, StatusCode::OK);
    for (cookie, host) in [
        (pair, "localhost:8751"),
        (&format!("{pair}0"), "localhost:8750"),
        (&format!("medst-8750={TOKEN}"), "localhost:8750"),
        ("medst-8750=", "localhost:8750"),
    ] {
        assert_eq!(models(cookie, host).await, StatusCode::UNAUTHORIZED, "{cookie} {host}");
    }
    // A cookie of another run is worth nothing.
    let (_, other, _) = service(Limits::default(), Some(TOKEN));
    let (status, _) = send(&other, request("GET", "/v1/models", &[("host", "localhost:8750"), ("cookie", pair)])).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(get(&router, "/").await.contains("token-form"));
}
