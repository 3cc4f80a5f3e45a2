//! The parts of a model that a file must contain completely or not at all.

use serde::Serialize;

/// A side of the model: an encoder with its projections and its importance attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Image,
    Text,
}

impl Side {
    /// The name that a user types.
    pub fn name(self) -> &'static str {
        match self {
            Side::Image => "image",
            Side::Text => "text",
        }
    }
}

/// A part of the model. A file with one tensor of a part must have all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The image encoder without its lateral experts.
    ImageEncoder,
    LateralExperts,
    ReportEncoder,
    ImageGlobal,
    PatchLocal,
    ReportGlobal,
    WordLocal,
    WordImportance,
    PatchImportance,
    /// Not of the paper; a model need not have the last three.
    FindingHeads,
    Contrast,
    TaskHead,
}

impl Group {
    /// The part that the tensor we call `name` belongs to.
    pub fn from_name(name: &str) -> Option<Group> {
        Some(match name.split_once('.')?.0 {
            "image_encoder" if name.contains(".lateral_expert.") => Group::LateralExperts,
            "image_encoder" => Group::ImageEncoder,
            "report_encoder" => Group::ReportEncoder,
            "image_global" => Group::ImageGlobal,
            "patch_local" => Group::PatchLocal,
            "report_global" => Group::ReportGlobal,
            "word_local" => Group::WordLocal,
            "word_importance" => Group::WordImportance,
            "patch_importance" => Group::PatchImportance,
            "finding_head" => Group::FindingHeads,
            "contrast" => Group::Contrast,
            "task_head" => Group::TaskHead,
            _ => return None,
        })
    }

    pub fn side(self) -> Side {
        match self {
            Group::ReportEncoder | Group::ReportGlobal | Group::WordLocal | Group::WordImportance => Side::Text,
            _ => Side::Image,
        }
    }

    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Group::ImageEncoder => "image encoder",
            Group::LateralExperts => "lateral experts",
            Group::ReportEncoder => "report encoder",
            Group::ImageGlobal => "global projection of images",
            Group::PatchLocal => "local projection of patches",
            Group::ReportGlobal => "global projection of reports",
            Group::WordLocal => "local projection of words",
            Group::WordImportance => "importance of words",
            Group::PatchImportance => "importance of patches",
            Group::FindingHeads => "heads for findings",
            Group::Contrast => "learned temperature",
            Group::TaskHead => "head of a fine-tuned model",
        }
    }
}
