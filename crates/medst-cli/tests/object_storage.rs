//! Corpora in object storage, against an S3 server on the loopback that checks signatures (`tools/s3_server.py`).
//!
//! Where the server is not installed (`tools/s3_server.sh` does it) these tests skip, saying so, unless `MEDST_NEED_S3` is set.
#![cfg(feature = "s3")]

mod command;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use command::{SMALL, repository, run, tiny, with};
use object_store::ObjectStoreExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use serde_json::Value;
use tokio::runtime::Runtime;

/// A server, and a folder to work in. The bucket is `corpora`.
struct Storage {
    server: Child,
    folder: tempfile::TempDir,
    told: Value,
}

impl Storage {
    /// * `variables`: what makes the server worse.
    fn start(variables: &[(&str, &str)]) -> Option<Storage> {
        let python = repository().join(".venv-s3/bin/python");
        if !python.exists() {
            assert!(std::env::var_os("MEDST_NEED_S3").is_none(), "MEDST_NEED_S3 is set, and there is no server");
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
        let told = serde_json::from_str(&line).expect("the server tells where it is");
        Some(Storage { server, folder, told })
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn said(&self, what: &str) -> &str {
        self.told[what].as_str().unwrap()
    }

    /// `medst` as the server's user, with a cache of that name.
    fn command(&self, cache: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_medst"));
        command.args(arguments).current_dir(self.at()).envs(self.variables()).env("MEDST_CACHE", self.at().join(cache));
        command
    }

    fn variables(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", self.said("endpoint")),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", self.said("key")),
            ("AWS_SECRET_ACCESS_KEY", self.said("secret")),
        ]
    }

    fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        finish(&mut self.command("cache", arguments), code)
    }

    fn store(&self) -> AmazonS3 {
        let builder = AmazonS3Builder::new().with_bucket_name("corpora").with_endpoint(self.said("endpoint"));
        let builder = builder.with_region("us-east-1").with_allow_http(true).with_access_key_id(self.said("key"));
        builder.with_secret_access_key(self.said("secret")).build().unwrap()
    }

    fn object(&self, key: &str) -> Vec<u8> {
        let store = self.store();
        let read = async { store.get(&Key::from(key)).await.unwrap().bytes().await.unwrap().to_vec() };
        Runtime::new().unwrap().block_on(read)
    }

    fn replace(&self, key: &str, bytes: Vec<u8>) {
        let store = self.store();
        Runtime::new().unwrap().block_on(store.put(&Key::from(key), bytes.into())).unwrap();
    }

    /// How often a part of the log is there.
    fn requests(&self, part: &str) -> usize {
        fs::read_to_string(self.at().join("requests")).unwrap().lines().filter(|line| line.contains(part)).count()
    }

    fn cohort(&self) {
        run(self.at(), &["-q", "phantom", "raw", "--subjects", "24", "--size", "64"], 0);
    }

    fn prepare(&self, out: &str) {
        self.run(&["-q", "prepare", "table", "raw/studies.csv", "--image-size", "64", "--out", out], 0);
    }

    /// The losses of a short run.
    fn pretrain(&self, corpus: &str, output: &str) -> Vec<Value> {
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
    fn cached(&self, cache: &str, name: &str) -> PathBuf {
        let corpora = fs::read_dir(self.at().join(cache).join("corpora")).unwrap();
        let found: Vec<PathBuf> =
            corpora.map(|entry| entry.unwrap().path().join(name)).filter(|path| path.exists()).collect();
        assert_eq!(found.len(), 1, "{name} in {cache}");
        found.into_iter().next().unwrap()
    }

    fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.stop();
    }
}

fn finish(command: &mut Command, code: i32) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}

/// A table of so many pictures of a few contents: several shards.
fn many(at: &Path, pictures: usize) -> &'static str {
    run(at, &["-q", "phantom", "few", "--subjects", "12", "--size", "32", "--difficulty", "easy"], 0);
    let table = fs::read_to_string(at.join("few/studies.csv")).unwrap();
    let mut reader = table.lines();
    let columns: Vec<&str> = reader.next().unwrap().split(',').collect();
    let place = columns.iter().position(|column| *column == "image").unwrap();
    let contents: Vec<PathBuf> = reader.map(|row| at.join("few").join(row.split(',').nth(place).unwrap())).collect();
    let contents: Vec<PathBuf> = contents.into_iter().filter(|path| path.exists()).collect();
    assert!(contents.len() > 5);
    fs::create_dir(at.join("many")).unwrap();
    let mut rows = "subject_id,day,view,image,split\n".to_string();
    for number in 0..pictures {
        fs::hard_link(&contents[number % contents.len()], at.join(format!("many/{number}.png"))).unwrap();
        rows += &format!("s{},{number},PA,many/{number}.png,train\n", number / 4);
    }
    fs::write(at.join("many.csv"), rows).unwrap();
    "many.csv"
}

#[test]
fn a_corpus_in_object_storage_is_that_of_a_folder() {
    // Every third request is refused at first.
    let Some(mut storage) = Storage::start(&[("FAULTY", "3")]) else { return };
    storage.cohort();
    storage.prepare("local");
    let remote = "s3://corpora/chest/phantom";
    storage.prepare(remote);
    let local: Vec<PathBuf> =
        fs::read_dir(storage.at().join("local")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(local.len() >= 6);
    for path in &local {
        let key = format!("chest/phantom/{}", path.file_name().unwrap().to_str().unwrap());
        assert!(fs::read(path).unwrap() == storage.object(&key), "{key}");
    }
    assert!(fs::read_dir(storage.at().join("cache/preparing")).unwrap().next().is_none(), "the working folder is left");
    let again = ["prepare", "table", "raw/studies.csv", "--image-size", "64", "--out", remote];
    assert!(storage.run(&again, 2).1.contains("is a corpus already"));

    let told = |corpus: &str| {
        let mut told: Value = serde_json::from_str(&storage.run(&["inspect", corpus, "--json"], 0).0).unwrap();
        told.as_object_mut().unwrap().remove("path");
        told
    };
    assert_eq!(told("local"), told(remote));
    // Nothing but the manifest and the tables was needed.
    assert!(!storage.cached("cache", "studies.parquet").with_file_name("images-00000.npy").exists());
    let losses = storage.pretrain("local", "run-local");
    assert_eq!(losses, storage.pretrain(remote, "run-remote"));
    let embed = |corpus: &str, out: &str| {
        storage.run(&["-q", "embed", corpus, "--model", "run-local", "--out", out], 0);
        fs::read(storage.at().join(out)).unwrap()
    };
    assert!(embed("local", "local.parquet") == embed(remote, "remote.parquet"));
    assert!(embed("local", "local.npy") == embed(remote, "remote.npy"));
    let (out, _) =
        storage.run(&["-q", "eval", "retrieval", "--model", "run-local", "--corpus", remote, "--replicates", "10"], 0);
    assert!(out.contains("recall@1"), "{out}");

    // From here on the cache has to do.
    let read = storage.requests("GET /corpora/chest/phantom/images");
    assert_eq!(losses, storage.pretrain(remote, "run-again"));
    assert_eq!(storage.requests("GET /corpora/chest/phantom/images"), read, "read again");
    let shard = storage.cached("cache", "images-00000.npy");
    let whole = fs::read(&shard).unwrap();
    let damage = || {
        let mut damaged = whole.clone();
        damaged[5000] ^= 1;
        fs::write(&shard, damaged).unwrap();
    };
    damage();
    assert_eq!(losses, storage.pretrain(remote, "run-mended"));
    assert!(storage.requests("GET /corpora/chest/phantom/images") > read, "the damage was not seen");
    assert!(fs::read(storage.cached("cache", "images-00000.npy")).unwrap() == whole);
    storage.stop();
    assert_eq!(losses, storage.pretrain(remote, "run-alone"));
    let (_, err) = storage.run(&["inspect", remote], 0);
    assert!(err.contains("could not be reached") && err.contains("going on with what is in"), "{err}");
    damage();
    let (_, err) = storage.run(&["-q", "embed", remote, "--model", "run-local", "--out", "e.npy"], 1);
    assert!(err.contains("images-00000.npy") && err.contains("could not be reached"), "{err}");
}

#[test]
fn what_is_wrong_is_said() {
    let Some(mut storage) = Storage::start(&[]) else { return };
    storage.cohort();
    storage.prepare("s3://corpora/a");
    storage.prepare("local");
    storage.pretrain("local", "run");
    let inspect = |corpus: &str, variable: (&str, &str), code: i32| {
        finish(storage.command("errors", &["inspect", corpus]).env(variable.0, variable.1), code).1
    };
    let none = ("UNUSED", "");
    for (corpus, variable, expected) in [
        ("s3://corpora/a", ("AWS_ACCESS_KEY_ID", "nobody"), &["InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"][..]),
        ("s3://corpora/a", ("AWS_SECRET_ACCESS_KEY", "wrong"), &["SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"]),
        ("s3://nowhere/a", none, &["there is no bucket `nowhere`"]),
        ("s3://corpora/b", none, &["s3://corpora/b", "has no corpus.json"]),
        ("s3://corpora/a", ("AWS_ALLOW_HTTP", "false"), &["AWS_ALLOW_HTTP"]),
    ] {
        let said = inspect(corpus, variable, 1);
        assert!(expected.iter().all(|words| said.contains(words)), "{said}");
        assert!(said.lines().count() == 1, "{said}");
    }
    assert!(inspect("s3://", none, 2).contains("s3://BUCKET/PREFIX"));
    assert!(inspect("s3://corpora/a", ("MEDST_CACHE_GIB", "much"), 2).contains("MEDST_CACHE_GIB=much"));
    let to_nowhere = ["prepare", "table", "raw/studies.csv", "--out", "s3://nowhere/a"];
    assert!(storage.run(&to_nowhere, 1).1.contains("there is no bucket"));
    storage.replace("theirs/thesis.txt", b"years of work".to_vec());
    let (_, err) = storage.run(&["prepare", "table", "raw/studies.csv", "--out", "s3://corpora/theirs"], 2);
    assert!(err.contains("thesis.txt"), "{err}");

    // Objects that are not what the manifest says: cut short, changed, gone.
    let shard = storage.object("a/images-00000.npy");
    let mut changed = shard.clone();
    changed[5000] ^= 1;
    for (cache, bytes, expected) in [
        ("short", shard[..shard.len() - 1].to_vec(), "bytes where"),
        ("changed", changed, "its checksum is not that of corpus.json"),
    ] {
        storage.replace("a/images-00000.npy", bytes);
        let embed = ["-q", "embed", "s3://corpora/a", "--model", "run", "--out", "e.npy"];
        let (_, err) = finish(&mut storage.command(cache, &embed), 1);
        assert!(err.contains("images-00000.npy") && err.contains(expected), "{err}");
        assert!(!storage.cached(cache, "studies.parquet").with_file_name("images-00000.npy").exists());
    }
    // Replaced, it is another corpus.
    let over =
        ["-q", "prepare", "table", "raw/studies.csv", "--image-size", "48", "--overwrite", "--out", "s3://corpora/a"];
    storage.run(&over, 0);
    assert!(inspect("s3://corpora/a", none, 0).is_empty());
    storage.stop();
    let (_, err) = finish(&mut storage.command("empty", &["inspect", "s3://corpora/a"]), 1);
    assert!(err.contains("could not be reached"), "{err}");
}

#[test]
fn the_cache_is_bounded_and_shared() {
    let Some(storage) = Storage::start(&[]) else { return };
    storage.cohort();
    storage.prepare("local");
    storage.pretrain("local", "run");
    for name in ["s3://corpora/a", "s3://corpora/b"] {
        storage.prepare(name);
    }
    // The same bytes are one corpus; another table makes another.
    let table = fs::read_to_string(storage.at().join("raw/studies.csv")).unwrap();
    let fewer: Vec<&str> = table.lines().take(40).collect();
    fs::write(storage.at().join("raw/fewer.csv"), fewer.join("\n") + "\n").unwrap();
    let other = ["-q", "prepare", "table", "raw/fewer.csv", "--image-size", "64", "--out", "s3://corpora/c"];
    storage.run(&other, 0);
    let corpora = || fs::read_dir(storage.at().join("cache/corpora")).unwrap().count();
    let embed = |corpus: &str, gib: &str, code: i32| {
        let arguments = ["-q", "embed", corpus, "--model", "run", "--out", "e.npy"];
        finish(storage.command("cache", &arguments).env("MEDST_CACHE_GIB", gib), code).1
    };
    embed("s3://corpora/a", "1", 0);
    embed("s3://corpora/b", "1", 0);
    assert_eq!(corpora(), 1);
    embed("s3://corpora/c", "1", 0);
    assert_eq!(corpora(), 2);
    let size =
        |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>();
    let needed = size(&storage.at().join("local")) as f64 / f64::from(1 << 30);
    // Room for one of them: the other goes.
    embed("s3://corpora/a", &(needed * 1.1).to_string(), 0);
    assert_eq!(corpora(), 1);
    let said = embed("s3://corpora/a", &(needed * 0.9).to_string(), 2);
    assert!(said.contains("MEDST_CACHE_GIB allows more"), "{said}");

    // Many at once: each shard is read by one of them.
    let before = storage.requests("GET /corpora/c/studies.parquet");
    let arguments = ["-q", "inspect", "s3://corpora/c"];
    let children: Vec<Child> = (0..4)
        .map(|_| storage.command("shared", &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(storage.requests("GET /corpora/c/studies.parquet"), before + 1);
}

/// Large answers are slow here: what is read before they come is read picture by picture.
#[test]
fn a_job_does_not_wait_for_whole_shards() {
    let Some(storage) = Storage::start(&[("SLOW", "4")]) else { return };
    let at = storage.at();
    storage.cohort();
    storage.prepare("local");
    storage.pretrain("local", "run");
    let table = many(at, 9000);
    storage.run(&["-q", "prepare", "table", table, "--image-size", "64", "--out", "s3://corpora/many"], 0);
    storage.run(&["-q", "prepare", "table", table, "--image-size", "64", "--out", "many-local"], 0);
    let uploaded = storage.requests("images-0000");
    let embed = |corpus: &str, out: &str| {
        storage.run(&["-q", "embed", corpus, "--model", "run", "--out", out], 0);
        fs::read(at.join(out)).unwrap()
    };
    let remote = embed("s3://corpora/many", "remote.parquet");
    let requests = storage.requests("images-0000") - uploaded;
    assert!(requests > 50, "{requests} requests for 3 shards: no picture was read by itself");
    assert!(remote == embed("many-local", "local.parquet"));
}
