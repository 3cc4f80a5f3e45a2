//! Evaluation while a model trains. This is a separate test program, because libtorch has one
//! random generator for all threads.

mod bench;

use bench::Bench;
use medst_data::progress::Silent;
use medst_infer::eval::result::Task;
use medst_model::distributed::alone;
use medst_train::train::log::{self, Entry};
use medst_train::train::pretrain;
use tch::Device;

/// Evaluation while a model trains is written down, and changes nothing of the training.
#[test]
fn a_run_can_be_watched_and_stays_what_it_is() {
    let bench = Bench::new(24);
    let plain = bench.config("plain", &["train.max_steps=4", "train.validate_every=2"]);
    let tasks = "evaluate.tasks=['zero-shot', 'linear-probe', 'retrieval']";
    let watched = bench.config("watched", &["train.max_steps=4", "train.validate_every=2", tasks]);
    for config in [&plain, &watched] {
        pretrain(config, false, Device::Cpu, &alone(), &Silent).unwrap();
    }
    let entries = |run: &str| log::read(&bench.folder.path().join(run).join(log::METRICS)).unwrap();
    let losses = |run: &str| -> Vec<f64> {
        let total = |entry: Entry| match entry {
            Entry::Train { losses, .. } => Some(losses.total),
            _ => None,
        };
        entries(run).into_iter().filter_map(total).collect()
    };
    assert_eq!(losses("plain"), losses("watched"));
    let seen: Vec<(u64, Task)> = entries("watched")
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Evaluate { step, task, figures, .. } => {
                assert!(figures.iter().any(|own| own.value.is_some()), "{figures:?}");
                Some((step, task))
            }
            _ => None,
        })
        .collect();
    let each = [Task::ZeroShot, Task::LinearProbe, Task::Retrieval];
    assert_eq!(seen, [2, 4].iter().flat_map(|&step| each.map(|task| (step, task))).collect::<Vec<_>>());
    let lost = bench.config("lost", &["evaluate.tasks=['retrieval']", "evaluate.corpora=['nowhere']"]);
    assert!(pretrain(&lost, false, Device::Cpu, &alone(), &Silent).unwrap_err().to_string().contains("nowhere"));
}
