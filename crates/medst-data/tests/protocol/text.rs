//! Sectioning, cleaning and word pieces.

use medst_data::report::{WordPiece, clean, sections};
use serde_json::Value;

fn read(name: &str) -> Vec<Value> {
    let folder = crate::folder();
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!rows.is_empty(), "{name} has no rows");
    rows
}

#[test]
fn sections_and_content_agree() {
    for (number, row) in read("text.json").iter().enumerate() {
        let report = row["report"].as_str().unwrap();
        let found: Vec<Value> =
            sections::sections(report).into_iter().map(|s| serde_json::json!([s.name, s.text])).collect();
        assert_eq!(Value::from(found), row["sections"], "sections of report {number}");
        let chosen = sections::choose(report);
        for (name, found) in [
            ("impression", chosen.impression),
            ("findings", chosen.findings),
            ("last_paragraph", chosen.last_paragraph),
            ("comparison", chosen.comparison),
        ] {
            assert_eq!(found.as_deref(), row["chosen"][name].as_str(), "{name} of report {number}");
        }
        assert_eq!(clean::reference_content(report).as_deref(), row["content"].as_str(), "content of report {number}");
    }
}

#[test]
fn word_pieces_agree() {
    let pieces = WordPiece::bert_cased();
    for (number, row) in read("wordpiece.json").iter().enumerate() {
        let expected: Vec<u32> =
            row["input_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let mask: Vec<u32> =
            row["attention_mask"].as_array().unwrap().iter().map(|m| m.as_u64().unwrap() as u32).collect();
        let mut ids = pieces.encode(row["text"].as_str().unwrap(), expected.len());
        assert_eq!(ids.len() as u32, mask.iter().sum::<u32>(), "tokens of text {number}");
        ids.resize(expected.len(), 0);
        assert_eq!(ids, expected, "ids of text {number}");
    }
}
