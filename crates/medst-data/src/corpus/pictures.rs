//! Decoding pictures in parallel and appending them in order, so that an interrupted run can go on.
//!
//! A journal in the working folder tells how far a run came: its first line identifies the run, each further line speaks
//! of one block of pictures that are safely on the disk. Decoding runs ahead of writing, so that cores do not wait for the
//! disk; memory does not grow with the number of pictures.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::mpsc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::shards::ShardWriter;
use super::staging::{Staging, write_whole};
use crate::image::load;
use crate::import::PrepareOptions;
use crate::import::plan::{ImageSource, Plan};
use crate::progress::Progress;
use crate::{Error, Result};

pub const JOURNAL: &str = "journal.jsonl";
/// Pictures between two entries of the journal.
const BLOCK: usize = 128;
/// Blocks that are decoded at the same time: while the last pictures of one keep some cores busy, the other has work for
/// the rest.
const LANES: usize = 2;

/// One line of the journal: for each picture of a block, why it was left out, if it was.
#[derive(Serialize, Deserialize)]
struct Block {
    failures: Vec<Option<String>>,
}

/// Decodes and appends all pictures; returns why each was left out.
///
/// # Errors
/// Names the file that cannot be written. With a stop request the working folder stays for the next run.
pub fn write_pictures(
    plan: &Plan,
    images: &[&ImageSource],
    staging: &Staging,
    options: &PrepareOptions,
    progress: &dyn Progress,
) -> Result<Vec<Option<String>>> {
    let folder = &staging.folder;
    let identity = identity(plan, images, options);
    let journal = folder.join(JOURNAL);
    let mut failures = match resume(&journal, &identity)? {
        Resumed::At(failures) => failures,
        Resumed::Another => {
            progress.note("the sources or settings changed since the interrupted run: it begins anew");
            Vec::new()
        }
        Resumed::Nothing => Vec::new(),
    };
    if failures.is_empty() {
        staging.empty()?;
        write_whole(&journal, format!("{identity}\n").as_bytes())?;
    }
    let written = failures.iter().filter(|failure| failure.is_none()).count();
    let mut shards = ShardWriter::new(folder, options.image_size, written)?;
    let mut lines = OpenOptions::new().append(true).open(&journal).map_err(Error::io(&journal))?;
    progress.begin("preparing images", Some(images.len() as u64));
    progress.advance(failures.len() as u64);
    let blocks = images[failures.len()..].chunks(BLOCK);
    let stopped = std::thread::scope(|scope| -> Result<bool> {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (sender, receiver) = mpsc::sync_channel(1);
                let own = blocks.clone().skip(lane).step_by(LANES);
                scope.spawn(move || {
                    // The receiver is gone when writing failed.
                    own.take_while(|_| !progress.stop_requested())
                        .all(|block| sender.send(decode(block, options, progress)).is_ok())
                });
                receiver
            })
            .collect();
        // A lane that ends early was asked to: the blocks behind it are not written.
        for pictures in (0..).map_while(|block| lanes[block % LANES].recv().ok()) {
            let mut entry = Block { failures: Vec::with_capacity(pictures.len()) };
            for picture in pictures {
                match picture {
                    Ok(pixels) => {
                        shards.push(&pixels)?;
                        entry.failures.push(None);
                    }
                    Err(reason) => entry.failures.push(Some(reason)),
                }
            }
            // The journal never runs ahead of the pictures it speaks of.
            shards.sync()?;
            let line = serde_json::to_string(&entry).unwrap_or_default();
            lines.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&journal))?;
            failures.extend(entry.failures);
        }
        Ok(failures.len() < images.len())
    })?;
    if stopped {
        return Err(Error::Stopped);
    }
    shards.finish()?;
    progress.end();
    Ok(failures)
}

/// Decodes a block on all cores.
fn decode(block: &[&ImageSource], options: &PrepareOptions, progress: &dyn Progress) -> Vec<Result<Vec<u8>, String>> {
    let one = |image: &&ImageSource| {
        let picture = picture(image, options);
        progress.advance(1);
        picture
    };
    block.par_iter().map(one).collect()
}

/// Reads a picture as it is stored; the error is a short reason fit for counting.
fn picture(image: &ImageSource, options: &PrepareOptions) -> Result<Vec<u8>, String> {
    if !image.path.exists() {
        return Err("image file does not exist".into());
    }
    load::square(&image.path, options.image_size, options.decoding).map_err(|error| match error {
        Error::Image { message, .. } => message,
        Error::Io { source, .. } => format!("image file is unreadable: {}", source.kind()),
        other => other.to_string(),
    })
}

/// What a run must share with an interrupted one to continue it: the program, the settings, everything the sources say,
/// and every picture file's size and time of change.
fn identity(plan: &Plan, images: &[&ImageSource], options: &PrepareOptions) -> String {
    let mut hash = Sha256::new();
    let version = env!("CARGO_PKG_VERSION");
    hash.update(format!("{version}\0{}\0{:?}\0{:?}\n", options.image_size, options.decoding, options.chunks));
    for study in &plan.studies {
        let acquired = study.acquired.map(|day| day.0.to_bits());
        let (subject, id, split) = (&study.subject, &study.study, study.split);
        hash.update(format!("{subject}\0{id}\0{acquired:?}\0{split}\0{:?}\0{:?}\n", study.report, study.labels));
    }
    hash.update(format!("{:?}\0{:?}\n", plan.sequences, plan.tables));
    let states: Vec<String> = images
        .par_iter()
        .map(|image| {
            let state = fs::metadata(&image.path).map(|meta| (meta.len(), meta.modified().ok())).ok();
            format!("{}\0{state:?}\n", image.path.display())
        })
        .collect();
    states.iter().for_each(|state| hash.update(state));
    format!("{:x}", hash.finalize())
}

/// What a journal says.
enum Resumed {
    Nothing,
    /// The journal of a run with other sources or settings.
    Another,
    /// The outcomes that this run noted before it was interrupted.
    At(Vec<Option<String>>),
}

fn resume(journal: &Path, identity: &str) -> Result<Resumed> {
    let Ok(file) = File::open(journal) else { return Ok(Resumed::Nothing) };
    let mut lines = BufReader::new(file).lines();
    if lines.next().transpose().map_err(Error::io(journal))?.as_deref() != Some(identity) {
        return Ok(Resumed::Another);
    }
    let mut failures = Vec::new();
    for line in lines {
        // A last line that was cut off speaks of pictures that are decoded again.
        let Ok(block) = serde_json::from_str::<Block>(&line.map_err(Error::io(journal))?) else { break };
        failures.extend(block.failures);
    }
    rewrite(journal, identity, &failures)?;
    Ok(Resumed::At(failures))
}

/// Rewrites the journal without the line that was cut off.
fn rewrite(journal: &Path, identity: &str, failures: &[Option<String>]) -> Result<()> {
    let entry = serde_json::to_string(&Block { failures: failures.to_vec() }).unwrap_or_default();
    let text = if failures.is_empty() { format!("{identity}\n") } else { format!("{identity}\n{entry}\n") };
    write_whole(journal, text.as_bytes())
}
