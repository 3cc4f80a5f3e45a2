//! A headless Chromium controlled by chromedriver, and a service run by the real binary.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first: a driver that is killed does not stop its browser.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a line that holds `before` and returns what follows it; the rest is read away by a
/// thread.
fn rest_of_line(reader: impl std::io::Read + Send + 'static, before: &'static str) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if let Some((_, after)) = line.split_once(before) {
                let _ = sender.send(after.to_string());
            }
        }
    });
    receiver.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("no line with {before:?}"))
}

/// The service with arguments, and the link that opens its page: with the token, where one was
/// drawn.
pub fn serve(at: &Path, arguments: &[&str]) -> (Running, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_medst"))
        .current_dir(at)
        .args(["-q", "serve", "--bind", "127.0.0.1:0"])
        .args(arguments)
        .env_remove("MEDST_TOKEN")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let drawn = !arguments.contains(&"--token-file");
    let line = rest_of_line(child.stderr.take().unwrap(), if drawn { "open " } else { "serving at " });
    (Running(child), line.split([',', ' ']).next().unwrap().to_string())
}

/// The programs' paths, or none with the reason on standard error.
fn programs() -> Option<(String, String)> {
    let there = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let chromium = ["chromium", "chromium-browser", "google-chrome"].iter().find(there);
    let driver = ["chromedriver"].iter().find(there);
    if let (Some(chromium), Some(driver)) = (chromium, driver) {
        return Some((chromium.to_string(), driver.to_string()));
    }
    // Continuous integration installs both and must not lose the test unseen.
    assert!(std::env::var_os("MEDST_NEED_BROWSER").is_none(), "chromium or chromedriver is missing");
    eprintln!("SKIPPED: chromium and chromedriver are needed (Debian: chromium, chromium-driver)");
    None
}

/// A page in a browser.
pub struct Browser {
    pub client: Client,
    /// The driver's own interface.
    pub driver: String,
    _driver: Running,
}

impl Browser {
    /// A laptop's screen.
    pub async fn start() -> Option<Browser> {
        let (chromium, driver) = programs()?;
        let mut child =
            Command::new(driver).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let port = rest_of_line(child.stdout.take().unwrap(), "started successfully on port ");
        let driver = Running(child);
        let binary = Command::new("sh").args(["-c", &format!("command -v {chromium}")]).output().unwrap();
        let binary = String::from_utf8(binary.stdout).unwrap();
        let options = json!({
            "binary": binary.trim(),
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1366,768"],
        });
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), options);
        capabilities.insert("goog:loggingPrefs".into(), json!({"browser": "ALL"}));
        let address = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
        let client =
            ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&address).await.unwrap();
        Some(Browser { client, driver: address, _driver: driver })
    }

    pub async fn text(&self, css: &str) -> String {
        self.client.find(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}")).text().await.unwrap()
    }

    pub async fn click(&self, css: &str) {
        let element = self.client.find(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    pub async fn keys(&self, css: &str, keys: &str) {
        self.client.find(Locator::Css(css)).await.unwrap().send_keys(keys).await.unwrap();
    }

    /// The value of an expression of the page.
    pub async fn value(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.unwrap()
    }

    /// Chooses files as a person does.
    pub async fn upload(&self, files: &[&Path]) {
        let all: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        self.client.execute("document.getElementById('files').hidden = false;", Vec::new()).await.unwrap();
        self.keys("#files", &all.join("\n")).await;
        self.client.execute("document.getElementById('files').hidden = true;", Vec::new()).await.unwrap();
    }

    /// Waits until an expression of the page is true.
    pub async fn until(&self, expression: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.value(&format!("Boolean({expression})")).await != json!(true) {
            if Instant::now() > end {
                let page = self.value("document.body.innerText").await;
                panic!("never: {expression}\n{page}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
