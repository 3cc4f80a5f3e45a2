//! Evaluation tasks and their protocols, by name. Configurations name them; `eval` computes them.

use serde::{Deserialize, Serialize};

/// How a task is scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Subjects are never in training and test at once; intervals; the metrics that the benchmarks define.
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

    /// # Errors
    /// Lists the known names.
    pub fn parse(name: &str) -> Result<Protocol, String> {
        let known = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
        known.ok_or_else(|| format!("expected one of {}", Protocol::ALL.map(Protocol::name).join(", ")))
    }
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

    /// The name that a user types.
    pub fn name(self) -> &'static str {
        match self {
            Task::TemporalImage => "temporal-image",
            Task::TemporalSentence => "temporal-sentence",
            Task::TemporalTransfer => "temporal-transfer",
            Task::ZeroShot => "zero-shot",
            Task::LinearProbe => "linear-probe",
            Task::Retrieval => "retrieval",
            Task::Progression => "progression",
            Task::SequenceOrder => "sequence-order",
            Task::SeriesQuestions => "series-questions",
            Task::Grounding => "grounding",
        }
    }

    /// The title that a user reads.
    pub fn title(self) -> &'static str {
        match self {
            Task::TemporalImage => "Temporal image classification",
            Task::TemporalSentence => "Temporal sentence similarity",
            Task::TemporalTransfer => "Temporal image classification, from one source to another",
            Task::ZeroShot => "Zero-shot classification",
            Task::LinearProbe => "Image classification by linear probe",
            Task::Retrieval => "Retrieval",
            Task::Progression => "Progression by text prototypes",
            Task::SequenceOrder => "Order of sequences",
            Task::SeriesQuestions => "Questions about series",
            Task::Grounding => "Phrase grounding",
        }
    }

    /// The protocol that is used if another one is requested: the strict one, if the task lacks the
    /// requested one.
    pub fn protocol(self, asked: Protocol) -> Protocol {
        let has = match self {
            Task::TemporalImage | Task::LinearProbe => true,
            Task::TemporalSentence | Task::ZeroShot | Task::Retrieval => asked == Protocol::Reference,
            Task::Progression | Task::Grounding => asked == Protocol::Literature,
            Task::SequenceOrder | Task::SeriesQuestions | Task::TemporalTransfer => false,
        };
        if has { asked } else { Protocol::Strict }
    }

    /// # Errors
    /// Lists the known names.
    pub fn parse(name: &str) -> Result<Task, String> {
        let known = Task::ALL.into_iter().find(|task| task.name() == name);
        known.ok_or_else(|| format!("expected all or one of {}", Task::ALL.map(Task::name).join(", ")))
    }
}
