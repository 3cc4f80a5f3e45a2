//! Figures from papers, printed next to ours "as published". They were measured on other data than
//! the evaluated corpus, unless the corpus is the benchmark itself.

use serde::Serialize;

use crate::task::Task;

/// A figure of a paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    pub model: &'static str,
    /// A share or an area, as the value of the figure next to it.
    pub value: f64,
    /// On which data and how.
    pub on: &'static str,
}

/// Which of our figures a paper's figure is printed next to.
struct Row {
    task: Task,
    group: &'static str,
    /// Any of these.
    names: &'static [&'static str],
    published: Published,
}

const MED_ST: &str = "Med-ST (Yang et al., ICML 2024)";
const BIOVIL_T: &str = "BioViL-T (Bannur et al., CVPR 2023)";
const TEMPA: &str = "TempA-VLP";
const TILA: &str = "TILA (CVPR 2026)";
const MGCA: &str = "MGCA-ViT (Wang et al., NeurIPS 2022)";
const SVM: &str = "MS-CXR-T images, accuracy of a linear SVM, 10 folds";
const SENTENCES: &str = "MS-CXR-T sentences";
const MACRO: &[&str] = &["macro accuracy", "macro accuracy, concatenation", "macro accuracy, difference"];
const TOP: &[&str] = &["accuracy", "accuracy, concatenation", "accuracy, difference"];
const OWN: &str = "MS-CXR-T images, macro accuracy, by its own protocol";
/// Our encoder sees one image at a time; these see both at once.
const PHRASES: &str = "MS-CXR-T images, macro accuracy without training, phrases against an encoder of both images";
const COVIDX: &str = "COVIDx, accuracy of a linear probe";

const TABLE: [Row; 32] = [
    image("consolidation", 0.6057),
    image("edema", 0.6735),
    image("pleural_effusion", 0.5847),
    image("pneumonia", 0.65),
    image("pneumothorax", 0.5418),
    image("mean", 0.611),
    course(BIOVIL_T, 0.602, PHRASES),
    sentence(&["accuracy", "accuracy, reference threshold"], 0.8777),
    sentence(&["AUROC"], 0.933),
    course("CheXRelNet", 0.452, OWN),
    course("BioViL", 0.578, OWN),
    course(TEMPA, 0.636, PHRASES),
    course(TILA, 0.641, PHRASES),
    course("MedGemma 1.5", 0.657, OWN),
    course("TAMM", 0.662, OWN),
    course("MedCTA", 0.675, OWN),
    course("CoCa-CXR (0.650 in its abstract)", 0.692, OWN),
    Row {
        task: Task::TemporalImage,
        group: "mean",
        names: TOP,
        published: Published {
            model: "CPO",
            value: 0.818,
            on: "MS-CXR-T images, top-1 accuracy, not macro, by its own protocol",
        },
    },
    order(BIOVIL_T, &["standard"], 0.602),
    order(TEMPA, &["standard"], 0.636),
    order(TILA, &["standard"], 0.641),
    order(TILA, &["reversed"], 0.637),
    order(TILA, &["combined"], 0.636),
    order(TILA, &["consistency"], 0.574),
    probe("1 %", 0.748),
    probe("10 %", 0.848),
    probe("100 %", 0.923),
    question("all", "InternVL3.5-38B, the best of 14 vision-language models (MI-CXR, ACL Findings 2026)", 0.418),
    question("all", "mean of 14 vision-language models (MI-CXR, ACL Findings 2026)", 0.293),
    question("ICR", "InternVL3.5-38B, the best of 14 vision-language models (MI-CXR, ACL Findings 2026)", 0.571),
    question(
        "single_entity_interval_summary",
        "InternVL3.5-38B, the best of 14 vision-language models (MI-CXR, ACL Findings 2026)",
        0.515,
    ),
    question(
        "multi_entity_interval_summary",
        "GPT-5.2, the best of 14 vision-language models (MI-CXR, ACL Findings 2026)",
        0.558,
    ),
];

const fn sentence(names: &'static [&'static str], value: f64) -> Row {
    let published = Published { model: BIOVIL_T, value, on: SENTENCES };
    Row { task: Task::TemporalSentence, group: "all", names, published }
}

const fn image(finding: &'static str, value: f64) -> Row {
    let published = Published { model: MED_ST, value, on: SVM };
    Row { task: Task::TemporalImage, group: finding, names: &["accuracy", "accuracy, 10 folds"], published }
}

/// Macro accuracies on one benchmark by protocols that differ: fine-tuned, trained heads, or
/// without training.
const fn course(model: &'static str, value: f64, on: &'static str) -> Row {
    let published = Published { model, value, on };
    Row { task: Task::TemporalImage, group: "mean", names: MACRO, published }
}

/// TILA's columns. What exactly its consistency counts is not known to us.
const fn order(model: &'static str, column: &'static [&'static str], value: f64) -> Row {
    let published = Published { model, value, on: PHRASES };
    Row { task: Task::Progression, group: "mean", names: column, published }
}

const fn probe(share: &'static str, value: f64) -> Row {
    let published = Published { model: MGCA, value, on: COVIDX };
    Row { task: Task::LinearProbe, group: share, names: &["accuracy"], published }
}

const fn question(kind: &'static str, model: &'static str, value: f64) -> Row {
    let on = "MI-CXR, accuracy of language models that are given five images and the question's text";
    let published = Published { model, value, on };
    Row { task: Task::SeriesQuestions, group: kind, names: &["accuracy"], published }
}

/// The published values of a figure.
pub fn values(task: Task, group: &str, name: &str) -> Vec<Published> {
    let fits = |row: &&Row| row.task == task && row.group == group && row.names.contains(&name);
    TABLE.iter().filter(fits).map(|row| row.published).collect()
}
