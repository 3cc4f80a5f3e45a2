//! `medst serve` with the model, the index and the calibrations that the commands made: what it
//! answers is what they print.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

#[path = "../../examples/load/client.rs"]
#[allow(dead_code, reason = "the load generator uses all of it")]
pub mod client;

use client::{Body, Client, figure};

/// Numbers apart by no more than `1e-5`, all else the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= 1e-5,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// What a service prints.
type Printed = Lines<BufReader<ChildStderr>>;

/// A service on a free port, the lines it prints from then on, and its address.
pub fn start(at: &Path, arguments: &[&str]) -> (Child, Printed, SocketAddr) {
    let mut serving = Command::new(env!("CARGO_BIN_EXE_medst"))
        .current_dir(at)
        .args(["serve", "--bind", "127.0.0.1:0"])
        .args(arguments)
        .env_remove("MEDST_TOKEN")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines();
    let address = after(&mut lines, "serving at http://").split(',').next().unwrap().parse().unwrap();
    (serving, lines, address)
}

/// The rest of the next line with this start.
fn after(lines: &mut Printed, start: &str) -> String {
    lines.find_map(|line| Some(line.unwrap().strip_prefix(start)?.to_string())).unwrap()
}

pub fn answers_are_those_of_the_commands(at: &Path) {
    let models = ["--model", "run", "--model", "other=other"];
    let options = ["--index", "index", "--calibration", "cal.json", "--courses", "courses.json"];
    let (mut serving, mut lines, address) = start(at, &[&models[..], &options[..]].concat());
    // By default a token is drawn, which the link and the header carry.
    let link = after(&mut lines, "open ");
    let (link, token) = (link.split(' ').next().unwrap(), link.rsplit(' ').next().unwrap().to_string());
    assert_eq!((link, token.len()), (&*format!("http://{address}/?token={token}"), 48));
    let mut client = Client::new(address);
    for path in ["/v1/models", "/metrics"] {
        assert_eq!(client.get(path).unwrap().status, 401, "{path}");
    }
    assert_eq!(client.get(&format!("/?token={token}")).unwrap().status, 303);
    client.token = token;
    assert_eq!(client.get("/v1/models").unwrap().status, 200);
    let mut ask = |path: &str, body: &Body, status: u16| -> Value {
        let answer = client.post(path, body).unwrap();
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, status, "{path}: {value}");
        value
    };
    let images = super::frontals(at);
    let bytes = |n: usize| fs::read(at.join(&images[n])).unwrap();
    let (a, b) = (bytes(0), bytes(1));

    let sentences = ["--class", "edema", "--class", "pleural effusion=large effusion|blunted angle"];
    let offline = [&["zero-shot", &images[0], "--model", "run", "--calibration", "cal.json"], &sentences[..]].concat();
    let offline = super::json(at, &offline, 0);
    let classes = json!(["edema", {"name": "pleural effusion", "positive": ["large effusion", "blunted angle"], "negative": medst_infer::labels::prompts::negative("pleural effusion")}]);
    let form = Body::parts(&[("frontal", &a, true), ("classes", classes.to_string().as_bytes(), false)]);
    let answer = ask("/v1/zero-shot", &form, 200);
    assert_eq!((&answer["calibrated_on"], &answer["classes"]), (&offline["calibrated_on"], &offline["classes"]));
    for key in ["scores", "probabilities"] {
        assert!(same(&answer["studies"][0][key], &offline["studies"][0][key]), "{answer}\n{offline}");
    }
    // The calibration does not apply to other weights.
    let form = Body::parts(&[
        ("frontal", &a, true),
        ("classes", classes.to_string().as_bytes(), false),
        ("model", b"other", false),
    ]);
    assert_eq!(ask("/v1/zero-shot", &form, 200)["calibrated_on"], Value::Null);

    let points = [format!("{},r1.txt,date=2020-03-01", images[0]), format!("{},date=2020-03-11", images[1])];
    let offline =
        super::json(at, &["compare", &points[0], &points[1], "--model", "run", "--calibration", "courses.json"], 0);
    let report = fs::read(at.join("r1.txt")).unwrap();
    let form = Body::parts(&[
        ("time_points.0.frontal", &a, true),
        ("time_points.0.report", &report, false),
        ("time_points.0.day", b"0", false),
        ("time_points.1.frontal", &b, true),
        ("time_points.1.day", b"10", false),
    ]);
    let answer = ask("/v1/compare", &form, 200);
    assert!(answer["steps"][0]["findings"][0]["courses"].is_array(), "{answer}");
    assert!(same(&answer["steps"], &offline["steps"]), "{answer}\n{offline}");
    assert!(
        same(&answer["series"], &offline["series"]) && answer["series"][0]["worst_at"].is_u64(),
        "{answer}\n{offline}"
    );

    let offline = super::json(
        at,
        &["ground", &images[0], "--model", "run", "--phrase", "left pleural effusion", "--matrices"],
        0,
    );
    let form = Body::parts(&[
        ("frontal", &a, true),
        ("phrase", b"left pleural effusion", false),
        ("matrices", b"true", false),
    ]);
    let (answer, offline) = (ask("/v1/ground", &form, 200), &offline["phrases"][0]);
    assert!(same(&answer["words"], &offline["words"]) && same(&answer["matrices"], &offline["matrices"]));

    let find = [
        "search",
        "find",
        "index",
        "--text",
        "edema",
        "--finding",
        "edema=1",
        "--not-subject",
        "p00001",
        "--from",
        "0",
    ];
    let offline = super::json(at, &[&find[..], &["--image", &images[0], "-k", "5"]].concat(), 0);
    let form = Body::parts(&[
        ("frontal", &a, true),
        ("text", b"edema", false),
        ("findings", b"[\"edema=1\"]", false),
        ("not_subjects", b"[\"p00001\"]", false),
        ("from", b"0", false),
        ("count", b"5", false),
    ]);
    let answer = ask("/v1/search", &form, 200);
    assert_eq!((&answer["candidates"], &answer["exact"]), (&offline["candidates"], &true.into()));
    let of = |value: &Value| {
        value["found"].as_array().unwrap().iter().map(|study| study["study"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((of(&answer), of(&answer).len()), (of(&offline), 5));
    assert!(answer["found"][0].get("frontal").is_none(), "paths of files are not disclosed");
    for (body, status) in [
        (json!({"text": "edema", "index": "../index"}), 404),
        (json!({"study": "unknown"}), 400),
        (json!({"text": "edema", "from": "soon"}), 400),
        (json!({"text": "edema", "findings": [" =1"]}), 400),
        (json!({"text": "edema", "count": 0}), 400),
        (json!({"text": "edema", "count": 1_000_000}), 400),
        (json!({"text": "edema", "text_share": 1.5}), 400),
        (json!({}), 400),
    ] {
        ask("/v1/search", &Body::json(&body), status);
    }

    who_may_ask(&mut client, &report);
    super::bombs::take_little_memory(&mut client, serving.id(), &a);

    let figures = String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
    for model in ["run", "other"] {
        assert!(figures.contains(&format!("medst_queue_jobs{{model=\"{model}\"}} 0")), "{figures}");
        assert!(figures.contains(&format!("medst_batch_images_count{{model=\"{model}\"}}")), "{figures}");
    }
    assert!(figure(&figures, "medst_batch_images_sum") >= 6.0);
    Command::new("kill").args(["-TERM", &serving.id().to_string()]).status().unwrap();
    // Lines are read on, so that it can write them.
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(serving.wait().unwrap().code(), Some(0), "{rest:?}");
    let log = rest.join("\n");
    assert!(
        !log.contains("effusion") && !log.contains("p00001") && !log.contains(".png"),
        "the log contains patient data: {log}"
    );
}

/// Foreign hosts and pages are refused even with the token, in the one form that errors have.
fn who_may_ask(client: &mut Client, report: &[u8]) {
    let body = Body::parts(&[("report", &[b"[**2150-3-1**] ", report].concat(), false)]);
    let ask = |client: &mut Client, headers: &str| {
        let head = client::head("/v1/embed", &body.kind, body.bytes.len()).replace("Host: localhost\r\n", headers);
        let answer = client.send(&head, &body.bytes).unwrap();
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, value["error"]["code"].as_str().unwrap_or_default().to_string())
    };
    for (headers, expected) in [
        ("Host: rebound.example\r\n", (403, "host")),
        ("Host: localhost\r\nOrigin: http://evil.example\r\n", (403, "cross_site")),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", (403, "cross_site")),
        ("Host: localhost\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n", (200, "")),
    ] {
        assert_eq!(ask(client, headers), (expected.0, expected.1.to_string()), "{headers}");
    }
}
