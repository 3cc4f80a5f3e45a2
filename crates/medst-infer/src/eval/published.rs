//! Figures from papers, printed next to ours "as published". They were measured on other data than
//! the evaluated corpus, unless the corpus is the benchmark itself.

use serde::Serialize;

use super::result::Task;

/// A figure of a paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    pub model: &'static str,
    /// A share or an area, as [`super::result::Figure::value`].
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
const MGCA: &str = "MGCA-ViT (Wang et al., NeurIPS 2022)";
const SVM: &str = "MS-CXR-T images, accuracy of a linear SVM, 10 folds";
const SENTENCES: &str = "MS-CXR-T sentences";
const MACRO: &[&str] = &["macro accuracy", "macro accuracy, concatenation", "macro accuracy, difference"];
const COVIDX: &str = "COVIDx, accuracy of a linear probe";

const TABLE: [Row; 26] = [
    image("consolidation", 0.6057),
    image("edema", 0.6735),
    image("pleural_effusion", 0.5847),
    image("pneumonia", 0.65),
    image("pneumothorax", 0.5418),
    image("mean", 0.611),
    Row {
        task: Task::TemporalImage,
        group: "mean",
        names: MACRO,
        published: Published { model: BIOVIL_T, value: 0.602, on: "MS-CXR-T images, macro accuracy" },
    },
    sentence(&["accuracy", "accuracy, reference threshold"], 0.8777),
    sentence(&["AUROC"], 0.933),
    course("CheXRelNet", 0.452),
    course("BioViL", 0.578),
    course("TempA-VLP", 0.636),
    course("TILA (CVPR 2026)", 0.641),
    course("MedGemma 1.5", 0.657),
    course("TAMM", 0.662),
    course("MedCTA", 0.675),
    course("CoCa-CXR (0.650 in its abstract)", 0.692),
    order(&["standard"], 0.641),
    order(&["reversed"], 0.637),
    order(&["combined"], 0.636),
    order(&["consistency"], 0.574),
    probe("1 %", 0.748),
    probe("10 %", 0.848),
    probe("100 %", 0.923),
    question("best of 14 vision-language models (MI-CXR, ACL Findings 2026)", 0.418),
    question("mean of 14 vision-language models (MI-CXR, ACL Findings 2026)", 0.293),
];

const fn sentence(names: &'static [&'static str], value: f64) -> Row {
    let published = Published { model: BIOVIL_T, value, on: SENTENCES };
    Row { task: Task::TemporalSentence, group: "all", names, published }
}

const fn image(finding: &'static str, value: f64) -> Row {
    let published = Published { model: MED_ST, value, on: SVM };
    Row { task: Task::TemporalImage, group: finding, names: &["accuracy", "accuracy, 10 folds"], published }
}

/// Macro accuracies on one benchmark by protocols that differ: fine-tuned, trained heads, or without training.
const fn course(model: &'static str, value: f64) -> Row {
    let published = Published { model, value, on: "MS-CXR-T images, macro accuracy, by its own protocol" };
    Row { task: Task::TemporalImage, group: "mean", names: MACRO, published }
}

/// TILA's columns. What exactly its consistency counts is not known to us.
const fn order(column: &'static [&'static str], value: f64) -> Row {
    let on = "MS-CXR-T images, encoder of both at once, no training";
    let published = Published { model: "TILA (CVPR 2026)", value, on };
    Row { task: Task::Progression, group: "mean", names: column, published }
}

const fn probe(share: &'static str, value: f64) -> Row {
    let published = Published { model: MGCA, value, on: COVIDX };
    Row { task: Task::LinearProbe, group: share, names: &["accuracy"], published }
}

const fn question(model: &'static str, value: f64) -> Row {
    let on = "MI-CXR, accuracy of language models that are given five images and the question's text";
    let published = Published { model, value, on };
    Row { task: Task::SeriesQuestions, group: "all", names: &["accuracy"], published }
}

/// The published values of a figure.
pub fn of(task: Task, group: &str, name: &str) -> Vec<Published> {
    let fits = |row: &&Row| row.task == task && row.group == group && row.names.contains(&name);
    TABLE.iter().filter(fits).map(|row| row.published).collect()
}
