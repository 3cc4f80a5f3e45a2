//! Counts of archives as their publishers and papers state them, for comparison with the counts
//! found. They are for whole archives; where a source rounds a number, so does this table.

use super::check::{
    BOXES, COURSES, IMAGES, PAIRS, PHRASES, QUESTIONS, REPORTS, SENTENCES, STUDIES, SUBJECTS, of_group,
};

/// Whether a count is published as a round number.
pub fn is_about(kind: &str, what: &str) -> bool {
    matches!((kind, what), ("padchest", _) | ("siim" | "covid-chestxray", IMAGES))
}

/// The published counts of a source by what is counted, in the words of [`super::check`].
pub fn counts(kind: &str) -> Vec<(String, u64)> {
    let plain = |all: &[(&str, u64)]| all.iter().map(|(what, count)| (what.to_string(), *count)).collect::<Vec<_>>();
    match kind {
        "mimic-cxr" => plain(&[(IMAGES, 377_110), (STUDIES, 227_827), (SUBJECTS, 65_379), (REPORTS, 227_835)]),
        "ms-cxr-t" => plain(&[(PAIRS, 1_326), (SENTENCES, 361)]),
        "rsna" => plain(&[(IMAGES, 26_684)]),
        "chexpert" => plain(&[(IMAGES, 224_316), (SUBJECTS, 65_240)]),
        "chexpert-plus" => plain(&[(IMAGES, 223_462), (STUDIES, 187_711), (SUBJECTS, 64_725)]),
        "rexgradient" => plain(&[(IMAGES, 273_004), (STUDIES, 160_000), (SUBJECTS, 109_487)]),
        "padchest" => plain(&[(IMAGES, 160_000), (SUBJECTS, 67_000)]),
        "padchest-gr" => plain(&[(STUDIES, 4_555), (BOXES, 7_733), (PAIRS, 1_446)]),
        "nih" => plain(&[(IMAGES, 112_120), (SUBJECTS, 30_805), (BOXES, 983)]),
        "vindr" => plain(&[(IMAGES, 18_000)]),
        "siim" => plain(&[(IMAGES, 12_000)]),
        "ms-cxr" => plain(&[(PHRASES, 1_448)]),
        "cxr-lt" => plain(&[(IMAGES, 377_110)]),
        "imagenome" => plain(&[(SUBJECTS, 500)]),
        "mi-cxr" => {
            let groups = [("TEL", 2_994), ("GTS", 2_000), ("ICR", 317)];
            let groups = groups.map(|(group, count)| (of_group(QUESTIONS, group), count));
            plain(&[(QUESTIONS, 5_311)]).into_iter().chain(groups).collect()
        }
        "chextemporal" => {
            let groups = [("chexpert", 1_074), ("mimic", 594), ("rexgradient", 119)];
            let groups = groups.map(|(group, count)| (of_group(COURSES, group), count));
            plain(&[(COURSES, 1_787)]).into_iter().chain(groups).collect()
        }
        "open-i" => plain(&[(IMAGES, 7_470), (REPORTS, 3_955)]),
        "covid-chestxray" => plain(&[(IMAGES, 950)]),
        _ => Vec::new(),
    }
}
