//! Images and reports that find each other, and findings whose prompts find images.

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks};
use crate::Result;
use crate::eval::encode::Studies;
use crate::eval::result::{Protocol, Task, TaskResult};
use crate::eval::tasks::{ByFinding, Retrieval, RetrievalData};
use crate::labels::prompts;
use crate::labels::truth::{self, FindingLabels, Skipped};

struct Search {
    findings: Vec<FindingLabels>,
}

/// Reads the labels.
pub fn plan(context: &Context<'_>, _: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let findings = match context.protocol {
        Protocol::Strict | Protocol::Literature => truth::findings(context.corpus, &context.part, &mut Skipped::new()),
        Protocol::Reference => Vec::new(),
    };
    Ok(Box::new(Search { findings }))
}

impl Plan for Search {
    fn rows(&self, context: &Context<'_>) -> Vec<usize> {
        context.part.clone()
    }

    fn texts(&self) -> Vec<String> {
        self.findings.iter().flat_map(|finding| prompts::positive(&finding.name)).collect()
    }

    fn do_without_texts(&mut self) -> Option<&'static str> {
        self.findings.clear();
        Some("retrieval by finding")
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let (studies, Studies { images, reports, .. }) = (context.corpus.studies(), encoded.studies);
        let kept: Vec<usize> =
            (0..context.part.len()).filter(|&n| remarks.usable(images, context.part[n], "image")).collect();
        let rows: Vec<usize> = kept.iter().map(|&n| context.part[n]).collect();
        let (report_images, report_rows): (Vec<usize>, Vec<usize>) = rows
            .iter()
            .copied()
            .enumerate()
            .filter(|&(_, row)| studies[row].report.is_some() && remarks.usable(reports, row, "report"))
            .unzip();
        let by_finding = |finding: &FindingLabels| {
            Ok(ByFinding {
                name: finding.name.clone(),
                prompts: encoded.of_texts(prompts::positive(&finding.name))?,
                truth: kept.iter().map(|&n| finding.there[n]).collect(),
            })
        };
        let data = RetrievalData {
            images: images.select(&rows),
            subjects: rows.iter().map(|&row| context.subject(row)).collect(),
            reports: reports.select(&report_rows),
            report_images,
            texts: report_rows.iter().map(|&row| studies[row].report.clone().unwrap_or_default()).collect(),
            findings: self.findings.iter().map(by_finding).collect::<Result<_>>()?,
            rows,
        };
        let protocol = Task::Retrieval.protocol(context.protocol);
        Retrieval { protocol, bootstrap: context.bootstrap, by: &context.by }.evaluate(&data)
    }
}
