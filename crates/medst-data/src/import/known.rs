//! The subjects, studies and images of a source, including those that cannot be used: a benchmark
//! may refer to a patient by an image whose view is unknown.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ids::{Ids, Images};

/// The ids of a source, and whose they are.
#[derive(Debug, Default)]
pub struct Known {
    pub subjects: Ids,
    pub studies: Ids,
    pub images: Images,
    of_study: HashMap<String, String>,
    of_image: HashMap<PathBuf, String>,
    with_images: bool,
}

impl Known {
    /// * `with_images`: whether images will be looked up; their names take memory.
    pub fn new(with_images: bool) -> Known {
        Known { with_images, ..Known::default() }
    }

    /// * `study`: empty where a row does not name one.
    pub fn insert(&mut self, subject: &str, study: &str, image: &Path) {
        self.subjects.insert(subject);
        if !study.is_empty() && !self.of_study.contains_key(study) {
            self.studies.insert(study);
            self.of_study.insert(study.into(), subject.into());
        }
        if self.with_images && !self.of_image.contains_key(image) {
            self.images.insert(image);
            self.of_image.insert(image.into(), subject.into());
        }
    }

    pub fn owner_of_study(&self, study: &str) -> Option<&str> {
        self.of_study.get(study).map(String::as_str)
    }

    pub fn owner_of_image(&self, image: &Path) -> Option<&str> {
        self.of_image.get(image).map(String::as_str)
    }
}
