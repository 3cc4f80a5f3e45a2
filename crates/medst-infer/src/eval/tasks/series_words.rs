//! What the words of questions about series name: visits, findings, and changes between visits.
//!
//! Statements such as “Between T1 and T2, edema worsens; it is stable from T2 to T4 before
//! improving between T4 and T5” are read by runs of intervals and of changes within a clause
//! (clauses end at semicolons and full stops): where a clause begins with an interval, a change
//! belongs to the intervals before it, otherwise to those after it. A single visit is the interval
//! from the visit before. Other words are ignored.

use crate::labels::prompts;

/// Findings that questions name and labels do not.
const MORE_FINDINGS: [&str; 26] = [
    "airspace disease",
    "airspace opacity",
    "aspiration",
    "calcification",
    "collapse",
    "effusion",
    "elevated hemidiaphragm",
    "granuloma",
    "hernia",
    "hyperinflation",
    "infiltrate",
    "infiltration",
    "interstitial edema",
    "interstitial opacity",
    "low lung volumes",
    "lung collapse",
    "mass",
    "nodule",
    "opacity",
    "pleural thickening",
    "pneumomediastinum",
    "pulmonary congestion",
    "pulmonary edema",
    "scarring",
    "subcutaneous emphysema",
    "vascular congestion",
];

/// The finding of a question about an abnormality that it does not name.
pub const ABNORMALITY: &str = "abnormality";

/// Words of questions that never belong to a finding's name; words about a change are recognised by
/// their stems.
const FILLERS: &str = "a above accurate accurately across adjacent again all along among an and answer any are as at based be been \
    begin begins began below best between both by chest choice choose chronological compared consecutive correct correctly course cxr \
    describe described describes description did disease do does during each earlier end ends entire entity entities event events \
    every evident evolution evolve evolves exam examination exams exhibit exhibits fifth fifths finding findings following for fourth \
    from full given had happen happens has have how identify if image images in interval intervals into is it its last later \
    longitudinal match matches most next no not noted observed occur occurred occurring occurs of on onset option options or order \
    other over overall past patient patients pattern patterns point points present prior previous radiograph radiographs ray \
    represent represents s scan scans second seen select sequence series show showing shown shows start started starts statement \
    statements status studies study subsequent summarize summarizes summary t1 t2 t3 t4 t5 temporal than that the their then there \
    these third this those through throughout time timeline timepoint timepoints times to trajectory true under up visible visit \
    visits was were what when where which while who why with within x xray";

/// A change between two visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    More,
    Less,
    Same,
}

/// The change of a finding between two visits, which count from 0, according to a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedChange {
    /// `None` where the statement does not name it.
    pub finding: Option<String>,
    pub from: usize,
    pub to: usize,
    pub change: Change,
}

const MORE: [&str; 17] = [
    "worse",
    "increas",
    "deteriorat",
    "enlarg",
    "appear",
    "emerg",
    "develop",
    "recur",
    "reappear",
    "new",
    "onset",
    "more",
    "greater",
    "larger",
    "grow",
    "progress",
    "aris",
];
const LESS: [&str; 14] = [
    "improv",
    "decreas",
    "resol",
    "disappear",
    "diminish",
    "regress",
    "reduc",
    "less",
    "smaller",
    "milder",
    "better",
    "vanish",
    "subsid",
    "clear",
];
const SAME: [&str; 8] = ["stable", "unchanged", "persist", "constant", "similar", "unaltered", "stability", "static"];
const NEGATIONS: [&str; 6] = ["no", "not", "without", "never", "neither", "nor"];

/// Words and what separates them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// A dash or an arrow.
    Dash,
    /// The end of a clause.
    End,
}

fn tokens(words: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut word = String::new();
    for c in words.chars().flat_map(char::to_lowercase).chain([' ']) {
        if c.is_alphanumeric() {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            found.push(Token::Word(std::mem::take(&mut word)));
        }
        match c {
            '-' | '–' | '—' | '→' | '>' => found.push(Token::Dash),
            ';' | '.' | '?' | '!' => found.push(Token::End),
            _ => {}
        }
    }
    found
}

/// The words, in lower case.
pub fn plain(words: &str) -> Vec<String> {
    let word = |token| if let Token::Word(word) = token { Some(word) } else { None };
    tokens(words).into_iter().filter_map(word).collect()
}

/// The visits that words name, in their order: `T3`, `visit 3`, `third visit`.
pub fn visits(words: &str, count: usize) -> Vec<usize> {
    let words = plain(words);
    (0..words.len()).filter_map(|index| visit(&words, index, count)).collect()
}

/// The visit that the word at an index names.
fn visit(words: &[String], index: usize, count: usize) -> Option<usize> {
    const NOUNS: [&str; 8] = ["visit", "image", "study", "scan", "timepoint", "time", "point", "exam"];
    const ORDINALS: [&str; 8] = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"];
    let is_noun = |word: Option<&String>| word.is_some_and(|word| NOUNS.contains(&word.trim_end_matches('s')));
    let word = &words[index];
    let after_noun = index > 0 && is_noun(words.get(index - 1));
    let number = match word.strip_prefix('t').map(str::parse) {
        Some(Ok(number)) => Some(number),
        _ if after_noun => word.parse().ok(),
        _ => None,
    };
    let ordinal = || ORDINALS.iter().position(|ordinal| ordinal == word).filter(|_| is_noun(words.get(index + 1)));
    let found = number.and_then(|number: usize| number.checked_sub(1)).or_else(ordinal);
    found.filter(|&visit| visit < count)
}

/// The known findings that words name, in their order; of overlapping names the longest.
pub fn findings(words: &str) -> Vec<String> {
    mentions(&plain(words)).into_iter().map(|(_, _, name)| name.to_string()).collect()
}

/// Where words name known findings: first word, end, name.
fn mentions(words: &[String]) -> Vec<(usize, usize, &'static str)> {
    let mut found: Vec<(usize, usize, &'static str)> = Vec::new();
    for name in prompts::FINDINGS.into_iter().chain(MORE_FINDINGS) {
        let parts: Vec<&str> = name.split(' ').collect();
        for (start, window) in words.windows(parts.len()).enumerate() {
            if window.iter().zip(&parts).all(|(word, part)| singular(word) == singular(part)) {
                found.push((start, start + parts.len(), name));
            }
        }
    }
    found.sort_by_key(|&(start, end, _)| (std::cmp::Reverse(end - start), start));
    let mut kept: Vec<(usize, usize, &'static str)> = Vec::new();
    for mention in found {
        if kept.iter().all(|other| mention.1 <= other.0 || other.1 <= mention.0) {
            kept.push(mention);
        }
    }
    kept.sort_unstable();
    kept.into_iter().map(|(start, end, name)| (start, end, usual(name))).collect()
}

/// `opacities` is `opacity`, `effusions` is `effusion`.
fn singular(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    let bare = match word.strip_suffix("sses") {
        Some(_) => word.strip_suffix("es"),
        None if word.ends_with("ss") || word.ends_with("is") => None,
        None => word.strip_suffix('s'),
    };
    bare.unwrap_or(word).to_string()
}

/// The name that labels use.
fn usual(name: &'static str) -> &'static str {
    match name {
        "effusion" => "pleural effusion",
        "pulmonary edema" => "edema",
        other => other,
    }
}

/// The finding of a question: a known one; otherwise the longest run of words that are neither
/// fillers nor about a change; or [`ABNORMALITY`].
pub fn subject(words: &str) -> Option<String> {
    if let Some(known) = findings(words).into_iter().max_by_key(String::len) {
        return Some(known);
    }
    let words = plain(words);
    let is_own = |word: &&String| {
        !FILLERS.split_whitespace().any(|filler| filler == word.as_str())
            && stem_of(word).is_none()
            && !word.starts_with("abnormalit")
            && !word.starts_with("chang")
            && !EXTREMES.iter().any(|stem| word.starts_with(stem))
            && !word.chars().all(|c| c.is_ascii_digit())
    };
    let runs = words.split(|word| !is_own(&word)).filter(|run| !run.is_empty());
    let longest = runs.max_by_key(|run| run.len()).map(|run| run.join(" "));
    let general = || words.iter().any(|word| word.starts_with("abnormalit")).then(|| ABNORMALITY.to_string());
    longest.or_else(general)
}

/// Stems of words about a degree, which never belong to a name.
const EXTREMES: [&str; 10] =
    ["first", "mild", "least", "lowest", "worst", "sever", "peak", "greatest", "highest", "maxim"];

fn stem_of(word: &str) -> Option<Change> {
    let begins = |stems: &[&str]| stems.iter().any(|stem| word.starts_with(stem));
    // "Progressive" alone gives no direction, and "clear" may describe lungs.
    if matches!(word, "progressive" | "progressively" | "clear" | "clearly" | "newly") {
        return (word == "newly").then_some(Change::More);
    }
    match () {
        () if begins(&SAME) => Some(Change::Same),
        () if begins(&LESS) => Some(Change::Less),
        () if begins(&MORE) => Some(Change::More),
        () => None,
    }
}

/// The change that the word at an index states. A denied change is none.
fn change(words: &[&str], index: usize) -> Option<Change> {
    let denied = words[index.saturating_sub(3)..index].iter().any(|word| NEGATIONS.contains(word));
    match words[index] {
        "longer" if denied => Some(Change::Less),
        // `appears stable`
        word if word.starts_with("appear") && words[index + 1..].iter().take(2).any(|next| stem_of(next).is_some()) => {
            None
        }
        word if word.starts_with("chang") => denied.then_some(Change::Same),
        word => match stem_of(word) {
            Some(Change::More | Change::Less) if denied => Some(Change::Same),
            found => found,
        },
    }
}

/// A piece of a clause.
enum Piece {
    Step(usize, usize),
    Said(Option<String>, Change),
}

/// The changes between visits that a statement contains.
pub fn statement(words: &str, count: usize) -> Vec<StatedChange> {
    let all = tokens(words);
    let mut stated = Vec::new();
    let mut finding = None;
    for clause in all.split(|token| *token == Token::End) {
        let pieces = pieces(clause, count, &mut finding);
        pair(&pieces, &mut stated);
    }
    stated
}

/// The changes that words tell without saying when, with their findings.
pub fn changes(words: &str) -> Vec<(Option<String>, Change)> {
    let mut finding = None;
    let all = tokens(words);
    let said = |piece| if let Piece::Said(finding, change) = piece { Some((finding, change)) } else { None };
    all.split(|token| *token == Token::End)
        .flat_map(|clause| pieces(clause, 0, &mut finding))
        .filter_map(said)
        .collect()
}

/// Intervals and changes of a clause, in their order. `finding`: the last one that was named.
fn pieces(clause: &[Token], count: usize, finding: &mut Option<String>) -> Vec<Piece> {
    let mut words: Vec<String> = Vec::new();
    // Whether a dash is before the word.
    let mut dashed = Vec::new();
    let mut dash = false;
    for token in clause {
        match token {
            Token::Word(word) => {
                words.push(word.clone());
                dashed.push(std::mem::take(&mut dash));
            }
            _ => dash = true,
        }
    }
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    let named = |index: usize| visit(&words, index, count);
    // The index of the next visit, past nouns: `visit 2`, `the second visit`.
    let next = |index: usize| (index..words.len().min(index + 5)).find_map(|index| Some((index, named(index)?)));
    let mut found = Vec::new();
    let mentions = mentions(&words);
    // Those that changes of this clause have taken, by their first words.
    let mut taken: Vec<usize> = Vec::new();
    let mut index = 0;
    while index < words.len() {
        if let Some(first) = named(index) {
            let joined = |other: usize| {
                let between: Vec<&str> = texts[index + 1..other].to_vec();
                let before = texts[index.saturating_sub(2)..index].contains(&"between");
                let leads = |word: &&str| matches!(*word, "to" | "through" | "until" | "till");
                between.iter().any(leads)
                    || (before && between.contains(&"and"))
                    || dashed[index + 1..=other].contains(&true)
            };
            match next(index + 1) {
                Some((other, second)) if second > first && joined(other) => {
                    found.push(Piece::Step(first, second));
                    index = other;
                }
                // The first visit has none before it.
                _ if first > 0 => found.push(Piece::Step(first - 1, first)),
                _ => {}
            }
        } else if let Some(change) = change(&texts, index) {
            // `edema worsens`, `worsening edema and improving effusion`: the name may come after
            // the change.
            let before = mentions.iter().rev().find(|(_, end, _)| *end <= index);
            let after = mentions.iter().find(|(start, ..)| (index + 1..index + 4).contains(start));
            if let Some(&(start, _, name)) = before.filter(|(start, ..)| !taken.contains(start)).or(after) {
                taken.push(start);
                *finding = Some(name.to_string());
            }
            found.push(Piece::Said(finding.clone(), change));
        }
        index += 1;
    }
    found
}

/// Pairs the intervals of a clause with its changes.
fn pair(pieces: &[Piece], stated: &mut Vec<StatedChange>) {
    type Said<'a> = Vec<(&'a Option<String>, Change)>;
    let mut intervals: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut changes: Vec<Said> = Vec::new();
    let begins_with_interval = matches!(pieces.first(), Some(Piece::Step(..)));
    let mut last_was_interval = None;
    for piece in pieces {
        let is_interval = matches!(piece, Piece::Step(..));
        if last_was_interval != Some(is_interval) {
            if is_interval { intervals.push(Vec::new()) } else { changes.push(Vec::new()) }
        }
        last_was_interval = Some(is_interval);
        match piece {
            Piece::Step(from, to) => intervals.last_mut().into_iter().for_each(|run| run.push((*from, *to))),
            Piece::Said(finding, change) => {
                changes.last_mut().into_iter().for_each(|run| run.push((finding, *change)));
            }
        }
    }
    // `Between T1 and T2 it worsens, improving from T2 to T3`: the last change has its interval
    // after it.
    if begins_with_interval
        && intervals.len() == changes.len() + 1
        && let Some(run) = changes.last_mut().filter(|run| run.len() > 1)
    {
        let last = run.pop();
        changes.push(last.into_iter().collect());
    }
    for (intervals, said) in intervals.iter().zip(&changes) {
        for &(from, to) in intervals {
            for (index, (finding, change)) in said.iter().enumerate() {
                // Of what is said of one finding in one interval, the first counts.
                if said[..index].iter().all(|(other, _)| other != finding) {
                    stated.push(StatedChange { finding: (*finding).clone(), from, to, change: *change });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(words: &str) -> Vec<(usize, usize, Change)> {
        statement(words, 5).into_iter().map(|stated| (stated.from + 1, stated.to + 1, stated.change)).collect()
    }

    #[test]
    fn statements_tell_changes_of_intervals() {
        use Change::{Less, More, Same};
        for (words, expected) in [
            // As the published benchmark words it.
            (
                "Between T1 and T2, bibasilar atelectasis is mild and nearly resolved; it then shows interval worsening from T2 to T3 \
                 and from T3 to T4 before improving again between T4 and T5.",
                vec![(1, 2, Less), (2, 3, More), (3, 4, More), (4, 5, Less)],
            ),
            ("The effusion emerges at T2 and resolves at T4.", vec![(1, 2, More), (3, 4, Less)]),
            ("T1–T2: worsening, T2–T4: no change", vec![(1, 2, More), (2, 4, Same)]),
            ("Between T1 and T2 it worsens, improving from T2 to T3", vec![(1, 2, More), (2, 3, Less)]),
            ("Stable from the first visit to the third visit", vec![(1, 3, Same)]),
            ("Between visit 2 and visit 3 there was no improvement", vec![(2, 3, Same)]),
            ("It is no longer seen at T3", vec![(2, 3, Less)]),
            ("Progressively improving from T2 through T5", vec![(2, 5, Less)]),
            ("T2", vec![]),
            ("T1 to T2", vec![]),
            ("The lungs are clear at T3", vec![]),
        ] {
            assert_eq!(steps(words), expected, "{words}");
        }
    }

    #[test]
    fn a_statement_may_be_about_several_findings() {
        let stated = statement(
            "Between T1 and T2, edema worsens while the pleural effusions improve; edema is stable from T2 to T3.",
            5,
        );
        let named: Vec<(Option<&str>, usize, Change)> =
            stated.iter().map(|stated| (stated.finding.as_deref(), stated.from, stated.change)).collect();
        assert_eq!(
            named,
            [
                (Some("edema"), 0, Change::More),
                (Some("pleural effusion"), 0, Change::Less),
                (Some("edema"), 1, Change::Same)
            ]
        );
        assert_eq!(changes("Worsened pneumothorax"), [(Some("pneumothorax".to_string()), Change::More)]);
        assert_eq!(changes("No change"), [(None, Change::Same)]);
        let both = changes("worsening edema and improving effusion, edema appears stable");
        let named: Vec<&str> = both.iter().filter_map(|(name, _)| name.as_deref()).collect();
        assert_eq!(named, ["edema", "pleural effusion", "edema"], "{both:?}");
        assert_eq!(both[2].1, Change::Same);
    }

    #[test]
    fn questions_name_a_finding_known_or_not() {
        for (words, expected) in [
            (
                "Which statement best describes the interval-based temporal changes of atelectasis across the study sequence?",
                Some("atelectasis"),
            ),
            (
                "Which statement correctly describes the interval-based trajectory of abnormality across the study sequence?",
                Some("abnormality"),
            ),
            (
                "At which visit does pulmonary vascular engorgement first emerge?",
                Some("pulmonary vascular engorgement"),
            ),
            ("When do the opacities appear?", Some("opacity")),
            ("At which visit is massive scoliosis worst?", Some("massive scoliosis")),
            ("Which finding is new at the end?", None),
            ("What is the order of the images?", None),
            ("When did it begin?", None),
        ] {
            assert_eq!(subject(words).as_deref(), expected, "{words}");
        }
        assert_eq!(
            findings("Edema and pleural effusions, but no pulmonary edema"),
            ["edema", "pleural effusion", "edema"]
        );
        assert_eq!(visits("from visit 2 to the fourth study, T5 and T9", 5), [1, 3, 4]);
    }
}
