//! The gradient of a batch with a thread per core for the encoders of small models.
//!
//! Threads that share a matrix product wait for each other at its end. The products of a small
//! model are so small that threads wait longer than they compute, and far longer while other
//! programs use the same cores. Here each thread encodes its own studies of the batch, forwards and
//! backwards, and the threads meet three times per step:
//!
//! 1. Each runs the encoders over its studies and keeps their tape.
//! 2. Projections and losses run over all studies at once, as in [`grad_cache`](super::grad_cache),
//!    so that batch statistics, negatives and sequences are those of the whole batch.
//! 3. Each follows the gradient of its studies' states back through its tape; the sums are added in
//!    the order of the studies.
//!
//! The results are those of one thread up to the rounding of that last sum, and are the same in
//! every run with the same number of threads.

use std::ops::Range;

use tch::{Device, Tensor};

use super::activation_checkpointing::product;
use super::grad_cache::{Chunk, both, join, of_studies};
use super::gradients::{Differentiated, Gradients};
use crate::loss::config::LossConfig;
use crate::loss::{self, Losses};
use crate::model::input::Batch;
use crate::model::lanes::Lanes;
use crate::model::vit::ImageFeatures;
use crate::model::{MedSt, Mode};
use crate::{Error, Result};

/// A model that several threads read.
#[derive(Clone, Copy)]
struct Shared<'a>(&'a MedSt);

// SAFETY: the threads only read the layers' tensors (a tape records them, and gradients are
// returned rather than stored), which libtorch allows from any number of threads; handles to
// tensors are counted atomically. Batch statistics, which training writes, belong to the
// projections, and those run on one thread.
unsafe impl Send for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Not the field itself, which a closure would capture alone, without this type's promise.
    fn get(self) -> &'a MedSt {
        self.0
    }
}

/// The lanes that training takes for a batch, where there are several.
pub fn lanes(model: &MedSt, studies: i64) -> Option<Lanes> {
    let lanes = Lanes::new(model);
    (model.device() == Device::Cpu && lanes.count > 1 && studies >= 2 * lanes.count as i64).then_some(lanes)
}

/// Losses of a batch and the gradient of `weight` times their total, in the parameters' order.
///
/// # Errors
/// When the batch does not fit the model.
pub fn differentiate(
    model: &MedSt,
    batch: &Batch,
    config: &LossConfig,
    lanes: Lanes,
    weight: f64,
) -> Result<Differentiated<Losses>> {
    let lateral_rows = model.lateral_rows(&batch.images);
    let ranges = divide(batch.images.studies(), &lateral_rows, lanes.count);
    let chunks: Vec<Chunk> = ranges.into_iter().map(|studies| Chunk::new(batch, studies)).collect();

    let shared = Shared(model);
    let reads_reports = config.reads_reports();
    let taped = in_lanes(lanes, chunks, move |chunk| {
        let [image, report] = chunk.chains(shared.get())?;
        let reports = if reads_reports { report.run() } else { Vec::new() };
        Ok((chunk.studies.clone(), both(image.run(), reports)))
    })?;
    // Cut off from the tapes, which are followed on their own threads.
    let states = join(taped.iter().map(|(_, states)| states.iter().map(Tensor::detach).collect()).collect());

    let features =
        ImageFeatures::from_states(states[..3].iter().map(Tensor::shallow_clone).collect(), lateral_rows.clone());
    let losses = match states.get(3) {
        Some(tokens) => {
            let images = model.project_images(features, Mode::Train)?;
            let reports = model.project_reports(tokens, &batch.reports, Mode::Train)?;
            loss::of_embeddings(model, &images, &reports, batch, config)
        }
        None => loss::supervised(model, &features, batch, config),
    };
    let mut gradients = Gradients::none(model);
    let of_states = gradients.add(&(&losses.total * weight), &states);
    drop(states);

    let work: Vec<(Vec<Tensor>, Vec<Tensor>)> =
        taped.into_iter().map(|(studies, states)| (states, of_studies(&of_states, &studies, &lateral_rows))).collect();
    let found = in_lanes(lanes, work, move |(states, of_states)| {
        Ok(Gradients::compute(shared.get(), &product(&states, &of_states)))
    })?;
    for of_lane in found {
        gradients.add_all(of_lane);
    }
    Ok(Differentiated { losses, gradients: gradients.finish() })
}

/// Does each piece of work on a separate thread; returns the results in order.
fn in_lanes<W: Send, R: Send>(
    lanes: Lanes,
    work: Vec<W>,
    each: impl Fn(W) -> Result<R> + Copy + Send,
) -> Result<Vec<R>> {
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = work
            .into_iter()
            .map(|piece| {
                scope.spawn(move || {
                    lanes.enter();
                    each(piece)
                })
            })
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    lanes.leave();
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|_| Err(Error::Training("a thread of the encoders has panicked".into()))))
        .collect()
}

/// Contiguous studies for each of `count` threads, with about the same number of pictures.
fn divide(studies: i64, lateral_rows: &[i64], count: usize) -> Vec<Range<i64>> {
    let pictures = |study: i64| study + lateral_rows.partition_point(|&row| row < study) as i64;
    let all = pictures(studies);
    let border =
        |lane: i64| (0..=studies).find(|&study| pictures(study) * count as i64 >= all * lane).unwrap_or(studies);
    let borders: Vec<i64> = (0..=count as i64).map(border).collect();
    borders.windows(2).map(|pair| pair[0]..pair[1]).filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_study_has_one_thread_and_threads_have_about_as_many_pictures(
            laterals in proptest::collection::vec(any::<bool>(), 4..40), count in 1usize..5,
        ) {
            let rows: Vec<i64> = (0..laterals.len() as i64).filter(|&row| laterals[row as usize]).collect();
            let ranges = divide(laterals.len() as i64, &rows, count);
            let all: Vec<i64> = ranges.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..laterals.len() as i64).collect::<Vec<_>>());
            let pictures: Vec<usize> = ranges
                .iter()
                .map(|range| range.clone().map(|row| 1 + usize::from(laterals[row as usize])).sum())
                .collect();
            let due = (laterals.len() + rows.len()).div_ceil(count);
            prop_assert!(pictures.iter().all(|&count| count <= due + 2), "{:?}", pictures);
        }
    }
}
