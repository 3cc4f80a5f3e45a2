//! The phantom cohort: the same bytes for the same seed, reports that agree with the truth,
//! findings that show where the truth says they do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use medst_data::progress::{Silent, Stoppable};
use medst_phantom::canvas::{Canvas, Noise, Pose};
use medst_phantom::cohort::Patient;
use medst_phantom::course::{Change, PRESENT};
use medst_phantom::finding::{Finding, Present, Side, Zone};
use medst_phantom::layout::write_png;
use medst_phantom::{PhantomOptions, generate, projection};
use proptest::prelude::*;

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_seed_decides_every_byte_whatever_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let draw = |name: &str, seed, threads| {
        let out = folder.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            generate(&out, &PhantomOptions { subjects: 9, seed, size: 64, ..PhantomOptions::default() }, &Silent)
        })
        .unwrap();
        files(&out)
    };
    let (one, two, other) = (draw("one", 5, 1), draw("two", 5, 2), draw("other", 6, 2));
    assert!(one.len() > 12);
    assert!(one == two);
    assert!(one["studies.csv"] != other["studies.csv"]);
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let options = PhantomOptions { subjects: 1, seed: 0, size: 64, ..PhantomOptions::default() };
    let error = generate(folder.path(), &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    let none = generate(&folder.path().join("new"), &PhantomOptions { subjects: 0, ..options }, &Silent);
    assert!(none.unwrap_err().to_string().contains("at least one subject"));
}

/// A folder with another program's marker of the same name, or with a foreign file next to ours,
/// must keep every file.
#[test]
fn only_an_interrupted_cohort_of_ours_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let options = PhantomOptions { subjects: 1, seed: 0, size: 64, ..PhantomOptions::default() };
    let out = folder.path().join("foreign");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("unfinished"), "").unwrap();
    fs::write(out.join("thesis.txt"), "years of work").unwrap();
    let error = generate(&out, &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(files(&out).len(), 2);

    let out = folder.path().join("interrupted");
    fs::create_dir(&out).unwrap();
    assert!(generate(&out, &options, &Stoppable(true.into())).is_err());
    assert!(out.join("unfinished").exists() && !out.join("cohort.json").exists());
    fs::write(out.join("notes.txt"), "keep me").unwrap();
    let error = generate(&out, &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("notes.txt"), "{error}");
    fs::remove_file(out.join("notes.txt")).unwrap();
    generate(&out, &options, &Silent).unwrap();
    let whole = folder.path().join("whole");
    generate(&whole, &options, &Silent).unwrap();
    assert!(files(&out) == files(&whole));
}

/// A picture that does not fit on the disk is an error, however small it is.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_noticed() {
    let picture = Patient::draw(0, 0).frontal(0, 64);
    let error = write_png(Path::new("/dev/full"), &picture).unwrap_err().to_string();
    assert!(error.contains("/dev/full"), "{error}");
}

/// Words by which a sentence mentions a finding.
fn speaks_of(finding: Finding) -> &'static [&'static str] {
    match finding {
        Finding::Consolidation => &["consolidation"],
        Finding::Edema => &["edema", "pulmonary vasculature is normal"],
        Finding::PleuralEffusion => &["effusion", "costophrenic"],
        Finding::Pneumonia => &["pneumonia", "patchy", "ill defined"],
        Finding::Pneumothorax => &["pneumothorax"],
        Finding::Atelectasis => &["atelectasis"],
        Finding::Cardiomegaly => &["cardiomegaly", "cardiac silhouette", "heart", "cardiac size"],
    }
}

fn denies(sentence: &str) -> bool {
    ["no ", "not ", "without", "normal", "sharp", "clear of"].iter().any(|word| sentence.contains(word))
        && !sentence.contains("no significant change")
}

#[test]
fn reports_agree_with_the_truth() {
    let (mut stated, mut denied) = (0, 0);
    for number in 0..300 {
        let patient = Patient::draw(11, number);
        for (n, visit) in patient.visits.iter().enumerate() {
            let present: BTreeSet<Finding> = patient.present(n).iter().map(|(_, present)| present.finding).collect();
            let resolved: BTreeSet<Finding> =
                patient.courses.iter().filter(|c| c.change(n) == Change::Resolved).map(|c| c.finding).collect();
            assert!(visit.mentioned.iter().all(|finding| present.contains(finding)));
            let report = visit.report.to_lowercase();
            for sentence in report.split_once("findings:").unwrap().1.split('.') {
                for finding in Finding::ALL.into_iter().filter(|&f| speaks_of(f).iter().any(|w| sentence.contains(w))) {
                    if denies(sentence) {
                        denied += 1;
                        assert!(!present.contains(&finding), "{finding:?} is there but denied: {sentence}");
                    } else if !resolved.contains(&finding) {
                        stated += 1;
                        assert!(
                            visit.mentioned.contains(&finding),
                            "{finding:?} is mentioned but not marked: {sentence}"
                        );
                    }
                }
            }
        }
    }
    assert!(stated > 300 && denied > 300, "{stated} stated, {denied} denied");
}

/// Whole-chest statements that deny findings without naming them.
#[test]
fn no_report_calls_normal_what_it_describes() {
    let normal = [
        "no acute cardiopulmonary process",
        "no acute intrathoracic abnormality",
        "no evidence of acute disease",
        "unremarkable chest radiograph",
        "no radiographic explanation",
        "lungs are clear without",
    ];
    let (mut described, mut quiet) = (0, 0);
    for patient in (0..300).map(|number| Patient::draw(13, number)) {
        for (n, visit) in patient.visits.iter().enumerate() {
            let report = visit.report.to_lowercase();
            let called_normal = normal.iter().any(|words| report.contains(words));
            if visit.mentioned.is_empty() {
                quiet += usize::from(called_normal);
            } else {
                described += 1;
                assert!(!called_normal, "{report}");
            }
            let present = |finding| patient.present(n).iter().any(|(_, present)| present.finding == finding);
            assert!(!(present(Finding::Cardiomegaly) && report.contains("silhouette is within")), "{report}");
            assert!(!(present(Finding::Edema) && report.contains("hilar contours are unremarkable")), "{report}");
        }
    }
    assert!(described > 300 && quiet > 50, "{described} described, {quiet} quiet");
}

#[test]
fn reports_are_no_lookup_table() {
    let reports: Vec<String> = (0..200).flat_map(|n| Patient::draw(2, n).visits).map(|visit| visit.report).collect();
    let distinct: BTreeSet<&String> = reports.iter().collect();
    assert!(distinct.len() as f64 > 0.95 * reports.len() as f64, "{} of {}", distinct.len(), reports.len());
}

#[test]
fn every_course_and_every_finding_occurs() {
    let patients: Vec<Patient> = (0..300).map(|n| Patient::draw(4, n)).collect();
    let mut changes = BTreeSet::new();
    let mut findings = BTreeSet::new();
    for patient in &patients {
        assert!((1..=8).contains(&patient.visits.len()));
        assert!(patient.visits.windows(2).all(|pair| pair[0].day < pair[1].day));
        for course in &patient.courses {
            findings.insert(course.finding);
            for visit in 0..patient.visits.len() {
                changes.insert(course.change(visit).name());
                assert_eq!(course.at(visit).is_some(), course.severities[visit] >= PRESENT);
            }
        }
    }
    assert_eq!(findings.len(), Finding::ALL.len());
    for change in [Change::First, Change::New, Change::Improving, Change::Stable, Change::Worsening, Change::Resolved] {
        assert!(changes.contains(change.name()), "no course is {}", change.name());
    }
}

/// The attenuation a finding adds must be where its box says, in the views that show it.
#[test]
fn findings_show_in_their_box_and_nowhere_else() {
    let anatomy = Patient::draw(1, 1).anatomy;
    let canvas = || Canvas::new(120, 128, Pose { centre: (0.0, 17.0), rotation: 0.0, height: 34.0 });
    for finding in Finding::ALL {
        for severity in [0.2f32, 0.5, 0.9] {
            let side = if finding.has_side() { Side::Right } else { Side::Both };
            let noise = Noise { seed: 5 };
            let present = Present { finding, side, zone: Zone::Lower, severity, noise, hidden: false, contrast: 1.0 };
            let shown = [present.visible_on_frontal(), present.visible_on_lateral()];
            let projected = [
                projection::frontal(&anatomy, std::slice::from_ref(&present), canvas()),
                projection::lateral(&anatomy, std::slice::from_ref(&present), canvas()),
            ];
            for (shown, projected) in shown.into_iter().zip(projected) {
                let share = &projected.shares[0];
                let bounds = share.bounds(0.3);
                assert_eq!(bounds.is_some(), shown, "{finding:?} at {severity}");
                let Some([left, top, right, bottom]) = bounds else { continue };
                let (mut inside, mut outside) = (0.0, 0.0);
                for (place, value) in share.values.iter().enumerate() {
                    let (x, y) = ((place % 120) as u32, (place / 120) as u32);
                    if (left..right).contains(&x) && (top..bottom).contains(&y) {
                        inside += value.abs()
                    } else {
                        outside += value.abs()
                    }
                }
                assert!(inside > 2.0 * outside, "{finding:?} at {severity}: {inside} inside, {outside} outside");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_patient_can_be_drawn(seed: u64, number in 0u32..65536) {
        let patient = Patient::draw(seed, number);
        let picture = patient.frontal(0, 64);
        prop_assert_eq!(picture.pixels.len(), picture.width * picture.height);
        let (low, high) = (picture.pixels.iter().min().unwrap(), picture.pixels.iter().max().unwrap());
        prop_assert!(high - low > 100, "a picture without contrast: {} to {}", low, high);
        prop_assert_eq!(picture.boxes.len(), patient.present(0).len());
    }
}
