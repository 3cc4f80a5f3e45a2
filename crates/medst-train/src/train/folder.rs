//! The folder of a run, which only one process at a time may write.

use std::fs;
use std::path::{Path, PathBuf};

use medst_data::files::lock::Lock;
use medst_data::files::sums::Sums;
use medst_data::files::{sha256_of, whole};
use medst_data::input;

use super::CONFIG;
use super::checkpoint::Checkpoints;
use crate::config::Config;
use crate::{Error, Result};

/// The file of the configuration of a fine-tuning run.
pub const FINE_TUNING: &str = "finetune.toml";

/// A run's folder, locked until the value is dropped.
pub struct RunFolder {
    lock: Option<Lock>,
    /// Folders that were made for the lock, the inmost first: they go again if the run does not
    /// begin.
    made: Vec<PathBuf>,
    path: PathBuf,
    name: &'static str,
}

impl RunFolder {
    /// Takes the folder of a new run, or of the one to be resumed.
    ///
    /// * `name`: the file of its configuration.
    ///
    /// # Errors
    /// Another process that writes it; a run that already exists, or none to resume.
    pub fn take(folder: &Path, name: &'static str, resume: bool) -> Result<RunFolder> {
        // Checked before any folder is made, and again under the lock.
        check_there(folder, name, resume)?;
        let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let made = missing.map(PathBuf::from).collect();
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let taken = RunFolder { lock: Some(Lock::take(folder)?), made, path: folder.to_path_buf(), name };
        check_there(folder, name, resume)?;
        Ok(taken)
    }

    /// Writes the resolved configuration of a new run.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn begin(&mut self, text: &str) -> Result<()> {
        Sums([(self.name.to_string(), sha256_of(text.as_bytes()))].into()).write(&self.path)?;
        whole::write(&self.path.join(self.name), text.as_bytes())?;
        self.made.clear();
        Ok(())
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        self.lock.take().into_iter().for_each(Lock::remove);
        for folder in &self.made {
            // A folder that is not empty is kept.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn check_there(folder: &Path, name: &str, resume: bool) -> Result<()> {
    let path = folder.join(name);
    let there = folder.display();
    // Such a file would be read as the default configuration. Disks that fill up or lose power
    // leave it.
    if input::read(&path, input::TEXT).is_ok_and(|text| text.trim_ascii().is_empty()) {
        let remedy = match Checkpoints::new(folder).begun() {
            true => {
                "write the configuration of the run into it and pass --resume, or start another run with init.weights"
            }
            false => "the run has no checkpoint: remove the file, and start without --resume",
        };
        return Err(Error::Config(format!("{} is empty; {remedy}", path.display())));
    }
    let other = [CONFIG, FINE_TUNING].into_iter().find(|other| *other != name && folder.join(other).exists());
    if let Some(other) = other {
        return Err(Error::Config(format!(
            "train.output = {there}: it contains a run of another kind ({other}); choose another folder"
        )));
    }
    match (path.exists(), resume) {
        (true, false) => Err(Error::Config(format!(
            "train.output = {there}: it already contains a run; pass --resume to continue it, or choose another folder"
        ))),
        (false, true) => Err(Error::Io { path, source: std::io::ErrorKind::NotFound.into() }),
        _ => Ok(()),
    }
}

/// Checks that a resumed run has the configuration with which it started.
pub fn check_configuration(config: &Config) -> Result<()> {
    let path = config.train.output.join(CONFIG);
    // Parsed as a configuration, so that a run that was started before a key existed has the key at
    // its default.
    check_same(&path, &Config::saved(&path)?.to_toml()?, &config.to_toml()?)
}

/// Checks that two configurations are one, line by line.
pub fn check_same(path: &Path, begun: &str, text: &str) -> Result<()> {
    let (mut begun, mut now) = (begun.lines(), text.lines());
    loop {
        let (was, is) = (begun.next(), now.next());
        if was != is {
            let (was, is) = (was.unwrap_or("(nothing)"), is.unwrap_or("(nothing)"));
            return Err(Error::Config(format!(
                "{}: the run was started with `{was}`, not `{is}`; a resumed run must keep its configuration",
                path.display()
            )));
        }
        if was.is_none() {
            return Ok(());
        }
    }
}
