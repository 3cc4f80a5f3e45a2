//! The card of a model.

use std::path::Path;

use super::{evaluation, fill, name};
use crate::Result;
use crate::config::Config;
use crate::model::builtin;
use crate::model::card::{ModelCard, TrainingData};
use crate::model::weights::TensorFile;
use crate::open::read_card;
use crate::train::{CONFIG, Ending, RunSummary};

const TEMPLATE: &str = include_str!("../../assets/model-card.md");

/// Licences by the names that model hubs give them; all others are `other` there.
const HUB_LICENCES: [&str; 15] = [
    "agpl-3.0",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "gpl-3.0",
    "isc",
    "lgpl-3.0",
    "mit",
];

pub fn card(path: &Path, results: Option<&Path>) -> Result<String> {
    described(path, path, results)
}

/// * `run`: the folder that describes its training.
pub fn described(path: &Path, run: &Path, results: Option<&Path>) -> Result<String> {
    let (folder, card) = read_card(path)?;
    let weights = builtin::weights_of(&folder);
    let file = TensorFile::read(&weights)?;
    let parameters: usize = file.tensors.values().map(tch::Tensor::numel).sum();
    let checksum = builtin::checksum(&weights)?;
    let (image, text) = (&card.model.image, &card.model.text);
    let debug = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let not_stated = "Not stated. To be set by the publisher of the weights with `medst convert --licence`, \
                      within the terms of the training data and of the files above.";
    Ok(fill(
        TEMPLATE,
        &[
            ("licence_tag", licence_tag(card.licence.as_deref())),
            ("name", name(path)),
            ("embedding", card.model.projection.embedding.to_string()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("image_size", image.size.to_string()),
            ("patch", image.patch.to_string()),
            ("depth", image.num_layers.to_string()),
            ("image_width", image.hidden_size.to_string()),
            ("image_heads", image.num_heads.to_string()),
            ("layers", text.num_layers.to_string()),
            ("text_width", text.hidden_size.to_string()),
            ("text_heads", text.num_heads.to_string()),
            ("max_tokens", text.max_tokens.to_string()),
            ("positions", debug(&text.positions)),
            ("semantics", debug(&card.model.semantics)),
            ("parameters", format!("{:.1}", parameters as f64 / 1e6)),
            ("vocabulary", text.vocabulary.to_string()),
            ("vocabulary_sha256", card.vocabulary_sha256.clone()),
            ("step", card.step.to_string()),
            ("weights_sha256", checksum),
            ("origin", origin(&card)),
            ("training_data", training_data(&card)),
            ("training", training(run)?),
            ("evaluation", evaluation(run, results)?),
            ("licence", card.licence.clone().unwrap_or_else(|| not_stated.into())),
        ],
    ))
}

/// A licence in the header that model hubs read.
fn licence_tag(licence: Option<&str>) -> String {
    let Some(licence) = licence else { return "unknown".into() };
    let choices: Vec<String> = licence.split(" OR ").map(|name| name.trim().to_lowercase()).collect();
    match choices.iter().all(|name| HUB_LICENCES.contains(&name.as_str())) {
        true if choices.len() == 1 => choices[0].clone(),
        true => format!("[{}]", choices.join(", ")),
        false => "other".into(),
    }
}

fn origin(card: &ModelCard) -> String {
    if card.origin.is_empty() {
        return "Trained from random weights.".into();
    }
    let line =
        |file: &crate::model::card::Origin| format!("* `{}`, {}, SHA-256 `{}`\n", file.file, file.format, file.sha256);
    card.origin.iter().map(line).collect::<String>().trim_end().to_string()
}

fn training_data(card: &ModelCard) -> String {
    let Some(TrainingData { source, counts }) = &card.training else {
        return "Unknown: the weights were not trained with medst. To be filled in by the publisher of the weights."
            .into();
    };
    let splits: Vec<String> =
        counts.by_split.iter().map(|(split, studies)| format!("{studies} {}", split.name())).collect();
    format!(
        "{} studies of {} subjects ({}), {} radiographs, {} with a report, {} with a lateral view, {} sequences ({} full). Source: `{source}`. \
         Corpus fingerprint `{}`; `medst card CORPUS` writes its data card.",
        counts.studies,
        counts.subjects,
        splits.join(", "),
        counts.images,
        counts.with_report,
        counts.with_lateral,
        counts.sequences,
        counts.full_sequences,
        card.corpus
    )
}

/// Describes the training from the run's configuration.
fn training(path: &Path) -> Result<String> {
    let file = path.join(CONFIG);
    if !file.exists() {
        return Ok("Unknown: the folder of the weights has no configuration.".into());
    }
    let Config { optimizer, train, loss, .. } = Config::saved(&file)?;
    let average = match train.average {
        0.0 => String::new(),
        decay => format!(", moving average of the weights with decay {decay}"),
    };
    let steps = train.max_steps.map_or(String::new(), |steps| format!(", at most {steps} steps"));
    Ok(format!(
        "{} epochs{steps}, {} sequences per batch; AdamW, learning rate {:e} (warm-up over {:.0} % of the steps, then \
         cosine), weight decay {}{average}; weights of the losses: global {}, local {}, temporal {}; seed {}.",
        train.epochs,
        train.sequences_per_batch,
        optimizer.lr,
        100.0 * optimizer.warmup_fraction,
        optimizer.weight_decay,
        loss.global_weight,
        loss.local_weight,
        loss.temporal_weight,
        train.seed
    ))
}

fn evaluation(path: &Path, results: Option<&Path>) -> Result<String> {
    let mut parts = Vec::new();
    if path.join(CONFIG).exists()
        && let Some(best) = RunSummary::read(path, Ending::Finished, 0)?.best
    {
        parts.push(format!(
            "Best validation, at step {}: loss {:.3}; recall@1 {:.1} %, recall@5 {:.1} % among {} studies (chance {:.1} % and {:.1} %).",
            best.step,
            best.losses.total,
            100.0 * best.retrieval.recall_at_1,
            100.0 * best.retrieval.recall_at_5,
            best.retrieval.studies,
            100.0 * best.retrieval.chance(1),
            100.0 * best.retrieval.chance(5)
        ));
    }
    parts.extend(results.map(evaluation::tables).transpose()?);
    if parts.is_empty() {
        parts.push(
            "None. Run `medst eval all`, then `medst card MODEL --evaluation results.json`, to include one here."
                .into(),
        );
    }
    Ok(parts.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::licence_tag;

    #[test]
    fn hubs_read_licences_by_their_own_names() {
        for (licence, tag) in [
            (None, "unknown"),
            (Some("CC-BY-4.0"), "cc-by-4.0"),
            (Some("MIT OR Apache-2.0"), "[mit, apache-2.0]"),
            (Some("MIT OR mine"), "other"),
            (Some("PhysioNet: ask\nus"), "other"),
        ] {
            assert_eq!(licence_tag(licence), tag);
        }
    }
}
