//! The hard phantom cohort has the properties that it is made for; the plain one has kept its
//! bytes.

use std::fs;

use medst_data::progress::Silent;
use medst_data::split::Split;
use medst_phantom::cohort::Patient;
use medst_phantom::course::Change;
use medst_phantom::{Difficulty, PhantomOptions, generate};
use sha2::{Digest, Sha256};

fn patients(difficulty: Difficulty, count: u32) -> Vec<Patient> {
    (0..count).map(|number| Patient::draw_as(21, number, difficulty)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (mx, my) = (mean(&x), mean(&y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(x, y)| f(x - mx, y - my)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// What the demo, the tests and every earlier figure were made with.
#[test]
fn the_plain_cohort_has_kept_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let options = PhantomOptions { subjects: 6, seed: 2, size: 96, ..PhantomOptions::default() };
    generate(folder.path(), &options, &Silent).unwrap();
    let mut hash = Sha256::new();
    let mut files: Vec<_> = walk(folder.path());
    files.sort();
    for file in &files {
        let bytes = fs::read(file).unwrap();
        hash.update(if file.ends_with("studies.csv") { without_courses(&bytes) } else { bytes });
    }
    assert_eq!(format!("{:x}", hash.finalize())[..16], *PLAIN, "{} files", files.len());
}

/// A table without the columns that came later.
fn without_courses(table: &[u8]) -> Vec<u8> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(table);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let kept: Vec<usize> = (0..rows[0].len()).filter(|&column| !rows[0][column].ends_with("_progression")).collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(kept.iter().map(|&column| &row[column])).unwrap());
    writer.into_inner().unwrap()
}

/// Of the bytes that the program wrote before there was a hard cohort.
const PLAIN: &str = "d49cef9c102c1bc3";

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn hidden_findings_leave_the_frontal_picture_as_it_is_and_show_on_the_lateral_one() {
    let mut seen = 0;
    for patient in patients(Difficulty::Hard, 60) {
        let hidden = |patient: &Patient| patient.courses.iter().any(|course| course.hidden);
        if !hidden(&patient) {
            continue;
        }
        let visits = patient.visits.len();
        let at =
            (0..visits).find(|&visit| patient.present(visit).iter().any(|(_, own)| own.hidden && own.severity > 0.4));
        let Some(visit) = at else { continue };
        let [frontal, lateral] = [patient.frontal(visit, 96).pixels, patient.lateral(visit, 96).pixels];
        let boxes = patient.frontal(visit, 96).boxes;
        for ((_, own), bounds) in patient.present(visit).iter().zip(boxes) {
            assert!(!own.hidden || bounds.is_none(), "a hidden finding has no box on the frontal picture");
        }
        let mut healthy = Patient::draw_as(21, patient.number, Difficulty::Hard);
        healthy.courses.retain(|course| !course.hidden);
        assert_eq!(healthy.frontal(visit, 96).pixels, frontal);
        // On the lateral one it darkens nothing and whitens its place, well beyond a grey level.
        let other = healthy.lateral(visit, 96).pixels;
        let most = lateral.iter().zip(&other).map(|(&a, &b)| i32::from(a) - i32::from(b)).max().unwrap();
        assert!(most > 8, "patient {}: {most}", patient.number);
        seen += 1;
    }
    assert!(seen >= 8, "{seen} patients with a hidden finding");
}

#[test]
fn reports_tell_hidden_findings_only_with_a_lateral_view() {
    let (mut mentions, mut omissions) = (0, 0);
    for patient in patients(Difficulty::Hard, 300) {
        for (number, visit) in patient.visits.iter().enumerate() {
            for (_, own) in patient.present(number).iter().filter(|(_, own)| own.hidden) {
                let mentioned = visit.mentioned.contains(&own.finding);
                assert!(!mentioned || visit.has_lateral, "{}", visit.report);
                mentions += usize::from(mentioned);
                omissions += usize::from(!mentioned && !visit.has_lateral);
            }
        }
    }
    assert!(mentions > 50 && omissions > 50, "{mentions} mentioned, {omissions} not");
}

#[test]
fn changes_are_smaller() {
    let steps = |difficulty| {
        let patients = patients(difficulty, 300);
        let courses = patients.iter().flat_map(|patient| &patient.courses);
        let changed = courses.flat_map(|course| {
            let visits = 1..course.severities.len();
            let of = |visit: usize| (course.severities[visit] - course.severities[visit - 1]).abs();
            let moves = |change| matches!(change, Change::Improving | Change::Worsening);
            visits.filter(|&visit| moves(course.change(visit))).map(|visit| f64::from(of(visit))).collect::<Vec<_>>()
        });
        changed.collect::<Vec<f64>>()
    };
    let (plain, hard) = (steps(Difficulty::Plain), steps(Difficulty::Hard));
    assert!(hard.len() > 100 && mean(&hard) < 0.9 * mean(&plain), "{} {}", mean(&hard), mean(&plain));
}

/// Sickness and darkness go together where a model learns, and not where it is judged: the same
/// patient, in either split.
#[test]
fn exposure_is_a_shortcut_in_the_training_split_alone() {
    let mut pairs = Vec::new();
    let mut equal = 0;
    for mut patient in patients(Difficulty::Hard, 60) {
        let present = patient.present(0);
        let sickness: f32 = present.iter().filter(|(_, own)| !own.hidden).map(|(_, own)| own.severity).sum();
        let mut brightness = |split| {
            patient.split = split;
            let pixels = patient.frontal(0, 64).pixels;
            pixels.iter().map(|&grey| f64::from(grey)).sum::<f64>() / pixels.len() as f64
        };
        let [training, validation, test] = [Split::Train, Split::Validate, Split::Test].map(&mut brightness);
        equal += usize::from(validation == test);
        pairs.push((f64::from(sickness.min(1.0)), training - test));
    }
    assert_eq!(equal, 60, "the other splits do not differ");
    let found = correlation(&pairs);
    assert!(found < -0.6, "{found:.2}");
}

#[test]
fn priors_mislead_and_history_names_what_is_absent() {
    let words = ["improved", "decrease", "decreased", "worse", "increase", "progressed", "unchanged", "stable"];
    let (mut stale, mut history, mut reports) = (0, 0, 0);
    for patient in patients(Difficulty::Hard, 300) {
        for (number, visit) in patient.visits.iter().enumerate().skip(1) {
            let text = visit.report.to_lowercase();
            reports += 1;
            history += usize::from(["history of", "outside study", "years ago"].iter().any(|own| text.contains(own)));
            // Nothing in the report mentions a change, though the finding that it mentions did
            // change.
            let changed = patient.courses.iter().any(|course| {
                let change = course.change(number);
                matches!(change, Change::Improving | Change::Worsening) && visit.mentioned.contains(&course.finding)
            });
            stale += usize::from(changed && !words.iter().any(|own| text.contains(own)));
        }
    }
    assert!(history * 5 > reports && history * 2 < reports, "{history} of {reports} reports mention history");
    assert!(stale > 30, "{stale} reports omit a change of a finding that they mention");
    let plain = patients(Difficulty::Plain, 100);
    assert!(plain.iter().flat_map(|patient| &patient.visits).all(|visit| !visit.report.contains("History of")));
}
