//! Evaluation against scikit-learn's (libsvm's) numbers on the same features: fold scores of the
//! linear support vector classifier, areas under the curve, the reference's threshold.
//!
//! Reads `evaluation.json` and `evaluation.safetensors` in `MEDST_PROTOCOL_DIR`, by default the
//! copy next to the tests.

use std::path::PathBuf;

use medst_infer::eval::Vectors;
use medst_infer::eval::folds;
use medst_infer::eval::pairs::ImagePairs;
use medst_infer::eval::result::Protocol;
use medst_infer::eval::svm::Kernel;
use medst_infer::eval::tasks::{TemporalImage, fold_accuracies, reference_threshold};
use medst_infer::labels::Course;
use medst_infer::stats::bootstrap::Bootstrap;
use medst_infer::stats::metrics::Ranking;
use tch::Tensor;

fn folder() -> PathBuf {
    std::env::var_os("MEDST_PROTOCOL_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/protocol"), PathBuf::from)
}

struct Recorded {
    tensors: Vec<(String, Tensor)>,
    expected: serde_json::Value,
}

impl Recorded {
    fn read() -> Recorded {
        let folder = folder();
        let text = std::fs::read_to_string(folder.join("evaluation.json")).unwrap();
        Recorded {
            tensors: Tensor::read_safetensors(folder.join("evaluation.safetensors")).unwrap(),
            expected: serde_json::from_str(&text).unwrap(),
        }
    }

    fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors.iter().find(|tensor| tensor.0 == name).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn labels(&self, set: &str) -> Vec<usize> {
        let labels = self.tensor(&format!("{set}.labels")).to_kind(tch::Kind::Int64);
        Vec::<i64>::try_from(labels).unwrap().into_iter().map(|label| label as usize).collect()
    }
}

const SETS: [&str; 3] = ["easy", "hard", "tiny"];

#[test]
fn fold_scores_are_libsvms() {
    let recorded = Recorded::read();
    for set in SETS {
        let features = Vectors::from_tensor(recorded.tensor(&format!("{set}.features"))).unwrap();
        let (kernel, truth) = (Kernel::linear(&features).unwrap(), recorded.labels(set));
        for count in [5, 10] {
            let of = folds::stratified(&truth, count, None).unwrap();
            let found = fold_accuracies(&kernel, &truth, &of).unwrap();
            let expected: Vec<f64> =
                serde_json::from_value(recorded.expected[set][format!("cv{count}")].clone()).unwrap();
            // Shares of small counts: the same classes, or visibly others.
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-12, "{set}, {count} folds: {found:?}, expected {expected:?}");
        }
    }
}

/// The task's own reference figures are the means of those folds: the features are split into a
/// "current" and a "previous" half.
#[test]
fn the_reference_protocol_is_the_mean_of_those_folds() {
    let recorded = Recorded::read();
    for set in ["easy", "hard"] {
        let features = recorded.tensor(&format!("{set}.features"));
        let width = features.size()[1];
        let half = |start: i64, length: i64| Vectors::from_tensor(&features.narrow(1, start, length)).unwrap();
        let truth = recorded.labels(set);
        let pairs = ImagePairs {
            current: half(0, width / 2),
            previous: half(width / 2, width - width / 2),
            subjects: (0..truth.len()).map(|row| row.to_string()).collect(),
            studies: (0..truth.len()).map(|row| [row, row]).collect(),
            findings: vec![("x".into(), truth.iter().map(|&class| Some(Course::ALL[class])).collect())],
        };
        let task = TemporalImage {
            protocol: Protocol::Reference,
            bootstrap: Bootstrap::default(),
            ..TemporalImage::default()
        };
        let result = task.evaluate(&pairs).unwrap();
        for count in [5, 10] {
            let expected: Vec<f64> =
                serde_json::from_value(recorded.expected[set][format!("cv{count}")].clone()).unwrap();
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            let found = result.value("x", &format!("accuracy, {count} folds")).unwrap();
            assert!((found - mean).abs() < 1e-12, "{set}: {found}, expected {mean}");
        }
    }
}

#[test]
fn sentence_similarity_is_scored_as_the_reference_does() {
    let recorded = Recorded::read();
    let scores = Vec::<f64>::try_from(recorded.tensor("similarity.scores").to_kind(tch::Kind::Double)).unwrap();
    let positive: Vec<bool> = recorded.labels("similarity").into_iter().map(|label| label == 1).collect();
    let expected = |name: &str| recorded.expected["similarity"][name].as_f64().unwrap();
    let close = |found: f64, name: &str| assert!((found - expected(name)).abs() < 1e-6, "{name}: {found}");
    close(Ranking::new(&scores, &positive).auroc(&vec![1.0; scores.len()]).unwrap(), "roc_auc");
    let (threshold, accuracy) = reference_threshold(&scores, &positive).unwrap();
    close(threshold, "reference_threshold");
    close(accuracy, "reference_accuracy");
}
