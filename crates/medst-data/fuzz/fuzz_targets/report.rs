//! Sections and sentences of any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medst_data::report::{self, Rule, sections};
use medst_data::study::StudyId;

fuzz_target!(|text: &str| {
    let parts: usize = sections::sections(text).iter().map(|section| section.text.len()).sum();
    assert!(parts <= text.len(), "sections hold more than the report");
    for study in [None, Some(StudyId("50913680".into())), Some(StudyId("s59087630".into()))] {
        for rule in [Rule::Standard, Rule::Reference] {
            if let Ok(clean) = report::prepare(text, study.as_ref(), rule) {
                assert!(clean.is_ascii() && clean.split(' ').count() >= 3 && !clean.contains('\n'));
            }
        }
    }
});
