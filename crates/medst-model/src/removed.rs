//! Keys of the configuration that earlier versions had. A configuration that names one is refused with what replaces it. Files
//! that a run has saved list every key, so there a key at its former default, which is what every run computes now, is dropped.

use crate::{Error, Result};

/// A key that the configuration no longer has.
struct Removed {
    key: &'static str,
    /// Its former default, as TOML; nothing for a key that was absent by default.
    default: Option<&'static str>,
    /// What to do instead, or what is done always.
    instead: &'static str,
}

const fn removed(key: &'static str, default: Option<&'static str>, instead: &'static str) -> Removed {
    Removed { key, default, instead }
}

/// The key that listed each of the reference's behaviours in earlier versions.
const QUIRKS: &str = "model.quirks";

const OWN_REPORT: &str = "a study's only target is its own report";

const REMOVED: [Removed; 10] = [
    removed("data.subjects", None, "prepare a smaller corpus (medst prepare --exclude)"),
    removed("data.lateral_fraction", Some("1.0"), "model.lateral = \"ignored\" leaves all lateral views out"),
    removed(QUIRKS, Some("{}"), "model.semantics = \"reference\" has all of the reference's behaviours together"),
    removed("loss.global_parts", Some("1"), "every study is contrasted with the whole batch"),
    removed("loss.soft_targets", Some("0.0"), OWN_REPORT),
    removed("loss.soft_target_similarity", Some("\"text\""), OWN_REPORT),
    removed("loss.soft_target_temperature", Some("0.1"), OWN_REPORT),
    removed("loss.soft_target_momentum", Some("0.995"), OWN_REPORT),
    removed(
        "loss.temporal_mappings",
        Some("[\"image_to_report\", \"report_to_image\"]"),
        "the temporal losses map from images to reports and back",
    ),
    removed("loss.temporal_times", Some("\"steps\""), "times are the steps of a sequence"),
];

impl Removed {
    /// The section that may hold the key, and its name there. No key is nested deeper.
    fn place(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').expect("a key is in a section")
    }

    fn message(&self) -> String {
        format!("`{}` has been removed: {}", self.key, self.instead)
    }

    fn is_default(&self, value: &toml::Value) -> bool {
        let default = self.default.and_then(|text| toml::from_str::<toml::Table>(&format!("value = {text}")).ok());
        default.is_some_and(|table| table.get("value") == Some(value))
    }
}

/// Refuses a configuration that names a removed key.
pub(crate) fn refuse(table: &toml::Table) -> Result<()> {
    let named = |own: &&Removed| {
        let (section, name) = own.place();
        table.get(section).and_then(toml::Value::as_table).is_some_and(|section| section.contains_key(name))
    };
    REMOVED.iter().find(named).map_or(Ok(()), |own| Err(Error::Config(own.message())))
}

/// Takes removed keys out that have their former default.
pub(crate) fn drop_defaults(table: &mut toml::Table) {
    for own in &REMOVED {
        let (section, name) = own.place();
        let Some(section) = table.get_mut(section).and_then(toml::Value::as_table_mut) else { continue };
        if section.get(name).is_some_and(|value| own.is_default(value)) {
            section.remove(name);
        }
    }
}

/// What is said of a card that asks for single behaviours of the reference.
pub(crate) fn quirks_message() -> String {
    REMOVED.iter().find(|own| own.key == QUIRKS).map(Removed::message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_removed_key_is_refused_and_dropped_at_its_default_alone() {
        for own in &REMOVED {
            let (section, name) = own.place();
            let table =
                |value: &str| toml::from_str::<toml::Table>(&format!("[{section}]\n{name} = {value}\n")).unwrap();
            let left = |value: &str| {
                let mut table = table(value);
                drop_defaults(&mut table);
                table[section].as_table().unwrap().contains_key(name)
            };
            let error = refuse(&table("7")).unwrap_err().to_string();
            assert!(error.contains(own.key) && error.contains(own.instead), "{error}");
            assert!(left("7"), "{}", own.key);
            if let Some(default) = own.default {
                assert!(refuse(&table(default)).is_err() && !left(default), "{}", own.key);
            }
        }
        assert!(refuse(&toml::from_str("[loss]\nglobal_weight = 1.0\n").unwrap()).is_ok());
    }
}
