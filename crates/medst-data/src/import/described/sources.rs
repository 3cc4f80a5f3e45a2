//! The descriptions, one per source. See docs/data.md for how certain each one is.

use super::boxes::{BoxTable, Corners, Phrase, Size};
use super::{Description, Findings, ImageTable, Keep, Repeats, SplitAssignment, Written, chexpert_plus};
use crate::import::values;
use crate::study::View;

/// Defaults for the parts that most sources lack.
const PLAIN: Description = Description {
    kind: "",
    title: "",
    tables: &[],
    optional: &[],
    subject: "",
    study: "",
    endings: &[],
    views: &[],
    left_out: &[],
    time: None,
    report: None,
    split: None,
    lists: &[],
    findings: None,
    keep: Keep::Only(&[]),
    renamed: &[],
    boxes: None,
    repeats: Repeats::No,
    headers: false,
    more: None,
};

/// The common parts of CheXpert's releases. They contain no dates.
const OF_CHEXPERT: Description = Description {
    kind: "chexpert",
    title: "CheXpert",
    optional: &["Frontal/Lateral", "AP/PA"],
    subject: "{Path^2}",
    study: "{Path^2}-{Path^1}",
    // The table gives the view; where it does not (the test set), the file's name does.
    views: &[
        (&[("Frontal/Lateral", "Lateral"), ("AP/PA", "LL")], View::Ll),
        (&[("Frontal/Lateral", "Lateral")], View::Lateral),
        (&[("Frontal/Lateral", ""), ("Path", "*lateral*"), ("AP/PA", "LL")], View::Ll),
        (&[("Frontal/Lateral", ""), ("Path", "*lateral*")], View::Lateral),
        (&[("AP/PA", "AP")], View::Ap),
        (&[], View::Pa),
    ],
    keep: Keep::AllBut(&["Path", "Frontal/Lateral"]),
    renamed: &[("AP/PA", "view")],
    ..PLAIN
};

/// Paths begin with the release (`CheXpert-v1.0-small/train/…`), even if the folder has another
/// name on this machine.
const CHEXPERT_IMAGES: &[&str] = &["{Path<}", "{Path}"];

/// CheXpert, in the full or the small release. `valid.csv` is the usual test set.
pub static CHEXPERT: Description = Description {
    tables: &[
        ImageTable { names: &["train.csv"], split: SplitAssignment::TrainAndValidate, images: CHEXPERT_IMAGES },
        ImageTable { names: &["valid.csv"], split: SplitAssignment::Test, images: CHEXPERT_IMAGES },
    ],
    ..OF_CHEXPERT
};

/// CheXpert with the test set that was published later: `valid.csv` validates then.
pub static CHEXPERT_WITH_TEST: Description = Description {
    tables: &[
        ImageTable { names: &["train.csv"], split: SplitAssignment::Train, images: CHEXPERT_IMAGES },
        ImageTable { names: &["valid.csv"], split: SplitAssignment::Validate, images: CHEXPERT_IMAGES },
        ImageTable { names: &["test.csv"], split: SplitAssignment::Test, images: CHEXPERT_IMAGES },
    ],
    ..OF_CHEXPERT
};

/// CheXpert Plus: CheXpert with reports, demographics and an order of studies.
pub static CHEXPERT_PLUS: Description = Description {
    kind: "chexpert-plus",
    title: "CheXpert Plus",
    tables: &[ImageTable {
        names: &["df_chexpert_plus_240401.csv"],
        split: SplitAssignment::TrainAndValidate,
        images: &["{path_to_image}", "PNG/{path_to_image}", "DICOM/{path_to_image}"],
    }],
    subject: "{deid_patient_id}",
    study: "{deid_patient_id}-{path_to_image^1}",
    // The table writes .jpg, which the release does not have.
    endings: &["png", "dcm", "jpg"],
    views: &[
        (&[("frontal_lateral", "Lateral"), ("ap_pa", "LL")], View::Ll),
        (&[("frontal_lateral", "Lateral")], View::Lateral),
        (&[("frontal_lateral", "Frontal"), ("ap_pa", "AP")], View::Ap),
        (&[("frontal_lateral", "Frontal")], View::Pa),
    ],
    time: Some(("patient_report_date_order", values::day)),
    report: Some(["section_impression", "section_findings"]),
    split: Some((
        "split",
        &[
            ("train", SplitAssignment::TrainAndValidate),
            ("valid", SplitAssignment::Test),
            ("test", SplitAssignment::Test),
        ],
    )),
    keep: Keep::Only(&[
        ("age", "age"),
        ("sex", "sex"),
        ("race", "race"),
        ("ethnicity", "ethnicity"),
        ("interpreter_needed", "interpreter_needed"),
        ("insurance_type", "insurance_type"),
        ("recent_bmi", "recent_bmi"),
        ("deceased", "deceased"),
        ("ap_pa", "view"),
    ]),
    more: Some(chexpert_plus::more),
    ..PLAIN
};

/// PadChest. Its reports are stems of Spanish words: no reading for a model of English reports, so
/// they become a label.
pub static PADCHEST: Description = Description {
    kind: "padchest",
    title: "PadChest",
    tables: &[ImageTable {
        names: &["PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"],
        split: SplitAssignment::ByHash,
        images: &["images/{ImageDir}/{ImageID}", "{ImageDir}/{ImageID}"],
    }],
    subject: "{PatientID}",
    study: "{StudyID}",
    views: &[
        (&[("Projection", "PA")], View::Pa),
        (&[("Projection", "AP")], View::Ap),
        (&[("Projection", "AP_horizontal")], View::Ap),
        (&[("Projection", "L")], View::Lateral),
    ],
    left_out: &[
        (("Labels", "*exclude*"), "labelled `exclude`"),
        (("Labels", "*suboptimal study*"), "labelled `suboptimal study`"),
    ],
    time: Some(("StudyDate_DICOM", |date| values::dicom_moment(date, None))),
    findings: Some(Findings {
        column: "Labels",
        written: Written::PythonList,
        names: &[
            (
                "atelectasis",
                &[
                    "atelectasis",
                    "laminar atelectasis",
                    "lobar atelectasis",
                    "round atelectasis",
                    "segmental atelectasis",
                    "total atelectasis",
                    "atelectasis basal",
                ],
            ),
            ("cardiomegaly", &["cardiomegaly"]),
            ("consolidation", &["consolidation"]),
            ("edema", &["pulmonary edema"]),
            // Not `subcutaneous emphysema`, which is air in the skin.
            ("emphysema", &["emphysema"]),
            ("fibrosis", &["pulmonary fibrosis"]),
            (
                "fracture",
                &[
                    "fracture",
                    "clavicle fracture",
                    "humeral fracture",
                    "vertebral fracture",
                    "rib fracture",
                    "callus rib fracture",
                ],
            ),
            ("lung lesion", &["nodule", "multiple nodules", "pulmonary mass"]),
            ("pleural effusion", &["pleural effusion", "loculated pleural effusion", "loculated fissural effusion"]),
            ("pneumonia", &["pneumonia", "atypical pneumonia"]),
            ("pneumothorax", &["pneumothorax", "hydropneumothorax"]),
            ("No Finding", &["normal"]),
        ],
        list: Some("findings"),
    }),
    keep: Keep::Only(&[("PatientSex_DICOM", "sex"), ("Report", "report_es"), ("Projection", "view")]),
    ..PLAIN
};

/// MS-CXR: phrases with boxes on images of MIMIC-CXR. Every image is a study, whose id is the DICOM
/// id.
pub static MS_CXR: Description = Description {
    kind: "ms-cxr",
    title: "MS-CXR",
    tables: &[ImageTable {
        names: &["MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv"],
        split: SplitAssignment::Test,
        images: &["{path}"],
    }],
    optional: &["split"],
    subject: "{subject_id}",
    study: "{dicom_id}",
    endings: &["jpg", "dcm"],
    // All are frontal; AP or PA is not given.
    views: &[(&[], View::Ap)],
    split: Some((
        "split",
        &[
            ("train", SplitAssignment::Train),
            ("val", SplitAssignment::Validate),
            ("validate", SplitAssignment::Validate),
            ("test", SplitAssignment::Test),
        ],
    )),
    keep: Keep::Only(&[("category_name", "category")]),
    boxes: Some(BoxTable {
        names: &[],
        study: "{dicom_id}",
        phrase: Phrase::Text("label_text"),
        corners: Corners::Sides(["x", "y", "w", "h"]),
        size: Size::Columns(["image_width", "image_height"]),
    }),
    repeats: Repeats::More,
    ..PLAIN
};

/// NIH ChestX-ray14. Every image is a study; `Follow-up #` orders those of a patient. Pictures and
/// boxes are of the published 1024×1024 pixels, not of the original size that the table gives.
pub static NIH: Description = Description {
    kind: "nih",
    title: "NIH ChestX-ray14",
    tables: &[ImageTable {
        names: &["Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"],
        split: SplitAssignment::ByHash,
        images: &["**/{Image Index}"],
    }],
    subject: "{Patient ID}",
    study: "{Image Index}",
    views: &[(&[("View Position", "PA")], View::Pa), (&[("View Position", "AP")], View::Ap)],
    time: Some(("Follow-up #", values::day)),
    lists: &[("train_val_list.txt", SplitAssignment::TrainAndValidate), ("test_list.txt", SplitAssignment::Test)],
    findings: Some(Findings {
        column: "Finding Labels",
        written: Written::Separated('|'),
        names: &[
            ("atelectasis", &["Atelectasis"]),
            ("cardiomegaly", &["Cardiomegaly"]),
            ("consolidation", &["Consolidation"]),
            ("edema", &["Edema"]),
            ("pleural effusion", &["Effusion"]),
            ("emphysema", &["Emphysema"]),
            ("fibrosis", &["Fibrosis"]),
            ("hernia", &["Hernia"]),
            ("infiltration", &["Infiltration", "Infiltrate"]),
            ("mass", &["Mass"]),
            ("nodule", &["Nodule"]),
            ("pleural thickening", &["Pleural_Thickening"]),
            ("pneumonia", &["Pneumonia"]),
            ("pneumothorax", &["Pneumothorax"]),
            ("No Finding", &["No Finding"]),
        ],
        list: None,
    }),
    keep: Keep::Only(&[("Patient Age", "age"), ("Patient Gender", "sex"), ("View Position", "view")]),
    renamed: &[("Effusion", "pleural effusion"), ("Infiltrate", "infiltration")],
    boxes: Some(BoxTable {
        names: &["BBox_List_2017.csv"],
        study: "{Image Index}",
        phrase: Phrase::Finding("Finding Label"),
        corners: Corners::Sides(["Bbox [x", "y", "w", "h]"]),
        size: Size::Fixed(1024),
    }),
    ..PLAIN
};

/// VinDr-CXR. Nothing identifies the patients: every image is a subject. Three readers labelled an
/// image of the training set, and two of them decide; the boxes of all are kept.
pub static VINDR: Description = VINDR_BASE;

const VINDR_BASE: Description = Description {
    kind: "vindr",
    title: "VinDr-CXR",
    tables: &[
        ImageTable {
            names: &["annotations/image_labels_train.csv", "image_labels_train.csv"],
            split: SplitAssignment::TrainAndValidate,
            images: &["train/{image_id}"],
        },
        ImageTable {
            names: &["annotations/image_labels_test.csv", "image_labels_test.csv"],
            split: SplitAssignment::Test,
            images: &["test/{image_id}"],
        },
    ],
    subject: "{image_id}",
    study: "{image_id}",
    endings: &["dicom", "dcm", "png", "jpg"],
    // All are PA, as its publisher says.
    views: &[(&[], View::Pa)],
    keep: Keep::AllBut(&["image_id", "rad_id", "rad_ID"]),
    renamed: &[("No finding", "No Finding"), ("Pulmonary fibrosis", "fibrosis")],
    boxes: Some(BoxTable {
        names: &["annotations/annotations_train.csv", "annotations/annotations_test.csv"],
        study: "{image_id}",
        phrase: Phrase::Finding("class_name"),
        corners: Corners::Ends(["x_min", "y_min", "x_max", "y_max"]),
        size: Size::Picture,
    }),
    repeats: Repeats::Readers(READERS),
    ..PLAIN
};

const READERS: &[&str] = &["rad_id", "rad_ID"];

/// VinDr-CXR as the Kaggle challenge VinBigData publishes it: one table with a row for each box of
/// a reader, of the training images alone.
pub static VINDR_KAGGLE: Description = Description {
    tables: &[ImageTable { names: &["train.csv"], split: SplitAssignment::ByHash, images: &["train/{image_id}"] }],
    findings: Some(Findings {
        column: "class_name",
        written: Written::Separated('|'),
        names: &[
            ("aortic enlargement", &["Aortic enlargement"]),
            ("atelectasis", &["Atelectasis"]),
            ("calcification", &["Calcification"]),
            ("cardiomegaly", &["Cardiomegaly"]),
            ("consolidation", &["Consolidation"]),
            ("interstitial lung disease", &["ILD"]),
            ("infiltration", &["Infiltration"]),
            ("lung opacity", &["Lung Opacity"]),
            ("nodule or mass", &["Nodule/Mass"]),
            ("other lesion", &["Other lesion"]),
            ("pleural effusion", &["Pleural effusion"]),
            ("pleural thickening", &["Pleural thickening"]),
            ("pneumothorax", &["Pneumothorax"]),
            ("fibrosis", &["Pulmonary fibrosis"]),
            ("No Finding", &["No finding"]),
        ],
        list: None,
    }),
    keep: Keep::Only(&[]),
    renamed: &[
        ("ILD", "interstitial lung disease"),
        ("Nodule/Mass", "nodule or mass"),
        ("Pulmonary fibrosis", "fibrosis"),
    ],
    boxes: Some(BoxTable {
        names: &[],
        study: "{image_id}",
        phrase: Phrase::Finding("class_name"),
        corners: Corners::Ends(["x_min", "y_min", "x_max", "y_max"]),
        size: Size::Picture,
    }),
    ..VINDR_BASE
};

/// SIIM-ACR Pneumothorax: a mask per row, whose bounds are the box.
pub static SIIM: Description = Description {
    kind: "siim",
    title: "SIIM-ACR Pneumothorax",
    tables: &[ImageTable {
        names: &["train-rle.csv"],
        split: SplitAssignment::ByHash,
        images: &["dicom-images-train/**/{ImageId}.dcm"],
    }],
    subject: "{ImageId}",
    study: "{ImageId}",
    views: &[(&[], View::Pa)],
    findings: Some(Findings {
        column: "EncodedPixels",
        written: Written::Mask("-1"),
        names: &[("pneumothorax", &[])],
        list: None,
    }),
    boxes: Some(BoxTable {
        names: &[],
        study: "{ImageId}",
        phrase: Phrase::Always("pneumothorax"),
        corners: Corners::Runs("EncodedPixels"),
        size: Size::Fixed(1024),
    }),
    repeats: Repeats::More,
    headers: true,
    ..PLAIN
};

const OF_MIMIC: &[&str] = &["files/p{subject_id:2}/p{subject_id}/s{study_id}/{dicom_id}"];

/// CXR-LT 2024: long-tailed labels of images of MIMIC-CXR. The tables of its three tasks say
/// different findings.
pub static CXR_LT: Description = Description {
    kind: "cxr-lt",
    title: "CXR-LT 2024",
    tables: &[
        ImageTable {
            names: &["cxr-lt-2024/development_labeled_task1.csv", "development_labeled_task1.csv"],
            split: SplitAssignment::TrainAndValidate,
            images: OF_MIMIC,
        },
        ImageTable {
            names: &["cxr-lt-2024/development_labeled_task2.csv", "development_labeled_task2.csv"],
            split: SplitAssignment::TrainAndValidate,
            images: OF_MIMIC,
        },
        ImageTable {
            names: &["cxr-lt-2024/development_labeled_task3.csv", "development_labeled_task3.csv"],
            split: SplitAssignment::TrainAndValidate,
            images: OF_MIMIC,
        },
        ImageTable {
            names: &["cxr-lt-2024/test_labeled_task1.csv", "test_labeled_task1.csv"],
            split: SplitAssignment::Test,
            images: OF_MIMIC,
        },
        ImageTable {
            names: &["cxr-lt-2024/test_labeled_task2.csv", "test_labeled_task2.csv"],
            split: SplitAssignment::Test,
            images: OF_MIMIC,
        },
        ImageTable {
            names: &["cxr-lt-2024/test_labeled_task3.csv", "test_labeled_task3.csv"],
            split: SplitAssignment::Test,
            images: OF_MIMIC,
        },
    ],
    subject: "{subject_id}",
    study: "{study_id}",
    endings: &["jpg", "dcm"],
    views: &[
        (&[("ViewPosition", "PA")], View::Pa),
        (&[("ViewPosition", "AP")], View::Ap),
        (&[("ViewPosition", "LATERAL")], View::Lateral),
        (&[("ViewPosition", "LL")], View::Ll),
    ],
    keep: Keep::AllBut(&[
        "dicom_id",
        "subject_id",
        "study_id",
        "fpath",
        "splits",
        "ViewCodeSequence_CodeMeaning",
        "ProcedureCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
        "PerformedProcedureStepDescription",
        "Rows",
        "Columns",
        "StudyDate",
        "StudyTime",
    ]),
    renamed: &[("Normal", "No Finding"), ("ViewPosition", "view")],
    repeats: Repeats::More,
    ..PLAIN
};

/// Every description, in the order of docs/data.md.
pub static ALL: [&Description; 9] =
    [&CHEXPERT, &CHEXPERT_PLUS, &PADCHEST, &MS_CXR, &NIH, &VINDR, &VINDR_KAGGLE, &SIIM, &CXR_LT];

#[cfg(test)]
mod tests {
    use super::*;

    /// A finding that the program knows has the program's name.
    #[test]
    fn findings_have_lower_case_names_of_words() {
        for description in ALL {
            for (name, _) in description.findings.iter().flat_map(|findings| findings.names) {
                let plain = name.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
                assert!(plain || *name == "No Finding", "{}: {name}", description.kind);
            }
        }
    }
}
