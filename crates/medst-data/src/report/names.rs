//! Names of people in reports. De-identified reports have none; others are counted, so that their
//! owner looks.

use std::sync::LazyLock;

use regex::Regex;

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    let form = r"\b(?:Drs?|Mr|Mrs|Ms|Prof|Miss)\b\.?\s+(\p{Lu}\p{Ll}+)|\b(?i:patient(?:'s)?\s+name|name|seen by|signed by)\s*:?\s+(\p{Lu}\p{Ll}+)";
    Regex::new(form).expect("a valid expression")
});

/// Whether a text has what looks like a person's name, and the name is in what was kept of it.
///
/// * `kept`: cleaned, in lower case.
pub fn holds_name<'a>(mut texts: impl Iterator<Item = &'a str>, kept: &str) -> bool {
    texts.any(|text| {
        NAME.captures_iter(text).any(|found| {
            let name = found.get(1).or(found.get(2)).map(|name| name.as_str().to_lowercase());
            name.is_some_and(|name| kept.split_whitespace().any(|word| word == name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_seen_where_they_are_kept() {
        let holds = |text: &str, kept: &str| holds_name([text].into_iter(), kept);
        assert!(holds("Discussed with Dr. Smith by phone.", "discussed with dr smith by phone"));
        assert!(holds("Name: Jane Roe. Clear lungs.", "name jane roe clear lungs"));
        assert!(!holds("Dr. Smith asks. FINDINGS: Clear.", "clear lungs"));
        assert!(!holds("Discussed with Dr. ___. MR Angiography, Ms in the past.", "discussed with dr ___"));
    }
}
