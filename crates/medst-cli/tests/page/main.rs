//! The page in a real Chromium: files are chosen, keys are pressed, and what it shows is held
//! against the command and the service.

mod browser;
#[path = "../command/mod.rs"]
mod command;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use browser::{Browser, serve};
use command::{SMALL, tiny, with};
use fantoccini::Locator;
use fantoccini::actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction, WheelAction, WheelActions};
use fantoccini::key::Key;
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef0123";
const FINDINGS: [&str; 7] =
    ["consolidation", "edema", "pleural effusion", "pneumonia", "pneumothorax", "atelectasis", "cardiomegaly"];

fn run(at: &Path, arguments: &[&str]) -> String {
    command::run(at, arguments, 0).0
}

fn json(at: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(at, &[&["-q", "--json"], arguments].concat())).unwrap()
}

/// A model, an index, and patients as a workstation exports them.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw", "--subjects", "24", "--size", "96", "--layout", "table,folders"]);
    run(at, &["-q", "prepare", "table", "raw/table/studies.csv", "--out", "corpus", "--image-size", "64"]);
    let settings = [SMALL, &["train.max_steps=5", "data.corpus=corpus", "train.output=run"]].concat();
    run(at, &with(&["-q", "pretrain", &tiny()], &settings));
    run(at, &["-q", "search", "index", "corpus", "--model", "run", "--out", "index"]);
    fs::write(at.join("token"), TOKEN).unwrap();
    fs::write(at.join("broken.png"), b"GIF89a").unwrap();
    folder
}

/// A patient's first two visits: a frontal and a lateral PNG file with a report, then a DICOM file.
struct Patient {
    name: String,
    frontal: PathBuf,
    lateral: PathBuf,
    report: PathBuf,
    later: PathBuf,
    dates: [String; 2],
}

fn patient(at: &Path) -> Patient {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(at.join("raw/folders")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let found = folders.iter().find_map(|folder| {
        let mut files = BTreeMap::new();
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            files.insert(path.file_name().unwrap().to_str().unwrap().to_string(), path);
        }
        let frontals: Vec<&String> =
            files.keys().filter(|name| name.contains("_frontal") && !name.ends_with("txt")).collect();
        let [first, second] = frontals.get(..2)? else { return None };
        Some(Patient {
            name: folder.file_name()?.to_str()?.to_string(),
            lateral: files.get(&first.replace("frontal", "lateral"))?.clone(),
            frontal: files[*first].clone(),
            report: files.get(&first.replace("png", "txt"))?.clone(),
            later: files[*second].clone(),
            dates: [first[..10].to_string(), second[..10].to_string()],
        })
    });
    found.expect("a patient whose first visit has a lateral view")
}

fn close(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(f64::NAN);
    (number(a) - number(b)).abs() < 1e-4
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_is_read_by_people_and_keys() {
    let Some(browser) = Browser::start().await else { return };
    let folder = prepared();
    let at = folder.path();
    let (_service, address) = serve(at, &["--model", "run", "--index", "index", "--examples", "raw/folders"]);
    let patient = patient(at);
    browser.client.goto(&address).await.unwrap();
    browser.until("!document.getElementById('start').hidden").await;
    // The link has let the page in and has gone from the address bar; scripts cannot read what it
    // left.
    assert_eq!(browser.value("[location.pathname, location.search, document.cookie]").await, json!(["/", "", ""]));
    assert!(browser.text(".warning").await.contains("Not a medical device"));
    let [frontal, lateral, report, later] = [&patient.frontal, &patient.lateral, &patient.report, &patient.later];
    browser.upload(&[later, frontal, &at.join("broken.png"), report, lateral]).await;
    browser.until("document.querySelectorAll('tr[data-finding]').length === 7").await;

    studies(&browser, &patient).await;
    findings(&browser, at, &patient).await;
    phrase(&browser, at, &patient).await;
    keys(&browser).await;
    pointer(&browser).await;
    report_matches(&browser, &address, &patient).await;
    nearest(&browser, at, &patient).await;
    by_hand(&browser, &patient).await;
    // Nothing came from elsewhere, and all of it fits on a laptop's screen.
    let elsewhere =
        "performance.getEntriesByType('resource').filter((entry) => !entry.name.startsWith(location.origin)).length";
    assert_eq!(browser.value(elsewhere).await, json!(0));
    let fits =
        "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight";
    assert_eq!(browser.value(fits).await, json!(true));
    browser.client.clone().close().await.unwrap();
}

async fn studies(browser: &Browser, patient: &Patient) {
    assert_eq!(
        browser.text("#problem-list").await,
        "broken.png: GIF files are not supported; convert it to PNG, JPEG or DICOM"
    );
    browser.click("#problems-close").await;
    let dates = browser.value("[...document.querySelectorAll('.study input.date')].map((input) => input.value)").await;
    assert_eq!(dates, json!(patient.dates));
    let views = "[...document.querySelectorAll('.slot select')].map((select) => `${select.value}, ${select.title}`)";
    let views = browser.value(views).await;
    let named = ["frontal, View: from the file name", "lateral, View: from the file name"];
    assert_eq!((&views[0], &views[1]), (&json!(named[0]), &json!(named[1])));
    assert!(views[2].as_str().unwrap().starts_with("frontal, View: DICOM header: "), "{views}");
    assert_eq!(browser.text(".study.selected .choose").await, "● selected");
    // Without calibrations the page states that the numbers are scores, not probabilities.
    assert!(browser.text("#findings-result").await.contains("scores, not probabilities"));
}

/// Changes of findings that are absent on both dates are not shown, nor boxes in images that do not
/// show the phrase: with the model that people meet first.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_absent_has_neither_course_nor_box() {
    let Some(browser) = Browser::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, &["-q", "phantom", "raw", "--subjects", "60", "--size", "160", "--seed", "31"]);
    run(at, &["-q", "prepare", "table", "raw/studies.csv", "--out", "corpus", "--image-size", "72"]);
    let mut calibrate = vec!["-q", "zero-shot", "corpus", "--model", "phantom", "--fit-calibration", "classes.json"];
    calibrate.extend(FINDINGS.iter().flat_map(|name| ["--class", name]));
    run(at, &calibrate);
    fs::write(at.join("token"), TOKEN).unwrap();
    let (_service, address) = serve(at, &["--model", "phantom", "--calibration", "classes.json"]);
    // The largest effusion, and somebody without findings.
    let truth = fs::read_to_string(at.join("raw/truth.csv")).unwrap();
    let rows: Vec<Vec<&str>> = truth.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let size = |row: &&Vec<&str>| (1e3 * row[7].parse::<f64>().unwrap()) as u32;
    let ill = rows.iter().filter(|row| row[3] == "pleural_effusion" && row[9] == "1").max_by_key(size).unwrap();
    let healthy = |row: &&Vec<&str>| rows.iter().all(|other| other[1] != row[1] || other[4] == "0");
    let well = rows.iter().find(healthy).unwrap();
    let dated = [(ill, "2101-01-01_frontal.png"), (well, "2101-02-01_frontal.png")].map(|(row, name)| {
        let path = at.join(name);
        fs::copy(at.join(format!("raw/images/{}/{}_frontal.png", row[0], row[1])), &path).unwrap();
        path
    });
    browser.client.goto(&address).await.unwrap();
    browser.until("!document.getElementById('start').hidden").await;
    browser.upload(&dated.each_ref().map(PathBuf::as_path)).await;
    browser.until("document.querySelectorAll('tr[data-finding]').length === 7").await;
    let rows = browser
        .value(
            "[...document.querySelectorAll('tr[data-finding]')].map((row) => [
                [...row.querySelectorAll('.presence')].map((element) => Number(element.dataset.probability)),
                row.querySelector('.change [aria-hidden]').textContent])",
        )
        .await;
    let rows: Vec<([f64; 2], String)> = serde_json::from_value(rows).unwrap();
    let absent = |row: &&([f64; 2], String)| row.0.iter().all(|&probability| probability < 0.1);
    assert!(rows.iter().any(|row| absent(&row)) && rows.iter().any(|row| !absent(&row)), "{rows:?}");
    for row in &rows {
        assert_eq!(row.1 == "–", absent(&row), "{row:?}");
    }
    browser.keys("#phrase", &format!("{} pleural effusion", ill[5])).await;
    browser.until(&format!("{PEAKS}.length === 2")).await;
    let boxes = browser
        .value("[...document.querySelectorAll('canvas[data-peak]')].map((element) => element.dataset.boxes)")
        .await;
    assert!(boxes[0] != json!("0") && boxes[1] == json!("0"), "{boxes}");
    browser.client.clone().close().await.unwrap();
}

/// The table's numbers are those of the command on the files themselves.
async fn findings(browser: &Browser, at: &Path, patient: &Patient) {
    let first = format!("{},{}", patient.frontal.display(), patient.lateral.display());
    let later = patient.later.display().to_string();
    let mut arguments = vec!["compare", &first, &later, "--model", "run"];
    arguments.extend(FINDINGS.iter().flat_map(|name| ["--finding", name]));
    let expected = json(at, &arguments);
    for finding in expected["steps"][0]["findings"].as_array().unwrap() {
        let row = format!("document.querySelector('tr[data-finding=\"{}\"]')", finding["finding"].as_str().unwrap());
        let scores = browser
            .value(&format!("[...{row}.querySelectorAll('.presence')].map((element) => element.dataset.score)"))
            .await;
        assert!(
            close(&scores[0], &finding["presence"][0]) && close(&scores[1], &finding["presence"][1]),
            "{scores} {finding}"
        );
        let change = browser.value(&format!("{row}.querySelector('.change').dataset.change")).await;
        assert!(close(&change, &finding["change"]["towards_worse"]), "{change} {finding}");
    }
}

/// Highest cosines of the pictures that show a heat map, in order.
const PEAKS: &str = "[...document.querySelectorAll('canvas[data-peak]')].map((element) => element.dataset.peak)";

async fn phrase(browser: &Browser, at: &Path, patient: &Patient) {
    browser.keys("#phrase", "left effusion").await;
    browser.until(&format!("{PEAKS}.length === 3")).await;
    let (frontal, lateral) = (patient.frontal.display().to_string(), patient.lateral.display().to_string());
    let options = ["--model", "run", "--phrase", "left effusion", "--matrices"];
    let of = |files: &[&str]| json(at, &[&["ground"], files, &options[..]].concat())["phrases"][0].take();
    let [first, second] = [of(&[&frontal, "--lateral", &lateral]), of(&[patient.later.to_str().unwrap()])];
    let expected = [&first["views"][0]["heat"][2], &first["views"][1]["heat"][2], &second["views"][0]["heat"][2]];
    let peaks = browser.value(PEAKS).await;
    assert!((0..3).all(|n| close(&peaks[n], expected[n])), "{peaks} {expected:?}");
    let most = expected.iter().filter_map(|peak| peak.as_f64()).fold(f64::MIN, f64::max);
    let shown: f64 = browser.text("#legend-high").await.replace('−', "-").parse().unwrap();
    assert!((shown - most).abs() < 6e-4, "{shown} {most}");
    // A word in focus shows its own map; leaving the word restores the map of the phrase.
    assert_eq!(
        browser.value("[...document.querySelectorAll('#words .chip')].map((element) => element.textContent)").await,
        json!(["left", "effusion", "[SEP]"])
    );
    browser.client.execute("document.querySelectorAll('#words .chip')[1].focus();", Vec::new()).await.unwrap();
    assert_eq!(browser.text("#legend-title").await, "word “effusion”");
    let rows = first["matrices"]["similarity"][1].as_array().unwrap();
    let highest = rows.iter().filter_map(Value::as_f64).fold(f64::MIN, f64::max);
    let peaks = browser.value(PEAKS).await;
    let shown = [0, 1].map(|n| peaks[n].as_str().unwrap().parse::<f64>().unwrap()).into_iter().fold(f64::MIN, f64::max);
    assert!(shown <= highest + 1e-4 && shown > highest - 0.2, "{shown} {highest}");
    browser.client.execute("document.activeElement.blur();", Vec::new()).await.unwrap();
    assert_eq!(browser.text("#legend-title").await, "“left effusion”");
    // A phrase without words is refused with an explanation.
    browser.client.execute("document.getElementById('phrase').value = '';", Vec::new()).await.unwrap();
    browser.keys("#phrase", "???").await;
    browser.until("document.getElementById('phrase-error').textContent.includes('no words')").await;
    browser.client.execute("document.getElementById('phrase').value = '';", Vec::new()).await.unwrap();
    browser.keys("#phrase", "edema").await;
    browser.until(&format!("{PEAKS}.length === 3")).await;
}

async fn keys(browser: &Browser) {
    let canvas = ".study canvas";
    let data = |name: &str| format!("document.querySelector('.study canvas').dataset.{name}");
    let drawn = "document.querySelector('.study canvas').toDataURL()";
    browser.keys(canvas, "0").await;
    let before = browser.value(drawn).await;
    for (keys, name, expected) in [
        ("]]", "window", "288"),
        ("[", "window", "272"),
        (".", "level", "136"),
        ("+", "zoom", "1.25"),
        ("-", "zoom", "1.00"),
        ("0", "window", "256"),
        ("r", "level", "128"),
    ] {
        browser.keys(canvas, keys).await;
        assert_eq!(browser.value(&data(name)).await, json!(expected), "{keys}");
    }
    assert_eq!(browser.value(drawn).await, before, "the display is restored");
    browser.keys(canvas, "i").await;
    assert_ne!(browser.value(drawn).await, before, "inverted");
    browser.keys(canvas, "i").await;
    browser.keys(canvas, "h").await;
    assert_ne!(browser.value(drawn).await, before, "without the heat map");
    browser.keys(canvas, "h").await;
    assert_eq!(browser.value(drawn).await, before);
    // The patch cursor shows the cosine and the words of its patch.
    browser.keys(canvas, &format!("{}{}", char::from(Key::Shift), char::from(Key::Right))).await;
    browser
        .until("/cosine [+−][0-9.]+ · attends to .*edema/.test(document.querySelector('.readout').textContent)")
        .await;
    // Enlarged and back; the focus stays.
    browser.keys(canvas, &char::from(Key::Enter).to_string()).await;
    browser.until("document.querySelectorAll('.slot:not([hidden])').length === 1").await;
    assert_eq!(browser.value("document.activeElement.tagName").await, json!("CANVAS"));
    browser.keys(canvas, &char::from(Key::Enter).to_string()).await;
    browser.until("document.querySelectorAll('.slot canvas').length === 3").await;
    // To the phrase, and along the tabs.
    browser.keys(canvas, "/").await;
    assert_eq!(browser.value("document.activeElement.id").await, json!("phrase"));
    browser.keys("#tab-findings", &char::from(Key::Right).to_string()).await;
    assert_eq!(browser.value("document.activeElement.id").await, json!("tab-report"));
    assert_eq!(browser.value("document.getElementById('panel-report').hidden").await, json!(false));
    // Everything that does something can be reached.
    let reached = "[...document.querySelectorAll('button, input, select, textarea, canvas:not([aria-hidden])')]\
                   .filter((element) => element.offsetParent && element.tabIndex < 0 && element.role !== 'tab').length";
    assert_eq!(browser.value(reached).await, json!(0));
    let nameless = "[...document.querySelectorAll('button, input, select, textarea')]\
                    .filter((node) => node.offsetParent && !node.ariaLabel)\
                    .filter((node) => !node.textContent.trim() && !node.labels?.length)\
                    .map((node) => node.outerHTML)";
    assert_eq!(browser.value(nameless).await, json!([]));
    browser.keys("body", "?").await;
    assert_eq!(browser.value("document.getElementById('help').open").await, json!(true));
    browser.click("#help-close").await;
    // Light and dark.
    let scheme = "getComputedStyle(document.documentElement).colorScheme";
    let before = browser.value(scheme).await;
    browser.click("#theme").await;
    assert_ne!(browser.value(scheme).await, before);
    browser.click("#theme").await;
}

async fn pointer(browser: &Browser) {
    let canvas = browser.client.find(Locator::Css(".study canvas")).await.unwrap();
    let (x, y, width, height) = canvas.rectangle().await.unwrap();
    let (x, y) = ((x + width / 2.0) as i64, (y + height / 2.0) as i64);
    let to =
        |x: i64, y: i64| PointerAction::MoveTo { duration: Some(Duration::from_millis(20)), x: x as f64, y: y as f64 };
    let drag = MouseActions::new("mouse".into())
        .then(to(x, y))
        .then(PointerAction::Down { button: MOUSE_BUTTON_LEFT })
        .then(to(x + 40, y - 10))
        .then(PointerAction::Up { button: MOUSE_BUTTON_LEFT });
    browser.client.perform_actions(drag).await.unwrap();
    let data = "(({ window, level, zoom }) => [window, level, zoom])(document.querySelector('.study canvas').dataset)";
    assert_eq!(browser.value(data).await, json!(["316", "118", "1.00"]));
    // Linked pictures of a view follow; the lateral one stays.
    let windows = "[...document.querySelectorAll('.study canvas')].map((element) => element.dataset.window)";
    assert_eq!(browser.value(windows).await, json!(["316", "256", "316"]));
    let wheel =
        WheelActions::new("wheel".into()).then(WheelAction::Scroll { duration: None, x, y, delta_x: 0, delta_y: -400 });
    browser.client.perform_actions(wheel).await.unwrap();
    browser.until("Number(document.querySelector('.study canvas').dataset.zoom) > 1.5").await;
    browser.keys(".study canvas", "0").await;
    assert_eq!(browser.value(data).await, json!(["256", "128", "1.00"]));
}

/// A request without the page: status, headers, body.
///
/// * `address`: `http://HOST:PORT`, or a link with a token.
fn send(address: &str, head: &str, body: &str) -> (u16, String, Vec<u8>) {
    let (host, token) = address.trim_start_matches("http://").split_once("/?token=").unwrap_or((address, ""));
    let host = host.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let head = format!(
        "{head} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    // Not until the end of the connection: the browser's driver keeps it open.
    let (mut answer, mut piece) = (Vec::new(), [0; 65536]);
    loop {
        let count = stream.read(&mut piece).unwrap();
        answer.extend_from_slice(&piece[..count]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            assert!(count > 0, "no answer");
            continue;
        };
        let headers = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
        let announced =
            headers.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let body = &answer[end + 4..];
        if count == 0 || announced.is_some_and(|length| body.len() >= length) {
            return (headers[9..12].parse().unwrap(), headers, body.to_vec());
        }
    }
}

fn post_for(address: &str, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, answer) = send(address, &format!("POST {path}"), &body.to_string());
    (status, serde_json::from_slice(&answer).unwrap())
}

fn post(address: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = post_for(address, path, body);
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn report_matches(browser: &Browser, address: &str, patient: &Patient) {
    browser.click("#tab-report").await;
    browser.click(".study .choose").await;
    let report = fs::read_to_string(&patient.report).unwrap();
    assert_eq!(browser.value("document.getElementById('report').value").await, json!(report));
    browser.click("#match").await;
    browser.until("document.querySelector('.sentence')").await;
    let base64 = |path: &Path| STANDARD.encode(fs::read(path).unwrap());
    let body = json!({"frontal": base64(&patient.frontal), "lateral": base64(&patient.lateral), "report": report});
    let expected = post(address, "/v1/report", &body);
    let sentences = expected["sentences"].as_array().unwrap();
    let shown = browser.value("[...document.querySelectorAll('.sentence')].map((node) => [node.textContent, node.dataset.closeness, node.classList.contains('matched')])").await;
    assert_eq!(shown.as_array().unwrap().len(), sentences.len());
    for (sentence, shown) in sentences.iter().zip(shown.as_array().unwrap()) {
        assert_eq!((&sentence["text"], &sentence["matches"]), (&shown[0], &shown[2]));
        assert!(close(&sentence["closeness"], &shown[1]), "{shown}");
    }
    assert_eq!(
        browser.value("document.querySelector('.told').textContent").await,
        json!(report),
        "nothing of the report is lost"
    );
    // Any bound can be set; with one that nothing reaches, every sentence is shown as matching no
    // region.
    let bound = |value: &str| {
        format!(
            "(() => {{ const input = document.getElementById('least'); input.value = '{value}'; input.dispatchEvent(new Event('input')); return document.querySelectorAll('.sentence.unmatched').length; }})()"
        )
    };
    assert_eq!(browser.value(&bound("0.9")).await, json!(sentences.len()));
    assert_eq!(browser.value("document.querySelectorAll('.without li').length").await, json!(sentences.len()));
    assert_eq!(browser.value(&bound("-0.2")).await, json!(0));
    // A sentence, then its words by keys.
    browser.client.execute("document.querySelector('.sentence').focus();", Vec::new()).await.unwrap();
    assert!(browser.text("#legend-title").await.starts_with("sentence “"));
    assert_eq!(browser.value(&format!("{PEAKS}.length")).await, json!(2), "only the pictures of the sentence's study");
    browser.keys(".sentence", &char::from(Key::Right).to_string()).await;
    let word = sentences[0]["pieces"].as_array().unwrap().iter().find(|piece| !piece["words"].is_null()).unwrap();
    assert_eq!(
        browser.text("#legend-title").await,
        format!("word “{}”", word["text"].as_str().unwrap().to_lowercase())
    );
    // A missing report leads to a message.
    browser.click(".study:last-child .choose").await;
    browser.click("#match").await;
    assert_eq!(browser.text("#report-error").await, "Paste a report first.");
    browser.keys("#report", "INDICATION: Cough.").await;
    browser.click("#match").await;
    browser
        .until("document.getElementById('report-error').textContent.includes('neither an impression nor findings')")
        .await;
}

async fn nearest(browser: &Browser, at: &Path, patient: &Patient) {
    browser.click("#tab-similar").await;
    browser.click("#search").await;
    browser.until("document.querySelectorAll('.found > li').length === 10").await;
    let image = patient.later.display().to_string();
    let expected = json(at, &["search", "find", "index", "--image", &image, "-k", "10"]);
    let shown = browser
        .value(
            "[...document.querySelectorAll('.found > li')].map((row) => [row.dataset.study, row.dataset.similarity])",
        )
        .await;
    for (n, study) in expected["found"].as_array().unwrap().iter().enumerate() {
        assert!(study["study"] == shown[n][0] && close(&study["similarity"], &shown[n][1]), "{study} {shown}");
    }
    browser.keys("#search-finding", "=").await;
    browser.click("#search").await;
    browser.until("document.getElementById('similar-error').textContent.includes('expected a label')").await;
}

async fn by_hand(browser: &Browser, patient: &Patient) {
    // An invalid date is refused; giving two studies the same date merges them if their views allow
    // it.
    let date = ".study:last-child input.date";
    let clear = "document.querySelector('.study:last-child input.date').value = '';";
    browser.client.execute(clear, Vec::new()).await.unwrap();
    browser.keys(date, &format!("2024-02-31{}", char::from(Key::Tab))).await;
    assert_eq!(browser.value("document.querySelectorAll('.study input.date:invalid').length").await, json!(1));
    browser.client.execute(clear, Vec::new()).await.unwrap();
    browser.keys(date, &format!("2000-01-01{}", char::from(Key::Tab))).await;
    browser
        .until(&format!("document.querySelectorAll('.study input.date')[1]?.value === '{}'", patient.dates[0]))
        .await;
    let first = "document.querySelector('.study .slot.frontal').dataset.file";
    assert!(browser.value(first).await.as_str().unwrap().ends_with(".dcm"), "time order follows");
    let choose = "(() => { const select = document.querySelector('.study select'); select.value = 'lateral'; select.dispatchEvent(new Event('change')); })()";
    browser.client.execute(choose, Vec::new()).await.unwrap();
    browser.until("document.querySelector('.study .slot.lateral canvas')").await;
    browser.until("document.getElementById('computing').textContent === 'ready'").await;
    assert_eq!(browser.text("#findings-error").await, "", "a view that was set by hand is taken");
    browser.click(".study .slot.lateral button[aria-label^=Remove]").await;
    browser.until("document.querySelectorAll('.study').length === 1").await;
    browser.click("#clear").await;
    browser.until("!document.getElementById('welcome').hidden").await;
    // An example patient in one click.
    let name = format!(
        "[...document.querySelectorAll('.example')].find((element) => element.textContent.startsWith('{}'))",
        patient.name
    );
    browser.client.execute(&format!("{name}.click();"), Vec::new()).await.unwrap();
    browser.until("document.querySelectorAll('tr[data-finding]').length === 7").await;
    assert_eq!(browser.value("document.getElementById('problems').hidden").await, json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_what_is_missing_is_said() {
    let Some(browser) = Browser::start().await else { return };
    let folder = prepared();
    let at = folder.path();
    let (service, address) = serve(at, &["--model", "run", "--token-file", "token"]);
    browser.client.goto(&address).await.unwrap();
    browser.until("!document.getElementById('token-form').hidden").await;
    assert_eq!(browser.value("document.activeElement.id").await, json!("token"));
    browser.keys("#token", &format!("a-wrong-token-0123{}", char::from(Key::Enter))).await;
    browser.until("document.getElementById('token-error').textContent === 'Wrong token.'").await;
    browser.client.execute("document.getElementById('token').value = '';", Vec::new()).await.unwrap();
    browser.keys("#token", &format!("{TOKEN}{}", char::from(Key::Enter))).await;
    browser.until("!document.getElementById('start').hidden").await;
    let kept = "[localStorage.length, sessionStorage.length, document.cookie, document.getElementById('token').value]";
    assert_eq!(browser.value(kept).await, json!([0, 0, "", ""]), "the token is in memory alone");
    assert_eq!(browser.value("document.getElementById('examples').hidden").await, json!(true));
    let patient = patient(at);
    browser.upload(&[&patient.frontal]).await;
    browser.until("document.querySelectorAll('tr[data-finding]').length === 7").await;
    assert!(browser.text("#findings-result").await.contains("Add a second date to see changes."));
    browser.click("#tab-similar").await;
    assert!(browser.text("#similar-none").await.contains("no search index"));
    assert_eq!(browser.value("document.getElementById('similar-form').hidden").await, json!(true));
    // The page reports that the service has gone.
    drop(service);
    browser.keys("#phrase", "edema").await;
    browser.until("document.getElementById('phrase-error').textContent.includes('does not respond')").await;
    browser.client.clone().close().await.unwrap();
}

/// The page follows the system's light or dark mode until the user chooses one; the user can choose
/// a model, and stop what takes long.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_chooses_light_models_and_when_to_stop() {
    let Some(browser) = Browser::start().await else { return };
    let folder = prepared();
    let at = folder.path();
    let other = ["train.max_steps=3", "train.seed=9", "data.corpus=corpus", "train.output=other"];
    run(at, &with(&["-q", "pretrain", &tiny()], &[SMALL, &other].concat()));
    let (_service, address) = serve(at, &["--model", "first=run", "--model", "second=other"]);
    browser.client.goto(&address).await.unwrap();
    browser.until("!document.getElementById('start').hidden").await;

    let session = browser.client.session_id().await.unwrap().unwrap();
    let mut grounds = Vec::new();
    for scheme in ["dark", "light"] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let command = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}});
        post(&browser.driver, &format!("/session/{session}/goog/cdp/execute"), &command);
        let shown = "getComputedStyle(document.documentElement).colorScheme";
        assert_eq!(browser.value(shown).await, json!(scheme));
        grounds.push(browser.value("getComputedStyle(document.body).backgroundColor").await);
    }
    assert_ne!(grounds[0], grounds[1]);
    browser.click("#theme").await;
    assert_eq!(browser.value("getComputedStyle(document.body).backgroundColor").await, grounds[0]);

    let patient = patient(at);
    browser.upload(&[&patient.frontal]).await;
    browser.until("document.querySelectorAll('tr[data-finding]').length === 7").await;
    let names = browser.value("[...document.querySelectorAll('#model option')].map((option) => option.value)").await;
    assert_eq!(names, json!(["first", "second"]));
    let edema = "document.querySelector('tr[data-finding=edema] .presence')?.dataset.score";
    for (name, weights) in [("first", "run"), ("second", "other")] {
        let choose = format!(
            "document.getElementById('model').value = '{name}'; document.getElementById('model').dispatchEvent(new Event('change'));"
        );
        browser.client.execute(&choose, Vec::new()).await.unwrap();
        let file = patient.frontal.display().to_string();
        let expected = json(at, &["zero-shot", &file, "--model", weights, "--class", "edema"]);
        let expected = expected["studies"][0]["scores"][0].as_f64().unwrap();
        browser.until(&format!("Math.abs(Number({edema}) - {expected}) < 1e-4")).await;
    }

    // The service's answer to a phrase is held back.
    let hold = "const original = window.fetch; window.fetch = (path, options) => !path.includes('/ground') ? original(path, options) : \
                new Promise((_, fail) => options.signal.addEventListener('abort', () => fail(new DOMException('', 'AbortError'))));";
    browser.client.execute(hold, Vec::new()).await.unwrap();
    for stop in ["button", "key"] {
        browser.client.execute("document.getElementById('phrase').value = '';", Vec::new()).await.unwrap();
        browser.keys("#phrase", "edema").await;
        browser.until("!document.getElementById('stop').hidden").await;
        match stop {
            "button" => browser.click("#stop").await,
            _ => browser.keys("#phrase", &char::from(Key::Escape).to_string()).await,
        }
        browser.until("document.getElementById('computing').textContent === 'ready'").await;
        assert_eq!(browser.value("document.getElementById('stop').hidden").await, json!(true));
        assert_eq!(browser.text("#phrase-error").await, "", "stopping shows no error");
    }
    browser.client.clone().close().await.unwrap();
}

/// What the page asks for, without a browser.
#[test]
fn the_page_and_what_it_asks_for_answer() {
    let folder = prepared();
    let at = folder.path();
    let (_service, address) = serve(at, &["--model", "run", "--examples", "raw/folders"]);
    let get = |path: &str| send(&address, &format!("GET {path}"), "");
    let (status, headers, page) = get("/");
    assert!(status == 200 && String::from_utf8(page).unwrap().contains("/page/main.js"));
    for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(headers.contains(rule), "{headers}");
    }
    assert!(!headers.contains("unsafe") && headers.contains("nosniff"), "{headers}");
    assert!(get("/page/main.js").1.contains("text/javascript"));
    for path in [
        "/page/none.js",
        "/page/..%2fpage.rs",
        "/v1/examples/..%2f..%2frun/config.toml",
        "/v1/examples/p00000/none.png",
    ] {
        assert_eq!(get(path).0, 404, "{path}");
    }
    let patient = patient(at);
    let picture_path =
        format!("/v1/examples/{}/{}", patient.name, patient.later.file_name().unwrap().to_str().unwrap());
    assert_eq!(get(&picture_path).2, fs::read(&patient.later).unwrap());

    // A file, and the square that the page sends in its place, are the same to the model.
    let later = STANDARD.encode(fs::read(&patient.later).unwrap());
    let shown = post(&address, "/v1/picture", &json!({"picture": later}));
    let date = shown["header"]["date"].as_str().unwrap();
    assert_eq!((date, shown["patches"].as_u64()), (&*patient.dates[1], Some(3)));
    assert!(["PA", "AP"].contains(&shown["header"]["view"].as_str().unwrap()));
    let embedding =
        |frontal: &Value| post(&address, "/v1/embed", &json!({"frontal": frontal}))["studies"][0]["image"].take();
    assert_eq!(embedding(&shown["square"]), embedding(&json!(later)));
    let plain = STANDARD.encode(fs::read(&patient.frontal).unwrap());
    assert_eq!(post(&address, "/v1/picture", &json!({"picture": plain}))["header"], Value::Null);

    // A sentence is aligned exactly as the same text is as a phrase.
    let request =
        json!({"frontal": later, "report": "FINDINGS: No edema. IMPRESSION: Small left effusion.", "least": 1});
    let answer = post(&address, "/v1/report", &request);
    let phrase = json!({"frontal": later, "phrase": "No edema.", "matrices": true});
    let phrase = post(&address, "/v1/ground", &phrase);
    let [found, expected] =
        [&answer["sentences"][0]["grounded"]["matrices"]["similarity"], &phrase["matrices"]["similarity"]];
    for (found, expected) in found.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
        assert!(found.as_array().unwrap().iter().zip(expected.as_array().unwrap()).all(|(a, b)| close(a, b)));
    }
    assert!(
        answer["sentences"].as_array().unwrap().iter().all(|sentence| sentence["matches"] == json!(false)),
        "none reaches 1"
    );
    for (path, body, expected) in [
        ("/v1/picture", json!({"picture": "AAAA"}), "picture: not a JPEG"),
        ("/v1/picture", json!({}), "picture"),
        ("/v1/report", json!({"frontal": later, "report": " "}), "neither an impression nor findings"),
        ("/v1/report", json!({"frontal": later, "report": "Edema. ".repeat(65)}), "too many sentences: 65"),
        ("/v1/report", json!({"report": "Edema is there."}), "no image"),
        (
            "/v1/report",
            json!({"frontal": later, "report": "Edema is there.", "least": 2}),
            "least must be between -1 and 1",
        ),
    ] {
        let (status, answer) = post_for(&address, path, &body);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(expected), "{expected}: {status} {message}");
    }
    let (_, _, interface) = get("/openapi.json");
    let interface: Value = serde_json::from_slice(&interface).unwrap();
    for path in ["/v1/picture", "/v1/report", "/v1/examples", "/v1/examples/{patient}/{file}"] {
        assert!(interface["paths"][path].is_object(), "{path}");
    }
}
