//! Evaluation tasks and their protocols, by name. Configurations name them; `eval` computes them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that no protocol or no task has; the message lists those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    #[error("expected one of {}", Protocol::ALL.map(Protocol::name).join(", "))]
    Protocol,
    #[error("expected all or one of {}", Task::ALL.map(Task::name).join(", "))]
    Task,
}

/// How a task is scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Subjects are never in training and test at once; intervals; the metrics that the benchmarks
    /// define.
    #[default]
    Strict,
    /// As the reference implementation computes it, with its deviations named as such.
    Reference,
    /// As later papers compute it on the same data, so that figures can be compared with theirs.
    Literature,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Strict, Protocol::Reference, Protocol::Literature];

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Strict => "strict",
            Protocol::Reference => "reference",
            Protocol::Literature => "literature",
        }
    }
}

impl FromStr for Protocol {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Protocol, UnknownName> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == name).ok_or(UnknownName::Protocol)
    }
}

/// What is known of a task apart from its computation.
struct Description {
    name: &'static str,
    title: &'static str,
    /// Those it has in addition to the strict one.
    protocols: &'static [Protocol],
}

/// The evaluation tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    TemporalImage,
    TemporalSentence,
    TemporalTransfer,
    ZeroShot,
    LinearProbe,
    Retrieval,
    Progression,
    SequenceOrder,
    SeriesQuestions,
    Grounding,
}

impl Task {
    pub const ALL: [Task; 10] = [
        Task::TemporalImage,
        Task::TemporalSentence,
        Task::TemporalTransfer,
        Task::ZeroShot,
        Task::LinearProbe,
        Task::Retrieval,
        Task::Progression,
        Task::SequenceOrder,
        Task::SeriesQuestions,
        Task::Grounding,
    ];

    /// A row per task.
    fn description(self) -> Description {
        use Protocol::{Literature, Reference};
        let row = |name, title, protocols| Description { name, title, protocols };
        match self {
            Task::TemporalImage => row("temporal-image", "Temporal image classification", &[Reference, Literature][..]),
            Task::TemporalSentence => row("temporal-sentence", "Temporal sentence similarity", &[Reference]),
            Task::TemporalTransfer => {
                row("temporal-transfer", "Temporal image classification, from one source to another", &[])
            }
            Task::ZeroShot => row("zero-shot", "Zero-shot classification", &[Reference]),
            Task::LinearProbe => row("linear-probe", "Image classification by linear probe", &[Reference, Literature]),
            Task::Retrieval => row("retrieval", "Retrieval", &[Reference]),
            Task::Progression => row("progression", "Progression by text prototypes", &[Literature]),
            Task::SequenceOrder => row("sequence-order", "Order of sequences", &[]),
            Task::SeriesQuestions => row("series-questions", "Questions about series", &[]),
            Task::Grounding => row("grounding", "Phrase grounding", &[Literature]),
        }
    }

    /// The name that a user types.
    pub fn name(self) -> &'static str {
        self.description().name
    }

    /// The title that a user reads.
    pub fn title(self) -> &'static str {
        self.description().title
    }

    /// The protocol that is used if another one is requested: the strict one, if the task lacks the
    /// requested one.
    pub fn protocol(self, asked: Protocol) -> Protocol {
        if self.description().protocols.contains(&asked) { asked } else { Protocol::Strict }
    }
}

impl FromStr for Task {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Task, UnknownName> {
        Task::ALL.into_iter().find(|task| task.name() == name).ok_or(UnknownName::Task)
    }
}
