//! `medst compare`.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use medst_data::corpus::Corpus;
use medst_data::gather::{DeclaredView, Gathered, gather};
use medst_data::report::Rule;
use medst_infer::infer::Engine;
use medst_infer::infer::check::Checked;
use medst_infer::infer::compare::{TimePoint, compare};
use medst_infer::infer::course::CourseCalibration;
use medst_infer::infer::sentences::Sentences;
use medst_infer::infer::stream::{self, StudyInput};
use medst_infer::labels::prompts::MS_CXR_T;
use medst_infer::stats::bootstrap::Bootstrap;
use medst_model::Error;

use super::{Output, open, time_point};
use crate::args::Compare;

pub fn run(arguments: &Compare, output: &Output) -> Result<()> {
    if let Some(file) = &arguments.fit_calibration {
        let corpora = corpora(arguments)?;
        let engine = open::model(&arguments.model)?;
        let fitted = CourseCalibration::fit(&engine, &corpora)?;
        fitted.write(file)?;
        output.show(&fitted)?;
        return match fitted.left_out.len() {
            0 => Ok(()),
            left_out => Err(Error::LeftOut { left_out, all: left_out + fitted.fits.len(), what: "findings" }.into()),
        };
    }
    if let Some(file) = &arguments.check_calibration {
        let corpora = corpora(arguments)?;
        let engine = open::model(&arguments.model)?;
        let calibration = CourseCalibration::read(file, &engine)?;
        let check = |corpus| Checked::new(&engine, &calibration, corpus, Bootstrap::default());
        return output.show(&AllChecked(corpora.iter().map(check).collect::<medst_model::Result<_>>()?));
    }
    let engine = open::model(&arguments.model)?;
    let rule = engine.reader().rule();
    let gathered = match &arguments.subject {
        Some(subject) => of_subject(arguments, subject, rule)?,
        None => {
            let parse = |text: &String| time_point::parse(text, rule);
            let studies = arguments.time_points.iter().map(parse).collect::<Result<_>>()?;
            Gathered { studies, ..Gathered::default() }
        }
    };
    let mut points = points(&engine, &gathered)?;
    if points.iter().all(|point| point.day.is_some()) {
        points.sort_by(|a, b| a.day.partial_cmp(&b.day).unwrap_or(std::cmp::Ordering::Equal));
    }
    let given = arguments.finding.iter().map(|name| name.trim().to_lowercase());
    let mut findings: Vec<String> = given.collect();
    if findings.is_empty() {
        findings = MS_CXR_T.map(str::to_string).to_vec();
    }
    let findings: Vec<Sentences> =
        findings.iter().map(|name| Sentences::new(&engine, name)).collect::<medst_model::Result<_>>()?;
    let calibration = arguments.calibration.as_ref().map(|file| CourseCalibration::read(file, &engine)).transpose()?;
    output.show(&compare(&engine, &points, &findings, calibration.as_ref())?)
}

/// The result for each corpus.
#[derive(serde::Serialize)]
struct AllChecked(Vec<Checked>);

impl fmt::Display for AllChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|checked| write!(f, "{checked}"))
    }
}

/// The corpora that calibrations are made of and checked on.
fn corpora(arguments: &Compare) -> medst_model::Result<Vec<Corpus>> {
    arguments.time_points.iter().map(|path| Ok(Corpus::open(&PathBuf::from(path))?)).collect()
}

/// The studies of one subject of a corpus or table.
fn of_subject(arguments: &Compare, subject: &str, rule: Rule) -> Result<Gathered> {
    let inputs: Vec<PathBuf> = arguments.time_points.iter().map(PathBuf::from).collect();
    let mut gathered = gather(&inputs, DeclaredView::Auto, rule)?;
    gathered.studies.retain(|study| study.subject.as_deref() == Some(subject) && study.is_seen());
    if gathered.studies.is_empty() {
        let name = arguments.time_points.join(", ");
        return Err(Error::Input(format!("{name} has no image of subject {subject}")).into());
    }
    Ok(gathered)
}

/// Embeds the time points. An unreadable file is an error, because the comparison would differ
/// without it.
fn points(engine: &Engine, gathered: &Gathered) -> Result<Vec<TimePoint>> {
    let mut points = Vec::new();
    for study in &gathered.studies {
        let views = stream::views(StudyInput::found(study, gathered.corpus.as_ref()), engine.preprocessing())?;
        let Some(views) = views else { continue };
        let report = study.report.as_ref().and_then(|report| engine.reader().cleaned(report).ok());
        points.push(TimePoint { name: study.id.clone(), day: study.acquired.map(|day| day.0), views, report });
    }
    Ok(points)
}
