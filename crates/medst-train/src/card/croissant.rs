//! The card of a corpus as Croissant 1.0 metadata (JSON-LD) with the vocabulary for responsible AI,
//! for programs that search for or load data sets.
//!
//! Source: the specifications at docs.mlcommons.org/croissant (1.0, and RAI 1.0).

use std::path::Path;

use medst_data::corpus::{Corpus, Manifest};
use medst_data::sequence::SequenceUnit;
use serde_json::{Value, json};

use super::name;
use crate::Result;

/// Placeholder for information that only the publisher has.
const ASK: &str = "To be stated by the publisher of the corpus";

/// The metadata of a corpus, for a file in its folder: file names are relative to it.
///
/// # Errors
/// A table that cannot be read.
pub fn card(corpus: &Corpus, path: &Path) -> Result<String> {
    let manifest = corpus.manifest();
    let counts = &manifest.counts;
    let sources: Vec<String> =
        manifest.source.files.iter().map(|file| format!("{} (SHA-256 {})", file.name, file.sha256)).collect();
    let left_out = |counted: &std::collections::BTreeMap<String, u64>| -> Vec<String> {
        counted.iter().map(|(reason, count)| format!("{count}: {reason}")).collect()
    };
    let (size, unit) = (
        manifest.image_size,
        match manifest.sequence_unit {
            SequenceUnit::Study => "study",
            SequenceUnit::Image => "frontal image",
        },
    );
    let kind = &manifest.source.kind;
    let dataset = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": name(path),
        "description": format!(
            "{} chest radiographs of {} studies of {} subjects, {} studies with a report; made by `medst prepare {kind}`. \
             Corpus fingerprint {}.",
            counts.images, counts.studies, counts.subjects, counts.with_report, corpus.fingerprint()
        ),
        "version": "1.0.0",
        "license": format!("{ASK}, within the terms of the source"),
        "url": format!("{ASK}"),
        "distribution": file_objects(manifest),
        "recordSet": record_sets(corpus)?,
        "rai:dataCollection": format!("Taken from {kind}: {}.", sources.join(", ")),
        "rai:dataCollectionType": "Secondary data analysis",
        "rai:dataCollectionMissingData": left_out(&manifest.skipped),
        "rai:dataCollectionRawData": format!("Radiographs and reports of {kind}, in their original files."),
        "rai:dataCollectionTimeframe": ASK,
        "rai:dataPreprocessingProtocol": [
            format!("Pictures: grey, longest side {size} pixels by exact area averaging, the short side padded with zeros; decoding {:?}.", manifest.decoding),
            format!("Reports: impression and findings by the rule {:?}, lower case, words of letters and digits.", manifest.report_rule),
            format!("Sequences: {} steps, {} apart; a step is one {unit}.", manifest.sequence_length, manifest.sequence_stride),
        ],
        "rai:dataManipulationProtocol": left_out(&manifest.warnings),
        "rai:dataAnnotationProtocol": format!("{ASK}: who labelled, from what, and how often two of them agree."),
        "rai:dataUseCases": ["Pre-training and evaluation of models of chest radiographs and their reports over time. No clinical use."],
        "rai:dataLimitations": [format!("{ASK}: countries, hospitals, years, devices.")],
        "rai:dataBiases": [format!("{ASK}: ages, sexes, groups that are missing or few.")],
        "rai:personalSensitiveInformation": [format!(
            "Health data. medst removes nothing that identifies people from pictures and reports. {ASK}: who removed it, and how that was checked."
        )],
        "rai:dataSocialImpact": ASK,
        "rai:dataReleaseMaintenancePlan": ASK,
    });
    Ok(format!("{dataset:#}\n"))
}

/// The tables of a corpus: studies, sequences, and those of its source.
fn record_sets(corpus: &Corpus) -> Result<Vec<Value>> {
    let mut records = vec![
        record_set(
            "studies",
            "A row per study (visit); a subject is in one split only.",
            "studies.parquet",
            Some("study_id"),
            &[
                ("subject_id", "sc:Text", false, "The patient."),
                ("study_id", "sc:Text", false, "The visit."),
                ("acquired", "sc:Float", false, "When, in days; only differences mean something. Empty where unknown."),
                ("split", "sc:Text", false, "train, validate or test."),
                ("frontal", "sc:Integer", false, "Number of the frontal picture."),
                ("alternative_frontals", "sc:Integer", true, "Numbers of further frontal pictures."),
                ("lateral", "sc:Integer", false, "Number of the lateral picture. Empty where there is none."),
                ("report", "sc:Text", false, "Impression and findings, cleaned. Empty where there is none."),
                ("labels", "sc:Text", false, "A JSON object of label names and values."),
            ],
        ),
        record_set(
            "sequences",
            "A row per sequence of studies of one subject, in time order.",
            "sequences.parquet",
            Some("sequence_id"),
            &[
                ("sequence_id", "sc:Integer", false, "Its number."),
                ("subject_id", "sc:Text", false, "The patient."),
                ("split", "sc:Text", false, "train, validate or test."),
                ("studies", "sc:Integer", true, "Row numbers of the studies, from 0."),
            ],
        ),
    ];
    let is_table = |file: &str| file.strip_suffix(".csv").map(str::to_string);
    for table in corpus.manifest().files.keys().filter_map(|file| is_table(file)) {
        let columns = corpus.table(&table)?.map(|table| table.columns).unwrap_or_default();
        let fields: Vec<Field> = columns.iter().map(|column| (column.as_str(), "sc:Text", false, "")).collect();
        records.push(record_set(&table, "", &format!("{table}.csv"), None, &fields));
    }
    Ok(records)
}

fn file_objects(manifest: &Manifest) -> Vec<Value> {
    let files = manifest.files.iter().map(|(file, record)| {
        let format = match Path::new(file).extension().and_then(|end| end.to_str()) {
            // The name that mlcroissant reads; the registered one, application/vnd.apache.parquet,
            // it refuses.
            Some("parquet") => "application/x-parquet",
            Some("csv") => "text/csv",
            _ => "application/octet-stream",
        };
        let description = match format {
            "application/octet-stream" => {
                "NumPy array [pictures, height, width] of 8-bit grey; picture i is in file i / 4096."
            }
            _ => "",
        };
        with_description(
            json!({
                "@type": "cr:FileObject", "@id": file, "name": file, "contentUrl": file,
                "contentSize": format!("{} B", record.bytes), "encodingFormat": format, "sha256": record.sha256,
            }),
            description,
        )
    });
    files.collect()
}

/// Column, type, whether it is a list, description.
type Field<'a> = (&'a str, &'a str, bool, &'a str);

fn record_set(id: &str, description: &str, file: &str, key: Option<&str>, fields: &[Field]) -> Value {
    let field = |&(column, kind, is_list, description): &Field| {
        let mut field = json!({
            "@type": "cr:Field", "@id": format!("{id}/{column}"), "name": format!("{id}/{column}"), "dataType": kind,
            "source": { "fileObject": { "@id": file }, "extract": { "column": column } },
        });
        if is_list {
            field["repeated"] = true.into();
        }
        with_description(field, description)
    };
    let mut set = json!({
        "@type": "cr:RecordSet", "@id": id, "name": id, "field": fields.iter().map(field).collect::<Vec<Value>>(),
    });
    if let Some(key) = key {
        set["key"] = json!({ "@id": format!("{id}/{key}") });
    }
    with_description(set, description)
}

fn with_description(mut value: Value, description: &str) -> Value {
    if !description.is_empty() {
        value["description"] = description.into();
    }
    value
}

/// The context that the specification prescribes, to the letter.
fn context() -> Value {
    json!({
        "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
        "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
        "data": { "@id": "cr:data", "@type": "@json" }, "dataType": { "@id": "cr:dataType", "@type": "@vocab" },
        "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
        "examples": { "@id": "cr:examples", "@type": "@json" }, "extract": "cr:extract", "field": "cr:field",
        "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
        "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
        "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
        "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
        "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
        "subField": "cr:subField", "transform": "cr:transform"
    })
}
