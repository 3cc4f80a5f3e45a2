//! From files to a model: every tensor of the model is taken, copied from the frontal expert, or
//! left at random; every tensor of a file is used, or dropped for a reason that is known. Anything
//! else is an error, and the model is unchanged then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use tch::Tensor;

use super::counterpart::stack;
use super::source::{Dropped, Source};
use super::{Misfit, positions};
use crate::model::MedSt;
use crate::model::config::ModelConfig;
use crate::model::group::Group;
use crate::model::weights::summary;
use crate::weights_input::EncoderPart;
use crate::{Error, Result};

/// Report on a conversion, for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filled {
    pub files: Vec<FromFile>,
    /// Lateral experts filled with a copy of the frontal ones, because no file has any.
    pub copied_from_frontal: Vec<String>,
    /// Tensors that no file has: they keep their values, which are random in a new model.
    pub initialised: Vec<String>,
}

/// Report on one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FromFile {
    pub path: PathBuf,
    /// The name of its format.
    pub format: String,
    /// How many of the model's tensors were filled from it.
    pub taken: usize,
    /// The changes that were made to its tensors.
    pub changed: Vec<String>,
    pub dropped: Vec<Dropped>,
}

/// Fills a model from files that hold different parts of it.
///
/// # Errors
/// Two files with the same part; every tensor that is missing, misshapen, not finite or
/// unexplained.
pub fn fill(model: &mut MedSt, mut sources: Vec<Source>) -> Result<Filled> {
    let config = model.config.clone();
    for source in &mut sources {
        let path = source.path.clone();
        source.settle(&config).map_err(|misfit| Error::Weights { path, message: misfit.to_string() })?;
    }
    let owners = owners(model, &sources)?;
    let mut filled = Filled::default();
    let mut problems: Vec<Vec<String>> = sources.iter().map(|_| Vec::new()).collect();
    let mut used: Vec<BTreeSet<String>> = sources.iter().map(|_| BTreeSet::new()).collect();
    let aside: Vec<BTreeSet<String>> = sources.iter().map(|source| aside(model, source)).collect();
    let mut taken = vec![0; sources.len()];
    let mut kinds: Vec<BTreeMap<String, usize>> = sources.iter().map(|_| BTreeMap::new()).collect();
    let mut copies = Vec::new();
    for entry in model.parameters().iter().chain(model.buffers()) {
        let group = Group::from_name(&entry.name).expect("every tensor of a model belongs to a part of it");
        let mut name = entry.name.clone();
        let owner = owners.get(&group).or_else(|| {
            let frontal = owners.get(&Group::ImageEncoder).filter(|_| group == Group::LateralExperts)?;
            name = name.replace("lateral_expert", "frontal_expert");
            filled.copied_from_frontal.push(entry.name.clone());
            Some(frontal)
        });
        let Some(&owner) = owner else {
            filled.initialised.push(entry.name.clone());
            continue;
        };
        let source = &mut sources[owner];
        match take(source, &name, &entry.tensor.size(), &config) {
            Ok(part) => {
                if part.tensor.kind() != entry.tensor.kind() {
                    *kinds[owner].entry(format!("{:?}", part.tensor.kind())).or_default() += 1;
                }
                taken[owner] += 1;
                used[owner].extend(part.names);
                source.changed.extend(part.changed);
                copies.push((entry.clone(), part.tensor));
            }
            Err(misfit) => {
                let problem = misfit.to_string();
                // One complaint is enough: the same tensor is not unexplained as well.
                let found = source.dialect.counterpart(&name, config.projection.embedding);
                used[owner].extend(found.into_iter().flat_map(|found| found.names));
                if !problems[owner].contains(&problem) {
                    problems[owner].push(problem);
                }
            }
        }
    }
    let kind = model.parameters()[0].tensor.kind();
    for (number, source) in sources.iter_mut().enumerate() {
        problems[number].extend(source.explain(&used[number], &aside[number], &config));
        if !problems[number].is_empty() {
            return Err(Error::Weights { path: source.path.clone(), message: summary(&problems[number]) });
        }
        source.changed.extend(
            kinds[number].iter().map(|(from, count)| format!("{count} tensors converted from {from} to {kind:?}")),
        );
    }
    copies.iter().for_each(|(ours, theirs)| ours.fill(theirs));
    filled.files = sources
        .into_iter()
        .zip(taken)
        .map(|(source, taken)| FromFile {
            path: source.path,
            format: source.dialect.label().into(),
            taken,
            changed: source.changed,
            dropped: source.dropped,
        })
        .collect();
    Ok(filled)
}

/// The names in a file of what the model has and was not requested of it.
fn aside(model: &MedSt, source: &Source) -> BTreeSet<String> {
    let embedding = model.config.projection.embedding;
    let entries = model.parameters().iter().chain(model.buffers());
    let others = entries.filter(|entry| Group::from_name(&entry.name).is_some_and(|group| !source.gives(group)));
    others
        .filter_map(|entry| source.dialect.counterpart(&entry.name, embedding))
        .flat_map(|found| found.names)
        .collect()
}

/// Which file has which part.
fn owners(model: &MedSt, sources: &[Source]) -> Result<BTreeMap<Group, usize>> {
    let embedding = model.config.projection.embedding;
    let mut owners = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        let (mut held, mut wanted) = (BTreeSet::new(), false);
        for entry in model.parameters().iter().chain(model.buffers()) {
            let Some(group) = Group::from_name(&entry.name) else { continue };
            let found = source.dialect.counterpart(&entry.name, embedding);
            if found.is_some_and(|found| found.names.iter().any(|name| source.tensors.contains_key(name))) {
                wanted |= source.gives(group);
                held.insert(group);
            }
        }
        if !wanted {
            let labels: Vec<&str> = held.into_iter().map(Group::label).collect();
            let part = match source.part {
                None => "model",
                Some(EncoderPart::Side(side)) => side.name(),
                Some(EncoderPart::Encoders) => "encoder",
            };
            let message = format!("it has no {part} weights that can be used; it contains: {}", labels.join(", "));
            return Err(Error::Weights { path: source.path.clone(), message });
        }
        for group in held.into_iter().filter(|&group| source.gives(group)) {
            if let Some(first) = owners.insert(group, number) {
                let (first, second): (&Source, &Source) = (&sources[first], source);
                let (first, second, side) = (first.path.display(), second.path.display(), group.side().name());
                return Err(Error::Input(format!(
                    "both {first} and {second} contain the {}; choose one with {side}={first} or {side}={second}",
                    group.label()
                )));
            }
        }
    }
    Ok(owners)
}

/// One of our tensors, as read from a file.
struct Taken {
    tensor: Tensor,
    names: Vec<String>,
    changed: Option<String>,
}

fn take(source: &Source, name: &str, shape: &[i64], config: &ModelConfig) -> Result<Taken, Misfit> {
    let found = source.dialect.counterpart(name, config.projection.embedding);
    let found = found.ok_or_else(|| Misfit::NoCounterpart(name.to_string()))?;
    let tensor = stack(&found, &source.tensors)?;
    let (tensor, changed) = fit(name, tensor, shape)?;
    let theirs = &found.names[0];
    if tensor.size() != shape {
        let (found, note) = (source.tensors[theirs].size(), remedy(name, config));
        return Err(Misfit::Shape(format!(
            "`{theirs}` has shape {found:?}, but the configuration requires {shape:?}{note}"
        )));
    }
    if !matches!(tensor.isfinite().all().int64_value(&[]), 1) {
        return Err(Misfit::Values(format!("`{theirs}` contains values that are not finite")));
    }
    Ok(Taken { tensor, names: found.names, changed })
}

/// Tables of positions of another length, made to fit.
fn fit(name: &str, tensor: Tensor, shape: &[i64]) -> Result<(Tensor, Option<String>), Misfit> {
    let size = tensor.size();
    let same_width = size.len() == shape.len() && size.last() == shape.last();
    if size == shape || !same_width {
        return Ok((tensor, None));
    }
    match name {
        "image_encoder.positions" => match positions::resample(&tensor, shape[1] - 1) {
            Some(resampled) => {
                let (from, to) = (size[1] - 1, shape[1] - 1);
                let change =
                    format!("positions of {from} patches resampled to {to} (bicubic with antialiasing, as timm does)");
                Ok((resampled, Some(change)))
            }
            None => Ok((tensor, None)),
        },
        "report_encoder.embeddings.positions" if size[0] > shape[0] => {
            let change = format!("the first {} of {} text positions", shape[0], size[0]);
            Ok((tensor.narrow(0, 0, shape[0]), Some(change)))
        }
        _ => Ok((tensor, None)),
    }
}

/// Which key of the configuration a shape hangs on, where the reader might not guess it.
fn remedy(name: &str, config: &ModelConfig) -> String {
    match name {
        "image_encoder.patch_embedding.weight" => {
            format!(": model.image.patch = {}; patches of another size cannot be resampled", config.image.patch)
        }
        "report_encoder.embeddings.words" => {
            format!(": the vocabulary has {} entries; it must be that of the weights", config.text.vocabulary)
        }
        "report_encoder.embeddings.positions" => {
            format!(": model.text.max_positions = {}; the weights do not have that many", config.text.max_positions)
        }
        _ => String::new(),
    }
}

impl Filled {
    /// The counts alone.
    pub fn brief(&self) -> String {
        let taken: usize = self.files.iter().map(|file| file.taken).sum();
        let dropped: usize = self.files.iter().map(|file| file.dropped.len()).sum();
        let mut text = format!("{taken} tensors loaded");
        if !self.copied_from_frontal.is_empty() {
            let copied = self.copied_from_frontal.len();
            text += &format!(" ({copied} of lateral experts copied from the frontal experts)");
        }
        if !self.initialised.is_empty() {
            text += &format!(", {} initialised ({})", self.initialised.len(), self.initialised_parts().join(", "));
        }
        text + &format!(", {dropped} unused ones ignored")
    }

    /// The parts that no file has.
    pub fn initialised_parts(&self) -> Vec<&'static str> {
        let groups: BTreeSet<Group> = self.initialised.iter().filter_map(|name| Group::from_name(name)).collect();
        groups.into_iter().map(Group::label).collect()
    }

    /// Whether a part of the model came from a file.
    pub fn has(&self, group: Group) -> bool {
        !self.initialised.iter().any(|name| Group::from_name(name) == Some(group))
    }
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "from {}, {}:", file.path.display(), file.format)?;
            writeln!(f, "  loaded   {:>5} tensors", file.taken)?;
            file.changed.iter().try_for_each(|change| writeln!(f, "  changed        {change}"))?;
            let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for dropped in &file.dropped {
                reasons.entry(&dropped.reason).or_default().push(&dropped.name);
            }
            for (reason, names) in reasons {
                writeln!(f, "  ignored  {:>5} {reason}: {}", names.len(), shortened(&names))?;
            }
        }
        if !self.copied_from_frontal.is_empty() {
            let count = self.copied_from_frontal.len();
            writeln!(f, "copied     {count:>5} tensors of lateral experts from the frontal experts")?;
        }
        if !self.initialised.is_empty() {
            let (count, parts) = (self.initialised.len(), self.initialised_parts().join(", "));
            writeln!(f, "random     {count:>5} tensors: {parts}")?;
        }
        Ok(())
    }
}

/// The first few of many names.
fn shortened(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(", … (--json lists all {})", names.len());
    }
    text
}
