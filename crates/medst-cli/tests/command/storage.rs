//! An S3 server on the loopback, and the binary that speaks to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutOptions};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{SMALL, repository, run, tiny, with};

/// A server, and a folder to work in. The bucket is `corpora`.
pub struct Storage {
    server: Child,
    folder: tempfile::TempDir,
    settings: Value,
}

impl Storage {
    /// * `variables`: what makes the server worse.
    pub fn start(variables: &[(&str, &str)]) -> Option<Storage> {
        let python = repository().join(".venv-s3/bin/python");
        if !python.exists() {
            assert!(std::env::var_os("MEDST_NEED_S3").is_none(), "MEDST_NEED_S3 is set, but no S3 server is installed");
            eprintln!("skipped: no S3 server (tools/s3_server.sh installs it)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut server = Command::new(python)
            .arg(repository().join("tools/s3_server.py"))
            .arg(folder.path().join("requests"))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let settings = serde_json::from_str(&line).expect("the server tells where it is");
        Some(Storage { server, folder, settings })
    }

    pub fn at(&self) -> &Path {
        self.folder.path()
    }

    pub fn said(&self, what: &str) -> &str {
        self.settings[what].as_str().unwrap()
    }

    /// `medst` as the server's user, with a cache of that name.
    pub fn command(&self, cache: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_medst"));
        command.args(arguments).current_dir(self.at()).envs(self.variables()).env("MEDST_CACHE", self.at().join(cache));
        command
    }

    pub fn variables(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", self.said("endpoint")),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", self.said("key")),
            ("AWS_SECRET_ACCESS_KEY", self.said("secret")),
        ]
    }

    pub fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        finish(&mut self.command("cache", arguments), code)
    }

    pub fn store(&self) -> AmazonS3 {
        // An error only means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = AmazonS3Builder::new().with_bucket_name("corpora").with_endpoint(self.said("endpoint"));
        let builder = builder.with_region("us-east-1").with_allow_http(true).with_access_key_id(self.said("key"));
        builder.with_secret_access_key(self.said("secret")).build().unwrap()
    }

    pub fn object(&self, key: &str) -> Vec<u8> {
        let store = self.store();
        let read = async { store.get(&Key::from(key)).await.unwrap().bytes().await.unwrap().to_vec() };
        Runtime::new().unwrap().block_on(read)
    }

    pub fn replace(&self, key: &str, bytes: Vec<u8>) {
        let store = self.store();
        Runtime::new().unwrap().block_on(store.put(&Key::from(key), bytes.into())).unwrap();
    }

    /// Corrupts an object: other bytes, with the checksum that `medst` recorded for the former
    /// ones.
    pub fn replace_noting(&self, key: &str, bytes: Vec<u8>, former: &[u8]) {
        let checksum = medst_data::files::sha256_of(former);
        let attributes = Attributes::from_iter([(Attribute::Metadata("sha256".into()), checksum)]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        let store = self.store();
        Runtime::new().unwrap().block_on(store.put_opts(&Key::from(key), bytes.into(), options)).unwrap();
    }

    pub fn remove(&self, key: &str) {
        let store = self.store();
        Runtime::new().unwrap().block_on(store.delete(&Key::from(key))).unwrap();
    }

    /// Number of occurrences of a text in the log.
    pub fn requests(&self, part: &str) -> usize {
        fs::read_to_string(self.at().join("requests")).unwrap().lines().filter(|line| line.contains(part)).count()
    }

    pub fn cohort(&self) {
        run(self.at(), &["-q", "phantom", "raw", "--subjects", "24", "--size", "64"], 0);
    }

    pub fn prepare(&self, out: &str) {
        self.run(&["-q", "prepare", "table", "raw/studies.csv", "--image-size", "64", "--out", out], 0);
    }

    /// The losses of a short run.
    pub fn pretrain(&self, corpus: &str, output: &str) -> Vec<Value> {
        let (corpus, target) = (format!("data.corpus={corpus}"), format!("train.output={output}"));
        let settings = [SMALL, &["train.epochs=2", &corpus, &target]].concat();
        let configuration = tiny();
        self.run(&with(&["-q", "pretrain", &configuration], &settings), 0);
        let text = fs::read_to_string(self.at().join(output).join("metrics.jsonl")).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("studies_per_second")));
        assert!(lines.len() > 4);
        lines
    }

    /// The only file of that name in a cache.
    pub fn cached(&self, cache: &str, name: &str) -> PathBuf {
        let corpora = fs::read_dir(self.at().join(cache).join("corpora")).unwrap();
        let found: Vec<PathBuf> =
            corpora.map(|entry| entry.unwrap().path().join(name)).filter(|path| path.exists()).collect();
        assert_eq!(found.len(), 1, "{name} in {cache}");
        found.into_iter().next().unwrap()
    }

    pub fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a command to its end, with that exit code; standard output and standard error.
pub fn finish(command: &mut Command, code: i32) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}
