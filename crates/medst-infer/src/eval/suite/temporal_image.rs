//! Pairs of `pairs.csv` for the classification of the course between two images.

use medst_data::corpus::plan::PAIRS;

use super::Refusal;
use super::job::{Context, Encoded, Plan, Remarks, check_pairs, image_pairs};
use crate::Result;
use crate::eval::result::{Task, TaskResult};
use crate::eval::tasks::TemporalImage;
use crate::labels::truth::{self, PairTruth};

struct Pairs(PairTruth);

/// Reads the pairs.
pub fn plan(context: &Context<'_>, remarks: &mut Remarks) -> Result<Box<dyn Plan>, Refusal> {
    let pairs = truth::pairs(context.corpus, &context.table(PAIRS)?, &mut remarks.skipped)?;
    check_pairs(pairs.studies.len(), &remarks.skipped)?;
    Ok(Box::new(Pairs(pairs)))
}

impl Plan for Pairs {
    fn rows(&self, _: &Context<'_>) -> Vec<usize> {
        self.0.rows()
    }

    fn evaluate(
        self: Box<Self>,
        context: &Context<'_>,
        encoded: &Encoded<'_>,
        remarks: &mut Remarks,
    ) -> Result<TaskResult> {
        let pairs = image_pairs(&self.0, context, &encoded.studies.images, remarks);
        let protocol = Task::TemporalImage.protocol(context.protocol);
        TemporalImage { protocol, bootstrap: context.bootstrap, by: &context.by }.evaluate(&pairs)
    }
}
