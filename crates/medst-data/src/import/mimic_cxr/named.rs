//! Images of MIMIC-CXR that a benchmark names by their DICOM ids. Each becomes a separate study,
//! whose id is the DICOM id.

use std::collections::HashMap;
use std::path::PathBuf;

use super::MimicCxr;
use crate::import::assemble::{Assembly, FoundImage};
use crate::progress::Progress;
use crate::split::Split;
use crate::study::{Day, StudyId, SubjectId, View};
use crate::{Reason, Result};

/// The images that a benchmark names.
#[derive(Debug)]
pub struct Named<'a> {
    images: &'a MimicCxr,
    listed: HashMap<String, Option<Listed>>,
    split: Split,
}

/// An image as MIMIC-CXR lists it.
#[derive(Debug)]
struct Listed {
    subject: String,
    study: String,
    view: Result<View, Reason>,
    acquired: Option<Day>,
}

impl<'a> Named<'a> {
    /// Looks the ids up; returns the list of images that was read, too.
    ///
    /// # Errors
    /// A folder that is not MIMIC-CXR, or a list that cannot be understood.
    pub fn find(
        images: &'a MimicCxr,
        ids: impl Iterator<Item = String>,
        split: Split,
        progress: &dyn Progress,
    ) -> Result<(Named<'a>, PathBuf)> {
        let (main, list) = super::records::list(images)?;
        let mut listed: HashMap<String, Option<Listed>> = ids.map(|id| (id, None)).collect();
        list.with_views(images, progress, |record, view, acquired| {
            if let Some(slot) = listed.get_mut(record.dicom) {
                let (subject, study) = (record.subject.to_string(), record.study.to_string());
                *slot = Some(Listed { subject, study, view, acquired });
            }
            Ok(())
        })?;
        Ok((Named { images, listed, split }, main))
    }

    /// The study of an image, which is added if it is new; `None` if the image cannot be used,
    /// which is recorded.
    ///
    /// # Errors
    /// As `Assembly::add`.
    pub fn add(&self, assembly: &mut Assembly, id: &str, row: u64) -> Result<Option<usize>> {
        let study = StudyId(id.to_string());
        if let Some(index) = assembly.index_of(&study) {
            return Ok(Some(index));
        }
        let Some(Some(listed)) = self.listed.get(id) else {
            assembly.plan.skip(id, row, "image is not in the list of MIMIC-CXR");
            return Ok(None);
        };
        let path = self.images.image(&listed.subject, &listed.study, id);
        // Benchmarks contain frontal images, so an image whose view MIMIC-CXR does not state is
        // assumed to be frontal.
        let view = listed.view.clone().unwrap_or(View::Ap);
        if !view.is_frontal() {
            assembly.plan.skip(path.display().to_string(), row, "image of a pair is not a frontal view");
            return Ok(None);
        }
        let image = FoundImage {
            subject: SubjectId(listed.subject.clone()),
            study,
            view,
            path,
            row,
            acquired: listed.acquired,
            split: Some(self.split),
        };
        let index = assembly.add(image)?;
        if listed.view.is_ok() {
            assembly.label_view(index, view);
        }
        Ok(Some(index))
    }

    /// The studies of several images of one subject, in order; `None` when one cannot be used or is
    /// another subject's, which is noted.
    ///
    /// # Errors
    /// As `Assembly::add`.
    pub fn add_all(&self, assembly: &mut Assembly, ids: &[String], row: u64) -> Result<Option<Vec<usize>>> {
        let mut indices = Vec::with_capacity(ids.len());
        for id in ids {
            match self.add(assembly, id, row)? {
                Some(index) => indices.push(index),
                None => return Ok(None),
            }
        }
        let subject = |index: &usize| &assembly.plan.studies[*index].subject;
        if indices.iter().any(|index| subject(index) != subject(&indices[0])) {
            assembly.plan.skip(ids.join(" "), row, "images of one series belong to several subjects");
            return Ok(None);
        }
        Ok(Some(indices))
    }
}
