//! Runs in the MLflow file store that `MLFLOW_TRACKING_URI` names, which MLflow's page and library
//! read.
//!
//! The layout is that of MLflow's `FileStore`: `<store>/<experiment>/<run>/` with `meta.yaml`, a
//! file for each parameter, and a file for each metric with a line `milliseconds value step` for
//! each time it was written. Plain files need no library; Weights & Biases' offline format is a
//! protobuf log with a special format.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use medst_data::files::whole;
use medst_data::input;

use crate::{Error, Result};

/// The name of the experiment that contains the runs.
const EXPERIMENT: &str = "medst";

/// The variable that MLflow's own library reads, too.
const VARIABLE: &str = "MLFLOW_TRACKING_URI";

/// The store that the environment names; `None` where it names none.
///
/// # Errors
/// One that is not a folder: a server or a database.
pub fn store() -> Result<Option<PathBuf>> {
    match std::env::var_os(VARIABLE).map(|uri| uri.into_string()) {
        None => Ok(None),
        Some(Ok(uri)) => store_of(&uri),
        Some(Err(_)) => Err(Error::Config(format!("{VARIABLE} is not UTF-8"))),
    }
}

fn store_of(uri: &str) -> Result<Option<PathBuf>> {
    let refused = || {
        Err(Error::Config(format!(
            "{VARIABLE} = {uri}: a run can be logged to a folder only; set it to a path or a file: URI, or unset it, and send the \
             folder to a server afterwards (mlflow migrate-filestore)"
        )))
    };
    if uri.is_empty() {
        return Ok(None);
    }
    let Some((scheme, rest)) = uri.split_once(':').filter(|(scheme, _)| !scheme.contains(['/', '.'])) else {
        return if uri.starts_with("databricks") { refused() } else { Ok(Some(uri.into())) };
    };
    // `file:path`, `file:/path` or `file://host/path`, of which only this computer's can be
    // written.
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    if scheme != "file" || path.is_empty() || (rest.starts_with("//") && !path.starts_with('/')) {
        return refused();
    }
    match unescaped(path) {
        Some(path) => Ok(Some(path.into())),
        None => refused(),
    }
}

/// With `%41` as `A`.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// How a run ended, in MLflow's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Running = 1,
    Finished = 3,
    /// Stopped on request, or by an error.
    Killed = 5,
}

/// A run of a store.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    id: String,
    experiment: String,
    name: String,
    started: u64,
    metrics: HashMap<String, File>,
}

impl Run {
    /// Begins a run, or continues it if `step` is above 0; values of later steps are then removed.
    ///
    /// * `store`: such as `mlruns`; made where it is absent.
    /// * `output`: the run's own folder, which names it.
    /// * `configuration`: TOML, whose keys become parameters.
    ///
    /// # Errors
    /// A file that cannot be written, with its name.
    pub fn open(store: &Path, output: &Path, configuration: &str, step: u64, now: u64) -> Result<Run> {
        let output = std::path::absolute(output).map_err(Error::io(output))?;
        let experiment = experiment(store, now)?;
        let id = identity(&output);
        let folder = store.join(&experiment).join(&id);
        if step == 0 && folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        for part in ["artifacts", "metrics", "params", "tags"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).map_err(Error::io(&part))?;
        }
        let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let started = started(&folder).unwrap_or(now);
        let run = Run { folder, id, experiment, name, started, metrics: HashMap::new() };
        run.describe(Status::Running, None)?;
        for (key, value) in parameters(configuration)? {
            write(&run.folder.join("params").join(key), &value)?;
        }
        write(&run.folder.join("tags/mlflow.runName"), &run.name)?;
        cut(&run.folder.join("metrics"), step)?;
        Ok(run)
    }

    /// Appends the values of a step.
    ///
    /// * `now`: milliseconds since 1970.
    ///
    /// # Errors
    /// A file that cannot be written, with its name.
    pub fn write(&mut self, step: u64, now: u64, values: &[(String, f64)]) -> Result<()> {
        for (name, value) in values {
            let name = allowed(name);
            let path = self.folder.join("metrics").join(&name);
            if !self.metrics.contains_key(&name) {
                let parent = path.parent().unwrap_or(&self.folder);
                fs::create_dir_all(parent).map_err(Error::io(parent))?;
                let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
                self.metrics.insert(name.clone(), file);
            }
            let file = self.metrics.get_mut(&name).expect("opened above");
            file.write_all(format!("{now} {value} {step}\n").as_bytes()).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// Notes how the run ended.
    ///
    /// # Errors
    /// A file that cannot be written, with its name.
    pub fn close(&self, status: Status, now: u64) -> Result<()> {
        self.describe(status, Some(now))
    }

    fn describe(&self, status: Status, ended: Option<u64>) -> Result<()> {
        let artifacts = std::path::absolute(self.folder.join("artifacts")).map_err(Error::io(&self.folder))?;
        let ended = ended.map_or("null".to_string(), |ended| ended.to_string());
        let Run { id, experiment, name, started, .. } = self;
        let text = format!(
            "artifact_uri: {}\nend_time: {ended}\nentry_point_name: ''\nexperiment_id: '{experiment}'\nlifecycle_stage: active\n\
             run_id: {id}\nrun_name: {}\nrun_uuid: {id}\nsource_name: ''\nsource_type: 4\nsource_version: ''\n\
             start_time: {started}\nstatus: {}\ntags: []\nuser_id: ''\n",
            quoted(&artifacts.to_string_lossy()),
            quoted(name),
            status as u8,
        );
        write(&self.folder.join("meta.yaml"), &text)
    }
}

/// The folder of the experiment, made where the store has none of that name.
fn experiment(store: &Path, now: u64) -> Result<String> {
    fs::create_dir_all(store).map_err(Error::io(store))?;
    let mut taken = Vec::new();
    for path in medst_data::files::entries(store)? {
        let Some(number) = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()) else { continue };
        let meta = input::read_to_string(&path.join("meta.yaml"), input::TEXT).unwrap_or_default();
        if meta.lines().any(|line| line.strip_prefix("name:").is_some_and(|name| name.trim() == EXPERIMENT)) {
            return Ok(number.to_string());
        }
        taken.push(number);
    }
    // 0 is MLflow's own "Default".
    let number = (1..).find(|number| !taken.contains(number)).unwrap_or(1);
    let folder = store.join(number.to_string());
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let place = std::path::absolute(&folder).map_err(Error::io(&folder))?;
    let place = quoted(&place.to_string_lossy());
    let text = format!(
        "artifact_location: {place}\ncreation_time: {now}\nexperiment_id: '{number}'\nlast_update_time: {now}\n\
         lifecycle_stage: active\nname: {EXPERIMENT}\n"
    );
    write(&folder.join("meta.yaml"), &text)?;
    Ok(number.to_string())
}

/// 32 hexadecimal digits, which are the same for a run's folder whenever it is continued.
fn identity(output: &Path) -> String {
    medst_data::files::sha256_of(output.as_os_str().as_encoded_bytes())[..32].to_string()
}

fn started(folder: &Path) -> Option<u64> {
    let meta = input::read_to_string(&folder.join("meta.yaml"), input::TEXT).ok()?;
    meta.lines().find_map(|line| line.strip_prefix("start_time:")?.trim().parse().ok())
}

/// The configuration by dotted keys.
fn parameters(configuration: &str) -> Result<Vec<(String, String)>> {
    fn walk(place: &str, value: &toml::Value, found: &mut Vec<(String, String)>) {
        match value {
            toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                walk(&place, value, found);
            }),
            toml::Value::String(text) => found.push((place.to_string(), text.clone())),
            other => found.push((place.to_string(), other.to_string())),
        }
    }
    let table: toml::Table = toml::from_str(configuration).map_err(|error| Error::Config(error.to_string()))?;
    let mut found = Vec::new();
    walk("", &toml::Value::Table(table), &mut found);
    Ok(found)
}

/// Takes the lines of steps after `step` out of every metric.
fn cut(folder: &Path, step: u64) -> Result<()> {
    for path in medst_data::files::entries(folder)? {
        if path.is_dir() {
            cut(&path, step)?;
            continue;
        }
        let text = input::read_to_string(&path, 1 << 40).map_err(Error::io(&path))?;
        let early =
            |line: &&str| line.rsplit(' ').next().and_then(|own| own.parse().ok()).is_some_and(|own: u64| own <= step);
        let kept: String = text.lines().filter(early).flat_map(|line| [line, "\n"]).collect();
        write(&path, &kept)?;
    }
    Ok(())
}

/// A metric's name as MLflow allows it; figures of evaluation have names such as "recall@5, image
/// to report".
fn allowed(name: &str) -> String {
    name.chars().map(|letter| if letter.is_alphanumeric() || "_-. /".contains(letter) { letter } else { '_' }).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(whole::write(path, text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, finetune};

    #[test]
    fn a_run_goes_on_where_its_checkpoint_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("mlruns");
        let open = |name: &str, step, now| {
            let configuration = config::Config::default().to_toml().unwrap();
            Run::open(&store, &folder.path().join(name), &configuration, step, now).unwrap()
        };
        let values = |value: f64| vec![("train/total".to_string(), value), ("c/recall@5, all".to_string(), value)];
        let mut run = open("it's a run", 0, 1000);
        for step in 1..=4 {
            run.write(step, 1000 + step, &values(step as f64)).unwrap();
        }
        run.close(Status::Killed, 2000).unwrap();
        let mut run = open("it's a run", 2, 3000);
        run.write(3, 3001, &values(9.0)).unwrap();
        run.close(Status::Finished, 4000).unwrap();
        let read = |name: &str| fs::read_to_string(run.folder.join(name)).unwrap();
        assert_eq!(read("metrics/train/total"), "1001 1 1\n1002 2 2\n3001 9 3\n");
        assert_eq!(read("metrics/c/recall_5_ all"), read("metrics/train/total"));
        assert_eq!(read("params/train.seed"), "42");
        let meta = read("meta.yaml");
        assert!(meta.contains("run_name: 'it''s a run'\n") && meta.contains("start_time: 1000\nstatus: 3\n"), "{meta}");
        assert!(meta.contains("end_time: 4000\n"), "{meta}");
        // Another run is stored next to it, in the same experiment.
        let other = open("other", 0, 5000);
        assert_eq!(other.folder.parent(), run.folder.parent());
        assert_ne!(other.folder, run.folder);
        // A run that begins again has only its new values.
        let again = open("it's a run", 0, 6000);
        assert_eq!(again.folder, run.folder);
        assert!(!again.folder.join("metrics/train").exists());
    }

    #[test]
    fn parameters_are_the_keys_of_any_configuration() {
        let of = |configuration: &str, key: &str| {
            let found = parameters(configuration).unwrap().into_iter().find(|own| own.0 == key);
            found.unwrap_or_else(|| panic!("no {key}")).1
        };
        let pretraining = config::Config::default().to_toml().unwrap();
        assert_eq!(of(&pretraining, "train.seed"), "42");
        let tuning = finetune::Config::default().to_toml().unwrap();
        assert_eq!((of(&tuning, "data.task"), of(&tuning, "data.labels")), ("findings".into(), "[]".into()));
    }

    #[test]
    fn the_environment_names_a_folder_as_for_mlflow() {
        let of = |uri: &str| store_of(uri).unwrap().map(|path| path.display().to_string());
        assert_eq!(of(""), None);
        for (uri, path) in [
            ("mlruns", "mlruns"),
            ("/data/ml:runs", "/data/ml:runs"),
            ("./a:b", "./a:b"),
            ("file:mlruns", "mlruns"),
            ("file:/data/runs", "/data/runs"),
            ("file:///data/my%20runs", "/data/my runs"),
            ("file://localhost/data/runs", "/data/runs"),
        ] {
            assert_eq!(of(uri).as_deref(), Some(path), "{uri}");
        }
        for uri in
            ["http://127.0.0.1:5000", "sqlite:///mlflow.db", "databricks", "file://server/runs", "file:", "file:///%zz"]
        {
            let error = store_of(uri).unwrap_err().to_string();
            assert!(
                error.contains(VARIABLE) && error.contains(uri) && error.contains("a path or a file: URI"),
                "{error}"
            );
        }
    }
}
