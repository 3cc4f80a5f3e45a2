//! Label columns that are findings, each with the prompts that say it is there or not.

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks};
use crate::Result;
use crate::eval::result::{Task, TaskResult};
use crate::eval::tasks::{BinaryFinding, ZeroShot};
use crate::labels::prompts;
use crate::labels::truth::{self, FindingLabels};

struct Findings(Vec<FindingLabels>);

/// Reads the labels.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let findings = truth::findings(context.corpus, &context.part, &mut remarks.skipped);
    if findings.is_empty() {
        return Err("no label column is a known finding with values 0 and 1".into());
    }
    Ok(Box::new(Findings(findings)))
}

impl Plan for Findings {
    fn rows(&self, context: &Context<'_>) -> Vec<usize> {
        context.part.clone()
    }

    fn texts(&self) -> Vec<String> {
        let of_finding = |finding: &FindingLabels| [prompts::positive(&finding.name), prompts::negative(&finding.name)];
        self.0.iter().flat_map(of_finding).flatten().collect()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let images = &encoded.studies.images;
        let binary = |finding: &FindingLabels| {
            let labelled = context.part.iter().zip(&finding.there).filter_map(|(&row, there)| Some((row, (*there)?)));
            let (rows, truth): (Vec<usize>, Vec<bool>) =
                labelled.filter(|labelled| remarks.usable(images, labelled.0, "image")).unzip();
            Ok(BinaryFinding {
                images: images.select(&rows),
                positive: encoded.of_texts(prompts::positive(&finding.name))?,
                negative: encoded.of_texts(prompts::negative(&finding.name))?,
                name: finding.name.clone(),
                subjects: rows.iter().map(|&row| context.subject(row)).collect(),
                truth,
                rows,
            })
        };
        let findings = self.0.iter().map(binary).collect::<Result<Vec<BinaryFinding>>>()?;
        let protocol = Task::ZeroShot.protocol(context.protocol);
        ZeroShot { protocol, bootstrap: context.bootstrap, by: &context.by }.evaluate(&findings)
    }
}
