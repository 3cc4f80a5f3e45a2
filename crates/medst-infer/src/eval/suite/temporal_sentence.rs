//! Pairs of `sentences.csv`: paraphrases and contradictions about a course.

use medst_data::corpus::plan::SENTENCES;

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks, check_pairs};
use crate::Result;
use crate::eval::result::{Task, TaskResult};
use crate::eval::tasks::{SentencePairs, TemporalSentence};
use crate::labels::truth::{self, SentenceTruth};

struct Sentences(SentenceTruth);

/// Reads the sentences.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let sentences = truth::sentences(&context.table(SENTENCES)?, &mut remarks.skipped)?;
    check_pairs(sentences.texts.len(), &remarks.skipped)?;
    Ok(Box::new(Sentences(sentences)))
}

impl Plan for Sentences {
    fn texts(&self) -> Vec<String> {
        self.0.texts.iter().flatten().cloned().collect()
    }

    fn evaluate(self: Box<Self>, context: &Context<'_>, encoded: &Encoded<'_>, _: &mut Remarks) -> Result<TaskResult> {
        let SentenceTruth { texts, paraphrase, subsets } = self.0;
        let side = |which: usize| encoded.of_texts(texts.iter().map(|pair| &pair[which]));
        let (first, second) = (side(0)?, side(1)?);
        let protocol = Task::TemporalSentence.protocol(context.protocol);
        TemporalSentence { protocol, bootstrap: context.bootstrap }.evaluate(&SentencePairs {
            first,
            second,
            texts,
            paraphrase,
            subsets,
        })
    }
}
