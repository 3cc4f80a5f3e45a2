//! Finds pictures that occur for several subjects: files with different names and the same content,
//! a picture that was saved again in another format, a film that was filed under two patients.
//!
//! They are found by the pixels that a corpus stores, once all of these are written; any other
//! method would read each file twice.
//!
//! * *The same* pictures have the same stored pixels. If they were in two splits, a model could
//!   learn one by heart and then be tested on the other. The picture therefore stays in the
//!   strictest split (test, then validate) and is left out of the others.
//! * *Nearly the same* pictures are counted: their 256 comparisons of neighbouring areas (a
//!   difference hash) differ in at most [`NEAR`], and their pixels correlate by [`CORRELATION`] or
//!   more. Neighbours are sought in four sorted orders of the hashes, so a few may be missed; the
//!   time grows as that of sorting.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::plan::{ImageSource, Skipped, StudyPlan};
use super::shards::{self, CAPACITY, Shard};
use crate::progress::Progress;
use crate::split::Split;
use crate::study::ImageIndex;
use crate::{Error, Result};

/// Cells of a side of the difference hash.
const CELLS: usize = 16;
/// Largest number of differing bits, of 256, at which two pictures count as almost identical.
const NEAR: u32 = 10;
const CORRELATION: f64 = 0.99;
/// How many followers in each order a hash is compared with.
const FOLLOWERS: usize = 8;

/// The fingerprint by which pictures are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    /// Digest of the pixels.
    digest: [u8; 16],
    /// Whether an area is brighter than the one to its left.
    hash: [u64; CELLS * CELLS / 64],
    /// Uniform grey apart from padding: such a picture does not identify a patient.
    flat: bool,
}

/// A stored picture and whose it is.
struct StoredPicture<'a> {
    study: &'a StudyPlan,
    source: &'a ImageSource,
}

/// Finds pictures that several subjects have; those to be left out lose their place.
///
/// # Errors
/// A shard that cannot be read; a stop request.
pub fn find(
    folder: &Path,
    side: usize,
    studies: &[StudyPlan],
    places: &mut [Option<ImageIndex>],
    skipped: &mut Vec<Skipped>,
    warnings: &mut BTreeMap<String, u64>,
    progress: &dyn Progress,
) -> Result<()> {
    let all = studies
        .iter()
        .flat_map(|study| study.frontals.iter().chain(&study.laterals).map(move |source| (study, source)));
    // Pictures are stored in the order of the plan.
    let (pictures, at): (Vec<StoredPicture>, Vec<usize>) = all
        .enumerate()
        .filter(|(position, _)| places[*position].is_some())
        .map(|(position, (study, source))| (StoredPicture { study, source }, position))
        .unzip();
    let shards: Vec<Shard> = (0..pictures.len().div_ceil(CAPACITY))
        .map(|number| Shard::open(&folder.join(shards::name(shards::IMAGES, number)), side))
        .collect::<Result<_>>()?;
    let pixels = |picture: usize| shards[picture / CAPACITY].picture(picture % CAPACITY);
    progress.begin("comparing images", Some(pictures.len() as u64));
    let mut prints: Vec<Print> = Vec::with_capacity(pictures.len());
    for block in (0..pictures.len()).collect::<Vec<_>>().chunks(CAPACITY) {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        let read = block.par_iter().map(|&picture| Ok(print(&pixels(picture)?, side)));
        prints.extend(read.collect::<Result<Vec<Print>>>()?);
        progress.advance(block.len() as u64);
    }
    progress.end();
    let note = |warnings: &mut BTreeMap<String, u64>, what: String, count: usize| {
        if count > 0 {
            *warnings.entry(what).or_default() += count as u64;
        }
    };
    let (mut shared, mut example) = (0, None);
    for group in same(&prints) {
        let first = group[0];
        if group.iter().all(|&picture| pictures[picture].study.subject == pictures[first].study.subject) {
            continue;
        }
        if prints[first].flat {
            note(warnings, "images of a single grey value that several subjects share, kept".into(), group.len());
            continue;
        }
        let strictest = group.iter().map(|&picture| pictures[picture].study.split).max().unwrap_or(Split::Train);
        let stays = |picture: usize| pictures[picture].study.split == strictest;
        let kept: Vec<usize> = group.iter().copied().filter(|&picture| stays(picture)).collect();
        let mut subjects: HashSet<&str> = HashSet::new();
        subjects.extend(kept.iter().map(|&picture| pictures[picture].study.subject.0.as_str()));
        if subjects.len() > 1 {
            shared += kept.len();
            example.get_or_insert((
                kept[0],
                kept[1..].iter().copied().find(|&other| !pictures[kept[0]].is_of(&pictures[other])),
            ));
        }
        for picture in group.into_iter().filter(|&picture| !stays(picture)) {
            let (source, other) = (pictures[picture].source, pictures[kept[0]].source);
            let file = format!("{} (as {}, row {})", source.path.display(), other.path.display(), other.row);
            let reason = "identical to an image of another subject in a stricter split (test, then validate)".into();
            skipped.push(Skipped { file, row: source.row, reason });
            places[at[picture]] = None;
        }
    }
    if let Some((first, Some(second))) = example {
        let described = |picture: usize| {
            let StoredPicture { study, source } = &pictures[picture];
            format!("row {} of subject `{}`", source.row, study.subject)
        };
        let what = format!(
            "images identical to one of another subject in the same split, kept (such as {} and {})",
            described(first),
            described(second)
        );
        note(warnings, what, shared);
    }
    let (mut near, mut across) = (HashSet::new(), HashSet::new());
    let is_near = |(one, other): (usize, usize)| {
        let there = places[at[one]].is_some() && places[at[other]].is_some();
        let others = !pictures[one].is_of(&pictures[other]) && prints[one].digest != prints[other].digest;
        Ok(there && others && correlation(&pixels(one)?, &pixels(other)?) >= CORRELATION)
    };
    let checked = neighbours(&prints).into_par_iter().map(|pair| Ok((pair, is_near(pair)?)));
    for ((one, other), _) in checked.collect::<Result<Vec<_>>>()?.into_iter().filter(|(_, near)| *near) {
        near.extend([one, other]);
        if pictures[one].study.split != pictures[other].study.split {
            across.extend([one, other]);
        }
    }
    let similar = "images almost identical to one of another subject";
    note(warnings, format!("{similar} in another split, kept"), across.len());
    note(warnings, format!("{similar} in the same split, kept"), near.difference(&across).count());
    Ok(())
}

impl StoredPicture<'_> {
    fn is_of(&self, other: &StoredPicture) -> bool {
        self.study.subject == other.study.subject
    }
}

fn print(pixels: &[u8], side: usize) -> Print {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(pixels)[..16]);
    let cell = |row: usize, column: usize| {
        let range = |at: usize, cells: usize| at * side / cells..((at + 1) * side / cells).max(at * side / cells + 1);
        let (rows, columns) = (range(row, CELLS), range(column, CELLS + 1));
        let count = (rows.len() * columns.len()) as u32;
        let line = |row: usize| pixels[row * side + columns.start..row * side + columns.end].iter();
        rows.flat_map(line).map(|&value| u32::from(value)).sum::<u32>() / count
    };
    let mut hash = [0; CELLS * CELLS / 64];
    for row in 0..CELLS {
        let means: Vec<u32> = (0..=CELLS).map(|column| cell(row, column)).collect();
        for (column, pair) in means.windows(2).enumerate() {
            let bit = row * CELLS + column;
            hash[bit / 64] |= u64::from(pair[1] > pair[0]) << (bit % 64);
        }
    }
    let grey = pixels.iter().copied().max().unwrap_or_default();
    let flat = pixels.iter().all(|&value| value == 0 || value == grey);
    Print { digest, hash, flat }
}

/// Pictures with the same pixels, in order, where there are several.
fn same(prints: &[Print]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..prints.len()).collect();
    order.par_sort_unstable_by_key(|&picture| (prints[picture].digest, picture));
    let groups = order.chunk_by(|&one, &other| prints[one].digest == prints[other].digest);
    let mut groups: Vec<Vec<usize>> = groups.filter(|group| group.len() > 1).map(<[usize]>::to_vec).collect();
    groups.sort();
    groups
}

/// Pairs of pictures with similar hashes, each once.
fn neighbours(prints: &[Print]) -> Vec<(usize, usize)> {
    // Nothing but one area, or nothing at all, is like everything.
    let speaks = |print: &Print| print.hash.iter().map(|part| part.count_ones()).sum::<u32>() > NEAR;
    let speaking: Vec<usize> = (0..prints.len()).filter(|&picture| speaks(&prints[picture])).collect();
    let distance = |one: usize, other: usize| -> u32 {
        let parts = prints[one].hash.iter().zip(prints[other].hash);
        parts.map(|(one, other)| (one ^ other).count_ones()).sum()
    };
    let mut pairs: Vec<(usize, usize)> = (0..CELLS * CELLS / 64)
        .into_par_iter()
        .flat_map_iter(|turn| {
            let mut order = speaking.clone();
            order.sort_unstable_by_key(|&picture| {
                let mut hash = prints[picture].hash;
                hash.rotate_left(turn);
                (hash, picture)
            });
            let followers = |position: usize| {
                (position + 1..order.len().min(position + 1 + FOLLOWERS)).map(move |other| (position, other))
            };
            let near = (0..order.len()).flat_map(followers).filter_map(|(one, other)| {
                let (one, other) = (order[one].min(order[other]), order[one].max(order[other]));
                (distance(one, other) <= NEAR).then_some((one, other))
            });
            near.collect::<Vec<_>>()
        })
        .collect();
    pairs.par_sort_unstable();
    pairs.dedup();
    pairs
}

/// Pearson's correlation of two pictures; 0 where one is flat.
fn correlation(one: &[u8], other: &[u8]) -> f64 {
    let count = one.len() as f64;
    let [mut x, mut y, mut xx, mut yy, mut xy] = [0u64; 5];
    for (&a, &b) in one.iter().zip(other) {
        let (a, b) = (u64::from(a), u64::from(b));
        (x, y, xx, yy, xy) = (x + a, y + b, xx + a * a, yy + b * b, xy + a * b);
    }
    let [x, y, xx, yy, xy] = [x, y, xx, yy, xy].map(|sum| sum as f64 / count);
    let spread = ((xx - x * x) * (yy - y * y)).sqrt();
    if spread > 0.0 { (xy - x * y) / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with structure: waves whose phase the seed moves.
    fn waves(side: usize, seed: f64) -> Vec<u8> {
        let value = |at: usize| {
            let (x, y) = ((at % side) as f64, (at / side) as f64);
            127.0 + 60.0 * ((x * 0.3 + seed).sin() + (y * 0.2 - seed * x * 0.01).cos())
        };
        (0..side * side).map(|at| value(at) as u8).collect()
    }

    #[test]
    fn noise_makes_a_picture_nearly_the_same_and_another_phase_does_not() {
        let plain = waves(64, 0.0);
        let noisy: Vec<u8> = plain.iter().enumerate().map(|(at, value)| value + (at % 3) as u8).collect();
        let prints: Vec<Print> = [&plain, &noisy, &waves(64, 2.0), &plain].map(|pixels| print(pixels, 64)).to_vec();
        assert_eq!(same(&prints), [vec![0, 3]]);
        let pairs = neighbours(&prints);
        assert!(
            pairs.contains(&(0, 1)) && pairs.contains(&(1, 3)) && !pairs.iter().any(|pair| pair.1 == 2),
            "{pairs:?}"
        );
        assert!(correlation(&plain, &noisy) > CORRELATION);
        assert!(correlation(&plain, &waves(64, 2.0)) < 0.9);
        assert_eq!(correlation(&plain, &[7; 64 * 64]), 0.0);
        // Flat pictures resemble one another, which is not a sign of copies.
        assert!(print(&[3; 4096], 64).flat && !prints[0].flat);
        assert!(neighbours(&[print(&[3; 4096], 64), print(&[4; 4096], 64)]).is_empty());
        // The smallest pictures have fewer pixels than the hash has areas.
        print(&waves(16, 1.0), 16);
    }
}
