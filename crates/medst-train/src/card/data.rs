//! The card of a corpus.

use std::path::Path;

use medst_data::corpus::Corpus;
use medst_data::sequence::SequenceUnit;

use super::{fill, name};

const TEMPLATE: &str = include_str!("../../assets/data-card.md");

pub fn card(corpus: &Corpus, path: &Path) -> String {
    let manifest = corpus.manifest();
    let counts = &manifest.counts;
    let splits: Vec<String> =
        counts.by_split.iter().map(|(split, studies)| format!("{studies} {}", split.name())).collect();
    let files: Vec<String> =
        manifest.source.files.iter().map(|file| format!("* `{}`, SHA-256 `{}`\n", file.name, file.sha256)).collect();
    let left_out: Vec<String> = manifest
        .skipped
        .iter()
        .chain(&manifest.warnings)
        .map(|(reason, count)| format!("* {count}: {reason}\n"))
        .collect();
    let or_nothing = |lines: Vec<String>| {
        if lines.is_empty() { "Nothing.".to_string() } else { lines.concat().trim_end().to_string() }
    };
    let unit = match manifest.sequence_unit {
        SequenceUnit::Study => "study",
        SequenceUnit::Image => "image",
    };
    fill(
        TEMPLATE,
        &[
            ("name", name(path)),
            ("format_version", manifest.version.to_string()),
            ("source", manifest.source.kind.clone()),
            ("fingerprint", corpus.fingerprint()),
            ("subjects", counts.subjects.to_string()),
            ("studies", counts.studies.to_string()),
            ("splits", splits.join(", ")),
            ("images", counts.images.to_string()),
            ("size", manifest.image_size.to_string()),
            ("with_report", counts.with_report.to_string()),
            ("with_lateral", counts.with_lateral.to_string()),
            ("sequences", counts.sequences.to_string()),
            ("full", counts.full_sequences.to_string()),
            ("length", manifest.sequence_length.to_string()),
            ("unit", unit.into()),
            ("stride", manifest.sequence_stride.to_string()),
            ("files", or_nothing(files)),
            ("skipped", or_nothing(left_out)),
            ("decoding", format!("{:?}", manifest.decoding).to_lowercase()),
        ],
    )
}
