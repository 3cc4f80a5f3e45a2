//! Retrieval: the report of an image, the image of a report, images of a finding, other images of
//! the same subject.
//!
//! Scores are compared while they are computed, a block at a time: the matrix of all scores is
//! never held in memory. A candidate ranks ahead of the right one unless its score is lower by more
//! than a rounding error, so a model that gives the same vector for every input finds nothing.

use std::collections::BTreeMap;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use super::{Input, dot};
use crate::Result;
use crate::eval::Vectors;
use crate::eval::result::{Example, Figure, Meter, Protocol, Task, TaskResult, Unit, extremes};
use crate::eval::subgroups::Subgroups;
use crate::labels::words;
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::Ranking;

/// Scores closer than this are equal: sums in another order differ in the last bits.
const ROUNDING: f32 = 1e-6;
/// Rows and columns of a block of scores, which stays in a core's cache.
const BLOCK: (usize, usize) = (128, 1024);
/// Studies of a batch of the reference's in-batch accuracy.
const REFERENCE_BATCH: usize = 32;

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retrieval<'a> {
    pub protocol: Protocol,
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
}

/// Images of a split, the reports of some, and what else can be looked for.
#[derive(Clone, Debug)]
pub struct RetrievalData {
    /// `[n, D]`.
    pub images: Vectors,
    pub subjects: Vec<String>,
    /// Rows of the corpus.
    pub rows: Vec<usize>,
    /// `[m, D]` reports; no rows where the corpus has none.
    pub reports: Vectors,
    /// For each report, the number of its image.
    pub report_images: Vec<usize>,
    /// For each report, its text; reports with equal texts are equally correct.
    pub texts: Vec<String>,
    pub findings: Vec<ByFinding>,
}

/// A finding to look for.
#[derive(Clone, Debug)]
pub struct ByFinding {
    pub name: String,
    /// `[p, D]`: sentences that state the finding.
    pub prompts: Vectors,
    /// Whether each of the `n` images shows it; `None` if unknown.
    pub truth: Vec<Option<bool>>,
}

impl Retrieval<'_> {
    /// # Errors
    /// No images, embeddings of different widths, or values that are not finite.
    pub fn evaluate(&self, data: &RetrievalData) -> Result<TaskResult> {
        Input::check(&data.images, "images")?;
        Input::check_count(data.subjects.len(), &data.images, "subjects")?;
        if !data.reports.is_empty() {
            Input::check(&data.reports, "reports")?;
            Input::check_width(&data.reports, &data.images, "reports")?;
        }
        let method = match self.protocol {
            Protocol::Strict | Protocol::Literature => {
                "cosine over the whole split; reports with equal texts are equally correct, and ties count against \
                 the model"
            }
            Protocol::Reference => {
                "cosine within batches of 32 studies in the order of the corpus, both directions averaged"
            }
        };
        let mut result = TaskResult::new(Task::Retrieval, self.protocol, method);
        let clusters = Clusters::new(&data.subjects);
        (result.rows, result.subjects) = (data.images.len(), clusters.count());
        let images = data.images.unit();
        match self.protocol {
            Protocol::Strict | Protocol::Literature => {
                self.reports(data, &images, &mut result);
                self.across_time(data, &images, &mut result);
                self.by_finding(data, &images, &mut result)?;
            }
            Protocol::Reference => in_batch(data, &images, &mut result),
        }
        if result.figures.is_empty() {
            result.notes.push(
                "nothing to retrieve: the corpus has neither reports nor subjects with two images nor labels".into(),
            );
        }
        Ok(result)
    }

    fn reports(&self, data: &RetrievalData, images: &Vectors, result: &mut TaskResult) {
        if data.reports.len() < 2 {
            return;
        }
        let (described, reports) = (images.select(&data.report_images), data.reports.unit());
        let groups = numbered(&data.texts);
        let (to_reports, to_images) = best_ranks(&described, &reports, &groups, false);
        let clusters = Clusters::new(data.report_images.iter().map(|&image| &data.subjects[image]));
        let rows = data.report_images.iter().map(|&image| data.rows[image]);
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, rows);
        let count = reports.len();
        let sizes = sizes(&groups);
        let relevant: Vec<f64> = groups.iter().map(|&group| sizes[group as usize] as f64).collect();
        for (direction, ranks) in [("image to report", &to_reports), ("report to image", &to_images)] {
            result.figures.extend(rank_figures(direction, ranks, &relevant, count, &meter));
        }
        let distinct = sizes.len();
        if distinct < count {
            result.notes.push(format!("{count} reports have {distinct} different texts"));
        }
        let ranks: Vec<f64> = to_reports.iter().map(|rank| -rank.unwrap_or(f64::NAN)).collect();
        result.examples.extend(extremes(&ranks).into_iter().map(|(kind, row)| {
            let caption = format!("its report ranks {:.0} of {count}: “{}”", -ranks[row], short(&data.texts[row]));
            Example::new(kind, caption, [data.rows[data.report_images[row]]]).looking_for(short(&data.texts[row]))
        }));
    }

    /// Other images of the same subject.
    fn across_time(&self, data: &RetrievalData, images: &Vectors, result: &mut TaskResult) {
        let groups = numbered(&data.subjects);
        let sizes = sizes(&groups);
        if sizes.len() < 2 || sizes.iter().all(|&size| size < 2) {
            return;
        }
        let (ranks, _) = best_ranks(images, images, &groups, true);
        let relevant: Vec<f64> = groups.iter().map(|&group| sizes[group as usize] as f64 - 1.0).collect();
        let clusters = Clusters::new(&data.subjects);
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, data.rows.iter().copied());
        let count = images.len() - 1;
        result.figures.extend(rank_figures("same subject, another time", &ranks, &relevant, count, &meter));
    }

    fn by_finding(&self, data: &RetrievalData, images: &Vectors, result: &mut TaskResult) -> Result<()> {
        for finding in &data.findings {
            Input::check(&finding.prompts, "sentences of findings")?;
            Input::check_width(&finding.prompts, images, "sentences of findings")?;
            let prompt = finding.prompts.unit().mean_direction();
            let labelled: Vec<(usize, bool)> =
                finding.truth.iter().enumerate().filter_map(|(row, there)| Some((row, (*there)?))).collect();
            let scores: Vec<f64> = labelled.iter().map(|&(row, _)| dot(images.row(row), &prompt)).collect();
            let positive: Vec<bool> = labelled.iter().map(|row| row.1).collect();
            let group = format!("images of {}", words(&finding.name));
            let there = positive.iter().filter(|&&there| there).count();
            let chance = there as f64 / positive.len().max(1) as f64;
            let clusters = Clusters::new(labelled.iter().map(|&(row, _)| &data.subjects[row]));
            let rows = labelled.iter().map(|&(row, _)| data.rows[row]);
            let meter = Meter::new(self.bootstrap, &clusters).by(self.by, rows);
            let ranking = Ranking::new(&scores, &positive);
            if there > 0 {
                for k in [5, 10, 50].into_iter().filter(|&k| k <= positive.len()) {
                    let name = format!("precision@{k}");
                    // In a bootstrap sample, a row that was drawn n times occupies n of the first k
                    // places.
                    let figure =
                        meter.figure(&group, &name, Unit::Share, positive.len(), "too few images", &|weights| {
                            ranking.precision_at(k, weights)
                        });
                    result.figures.push(figure.with_chance(chance));
                }
            }
            let reason = format!("no image shows {}", words(&finding.name));
            let figure = meter.figure(&group, "average precision", Unit::Number, positive.len(), &reason, &|weights| {
                ranking.average_precision(weights)
            });
            result.figures.push(figure.with_chance(chance));
        }
        Ok(())
    }
}

/// Recall and median rank; `relevant`: how many candidates are right for each query, out of
/// `count`.
fn rank_figures(group: &str, ranks: &[Option<f64>], relevant: &[f64], count: usize, meter: &Meter<'_>) -> Vec<Figure> {
    let queries: Vec<usize> = (0..ranks.len()).filter(|&row| ranks[row].is_some()).collect();
    let mean = |values: &dyn Fn(f64) -> f64, weights: &[f64]| {
        let (mut sum, mut total) = (0.0, 0.0);
        for (rank, weight) in ranks.iter().zip(weights) {
            if let Some(rank) = rank {
                sum += weight * values(*rank);
                total += weight;
            }
        }
        (total > 0.0).then(|| sum / total)
    };
    let mut figures: Vec<Figure> = [1, 5, 10]
        .into_iter()
        .map(|k| {
            let hit = |rank: f64| f64::from(u8::from(rank <= f64::from(k)));
            let name = format!("recall@{k}");
            let figure =
                meter.figure_of(group, &name, Unit::Share, &queries, "no queries", &|weights| mean(&hit, weights));
            let of = |&(_, right): &(&Option<f64>, &f64)| 1.0 - miss(count as f64, *right, f64::from(k));
            let guesses: Vec<f64> =
                ranks.iter().zip(relevant).filter(|row| row.0.is_some()).map(|row| of(&row)).collect();
            figure.with_chance(guesses.iter().sum::<f64>() / guesses.len().max(1) as f64)
        })
        .collect();
    // Sorted once: every replicate of the bootstrap then walks to the middle.
    let mut order: Vec<(f64, usize)> =
        ranks.iter().enumerate().filter_map(|(row, rank)| Some(((*rank)?, row))).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median = meter.figure_of(group, "median rank", Unit::Rank, &queries, "no queries", &|weights| {
        let half = order.iter().map(|&(_, row)| weights[row]).sum::<f64>() / 2.0;
        let mut below = 0.0;
        order
            .iter()
            .find(|&&(_, row)| {
                below += weights[row];
                below >= half && below > 0.0
            })
            .map(|ranked| ranked.0)
    });
    figures.push(median);
    figures
}

/// The probability that none of `right` among `count` candidates is in `k` places drawn at random.
fn miss(count: f64, right: f64, k: f64) -> f64 {
    (0..k as usize).map(|drawn| ((count - right - drawn as f64) / (count - drawn as f64)).clamp(0.0, 1.0)).product()
}

/// Numbers names by their first occurrence.
fn numbered(names: &[String]) -> Vec<u32> {
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    names
        .iter()
        .map(|name| {
            let next = numbers.len() as u32;
            *numbers.entry(name).or_insert(next)
        })
        .collect()
}

fn sizes(groups: &[u32]) -> Vec<usize> {
    let mut sizes = vec![0; groups.iter().max().map_or(0, |most| *most as usize + 1)];
    groups.iter().for_each(|&group| sizes[group as usize] += 1);
    sizes
}

/// For each row of `a`, the rank of its best correct row of `b`, and the other way round; ranks
/// count from 1.
///
/// * `a`, `b`: `[n, D]` unit vectors; rows of the same group are correct answers to each other.
///   With `others_only` (`a` and `b` are the same rows), a row is not an answer to itself, and a
///   row that is alone in its group has no rank.
///
/// An incorrect row with the same score as the best correct one ranks above it. Time `n²·D`, memory
/// `n·D`.
pub fn best_ranks(a: &Vectors, b: &Vectors, groups: &[u32], others_only: bool) -> (Vec<Option<f64>>, Vec<Option<f64>>) {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); sizes(groups).len()];
    groups.iter().enumerate().for_each(|(row, &group)| members[group as usize].push(row as u32));
    let best = |a: &Vectors, b: &Vectors| -> Vec<BestAnswer> {
        (0..a.len())
            .into_par_iter()
            .map(|row| {
                let right = &members[groups[row] as usize];
                BestAnswer::new(a.row(row), b, right, others_only.then_some(row as u32))
            })
            .collect()
    };
    let (rows, columns) = (best(a, b), best(b, a));
    let thresholds =
        |answers: &[BestAnswer]| -> Vec<f32> { answers.iter().map(|answer| answer.score - ROUNDING).collect() };
    let (row_counts, column_counts) = count_not_lower(a, b, &thresholds(&rows), &thresholds(&columns));
    let ranks = |answers: &[BestAnswer], counts: &[u32]| {
        answers.iter().zip(counts).map(|(answer, &count)| answer.rank(count)).collect()
    };
    (ranks(&rows, &row_counts), ranks(&columns, &column_counts))
}

/// The best correct candidate of a row.
struct BestAnswer {
    score: f32,
    /// Right candidates (and the row itself) that are not lower than the best.
    not_lower: u32,
}

impl BestAnswer {
    fn new(row: &[f32], others: &Vectors, right: &[u32], itself: Option<u32>) -> BestAnswer {
        let scores: Vec<f32> = right.iter().map(|&other| product(row, others.row(other as usize))).collect();
        let answers = right.iter().zip(&scores).filter(|(other, _)| Some(**other) != itself).map(|(_, &score)| score);
        let best = answers.fold(f32::NEG_INFINITY, f32::max);
        let not_lower = scores.iter().filter(|&&score| score >= best - ROUNDING).count() as u32;
        BestAnswer { score: best, not_lower }
    }

    fn rank(&self, not_lower: u32) -> Option<f64> {
        self.score.is_finite().then(|| f64::from(not_lower.saturating_sub(self.not_lower)) + 1.0)
    }
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// For each row of `a · bᵀ`, the number of columns that reach its threshold; for each column, the
/// number of rows that reach the column's threshold.
fn count_not_lower(a: &Vectors, b: &Vectors, of_rows: &[f32], of_columns: &[f32]) -> (Vec<u32>, Vec<u32>) {
    let view = |x: &'_ Vectors| (x.len(), x.width());
    let matrix = |shape, values| ArrayView2::from_shape(shape, values).expect("rows of one width");
    let (left, right): (ArrayView2<'_, f32>, ArrayView2<'_, f32>) =
        (matrix(view(a), a.values()), matrix(view(b), b.values()));
    let columns = b.len();
    let starts: Vec<usize> = (0..a.len()).step_by(BLOCK.0).collect();
    let (mut parts, column_counts) = starts
        .into_par_iter()
        .fold(
            || (Vec::new(), vec![0u32; columns]),
            |(mut parts, mut column_counts): (Vec<(usize, Vec<u32>)>, Vec<u32>), start| {
                let end = (start + BLOCK.0).min(a.len());
                let mut counts = vec![0u32; end - start];
                let mut scores = Array2::zeros((end - start, BLOCK.1));
                for first in (0..columns).step_by(BLOCK.1) {
                    let last = (first + BLOCK.1).min(columns);
                    let mut block = scores.slice_mut(s![.., ..last - first]);
                    let candidates = right.slice(s![first..last, ..]);
                    general_mat_mul(1.0, &left.slice(s![start..end, ..]), &candidates.t(), 0.0, &mut block);
                    for (row_index, row) in block.rows().into_iter().enumerate() {
                        let row = row.to_slice().expect("rows of a block are contiguous");
                        let threshold = of_rows[start + row_index];
                        counts[row_index] += row.iter().map(|&score| u32::from(score >= threshold)).sum::<u32>();
                        let columns = column_counts[first..last].iter_mut().zip(&of_columns[first..last]);
                        columns
                            .zip(row)
                            .for_each(|((count, &threshold), &score)| *count += u32::from(score >= threshold));
                    }
                }
                parts.push((start, counts));
                (parts, column_counts)
            },
        )
        .reduce(
            || (Vec::new(), vec![0; columns]),
            |(mut parts, mut counts), (more, other)| {
                parts.extend(more);
                counts.iter_mut().zip(other).for_each(|(count, other)| *count += other);
                (parts, counts)
            },
        );
    parts.sort_by_key(|part| part.0);
    (parts.into_iter().flat_map(|part| part.1).collect(), column_counts)
}

/// The reference's accuracy at 1 and 5: within batches, both directions averaged; the last batch
/// may be smaller.
fn in_batch(data: &RetrievalData, images: &Vectors, result: &mut TaskResult) {
    let reports = data.reports.unit();
    let (mut right, mut all) = ([0.0; 2], 0.0);
    for start in (0..reports.len()).step_by(REFERENCE_BATCH) {
        let rows: Vec<usize> = (start..(start + REFERENCE_BATCH).min(reports.len())).collect();
        let image_rows: Vec<usize> = rows.iter().map(|&row| data.report_images[row]).collect();
        let (a, b) = (images.select(&image_rows), reports.select(&rows));
        let alone: Vec<u32> = (0..rows.len() as u32).collect();
        let (forward, backward) = best_ranks(&a, &b, &alone, false);
        for rank in forward.into_iter().chain(backward).flatten() {
            all += 1.0;
            [1.0, 5.0].iter().zip(&mut right).for_each(|(&k, right)| *right += f64::from(u8::from(rank <= k)));
        }
    }
    for (k, right) in [1, 5].into_iter().zip(right) {
        let name = format!("accuracy@{k} in the batch");
        result.figures.push(match all > 0.0 {
            true => Figure::plain("both directions", &name, Unit::Share, right / all, reports.len()),
            false => Figure::undefined("both directions", &name, Unit::Share, 0, "no study has a report"),
        });
    }
}

/// The beginning of a report.
fn short(text: &str) -> String {
    let mut words: Vec<&str> = text.split_whitespace().take(25).collect();
    if text.split_whitespace().count() > words.len() {
        words.push("…");
    }
    words.join(" ")
}
