//! What labels and tables of a corpus say about findings.
//!
//! | module | what |
//! |---|---|
//! | [`prompts`] | findings, and sentences about them |
//! | `course` | [`Course`]: how a finding changes between two studies |
//! | [`truth`] | labels, pairs, sentences and boxes of a corpus |

mod course;
pub mod prompts;
pub mod truth;

pub use course::Course;

/// A label in the words of a sentence: `pleural_effusion` becomes "pleural effusion".
pub fn words(label: &str) -> String {
    label.replace('_', " ").trim().to_lowercase()
}
