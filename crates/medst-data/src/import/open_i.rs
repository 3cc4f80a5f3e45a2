//! Open-I, the Indiana University collection: XML reports (`ecgen-radiology/*.xml`) and images as
//! PNG or DICOM.
//!
//! The reports do not state the views of their images. A view is taken from
//! `indiana_projections.csv` (columns `filename`, `projection`) where that exists, else from the
//! DICOM headers, else, where a report has a single image, from a caption that mentions one frontal
//! view; other images are counted and left out. Without dates, studies join no sequence.
//! Redacted words (`XXXX`) are left out of the text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::assemble::{Assembly, FoundImage};
use super::plan::ReportText;
use super::rows::Rows;
use super::{Planned, PrepareOptions};
use crate::image;
use crate::progress::Progress;
use crate::study::{StudyId, SubjectId, View};
use crate::{Error, Reason, Result, input};

/// A longer file is not taken for a report; the longest of the collection has 20 kB.
const LONGEST: u64 = 4 << 20;

/// The folder of the collection.
#[derive(Clone, Debug, Default)]
pub struct OpenI {
    /// The folder with reports and images, in any sub-folders.
    pub root: PathBuf,
}

/// The contents of a report file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    id: Option<String>,
    findings: Option<String>,
    impression: Option<String>,
    labels: Vec<String>,
    /// Image names without extension, and their captions.
    images: Vec<(String, String)>,
}

/// Reads the reports and finds the images.
///
/// # Errors
/// A folder without reports.
pub fn plan(source: &OpenI, options: &PrepareOptions, progress: &dyn Progress) -> Result<Planned> {
    let mut files = Vec::new();
    super::files_below(&source.root, &mut files)?;
    files.sort();
    let with = |extension: &'static str| {
        files.iter().filter(move |path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(extension)))
    };
    let images: HashMap<String, &PathBuf> =
        ["dcm", "jpg", "png"].into_iter().flat_map(with).map(|path| (image_key(path), path)).collect();
    let table = files.iter().find(|path| path.ends_with("indiana_projections.csv"));
    let projections = table.map(|table| read_projections(table)).transpose()?.unwrap_or_default();
    let reports: Vec<&PathBuf> = with("xml").collect();
    if reports.is_empty() {
        let folder = source.root.display();
        return Err(Error::Usage(format!("{folder} is not an Open-I collection: it contains no XML reports")));
    }
    let mut assembly = Assembly::new(&source.root, options)?;
    progress.begin("reading reports", Some(reports.len() as u64));
    for (number, &path) in reports.iter().enumerate() {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        progress.advance(1);
        let row = number as u64 + 1;
        let report = match read_report(path) {
            Ok(report) => report,
            Err(reason) => {
                assembly.plan.skip(path.display().to_string(), row, reason);
                continue;
            }
        };
        let id = report.id.clone().unwrap_or_else(|| super::ids::image_name(path));
        if report.images.is_empty() {
            assembly.plan.skip(path.display().to_string(), row, "report lists no image");
        }
        for (name, caption) in &report.images {
            let Some(&image) = images.get(&image_key(Path::new(name))) else {
                assembly.plan.skip(name.clone(), row, "image file does not exist");
                continue;
            };
            let view = projections.get(&image_key(image)).copied().or_else(|| of_header(image));
            let view = view.or_else(|| of_caption(caption, report.images.len()));
            let Some(view) = view else {
                assembly.know(&id, &id, image);
                assembly.plan.skip(
                    image.display().to_string(),
                    row,
                    "view is unknown (indiana_projections.csv would state it)",
                );
                continue;
            };
            let (subject, study) = (SubjectId(id.clone()), StudyId(id.clone()));
            let found = FoundImage { subject, study, view, path: image.clone(), row, acquired: None, split: None };
            let index = assembly.add(found)?;
            let (impression, findings) = (report.impression.clone(), report.findings.clone());
            if impression.is_some() || findings.is_some() {
                assembly.report(index, ReportText::Sections { impression, findings, last_paragraph: None });
            }
            if !report.labels.is_empty() {
                assembly.label(index, "MeSH", report.labels.join("; "));
            }
        }
    }
    progress.end();
    let files = table.cloned().into_iter().chain(reports.into_iter().cloned()).collect();
    Ok(Planned { plan: assembly.finish(options)?, files })
}

/// The part of a file name that identifies the image: `CXR1_1_IM-0001-3001.png` and
/// `1_IM-0001-3001.dcm.png` are the same one.
fn image_key(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = [".png", ".jpg", ".dcm"].iter().fold(&*name, |name, end| name.strip_suffix(end).unwrap_or(name));
    name.find("IM-").map_or(name, |start| &name[start..]).to_string()
}

fn read_projections(path: &Path) -> Result<HashMap<String, View>> {
    let mut rows = Rows::open(path)?;
    let (file, projection) = (rows.column("filename")?, rows.column("projection")?);
    let mut views = HashMap::new();
    rows.each(|row| {
        let view = match row.cell(projection) {
            Some("Frontal") => Some(View::Pa),
            Some("Lateral") => Some(View::Lateral),
            _ => None,
        };
        if let (Some(file), Some(view)) = (row.cell(file), view) {
            views.insert(image_key(Path::new(file)), view);
        }
        Ok(())
    })?;
    Ok(views)
}

fn of_header(image: &Path) -> Option<View> {
    image.extension().is_some_and(|end| end == "dcm").then(|| image::dicom_header(image).ok()?.view)?
}

/// The view in a caption that mentions one frontal view, where the report has a single image.
fn of_caption(caption: &str, images: usize) -> Option<View> {
    let caption = caption.to_lowercase();
    let words: Vec<&str> = caption.split(|c: char| !c.is_alphanumeric()).collect();
    if images != 1 || words.contains(&"lateral") || words.contains(&"views") {
        return None;
    }
    let frontal = [("pa", View::Pa), ("ap", View::Ap), ("frontal", View::Pa)];
    frontal.into_iter().find_map(|(word, view)| words.contains(&word).then_some(view))
}

fn read_report(path: &Path) -> Result<Report, Reason> {
    let file = input::open(path).map_err(|error| format!("report is unreadable: {error}"))?;
    let mut bytes = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(file, LONGEST), &mut bytes);
    read.map_err(|error| format!("report is unreadable: {}", error.kind()))?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Result<Report, Reason> {
    // No document type declarations: entities could grow without bound.
    let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: 100_000, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options)
        .map_err(|error| format!("report is not readable XML: {error}"))?;
    let mut report = Report::default();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let text = || {
            let text: String = node.descendants().filter_map(|part| part.text().filter(|_| part.is_text())).collect();
            let text = text.replace("XXXX", " ");
            Some(text.trim().to_string()).filter(|text| !text.is_empty())
        };
        match node.tag_name().name() {
            "uId" => report.id = node.attribute("id").map(str::to_string),
            "AbstractText" => match node.attribute("Label") {
                Some("FINDINGS") => report.findings = text(),
                Some("IMPRESSION") => report.impression = text(),
                _ => {}
            },
            "major" => report.labels.extend(text()),
            "parentImage" => {
                let caption = node.children().find(|child| child.has_tag_name("caption"));
                let caption = caption.and_then(|caption| caption.text()).unwrap_or_default();
                report.images.extend(node.attribute("id").map(|id| (id.to_string(), caption.to_string())));
            }
            _ => {}
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR1"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="FINDINGS">The heart is XXXX normal &amp; clear.</AbstractText>
<AbstractText Label="IMPRESSION"></AbstractText></Abstract></Article></MedlineCitation>
<MeSH><major>normal</major></MeSH>
<parentImage id="CXR1_1_IM-0001-3001"><caption>Xray Chest PA and Lateral</caption></parentImage></eCitation>"#;

    #[test]
    fn reports_are_read() {
        let report = parse(XML).unwrap();
        assert_eq!(report.id.as_deref(), Some("CXR1"));
        assert_eq!(report.findings.as_deref(), Some("The heart is   normal & clear."));
        assert_eq!((report.impression, report.labels), (None, vec!["normal".to_string()]));
        assert_eq!(report.images, [("CXR1_1_IM-0001-3001".into(), "Xray Chest PA and Lateral".into())]);
        assert!(parse("<a>").unwrap_err().to_string().contains("not readable XML"));
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><x>&a;</x>";
        assert!(parse(bomb).is_err());
    }

    #[test]
    fn one_image_has_two_names() {
        assert_eq!(image_key(Path::new("a/CXR1_1_IM-0001-3001.png")), "IM-0001-3001");
        assert_eq!(image_key(Path::new("1_IM-0001-3001.dcm.png")), "IM-0001-3001");
    }

    #[test]
    fn captions_tell_a_view_only_of_a_single_frontal_image() {
        assert_eq!(of_caption("Chest PA", 1), Some(View::Pa));
        assert_eq!(of_caption("AP chest, portable", 1), Some(View::Ap));
        assert_eq!(of_caption("PA and lateral chest", 1), None);
        assert_eq!(of_caption("Chest PA", 2), None);
    }
}
