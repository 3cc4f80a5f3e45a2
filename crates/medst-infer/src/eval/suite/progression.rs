//! Pairs of `pairs.csv` for the course that texts about each finding name: prototypes of two
//! courses, or under the literature's protocol phrases of three.

use medst_data::corpus::plan::PAIRS;

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks, check_pairs, image_pairs};
use crate::Result;
use crate::eval::result::{Protocol, Task, TaskResult};
use crate::eval::tasks::{PhraseProgression, Phrases, Progression, Prototypes};
use crate::labels::truth::{self, PairTruth};
use crate::labels::{prompts, words};

struct ByPrototypes(PairTruth);

struct ByPhrases(PairTruth);

/// Reads the pairs.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let mut pairs = truth::pairs(context.corpus, &context.table(PAIRS)?, &mut remarks.skipped)?;
    check_pairs(pairs.studies.len(), &remarks.skipped)?;
    pairs.findings.iter_mut().for_each(|finding| finding.0 = words(&finding.0));
    Ok(match Task::Progression.protocol(context.protocol) {
        Protocol::Literature => Box::new(ByPhrases(pairs)),
        Protocol::Strict | Protocol::Reference => Box::new(ByPrototypes(pairs)),
    })
}

impl Plan for ByPrototypes {
    fn rows(&self, _: &Context<'_>) -> Vec<usize> {
        self.0.rows()
    }

    fn texts(&self) -> Vec<String> {
        let of_finding = |(name, _): &(String, _)| [prompts::improving(name), prompts::worsening(name)];
        self.0.findings.iter().flat_map(of_finding).flatten().collect()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let pairs = image_pairs(&self.0, context, &encoded.studies.images, remarks);
        let prototypes = |(finding, _): &(String, _)| {
            Ok(Prototypes {
                improving: encoded.of_texts(prompts::improving(finding))?,
                worsening: encoded.of_texts(prompts::worsening(finding))?,
                finding: finding.clone(),
            })
        };
        let prototypes = pairs.findings.iter().map(prototypes).collect::<Result<Vec<Prototypes>>>()?;
        Progression { bootstrap: context.bootstrap, by: &context.by }.evaluate(&pairs, &prototypes)
    }
}

impl Plan for ByPhrases {
    fn rows(&self, _: &Context<'_>) -> Vec<usize> {
        self.0.rows()
    }

    fn texts(&self) -> Vec<String> {
        self.0.findings.iter().flat_map(|(name, _)| prompts::progression(name)).flatten().collect()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let pairs = image_pairs(&self.0, context, &encoded.studies.images, remarks);
        let phrases = |(finding, _): &(String, _)| {
            let [improving, stable, worsening] =
                prompts::progression(finding).map(|sentences| encoded.of_texts(sentences));
            Ok(Phrases { finding: finding.clone(), of: [improving?, stable?, worsening?] })
        };
        let phrases = pairs.findings.iter().map(phrases).collect::<Result<Vec<Phrases>>>()?;
        PhraseProgression { bootstrap: context.bootstrap, by: &context.by }.evaluate(&pairs, &phrases)
    }
}
