//! Reports: what a radiologist might dictate about a visit, from a grammar with negations, hedges,
//! comparisons, unmentioned findings, and sentences about nothing in particular. The statements
//! agree with the picture.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::course::{Change, Course, PRESENT};
use super::finding::{Finding, Present, Side};

/// A finding at a visit, as the report's author sees it.
pub struct Observation {
    pub present: Present,
    pub change: Change,
}

/// A written report, and which of the present findings it mentions.
pub struct Written {
    pub text: String,
    pub mentioned: Vec<Finding>,
}

/// Writes the report of a visit.
///
/// * `observations`: findings that are present; * `resolved`: findings that were present at the
///   previous visit;
/// * `days_since_prior`: `None` for a first visit.
pub fn write(
    observations: &[Observation],
    resolved: &[Finding],
    days_since_prior: Option<u32>,
    has_lateral: bool,
    random: &mut impl Rng,
) -> Written {
    let mut findings = Vec::new();
    let mut impression = Vec::new();
    let mut mentioned = Vec::new();
    for observation in observations {
        let present = &observation.present;
        let seen = present.visible_on_frontal() || (has_lateral && present.visible_on_lateral());
        // Slight findings are missed now and then; one that no view shows is never mentioned.
        if !seen || (present.severity < 0.3 && random.random_bool(0.15)) {
            continue;
        }
        mentioned.push(present.finding);
        findings.push(describe(observation, random));
        if random.random_bool(0.8) {
            impression.push(conclude(observation, random));
        }
    }
    // An impression may leave findings out, but does not call a chest normal in which one was just
    // described.
    if impression.is_empty() {
        let described = observations.iter().filter(|o| mentioned.contains(&o.present.finding));
        let worst = described.max_by(|a, b| a.present.severity.total_cmp(&b.present.severity));
        impression.extend(worst.map(|worst| conclude(worst, random)));
    }
    for &finding in resolved {
        if random.random_bool(0.8) {
            let noun = noun(finding);
            let said = [
                format!("Previously seen {noun} has resolved."),
                format!("Interval resolution of {noun}."),
                format!("The {noun} on the prior study is no longer seen."),
            ];
            findings.push(one(&said, random));
        }
    }
    for finding in Finding::ALL {
        let there = observations.iter().any(|o| o.present.finding == finding) || resolved.contains(&finding);
        if !there && random.random_bool(0.45) {
            findings.push(deny(finding, random));
        }
    }
    findings.shuffle(random);
    for (filler, unless) in FILLERS {
        let contradicted = observations.iter().any(|o| Some(o.present.finding) == *unless);
        if random.random_bool(0.22) && !contradicted {
            findings.push((*filler).to_string());
        }
    }
    if findings.is_empty() {
        findings.push("The lungs are clear without acute abnormality.".into());
    }
    if impression.is_empty() {
        impression.push(one(&NOTHING.map(String::from), random));
    } else if impression.len() > 1 {
        impression = impression.iter().enumerate().map(|(n, said)| format!("{}. {said}", n + 1)).collect();
    }
    let text = format!(
        " FINAL REPORT\n EXAMINATION: {}\n INDICATION: {}\n COMPARISON: {}\n FINDINGS: {}\n IMPRESSION: {}\n",
        if has_lateral { "CHEST (PA AND LAT)" } else { "CHEST (PORTABLE AP)" },
        one(&INDICATIONS.map(String::from), random),
        comparison(days_since_prior, random),
        findings.join(" "),
        impression.join(" ")
    );
    Written { text, mentioned }
}

/// Adds to one of three reports a sentence about what was once and is not now: words of a finding
/// without the finding.
pub fn with_history(text: String, courses: &[Course], visit: usize, random: &mut impl Rng) -> String {
    let here = |finding: Finding| {
        courses.iter().any(|course| course.finding == finding && course.severities[visit] >= PRESENT)
    };
    let absent: Vec<Finding> = Finding::ALL.into_iter().filter(|&finding| !here(finding)).collect();
    let Some(&finding) = absent.choose(random).filter(|_| random.random_ratio(1, 3)) else { return text };
    let noun = noun(finding);
    let said = [
        format!("An outside study of last year described {noun}."),
        format!("History of {noun} is noted."),
        format!("Treatment for {noun} was completed years ago."),
    ];
    let said = one(&said, random);
    // At the end of the findings.
    text.replacen("\n IMPRESSION:", &format!(" {said}\n IMPRESSION:"), 1)
}

/// Sentences about nothing in particular, each with the finding that would make it wrong.
const FILLERS: &[(&str, Option<Finding>)] = &[
    ("The cardiomediastinal silhouette is within expected limits for technique.", Some(Finding::Cardiomegaly)),
    ("Osseous structures are intact.", None),
    ("Degenerative changes of the thoracic spine are noted.", None),
    ("No free air below the right hemidiaphragm.", None),
    ("Patient is slightly rotated.", None),
    ("Lung volumes are low, accentuating the bronchovascular markings.", None),
    ("The hilar contours are unremarkable.", Some(Finding::Edema)),
];

const NOTHING: [&str; 5] = [
    "No acute cardiopulmonary process.",
    "No acute intrathoracic abnormality.",
    "No evidence of acute disease.",
    "Unremarkable chest radiograph.",
    "No radiographic explanation for the symptoms.",
];

const INDICATIONS: [&str; 6] = [
    "Shortness of breath.",
    "Cough and fever.",
    "Evaluate for interval change.",
    "Chest pain.",
    "Follow up of known disease.",
    "Hypoxia, question of infection.",
];

fn one(choices: &[String], random: &mut impl Rng) -> String {
    choices.choose(random).cloned().unwrap_or_default()
}

fn comparison(days: Option<u32>, random: &mut impl Rng) -> String {
    match days {
        None => one(&["None.", "None available.", "No prior studies."].map(String::from), random),
        Some(1) => "Radiograph from the day before.".into(),
        Some(days) if days < 30 => format!("Radiograph from {days} days earlier."),
        Some(_) => "Prior chest radiograph.".into(),
    }
}

/// How a finding is named without side or size.
fn noun(finding: Finding) -> &'static str {
    match finding {
        Finding::Consolidation => "consolidation",
        Finding::Edema => "pulmonary edema",
        Finding::PleuralEffusion => "pleural effusion",
        Finding::Pneumonia => "patchy opacities",
        Finding::Pneumothorax => "pneumothorax",
        Finding::Atelectasis => "atelectasis",
        Finding::Cardiomegaly => "cardiomegaly",
    }
}

fn size(present: &Present, random: &mut impl Rng) -> String {
    let words: &[&str] = match (present.finding, present.severity) {
        (Finding::PleuralEffusion | Finding::Pneumothorax, s) if s < 0.3 => &["small", "tiny", "trace"],
        (Finding::PleuralEffusion | Finding::Pneumothorax, s) if s < 0.62 => &["moderate", "moderate sized"],
        (Finding::PleuralEffusion | Finding::Pneumothorax, _) => &["large", "sizable"],
        (_, s) if s < 0.3 => &["mild", "subtle", "minimal"],
        (_, s) if s < 0.62 => &["moderate"],
        _ => &["severe", "extensive", "marked"],
    };
    (*words.choose(random).unwrap_or(&"moderate")).to_string()
}

/// The finding with side, zone and sometimes another word for it.
fn phrase(present: &Present, random: &mut impl Rng) -> String {
    let side = present.side.name();
    let zone = present.zone.name();
    let choices = match present.finding {
        Finding::Consolidation => vec![
            format!("{side} {zone} lung consolidation"),
            format!("consolidation in the {side} {zone} zone"),
            format!("focal airspace consolidation of the {side} {zone} lung"),
        ],
        Finding::Pneumonia => vec![
            format!("patchy opacities in the {side} {zone} lung"),
            format!("multifocal patchy {side} {zone} zone opacities"),
            format!("ill defined {side} {zone} lung opacities"),
        ],
        Finding::Edema => vec![
            "pulmonary edema".into(),
            "interstitial pulmonary edema".into(),
            "pulmonary vascular congestion with edema".into(),
        ],
        Finding::PleuralEffusion if present.side == Side::Both => {
            vec!["bilateral pleural effusions".into(), "pleural effusions on both sides".into()]
        }
        Finding::PleuralEffusion => vec![format!("{side} pleural effusion"), format!("{side} sided pleural effusion")],
        Finding::Pneumothorax => vec![format!("{side} pneumothorax"), format!("{side} apical pneumothorax")],
        Finding::Atelectasis => vec![
            if present.side == Side::Both {
                "bibasilar atelectasis".into()
            } else {
                format!("{side} basilar atelectasis")
            },
            format!("{side} basal linear atelectasis"),
        ],
        Finding::Cardiomegaly => vec!["cardiomegaly".into(), "enlargement of the cardiac silhouette".into()],
    };
    one(&choices, random)
}

fn describe(observation: &Observation, random: &mut impl Rng) -> String {
    let present = &observation.present;
    let (size, phrase) = (size(present, random), phrase(present, random));
    let choices = match observation.change {
        Change::Improving => vec![
            format!("{size} {phrase}, improved compared to the prior study."),
            format!("Interval decrease in {phrase}, now {size}."),
            format!("The {phrase} has decreased and is {size}."),
        ],
        Change::Worsening => vec![
            format!("{size} {phrase}, worse compared to the prior study."),
            format!("Interval increase in {phrase}, now {size}."),
            format!("The {phrase} has progressed and is {size}."),
        ],
        Change::Stable => vec![
            format!("{size} {phrase}, unchanged."),
            format!("Stable {size} {phrase}."),
            format!("No significant change in {size} {phrase}."),
        ],
        Change::New => vec![
            format!("There is new {size} {phrase}."),
            format!("Interval development of {size} {phrase}."),
            format!("{size} {phrase}, new since the prior study."),
        ],
        Change::First | Change::Absent | Change::Resolved => vec![
            format!("There is {size} {phrase}."),
            format!("{size} {phrase} is present."),
            format!("{size} {phrase}."),
        ],
    };
    capitalised(one(&choices, random))
}

fn conclude(observation: &Observation, random: &mut impl Rng) -> String {
    let present = &observation.present;
    let hedge = if present.severity < 0.35 {
        ["Possible", "Probable", "Suspected"]
    } else {
        ["Findings of", "Evidence of", "Known"]
    };
    let noun = match present.finding {
        Finding::Pneumonia => "pneumonia",
        finding => noun(finding),
    };
    let side = if present.finding.has_side() { format!("{} ", present.side.name()) } else { String::new() };
    let how = match observation.change {
        Change::Improving => ["Improving", "Decreasing"].choose(random).copied(),
        Change::Worsening => ["Worsening", "Increasing"].choose(random).copied(),
        Change::Stable => ["Stable", "Unchanged"].choose(random).copied(),
        Change::New => ["New", "Newly apparent"].choose(random).copied(),
        _ => hedge.choose(random).copied(),
    };
    format!("{} {side}{noun}.", how.unwrap_or("Known"))
}

fn deny(finding: Finding, random: &mut impl Rng) -> String {
    let choices: &[&str] = match finding {
        Finding::Consolidation => {
            &["No focal consolidation.", "There is no consolidation.", "The lungs are without focal consolidation."]
        }
        Finding::Edema => {
            &["No pulmonary edema.", "There is no evidence of pulmonary edema.", "Pulmonary vasculature is normal."]
        }
        Finding::PleuralEffusion => {
            &["No pleural effusion.", "No effusion is seen.", "The costophrenic angles are sharp."]
        }
        Finding::Pneumonia => {
            &["No evidence of pneumonia.", "There are no patchy opacities.", "No findings to suggest pneumonia."]
        }
        Finding::Pneumothorax => &["No pneumothorax.", "There is no pneumothorax.", "No pneumothorax is seen."],
        Finding::Atelectasis => &["No atelectasis.", "The lung bases are clear of atelectasis."],
        Finding::Cardiomegaly => &["Heart size is normal.", "The heart is not enlarged.", "Normal cardiac size."],
    };
    (*choices.choose(random).unwrap_or(&"")).to_string()
}

fn capitalised(text: String) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => text,
    }
}
