//! The findings in a corpus, for [`crate::loss::findings`]: label columns named after a finding (0
//! or 1), their courses since the previous visit (`edema_progression`: improving, stable or
//! worsening, as in MS-CXR-T), and the label `boxes` ([`medst_data::boxes`]), whose phrases end
//! with the name of a finding ("left pleural effusion").

use medst_data::boxes::{self, Boxes};
use medst_data::image::crop::Corner;
use medst_data::study::Study;
use tch::Tensor;

use crate::labels::{Course, prompts};
use crate::model::input::Truth;
use crate::{Error, Result};

/// A statement about a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub text: String,
    /// The phrase of the boxes that the text names, where it is one.
    pub phrase: Option<String>,
    /// The index of a finding and its course, if the text states a course.
    pub course: Option<(usize, Course)>,
}

/// How a frontal picture was cut out of the stored square, in pixels of that square.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub stored: usize,
    pub corner: Corner,
    /// Side of the crop.
    pub side: usize,
    /// Patches per row and column of the crop.
    pub grid: usize,
}

/// A study of a batch.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    pub study: &'a Study,
    pub frame: Frame,
    /// The statement that is read in place of the report.
    pub statement: Option<Statement>,
    /// Whether the study before it in its sequence is its visit before, to which its courses refer.
    pub follows: bool,
}

/// Makes the truth of studies.
///
/// * `findings`: names in words, as in `model.findings`;
/// * `grid`: patches per row and column, needed even without studies (one of several processes may
///   have none).
///
/// # Errors
/// A study whose `boxes` label cannot be read; the message names it.
pub fn truth(studies: &[Known], findings: &[String], grid: usize) -> Result<Truth> {
    let patches = grid * grid;
    let mut present: Vec<f32> = Vec::with_capacity(studies.len() * findings.len());
    let mut covered: Vec<f32> = Vec::with_capacity(studies.len() * findings.len() * patches);
    let (mut courses_known, mut named, mut text_courses) = (Vec::new(), Vec::new(), Vec::new());
    for Known { study, frame, statement, follows } in studies {
        let labels = labels(study, findings);
        let regions = match study.labels.get(boxes::LABEL).filter(|label| !label.is_empty()) {
            Some(label) => Some(
                Boxes::parse(label)
                    .map_err(|message| Error::Training(format!("study {}: {message}", study.study.0)))?,
            ),
            None => None,
        };
        let shares: Vec<Option<Vec<f32>>> = findings
            .iter()
            .zip(&labels)
            .map(|(finding, &label)| {
                let covered = regions
                    .as_ref()
                    .map(|boxes| coverage(boxes, frame, |phrase| names(phrase, finding)))
                    .filter(|covered| covered.iter().any(|&x| x > 0.0));
                // A finding that is absent covers nothing; one that is present without a box may be
                // anywhere.
                covered.or_else(|| (label == 0.0).then(|| vec![0.0; patches]))
            })
            .collect();
        let phrase = statement.as_ref().and_then(|statement| statement.phrase.as_ref());
        let of_phrase =
            phrase.zip(regions.as_ref()).map(|(phrase, boxes)| coverage(boxes, frame, |named| named == phrase));
        named.extend(
            of_phrase.filter(|covered| covered.iter().any(|&x| x > 0.0)).unwrap_or_else(|| vec![f32::NAN; patches]),
        );
        courses_known.extend(courses(study, findings).into_iter().map(|course| direction(course.filter(|_| *follows))));
        let of_text = statement.as_ref().and_then(|statement| statement.course);
        text_courses.extend(
            (0..findings.len())
                .map(|finding| direction(of_text.filter(|course| course.0 == finding).map(|course| course.1))),
        );
        present.extend(&labels);
        covered.extend(
            (0..patches).flat_map(|patch| {
                shares.iter().map(move |share| share.as_ref().map_or(f32::NAN, |share| share[patch]))
            }),
        );
    }
    let (count, names) = (studies.len() as i64, findings.len() as i64);
    Ok(Truth {
        findings: Tensor::from_slice(&present).view([count, names]),
        patches: Tensor::from_slice(&covered).view([count, patches as i64, names]),
        named: Tensor::from_slice(&named).view([count, patches as i64]),
        courses: Tensor::from_slice(&courses_known).view([count, names]),
        text_courses: Tensor::from_slice(&text_courses).view([count, names]),
    })
}

/// 1, 0 or NaN for each finding.
pub(super) fn labels(study: &Study, findings: &[String]) -> Vec<f32> {
    let mut values = vec![f32::NAN; findings.len()];
    for (column, value) in &study.labels {
        let Some(index) = index_of(column, findings) else { continue };
        match value.trim().parse::<f32>() {
            Ok(value) if value == 0.0 || value == 1.0 => values[index] = value,
            _ => {}
        }
    }
    values
}

/// The course of each finding since the visit before; `None` where no label states it.
pub(super) fn courses(study: &Study, findings: &[String]) -> Vec<Option<Course>> {
    let mut values = vec![None; findings.len()];
    for (column, value) in &study.labels {
        if let Some(index) = column.strip_suffix("_progression").and_then(|column| index_of(column, findings)) {
            values[index] = Course::parse(value.trim());
        }
    }
    values
}

/// Which of the findings a label column is about.
fn index_of(column: &str, findings: &[String]) -> Option<usize> {
    let name = prompts::finding(column)?;
    findings.iter().position(|finding| *finding == name)
}

/// A course as a number; NaN where none is known.
fn direction(course: Option<Course>) -> f32 {
    match course {
        None => f32::NAN,
        Some(Course::Improving) => -1.0,
        Some(Course::Stable) => 0.0,
        Some(Course::Worsening) => 1.0,
    }
}

/// Whether a phrase ends with the name of a finding.
fn names(phrase: &str, finding: &str) -> bool {
    phrase.strip_suffix(finding).is_some_and(|before| before.is_empty() || before.ends_with(char::is_whitespace))
}

/// The share of each patch of the crop that boxes of certain phrases cover; boxes that overlap
/// count once, as the largest.
fn coverage(boxes: &Boxes, frame: &Frame, named: impl Fn(&str) -> bool) -> Vec<f32> {
    let mut shares = vec![0f32; frame.grid * frame.grid];
    let patch = frame.side as f64 / frame.grid as f64;
    for region in boxes.regions.iter().filter(|region| named(&region.phrase)) {
        let [left, top, right, bottom] = boxes.in_square(region).map(|border| border * frame.stored as f64);
        let across = |start: f64, end: f64, corner: usize, cell: usize| {
            let (start, end) = ((start - corner as f64) / patch, (end - corner as f64) / patch);
            (end.min(cell as f64 + 1.0) - start.max(cell as f64)).clamp(0.0, 1.0)
        };
        for row in 0..frame.grid {
            let high = across(top, bottom, frame.corner.top, row);
            for column in 0..frame.grid {
                let share = (high * across(left, right, frame.corner.left, column)) as f32;
                let cell = &mut shares[row * frame.grid + column];
                *cell = cell.max(share);
            }
        }
    }
    shares
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use medst_data::boxes::Region;
    use medst_data::split::Split;
    use medst_data::study::{ImageIndex, StudyId, SubjectId};

    use super::*;

    pub fn study(labels: &[(&str, &str)]) -> Study {
        Study {
            subject: SubjectId("a".into()),
            study: StudyId("b".into()),
            acquired: None,
            split: Split::Train,
            frontal: ImageIndex(0),
            alternative_frontals: Vec::new(),
            lateral: None,
            report: None,
            labels: labels.iter().map(|&(key, value)| (key.into(), value.into())).collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn labels_and_boxes_become_truth_where_they_are_known() {
        // The right half of the upper quarter of a square of 8 pixels, seen through a crop of 4
        // pixels that begins at (2, 0).
        let region = Region { phrase: "left pleural effusion".into(), left: 4.0, top: 0.0, right: 8.0, bottom: 2.0 };
        let label = Boxes { width: 8.0, height: 8.0, regions: vec![region] }.to_label();
        let study = study(&[
            ("Pleural Effusion", "1"),
            ("edema", "0"),
            ("pneumonia", "-1"),
            ("edema_progression", "worsening"),
            ("boxes", &label),
        ]);
        let frame = Frame { stored: 8, corner: Corner { top: 0, left: 2 }, side: 4, grid: 2 };
        let findings = ["pleural effusion", "edema", "pneumonia"].map(String::from);
        let known = |statement: Option<Statement>, follows| Known { study: &study, frame, statement, follows };
        let phrase = "left pleural effusion".to_string();
        let said = Statement { text: phrase.clone(), phrase: Some(phrase), course: None };
        let stable = Statement { text: "stable edema".into(), phrase: None, course: Some((1, Course::Stable)) };
        let both = [known(Some(said), true), known(Some(stable), false)];
        let truth = truth(&both, &findings, 2).unwrap();
        let values = |x: &Tensor| Vec::<f32>::try_from(x.contiguous().view([-1])).unwrap();
        let labels = values(&truth.findings);
        assert_eq!(labels[..2], [1.0, 0.0]);
        assert!(labels[2].is_nan());
        let patches = truth.patches.get(0);
        assert_eq!(values(&patches.select(1, 0)), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(values(&patches.select(1, 1)), [0.0; 4]);
        assert!(values(&patches.select(1, 2)).iter().all(|value| value.is_nan()));
        assert_eq!(values(&truth.named.get(0)), [0.0, 1.0, 0.0, 0.0]);
        assert!(values(&truth.named.get(1)).iter().all(|value| value.is_nan()));
        assert_eq!(values(&truth.courses.get(0))[1], 1.0);
        assert_eq!(values(&truth.text_courses.get(1))[1], 0.0);
        assert!(values(&truth.text_courses).iter().filter(|value| value.is_nan()).count() == 5);
        // The course of another visit's study is not that of the pair.
        assert!(values(&truth.courses.get(1)).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_broken_label_names_its_study() {
        let frame = Frame { stored: 8, corner: Corner { top: 0, left: 0 }, side: 8, grid: 2 };
        let study = study(&[("boxes", "{")]);
        let known = Known { study: &study, frame, statement: None, follows: false };
        let error = truth(&[known], &["edema".into()], 2).unwrap_err().to_string();
        assert!(error.contains("study b"), "{error}");
    }
}
