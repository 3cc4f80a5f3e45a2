//! Corpora in object storage, against an S3 server on the loopback that checks signatures
//! (`tools/s3_server.py`).
//!
//! Where the server is not installed (`tools/s3_server.sh` does it) these tests skip, saying so,
//! unless `MEDST_NEED_S3` is set.
#![cfg(feature = "s3")]

mod command;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use command::run;
use command::storage::{Storage, finish};
use serde_json::Value;

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A table of so many pictures of a few contents: several shards.
fn many(at: &Path, pictures: usize) -> &'static str {
    run(at, &["-q", "phantom", "few", "--subjects", "12", "--size", "64"], 0);
    let contents = files(&at.join("few/images"));
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
    // Every seventh request is refused at first.
    let Some(mut storage) = Storage::start(&[("FAULTY", "7")]) else { return };
    storage.cohort();
    storage.prepare("local");
    let remote = "s3://corpora/chest/phantom";
    storage.prepare(remote);
    let local: Vec<PathBuf> =
        fs::read_dir(storage.at().join("local")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(local.len() >= 7);
    // There the manifest alone has the checksums.
    for path in local.iter().filter(|path| !path.ends_with("SHA256SUMS")) {
        let key = format!("chest/phantom/{}", path.file_name().unwrap().to_str().unwrap());
        assert!(fs::read(path).unwrap() == storage.object(&key), "{key}");
    }
    assert!(fs::read_dir(storage.at().join("cache/preparing")).unwrap().next().is_none(), "the working folder is left");
    let again = ["prepare", "table", "raw/studies.csv", "--image-size", "64", "--out", remote];
    assert!(storage.run(&again, 2).1.contains("is already a corpus"));

    let description = |corpus: &str| {
        let mut fields: Value = serde_json::from_str(&storage.run(&["inspect", corpus, "--json"], 0).0).unwrap();
        fields.as_object_mut().unwrap().remove("path");
        fields
    };
    assert_eq!(description("local"), description(remote));
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
    assert!(storage.requests("GET /corpora/chest/phantom/images") > read, "the damaged shard was not fetched again");
    assert!(fs::read(storage.cached("cache", "images-00000.npy")).unwrap() == whole);
    storage.stop();
    assert_eq!(losses, storage.pretrain(remote, "run-alone"));
    let (_, err) = storage.run(&["inspect", remote], 0);
    assert!(err.contains("cannot reach") && err.contains("continuing with the copy in"), "{err}");
    damage();
    let (_, err) = storage.run(&["-q", "embed", remote, "--model", "run-local", "--out", "e.npy"], 1);
    assert!(err.contains("images-00000.npy") && err.contains("cannot reach"), "{err}");
}

#[test]
fn a_table_and_its_pictures_may_be_there_too() {
    let Some(storage) = Storage::start(&[]) else { return };
    storage.cohort();
    storage.prepare("local");
    let raw = storage.at().join("raw");
    let mut pictures = files(&raw.join("images"));
    pictures.push(raw.join("studies.csv"));
    for path in &pictures {
        let key = format!("raw/{}", path.strip_prefix(&raw).unwrap().display());
        storage.replace(&key, fs::read(path).unwrap());
    }
    let prepare = |table: &str, out: &str| {
        storage.run(&["-q", "prepare", "table", table, "--image-size", "64", "--out", out], 0).0
    };
    let same = |one: &str, other: &str| {
        for path in files(&storage.at().join(one)) {
            let name = path.file_name().unwrap();
            assert!(
                fs::read(&path).unwrap() == fs::read(storage.at().join(other).join(name)).unwrap(),
                "{name:?} of {other}"
            );
        }
    };
    prepare("s3://corpora/raw/studies.csv", "from-storage");
    same("local", "from-storage");
    let check = storage.run(&["prepare", "table", "s3://corpora/raw/studies.csv", "--check"], 0).0;
    let images = pictures.len() - 1;
    assert!(check.contains(&format!("{images} of {images} images exist")), "{check}");

    // A local table may name pictures in object storage. One of these is missing, and one is not a
    // picture.
    let table = fs::read_to_string(raw.join("studies.csv")).unwrap();
    let mut table = table.replace("images/", "s3://corpora/raw/images/");
    storage.replace("raw/words.png", b"no picture".to_vec());
    let columns = table.lines().next().unwrap().split(',').count();
    for name in ["absent.png", "words.png"] {
        let row = format!("x,x-{name},1,PA,s3://corpora/raw/{name},,train");
        table += &(row.clone() + &",".repeat(columns - row.split(',').count()) + "\n");
    }
    let header = table.lines().next().unwrap().to_string();
    assert!(header.starts_with("subject_id,study_id,day,view,image,report,split"), "{header}");
    fs::write(storage.at().join("mixed.csv"), table).unwrap();
    let said = prepare("mixed.csv", "mixed");
    let skipped = fs::read_to_string(storage.at().join("mixed/skipped.csv")).unwrap();
    assert!(
        skipped.contains("s3://corpora/raw/absent.png") && skipped.contains("image file does not exist"),
        "{skipped}"
    );
    assert!(skipped.contains("s3://corpora/raw/words.png"), "{said}\n{skipped}");
    let shard = |corpus: &str| fs::read(storage.at().join(corpus).join("images-00000.npy")).unwrap();
    assert!(shard("local") == shard("mixed"));
    let (_, err) = storage.run(&["prepare", "table", "s3://corpora/raw/none.csv", "--out", "none"], 1);
    assert!(err.contains("s3://corpora/raw/none.csv"), "{err}");
    let (_, err) = storage.run(&["prepare", "rsna", "s3://corpora/raw", "--out", "none"], 2);
    assert!(err.contains("only a table"), "{err}");
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
        ("s3://corpora/a", ("AWS_ACCESS_KEY_ID", "unknown"), &["InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"][..]),
        ("s3://corpora/a", ("AWS_SECRET_ACCESS_KEY", "wrong"), &["SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"]),
        ("s3://nowhere/a", none, &["has no bucket `nowhere`"]),
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
    assert!(storage.run(&to_nowhere, 1).1.contains("has no bucket"));
    storage.replace("theirs/thesis.txt", b"years of work".to_vec());
    let (_, err) = storage.run(&["prepare", "table", "raw/studies.csv", "--out", "s3://corpora/theirs"], 2);
    assert!(err.contains("thesis.txt"), "{err}");

    // Objects that are not what the manifest says: cut short, changed, gone.
    let shard = storage.object("a/images-00000.npy");
    let mut changed = shard.clone();
    changed[5000] ^= 1;
    for (cache, bytes, expected) in [
        ("short", shard[..shard.len() - 1].to_vec(), "bytes, expected"),
        ("changed", changed, "its checksum differs from corpus.json"),
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
    assert!(err.contains("cannot reach"), "{err}");
}

/// The objects themselves are read, whatever the cache holds.
#[test]
fn wrong_objects_are_found_by_verify() {
    let Some(mut storage) = Storage::start(&[]) else { return };
    storage.cohort();
    let remote = "s3://corpora/a";
    storage.prepare(remote);
    storage.prepare("local");
    storage.pretrain(remote, "run");
    let verify = |code: i32| storage.run(&["-q", "verify", remote], code);
    let (out, _) = verify(0);
    // Object storage has no list of checksums; the manifest replaces it.
    let count = fs::read_dir(storage.at().join("local")).unwrap().count() - 1;
    assert!(out.contains(&format!("{count} files are intact")), "{out}");
    let names = fs::read_dir(storage.at().join("local")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for name in names.filter(|name| name != "SHA256SUMS" && name != "corpus.json") {
        let key = format!("a/{name}");
        let whole = storage.object(&key);
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [flipped, whole[..whole.len() - 1].to_vec()] {
            storage.replace(&key, damaged);
            let (out, err) = verify(1);
            assert!(out.contains(&format!("s3://corpora/{key}: damaged")) && err.contains("1 damaged"), "{out}{err}");
        }
        storage.remove(&key);
        let (out, _) = verify(1);
        assert!(out.contains(&format!("s3://corpora/{key}: missing")), "{out}");
        storage.replace(&key, whole);
    }
    verify(0);
    // The manifest's own checksum is metadata of its object, which keeps what it was when the bytes
    // change.
    let manifest = storage.object("a/corpus.json");
    let text = String::from_utf8(manifest.clone()).unwrap();
    let changed = text.replacen("\"studies\": ", "\"studies\": 1", 1);
    assert_ne!(changed, text);
    storage.replace_noting("a/corpus.json", changed.into_bytes(), &manifest);
    let (out, _) = verify(1);
    assert!(out.contains("s3://corpora/a/corpus.json: damaged"), "{out}");
    // Copied there by another program, it has none.
    storage.replace("a/corpus.json", manifest[..manifest.len() - 1].to_vec());
    let (out, _) = verify(1);
    assert!(out.contains("s3://corpora/a/corpus.json: not a manifest"), "{out}");
    storage.replace("a/corpus.json", manifest);
    let (out, _) = storage.run(&["-q", "--json", "verify", remote], 0);
    assert!(out.contains("\"faults\": []") || out.contains("\"faults\":[]"), "{out}");
    let (_, err) = storage.run(&["verify", "s3://corpora/none"], 1);
    assert!(err.contains("s3://corpora/none") && err.contains("has no corpus.json"), "{err}");
    storage.stop();
    let (_, err) = storage.run(&["verify", remote], 1);
    assert!(err.contains("cannot reach"), "{err}");
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
    // The same bytes are one corpus; other sequences make another.
    let other = [
        "-q",
        "prepare",
        "table",
        "raw/studies.csv",
        "--image-size",
        "64",
        "--sequence-length",
        "3",
        "--out",
        "s3://corpora/c",
    ];
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
    assert!(said.contains("raise MEDST_CACHE_GIB"), "{said}");

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
    let table = many(at, 4400);
    storage.run(&["-q", "prepare", "table", table, "--image-size", "64", "--out", "s3://corpora/many"], 0);
    storage.run(&["-q", "prepare", "table", table, "--image-size", "64", "--out", "many-local"], 0);
    let uploaded = storage.requests("images-0000");
    let embed = |corpus: &str, out: &str| {
        storage.run(&["-q", "embed", corpus, "--model", "run", "--out", out], 0);
        fs::read(at.join(out)).unwrap()
    };
    let remote = embed("s3://corpora/many", "remote.parquet");
    let requests = storage.requests("images-0000") - uploaded;
    assert!(requests > 50, "{requests} requests for 2 shards: no picture was read by itself");
    assert!(remote == embed("many-local", "local.parquet"));
}
