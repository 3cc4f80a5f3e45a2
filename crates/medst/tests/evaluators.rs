//! Evaluators on made-up embeddings: what a known answer gives, and what must hold whatever the
//! numbers are.

use medst_infer::eval::Vectors;
use medst_infer::eval::pairs::ImagePairs;
use medst_infer::eval::result::{Protocol, TaskResult};
use medst_infer::eval::subgroups::Subgroups;
use medst_infer::eval::tasks::{
    BinaryFinding, ByFinding, PhraseProgression, Phrases, Progression, Prototypes, Retrieval, RetrievalData,
    SentencePairs, TemporalImage, TemporalSentence, ZeroShot, best_ranks,
};
use medst_infer::labels::Course;
use medst_infer::stats::bootstrap::Bootstrap;
use proptest::prelude::*;

const FEW: Bootstrap = Bootstrap { replicates: 40, seed: 0 };

fn vectors(rows: Vec<Vec<f32>>) -> Vectors {
    Vectors::from_rows(rows).unwrap()
}

/// A repeatable number between -1 and 1.
fn noise(n: usize) -> f32 {
    ((n as f32 * 12.9898).sin() * 43758.547).fract()
}

/// Pairs whose change is along the first direction: up is worse.
fn pairs(count: usize, strength: f32, subjects: usize) -> ImagePairs {
    let course = |n: usize| Course::ALL[n % 3];
    let move_by = |n: usize| strength * (course(n).class() as f32 - 1.0);
    let start = |n: usize| vec![noise(n), noise(n + 1000), noise(n + 2000), 0.5];
    let end = |n: usize| {
        let mut row = start(n);
        row[0] += move_by(n);
        row.iter_mut().zip(0..).for_each(|(x, k)| *x += 0.1 * noise(n * 7 + k));
        row
    };
    ImagePairs {
        previous: vectors((0..count).map(start).collect()),
        current: vectors((0..count).map(end).collect()),
        subjects: (0..count).map(|n| (n % subjects).to_string()).collect(),
        studies: (0..count).map(|n| [2 * n, 2 * n + 1]).collect(),
        findings: vec![("edema".into(), (0..count).map(|n| Some(course(n))).collect())],
    }
}

fn check(result: &TaskResult) {
    for figure in &result.figures {
        match figure.value {
            Some(value) => assert!(value.is_finite(), "{figure:?}"),
            None => assert!(figure.undefined.as_ref().is_some_and(|reason| !reason.is_empty()), "{figure:?}"),
        }
    }
    assert!(!serde_json::to_string(result).unwrap().contains("NaN"));
}

#[test]
fn a_change_along_one_direction_is_told_and_turns_round_with_the_pair() {
    let task = TemporalImage { protocol: Protocol::Strict, bootstrap: FEW, ..TemporalImage::default() };
    let strong = task.evaluate(&pairs(240, 2.0, 60)).unwrap();
    check(&strong);
    let of = |result: &TaskResult, name: &str| result.value("edema", name).unwrap();
    assert!(of(&strong, "macro accuracy") > 0.95, "{strong}");
    assert!(of(&strong, "reversal consistency") > 0.95 && of(&strong, "macro accuracy, reversed") > 0.95, "{strong}");
    assert!(of(&strong, "unchanged called stable") > 0.95, "{strong}");
    let none = task.evaluate(&pairs(240, 0.0, 240)).unwrap();
    assert!((of(&none, "macro accuracy") - 1.0 / 3.0).abs() < 0.15, "{none}");
}

#[test]
fn courses_that_cannot_be_learnt_are_undefined_with_a_reason() {
    let task = TemporalImage { protocol: Protocol::Strict, bootstrap: FEW, ..TemporalImage::default() };
    let reason = |result: &TaskResult| result.figures[0].text();
    let one_subject = task.evaluate(&pairs(30, 1.0, 1)).unwrap();
    assert!(reason(&one_subject).contains("one subject"), "{one_subject}");
    let mut one_course = pairs(30, 1.0, 10);
    one_course.findings[0].1.fill(Some(Course::Stable));
    assert!(reason(&task.evaluate(&one_course).unwrap()).contains("every pair is stable"));
    let mut silent = pairs(30, 1.0, 10);
    silent.findings[0].1.fill(None);
    assert!(reason(&task.evaluate(&silent).unwrap()).contains("no pair"));
    // One worsening pair: the fold that tests it cannot have learnt it.
    let mut rare = pairs(60, 1.0, 20);
    let courses = &mut rare.findings[0].1;
    courses.iter_mut().for_each(|course| *course = course.filter(|course| *course != Course::Worsening));
    courses[2] = Some(Course::Worsening);
    let result = task.evaluate(&rare).unwrap();
    check(&result);
    assert!(result.notes.iter().any(|note| note.contains("do not have every course")), "{result}");
    let mut wide = pairs(30, 1.0, 10);
    wide.current = vectors(vec![vec![1.0; 5]; 30]);
    assert!(task.evaluate(&wide).unwrap_err().to_string().contains("current images"));
    let reference = TemporalImage { protocol: Protocol::Reference, bootstrap: FEW, ..TemporalImage::default() };
    check(&reference.evaluate(&pairs(8, 1.0, 4)).unwrap());
}

#[test]
fn linear_heads_read_both_images_or_their_difference() {
    let task = TemporalImage { protocol: Protocol::Literature, bootstrap: FEW, ..TemporalImage::default() };
    let of = |result: &TaskResult, name: &str| result.value("edema", name).unwrap();
    let strong = task.evaluate(&pairs(240, 2.0, 60)).unwrap();
    check(&strong);
    for readout in ["concatenation", "difference"] {
        assert!(of(&strong, &format!("macro accuracy, {readout}")) > 0.95, "{strong}");
        assert!(of(&strong, &format!("deviation of macro accuracy over seeds, {readout}")) < 0.05, "{strong}");
    }
    assert_eq!(strong.value("mean", "macro accuracy, difference"), Some(of(&strong, "macro accuracy, difference")));
    // A fifth of the 60 subjects for each of four seeds: some are tested twice, so fewer than 4 ×
    // 48 pairs.
    let rows = strong.figures.iter().find(|figure| figure.name == "macro accuracy, difference").unwrap().rows;
    assert!((48..192).contains(&rows), "{rows}");
    let none = task.evaluate(&pairs(240, 0.0, 240)).unwrap();
    assert!((of(&none, "macro accuracy, difference") - 1.0 / 3.0).abs() < 0.15, "{none}");
    // A change in either direction against none: no plane through both embeddings parts them, the
    // size of the difference does.
    let mut either = pairs(240, 2.0, 60);
    let courses = &mut either.findings[0].1;
    courses
        .iter_mut()
        .filter(|course| **course == Some(Course::Improving))
        .for_each(|course| *course = Some(Course::Worsening));
    let result = task.evaluate(&either).unwrap();
    assert!(of(&result, "macro accuracy, difference") > 0.95, "{result}");
    assert!(of(&result, "macro accuracy, concatenation") < 0.7, "{result}");
    // The result states what is missing.
    let one_subject = task.evaluate(&pairs(30, 1.0, 1)).unwrap();
    check(&one_subject);
    assert!(one_subject.figures[0].text().contains("no test pair"), "{one_subject}");
}

#[test]
fn the_most_similar_phrase_decides_in_both_orders() {
    let unit = |n: usize| (0..5).map(|k| if k == n { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    use Course::{Improving, Stable, Worsening};
    // Phrases: improving at 0 and 4, stable at 2, worsening at 1; nothing is said at 3.
    let phrases = Phrases {
        finding: "edema".into(),
        of: [vectors(vec![unit(0), unit(4)]), vectors(vec![unit(2)]), vectors(vec![unit(1)])],
    };
    // The fourth pair comes from where no phrase is: going back, nothing is ahead of stable.
    let courses = [(0, 1, Worsening), (2, 2, Stable), (1, 0, Improving), (3, 1, Worsening), (1, 4, Improving)];
    let pairs = ImagePairs {
        previous: vectors(courses.iter().map(|pair| unit(pair.0)).collect()),
        current: vectors(courses.iter().map(|pair| unit(pair.1)).collect()),
        subjects: (0..5).map(|n| n.to_string()).collect(),
        studies: (0..5).map(|n| [2 * n, 2 * n + 1]).collect(),
        findings: vec![("edema".into(), courses.iter().map(|pair| Some(pair.2)).collect())],
    };
    let task = PhraseProgression { bootstrap: FEW, ..PhraseProgression::default() };
    let result = task.evaluate(&pairs, std::slice::from_ref(&phrases)).unwrap();
    check(&result);
    let close = |name: &str, expected: f64| {
        let found = result.value("mean", name).unwrap();
        assert!((found - expected).abs() < 1e-12, "{name}: {found}, expected {expected}");
    };
    close("standard", 1.0);
    // Exchanged: improving 1 of 2, stable 1 of 1, worsening 2 of 2.
    close("reversed", 5.0 / 6.0);
    // Together: improving 3 of 4, stable 2 of 2, worsening 4 of 4.
    close("combined", 11.0 / 12.0);
    close("consistency", 0.8);
    close("right in both orders", 0.8);
    assert_eq!(result.value("mean, current image alone", "standard"), Some(1.0));
    let standard = result.figures.iter().find(|figure| figure.group == "mean" && figure.name == "standard").unwrap();
    assert!(standard.published.iter().any(|own| own.model.contains("TILA") && own.value == 0.641), "{standard:?}");
    let unknown = task.evaluate(&pairs, &[]).unwrap();
    assert!(unknown.notes[0].contains("no phrases"), "{unknown}");
}

#[test]
fn prototypes_see_the_direction_of_a_change() {
    let along = |sign: f32| vectors(vec![vec![sign, 0.0, 0.0, 0.1]]);
    let prototypes = [Prototypes { finding: "edema".into(), improving: along(-1.0), worsening: along(1.0) }];
    let task = Progression { bootstrap: FEW, ..Progression::default() };
    let result = task.evaluate(&pairs(240, 3.0, 60), &prototypes).unwrap();
    check(&result);
    assert!(result.value("edema", "AUROC, worsening against improving").unwrap() > 0.9, "{result}");
    let swapped = [Prototypes { finding: "edema".into(), improving: along(1.0), worsening: along(-1.0) }];
    let turned = task.evaluate(&pairs(240, 3.0, 60), &swapped).unwrap();
    assert!(turned.value("edema", "AUROC, worsening against improving").unwrap() < 0.1, "{turned}");
    let unknown = task.evaluate(&pairs(9, 1.0, 3), &[]).unwrap();
    assert!(unknown.notes[0].contains("no sentences"), "{unknown}");
}

#[test]
fn zero_shot_ranks_by_the_difference_and_calls_a_missing_class_undefined() {
    let truth: Vec<bool> = (0..40).map(|n| n % 4 == 0).collect();
    let image = |n: usize| vec![if n.is_multiple_of(4) { 1.0 } else { 0.8 }, 0.6, noise(n) * 0.01];
    let finding = BinaryFinding {
        name: "edema".into(),
        images: vectors((0..40).map(image).collect()),
        positive: vectors(vec![vec![1.0, 0.0, 0.0]]),
        negative: vectors(vec![vec![0.0, 1.0, 0.0]]),
        truth,
        subjects: (0..40).map(|n| n.to_string()).collect(),
        rows: (0..40).collect(),
    };
    let task = ZeroShot { protocol: Protocol::Strict, bootstrap: FEW, ..ZeroShot::default() };
    let result = task.evaluate(std::slice::from_ref(&finding)).unwrap();
    assert!(result.value("edema", "AUROC").unwrap() > 0.99, "{result}");
    // Everything is called edema: the ranking is right, the decision is worth nothing. The
    // reference reports the latter.
    assert_eq!(result.value("edema", "AUROC of the decision"), Some(0.5));
    let reference = ZeroShot { protocol: Protocol::Reference, bootstrap: FEW, ..ZeroShot::default() };
    let names: Vec<String> =
        reference.evaluate(std::slice::from_ref(&finding)).unwrap().figures.into_iter().map(|own| own.name).collect();
    assert_eq!(names, ["AUROC of the decision", "accuracy", "F1"]);
    let healthy = BinaryFinding { truth: vec![false; 40], ..finding };
    let result = task.evaluate(&[healthy]).unwrap();
    check(&result);
    assert!(result.figures[0].text().contains("every image lacks edema"), "{result}");
}

#[test]
fn a_figure_is_broken_down_by_what_its_rows_are() {
    // The classes can be separated in the 30 images of women, but not in those of men, which are
    // all the same.
    let truth: Vec<bool> = (0..60).map(|n| n % 2 == 0).collect();
    let sex: Vec<Option<&str>> = (0..60).map(|n| Some(if n < 30 { "F" } else { "M" })).collect();
    let image = |n: usize| vec![if n < 30 && n.is_multiple_of(2) { 1.0 } else { 0.6 }, 0.5];
    let finding = BinaryFinding {
        name: "edema".into(),
        images: vectors((0..60).map(image).collect()),
        positive: vectors(vec![vec![1.0, 0.0]]),
        negative: vectors(vec![vec![0.0, 1.0]]),
        truth,
        subjects: (0..60).map(|n| n.to_string()).collect(),
        // The rows of the corpus are the other way round.
        rows: (0..60).rev().collect(),
    };
    let sex = sex.into_iter().rev().collect::<Vec<_>>();
    let by = [Subgroups::new("sex", &sex).unwrap()];
    let plain = ZeroShot { protocol: Protocol::Strict, bootstrap: FEW, ..ZeroShot::default() };
    let whole = plain.evaluate(std::slice::from_ref(&finding)).unwrap();
    let result = ZeroShot { by: &by, ..plain }.evaluate(&[finding]).unwrap();
    assert!(whole.figures.iter().all(|figure| figure.by.is_empty()));
    for (a, b) in whole.figures.iter().zip(&result.figures) {
        assert_eq!((a.value, a.interval, a.rows), (b.value, b.interval, b.rows), "the figure itself does not change");
    }
    let auroc = &result.figures[0].by[0];
    assert_eq!(auroc.parts.iter().map(|part| part.value.unwrap()).collect::<Vec<_>>(), [1.0, 0.5]);
    assert_eq!(auroc.parts.iter().map(|part| (part.rows, part.subjects)).collect::<Vec<_>>(), [(30, 30), (30, 30)]);
    let gap = auroc.gap.as_ref().unwrap();
    assert_eq!((gap.highest.as_str(), gap.value, gap.interval), ("F", 0.5, Some((0.5, 0.5))));
    let text = result.to_string();
    assert!(text.contains("sex F: 1.000 (1.000 to 1.000), 30 rows of 30 subjects"), "{text}");
    assert!(text.contains("largest gap: F less M: 0.500 (0.500 to 0.500)"), "{text}");
}

#[test]
fn sentences_of_one_kind_have_no_curve_but_no_error_either() {
    let text = |n: usize| [format!("first {}", n / 2), format!("second {n}")];
    let pairs = |paraphrase: Vec<bool>| SentencePairs {
        first: vectors((0..60).map(|n| vec![1.0, noise(n)]).collect()),
        second: vectors((0..60).map(|n| vec![if n % 2 == 0 { 1.0 } else { -1.0 }, noise(n)]).collect()),
        texts: (0..60).map(text).collect(),
        paraphrase,
        subsets: (0..60).map(|n| if n < 30 { "swaps" } else { "RadGraph" }.to_string()).collect(),
    };
    for protocol in [Protocol::Strict, Protocol::Reference] {
        let task = TemporalSentence { protocol, bootstrap: FEW };
        let result = task.evaluate(&pairs((0..60).map(|n| n % 2 == 0).collect())).unwrap();
        check(&result);
        assert!(
            result.value("all", "AUROC").unwrap() > 0.99 && result.value("swaps", "AUROC").unwrap() > 0.99,
            "{result}"
        );
        let same = task.evaluate(&pairs(vec![true; 60])).unwrap();
        check(&same);
        assert!(same.value("all", "AUROC").is_none(), "{same}");
    }
}

/// Ranks by looking at every score.
fn plain_ranks(a: &Vectors, b: &Vectors, groups: &[u32], others_only: bool) -> Vec<Option<f64>> {
    let score = |row: usize, other: usize| -> f32 { a.row(row).iter().zip(b.row(other)).map(|(x, y)| x * y).sum() };
    (0..a.len())
        .map(|row| {
            let right = |&other: &usize| groups[other] == groups[row] && !(others_only && other == row);
            let best = (0..b.len()).filter(right).map(|other| score(row, other)).reduce(f32::max)?;
            let ahead = (0..b.len()).filter(|&other| groups[other] != groups[row] && score(row, other) >= best - 1e-6);
            Some(ahead.count() as f64 + 1.0)
        })
        .collect()
}

fn retrieval(rows: &[Vec<f32>], others: &[Vec<f32>], groups: &[u8]) -> RetrievalData {
    let count = rows.len();
    RetrievalData {
        images: vectors(rows.to_vec()),
        subjects: groups.iter().map(|group| (group / 2).to_string()).collect(),
        rows: (0..count).collect(),
        reports: vectors(others.to_vec()),
        report_images: (0..count).collect(),
        texts: groups.iter().map(|group| format!("text {group}")).collect(),
        findings: vec![ByFinding {
            name: "edema".into(),
            prompts: vectors(vec![others[0].clone()]),
            truth: groups.iter().map(|group| [None, Some(true), Some(false)][usize::from(*group) % 3]).collect(),
        }],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The blocks give what looking at every score gives; coarse values make ties.
    #[test]
    fn ranks_are_those_of_the_full_matrix(
        rows in proptest::collection::vec((proptest::collection::vec(-2i8..3, 4), proptest::collection::vec(-2i8..3, 4), 0u32..6), 1..60),
        others_only in any::<bool>(),
    ) {
        let unit = |coarse: Vec<&Vec<i8>>| {
            vectors(coarse.into_iter().map(|row| row.iter().map(|&x| f32::from(x)).collect()).collect()).unit()
        };
        let a = unit(rows.iter().map(|row| &row.0).collect());
        let b = unit(rows.iter().map(|row| &row.1).collect());
        let groups: Vec<u32> = rows.iter().map(|row| row.2).collect();
        if others_only {
            let (found, _) = best_ranks(&a, &a, &groups, true);
            prop_assert_eq!(found, plain_ranks(&a, &a, &groups, true));
        } else {
            let (forward, backward) = best_ranks(&a, &b, &groups, false);
            prop_assert_eq!(forward, plain_ranks(&a, &b, &groups, false));
            prop_assert_eq!(backward, plain_ranks(&b, &a, &groups, false));
        }
    }

    /// Whatever the embeddings and labels, a figure is a number or gives the reason why it has
    /// none.
    #[test]
    fn no_figure_is_ever_nan(
        rows in proptest::collection::vec((proptest::collection::vec(-2i8..3, 3), 0u8..7, proptest::option::of(0usize..3)), 2..40),
    ) {
        let embeddings: Vec<Vec<f32>> = rows.iter().map(|row| row.0.iter().map(|&x| f32::from(x)).collect()).collect();
        let turned: Vec<Vec<f32>> = embeddings.iter().rev().cloned().collect();
        let groups: Vec<u8> = rows.iter().map(|row| row.1).collect();
        let subjects: Vec<String> = groups.iter().map(u8::to_string).collect();
        let pairs = ImagePairs {
            previous: vectors(embeddings.clone()),
            current: vectors(turned.clone()),
            subjects: subjects.clone(),
            studies: (0..rows.len()).map(|n| [n, n]).collect(),
            findings: vec![("edema".into(), rows.iter().map(|row| row.2.map(|class| Course::ALL[class])).collect())],
        };
        let prototype = |n: usize| vectors(vec![embeddings[n].clone()]);
        let prototypes =
            [Prototypes { finding: "edema".into(), improving: prototype(0), worsening: prototype(1) }];
        check(&Progression { bootstrap: FEW, ..Progression::default() }.evaluate(&pairs, &prototypes).unwrap());
        for protocol in Protocol::ALL {
            check(&TemporalImage { protocol, bootstrap: FEW, ..TemporalImage::default() }.evaluate(&pairs).unwrap());
            let data = retrieval(&embeddings, &turned, &groups);
            check(&Retrieval { protocol, bootstrap: FEW, ..Retrieval::default() }.evaluate(&data).unwrap());
            let finding = BinaryFinding {
                name: "edema".into(),
                images: vectors(embeddings.clone()),
                positive: prototype(0),
                negative: prototype(1),
                truth: groups.iter().map(|group| group % 2 == 0).collect(),
                subjects: subjects.clone(),
                rows: (0..rows.len()).collect(),
            };
            check(&ZeroShot { protocol, bootstrap: FEW, ..ZeroShot::default() }.evaluate(&[finding]).unwrap());
            let sentences = SentencePairs {
                first: vectors(embeddings.clone()),
                second: vectors(turned.clone()),
                texts: groups.iter().map(|group| [group.to_string(), "other".to_string()]).collect(),
                paraphrase: groups.iter().map(|group| group % 3 == 0).collect(),
                subsets: vec![String::new(); rows.len()],
            };
            check(&TemporalSentence { protocol, bootstrap: FEW }.evaluate(&sentences).unwrap());
        }
    }
}
