//! Keys that earlier versions of the configuration had. A configuration that names one is refused
//! with what replaces it. Files that a run or a model has saved list every key, so there they are
//! translated, or passed over where they asked for what is computed now.

use toml::{Table, Value};

use crate::{Error, Result};

/// A key that was given another name.
struct Renamed {
    section: &'static str,
    before: &'static str,
    now: &'static str,
}

const fn renamed(section: &'static str, before: &'static str, now: &'static str) -> Renamed {
    Renamed { section, before, now }
}

/// Sizes have the names that the model library of Hugging Face gives them.
const RENAMED: [Renamed; 8] = [
    renamed("model.image", "width", "hidden_size"),
    renamed("model.image", "depth", "num_layers"),
    renamed("model.image", "heads", "num_heads"),
    renamed("model.image", "mlp", "intermediate_size"),
    renamed("model.text", "width", "hidden_size"),
    renamed("model.text", "layers", "num_layers"),
    renamed("model.text", "heads", "num_heads"),
    renamed("model.text", "intermediate", "intermediate_size"),
];

/// Fields of the model's configuration that its card states and that no configuration of a run
/// does.
const DERIVED: [(&str, &str); 6] = [
    ("model.temperature", "loss.global_temperature = \"learned\" trains the temperature"),
    ("model.head", "medst finetune makes heads"),
    ("model.image.epsilon", "it is that of the weights in init.weights, and 1e-6 without any"),
    ("model.text.vocabulary", "it is the number of entries of data.vocabulary"),
    ("model.text.max_positions", "it is that of the weights in init.weights, and model.text.max_tokens without any"),
    ("model.text.positions", "it is that of the weights in init.weights, and sequential without any"),
];

/// The only one of these that a saved configuration decides and weights do not.
const TEMPERATURE: (&str, &str) = ("model", "temperature");

/// Which values of a removed key are passed over in a saved file.
#[derive(Clone, Copy)]
enum Passed {
    /// This value, as TOML: what every run computes now.
    Default(&'static str),
    /// All: no number of a run depends on them.
    All,
    /// None: the key was absent by default.
    None,
}

/// A key that the configuration no longer has.
struct Removed {
    key: &'static str,
    passed: Passed,
    /// What to do instead, or what is done always.
    instead: &'static str,
}

const fn removed(key: &'static str, passed: Passed, instead: &'static str) -> Removed {
    Removed { key, passed, instead }
}

/// Why a file is refused that names a removed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` has been removed: {instead}")]
pub(crate) struct RemovedKey {
    key: &'static str,
    instead: &'static str,
}

/// The key that listed each of the reference's behaviours in earlier versions.
const QUIRKS: &str = "model.quirks";

const OWN_REPORT: &str = "a study's only target is its own report";
const OF_THE_PAPER: &str = "it is a constant of the method";
const OF_ADAMW: &str = "it is a constant, as in the paper";
const WITH_VALIDATION: &str = "tasks of evaluate.tasks run with each validation (train.validate_every), on the validation split; \
                               medst eval has intervals and the other splits";

const REMOVED: [Removed; 32] = [
    removed("data.subjects", Passed::None, "prepare a smaller corpus (medst prepare --exclude)"),
    removed(
        "data.lateral_fraction",
        Passed::Default("1.0"),
        "model.lateral = \"ignored\" leaves all lateral views out",
    ),
    removed("data.loader_threads", Passed::All, "two threads prepare batches"),
    removed(
        "data.alternative_frontals",
        Passed::Default("true"),
        "a visit's other frontal images are always drawn as often as its first",
    ),
    removed("data.sequence_length", Passed::None, "it is the corpus' (medst prepare --sequence-length)"),
    removed(
        QUIRKS,
        Passed::Default("{}"),
        "model.semantics = \"reference\" has all of the reference's behaviours together",
    ),
    removed("loss.global_parts", Passed::Default("1"), "every study is contrasted with the whole batch"),
    removed("loss.soft_targets", Passed::Default("0.0"), OWN_REPORT),
    removed("loss.soft_target_similarity", Passed::Default("\"text\""), OWN_REPORT),
    removed("loss.soft_target_temperature", Passed::Default("0.1"), OWN_REPORT),
    removed("loss.soft_target_momentum", Passed::Default("0.995"), OWN_REPORT),
    removed(
        "loss.temporal_mappings",
        Passed::Default("[\"image_to_report\", \"report_to_image\"]"),
        "the temporal losses map from images to reports and back",
    ),
    removed("loss.temporal_times", Passed::Default("\"steps\""), "times are the steps of a sequence"),
    removed(
        "loss.forward_mapping_weight",
        Passed::Default("1.0"),
        "loss.temporal = \"reverse\" leaves forward mapping out, loss.temporal_weight weighs both",
    ),
    removed(
        "loss.reverse_mapping_weight",
        Passed::Default("1.0"),
        "loss.temporal = \"forward\" leaves reverse mapping out, loss.temporal_weight weighs both",
    ),
    removed("loss.local_temperature", Passed::Default("0.1"), OF_THE_PAPER),
    removed("loss.temporal_temperature", Passed::Default("0.1"), OF_THE_PAPER),
    removed("loss.variance_weight", Passed::Default("0.001"), OF_THE_PAPER),
    removed("loss.negatives", Passed::Default("\"all\""), "every other study of the batch is a negative"),
    removed("loss.importance", Passed::Default("\"learned\""), "words and patches count by their learned importance"),
    removed("optimizer.min_lr", Passed::Default("1e-8"), OF_ADAMW),
    removed("optimizer.betas", Passed::Default("[0.9, 0.999]"), OF_ADAMW),
    removed("optimizer.eps", Passed::Default("1e-8"), OF_ADAMW),
    removed(
        "train.accumulate",
        Passed::Default("1"),
        "train.encode_studies has the gradient of a large train.sequences_per_batch in the memory of a few studies",
    ),
    removed("train.keep_best", Passed::All, "the best checkpoint and the last one are kept"),
    removed("train.log_every", Passed::All, "metrics.jsonl has every step"),
    removed("train.mlflow", Passed::All, "set the environment variable MLFLOW_TRACKING_URI to the folder"),
    removed("train.licence", Passed::All, "state it when the weights are published: medst convert --licence"),
    removed(
        "init.take",
        Passed::Default("\"all\""),
        "init.weights = \"encoders=FILE\" takes the encoders alone, with the lateral experts as copies of the frontal ones",
    ),
    removed("evaluate.every", Passed::All, WITH_VALIDATION),
    removed("evaluate.split", Passed::All, WITH_VALIDATION),
    removed("evaluate.replicates", Passed::All, WITH_VALIDATION),
];

/// The section of a dotted key, and its name there.
fn place(key: &'static str) -> (&'static str, &'static str) {
    key.rsplit_once('.').expect("a key is in a section")
}

fn section<'a>(table: &'a Table, path: &str) -> Option<&'a Table> {
    path.split('.').try_fold(table, |table, name| table.get(name)?.as_table())
}

fn section_mut<'a>(table: &'a mut Table, path: &str) -> Option<&'a mut Table> {
    path.split('.').try_fold(table, |table, name| table.get_mut(name)?.as_table_mut())
}

fn has(table: &Table, (path, name): (&str, &str)) -> bool {
    section(table, path).is_some_and(|section| section.contains_key(name))
}

impl Removed {
    fn error(&self) -> RemovedKey {
        RemovedKey { key: self.key, instead: self.instead }
    }

    fn passes(&self, value: &Value) -> bool {
        match self.passed {
            Passed::All => true,
            Passed::None => false,
            Passed::Default(text) => {
                let table = toml::from_str::<Table>(&format!("value = {text}")).ok();
                table.is_some_and(|table| table.get("value") == Some(value))
            }
        }
    }
}

/// Refuses a configuration of a run that names a key which it no longer has.
pub(crate) fn refuse(table: &Table) -> Result<()> {
    refuse_in_model(table)?;
    if let Some((key, instead)) = DERIVED.iter().find(|(key, _)| has(table, place(key))) {
        return Err(Error::Config(format!("`{key}` is not a key of a run: {instead}")));
    }
    REMOVED
        .iter()
        .find(|removed| has(table, place(removed.key)))
        .map_or(Ok(()), |removed| Err(Error::Config(removed.error().to_string())))
}

/// Refuses former names of what a model's card states.
pub(crate) fn refuse_in_model(table: &Table) -> Result<()> {
    RENAMED.iter().find(|renamed| has(table, (renamed.section, renamed.before))).map_or(Ok(()), |renamed| {
        let Renamed { section, before, now } = renamed;
        Err(Error::Config(format!("`{section}.{before}` is now `{section}.{now}`")))
    })
}

/// Removes everything that is not a key of a run's configuration.
pub(crate) fn drop_derived(table: &mut Table) {
    for (key, _) in DERIVED {
        let (path, name) = place(key);
        section_mut(table, path).and_then(|section| section.remove(name));
    }
}

/// Translates the configuration that a run saved. What asks for something else than any key of
/// today does stays in it, and is refused when it is read.
pub(crate) fn upgrade(table: &mut Table) {
    for Renamed { section, before, now } in RENAMED {
        if let Some(section) = section_mut(table, section)
            && let Some(value) = section.remove(before)
        {
            section.entry(now).or_insert(value);
        }
    }
    combine(table);
    // Those of a model that has begun to train are in its card.
    for (path, name) in DERIVED.map(|(key, _)| place(key)).into_iter().filter(|key| *key != TEMPERATURE) {
        section_mut(table, path).and_then(|section| section.remove(name));
    }
    for removed in &REMOVED {
        let (path, name) = place(removed.key);
        let Some(section) = section_mut(table, path) else { continue };
        if section.get(name).is_some_and(|value| removed.passes(value)) {
            section.remove(name);
        }
    }
}

/// Pairs of former keys that are one key now.
fn combine(table: &mut Table) {
    let text = |value: &str| Value::String(value.into());
    let is = |table: &Table, key: &'static str, wanted: &Value| {
        let (path, name) = place(key);
        section(table, path).and_then(|section| section.get(name)) == Some(wanted)
    };
    let put = |table: &mut Table, path: &str, name: &str, value: Value| {
        section_mut(table, path).and_then(|section| section.insert(name.to_string(), value))
    };
    // A temperature that was learned from another start than 0.07 stays, and is refused with
    // `model.temperature`.
    let learned = is(table, "model.temperature", &text("learned"));
    let from_the_start = learned && is(table, "loss.global_temperature", &Value::Float(0.07));
    if from_the_start {
        put(table, "loss", "global_temperature", text("learned"));
    }
    if (from_the_start || !learned)
        && let Some(model) = section_mut(table, "model")
    {
        model.remove("temperature");
    }
    let weights = ["loss.forward_mapping_weight", "loss.reverse_mapping_weight"];
    let gone: Vec<&'static str> = weights.into_iter().filter(|key| is(table, key, &Value::Float(0.0))).collect();
    if let [key] = gone[..] {
        let other = if key == weights[0] { "reverse" } else { "forward" };
        put(table, "loss", "temporal", text(other));
        put(table, "loss", place(key).1, Value::Float(1.0));
    }
    if is(table, "init.take", &text("encoders"))
        && let Some(Value::Array(weights)) = section(table, "init").and_then(|init| init.get("weights")).cloned()
    {
        let prefixed = weights.iter().filter_map(Value::as_str).map(|weight| text(&format!("encoders={weight}")));
        put(table, "init", "weights", Value::Array(prefixed.collect()));
        put(table, "init", "take", text("all"));
    }
    if is(table, "evaluate.every", &Value::Integer(0)) {
        put(table, "evaluate", "tasks", Value::Array(Vec::new()));
    }
}

/// Translates the configuration of a model, as its card states it.
///
/// # Errors
/// A card that asks for single behaviours of the reference.
pub(crate) fn upgrade_model(model: &mut serde_json::Map<String, serde_json::Value>) -> Result<(), RemovedKey> {
    // Earlier versions listed each of the reference's behaviours, as null where the model follows
    // its semantics.
    let quirks = model.remove("quirks");
    if quirks.and_then(|quirks| quirks.as_object().map(|quirks| quirks.values().any(|value| !value.is_null())))
        == Some(true)
    {
        let removed = REMOVED.iter().find(|removed| removed.key == QUIRKS).map(Removed::error);
        return Err(removed.expect("the table of removed keys has it"));
    }
    for Renamed { section, before, now } in RENAMED {
        let name = section.strip_prefix("model.").unwrap_or(section);
        if let Some(section) = model.get_mut(name).and_then(serde_json::Value::as_object_mut)
            && let Some(value) = section.remove(before)
        {
            section.entry(now).or_insert(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(key: &'static str, value: &str) -> Table {
        let (section, name) = place(key);
        toml::from_str(&format!("[{section}]\n{name} = {value}\n")).unwrap()
    }

    fn upgraded(text: &str) -> Table {
        let mut table = toml::from_str(text).unwrap();
        upgrade(&mut table);
        table
    }

    #[test]
    fn every_removed_key_is_refused_and_passed_over_where_it_asks_for_what_is_computed() {
        for removed in &REMOVED {
            let left = |value: &str| {
                let mut table = table(removed.key, value);
                upgrade(&mut table);
                has(&table, place(removed.key))
            };
            let error = refuse(&table(removed.key, "7")).unwrap_err().to_string();
            assert!(error.contains(removed.key) && error.contains(removed.instead), "{error}");
            assert_eq!(left("7"), !matches!(removed.passed, Passed::All), "{}", removed.key);
            if let Passed::Default(default) = removed.passed {
                assert!(refuse(&table(removed.key, default)).is_err() && !left(default), "{}", removed.key);
            }
        }
        assert!(refuse(&toml::from_str("[loss]\nglobal_weight = 1.0\n").unwrap()).is_ok());
    }

    #[test]
    fn every_key_of_another_name_is_refused_with_it_and_translated_in_what_a_run_saved() {
        for Renamed { section, before, now } in RENAMED {
            let text = format!("[{section}]\n{before} = 7\n");
            let error = refuse(&toml::from_str(&text).unwrap()).unwrap_err().to_string();
            assert_eq!(error, format!("configuration: `{section}.{before}` is now `{section}.{now}`"));
            assert_eq!(upgraded(&text), toml::from_str(&format!("[{section}]\n{now} = 7\n")).unwrap());
        }
    }

    #[test]
    fn what_follows_from_other_keys_is_refused_and_left_out_of_what_a_run_saved() {
        for (key, instead) in DERIVED {
            let error = refuse(&table(key, "7")).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(instead), "{error}");
            let mut table = table(key, "7");
            drop_derived(&mut table);
            assert!(!has(&table, place(key)), "{key}");
        }
    }

    #[test]
    fn two_former_keys_become_one() {
        for (before, now) in [
            (
                "[model]\ntemperature = 'learned'\n[loss]\nglobal_temperature = 0.07\n",
                "[model]\n[loss]\nglobal_temperature = 'learned'\n",
            ),
            (
                "[model]\ntemperature = 'fixed'\n[loss]\nglobal_temperature = 0.1\n",
                "[model]\n[loss]\nglobal_temperature = 0.1\n",
            ),
            ("[loss]\nforward_mapping_weight = 0.0\nreverse_mapping_weight = 1.0\n", "[loss]\ntemporal = 'reverse'\n"),
            ("[loss]\nforward_mapping_weight = 1.0\nreverse_mapping_weight = 0.0\n", "[loss]\ntemporal = 'forward'\n"),
            ("[init]\nweights = ['a.ckpt']\ntake = 'encoders'\n", "[init]\nweights = ['encoders=a.ckpt']\n"),
            ("[evaluate]\nevery = 0\ntasks = ['retrieval']\n", "[evaluate]\ntasks = []\n"),
            ("[evaluate]\nevery = 5\ntasks = ['retrieval']\n", "[evaluate]\ntasks = ['retrieval']\n"),
        ] {
            let table = upgraded(before);
            assert_eq!(table, toml::from_str(now).unwrap(), "{before}");
            assert!(refuse(&table).is_ok(), "{before}");
        }
        // What no key of today asks for.
        for other in [
            "[model]\ntemperature = 'learned'\n[loss]\nglobal_temperature = 0.1\n",
            "[loss]\nforward_mapping_weight = 0.0\nreverse_mapping_weight = 0.0\n",
            "[loss]\nforward_mapping_weight = 0.5\n",
        ] {
            assert!(refuse(&upgraded(other)).is_err(), "{other}");
        }
    }
}
