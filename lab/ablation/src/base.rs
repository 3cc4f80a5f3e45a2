//! The encoders that every run of a study starts from: a plain dual encoder of frontal images and
//! reports, trained on a separate cohort. The paper, too, starts from encoders that others trained;
//! from random weights a run of a minute learns too little to compare.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::study::Study;
use crate::unit::{How, STOPPED};

/// The file that marks a run as finished, in its folder.
const DONE: &str = "finished";

/// Trained weights, and which they are.
#[derive(Clone, Debug)]
pub struct Trained {
    pub weights: PathBuf,
    /// The first digits of the file's SHA-256. The same configuration gives other weights where a
    /// program or a processor rounds otherwise.
    pub checksum: String,
}

impl Trained {
    fn read(weights: PathBuf) -> Result<Trained> {
        let bytes = fs::read(&weights).with_context(|| weights.display().to_string())?;
        Ok(Trained { checksum: format!("{:x}", Sha256::digest(bytes))[..12].to_string(), weights })
    }
}

/// Trains the weights unless they are finished, and returns them. `None` when the deadline came
/// first: the next call continues.
///
/// * `threads`: for this run, the only one at that time.
pub fn prepare(study: &Study, how: &How, threads: usize, deadline: Option<Instant>) -> Result<Option<Trained>> {
    let Some(base) = &study.scale.base else { return Ok(None) };
    let folder = how.work.join(study.base_name()?);
    if let Some(kept) = base.weights.as_ref().filter(|kept| kept.exists()) {
        return Trained::read(kept.clone()).map(Some);
    }
    let (corpus, run) = (folder.join("corpus"), folder.join("run"));
    let finish = || {
        let mut weights = run.join("last/model.safetensors");
        if let Some(kept) = &base.weights {
            fs::copy(&weights, kept).with_context(|| kept.display().to_string())?;
            weights.clone_from(kept);
        }
        Trained::read(weights).map(Some)
    };
    if run.join(DONE).exists() {
        return finish();
    }
    let how = &How { threads, ..how.clone() };
    let text = |path: &Path| path.display().to_string();
    let pictures = [study.scale.cohort.picture, study.scale.cohort.image_size].map(|side| side.to_string());
    if !corpus.join("corpus.json").exists() {
        let raw = folder.join("raw");
        if raw.exists() {
            fs::remove_dir_all(&raw).with_context(|| text(&raw))?;
        }
        let (subjects, seed) = (base.subjects.to_string(), base.seed.to_string());
        let draw = ["phantom", &text(&raw), "--subjects", &subjects, "--seed", &seed, "--difficulty", &base.difficulty];
        how.medst(&[&draw[..], &["--size", &pictures[0]]].concat())?;
        let table = text(&raw.join("studies.csv"));
        how.medst(&["prepare", "table", &table, "--out", &text(&corpus), "--image-size", &pictures[1]])?;
        fs::remove_dir_all(&raw).with_context(|| text(&raw))?;
    }
    let mut settings = vec![
        format!("data.corpus={}", text(&corpus)),
        format!("train.output={}", text(&run)),
        format!("train.seed={}", base.seed),
    ];
    settings.extend(base.set.iter().cloned());
    let config = text(&study.pretrain);
    let mut arguments = vec!["pretrain", &config, "--device", &how.device];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    if run.join("config.toml").exists() {
        arguments.push("--resume");
    }
    say!("training the encoders that runs start from");
    let mut child = how.command(&arguments).spawn().with_context(|| text(&how.medst))?;
    let mut asked = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if !asked && deadline.is_some_and(|deadline| Instant::now() > deadline) {
            // Like Ctrl-C: the run leaves a checkpoint.
            asked = Command::new("kill").args(["-INT", &child.id().to_string()]).status()?.success();
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    match status.code() {
        Some(0) => {
            fs::write(run.join(DONE), "").with_context(|| text(&run))?;
            finish()
        }
        // Without a code it was stopped before it could listen.
        Some(STOPPED) | None if asked => Ok(None),
        _ => bail!("the base run ended with {status}"),
    }
}
