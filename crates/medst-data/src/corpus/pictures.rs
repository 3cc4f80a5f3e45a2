//! Decoding the pictures of a plan, by one or several processes.
//!
//! The plan's pictures that are not decoded yet are shared out evenly, in order. Each process
//! appends to its own files, so two machines never write to the same file, and [`super::join`]
//! makes shards of them. Decoding runs ahead of writing, so that cores do not wait for the disk;
//! memory does not grow with the number of pictures.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rayon::prelude::*;

use super::journal::{Extent, Lines, Stretch, add_counts};
use super::options::PrepareOptions;
use super::shards::ShardWriter;
use crate::image::{self, Notes};
use crate::progress::Progress;
use crate::ranks::{Ranks, part};
use crate::{Error, Reason, Result};

/// Pictures between two entries of the journal.
const BLOCK: usize = 128;
/// Blocks that are decoded at the same time: while the last pictures of one keep some cores busy,
/// the other has work for the rest.
const LANES: usize = 2;

/// Pictures that each of several processes decodes between two meetings: few enough that all learn
/// of a stop request soon, and that no process waits so long for a slower one that it takes that
/// one for lost.
const ROUND: usize = 1024;

/// Consecutive pictures that a process decodes, and the stretch that they continue (or begin).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    stretch: Extent,
    places: Range<usize>,
}

/// The pieces of process `rank` of `size`, where `known` is decoded of `images` pictures.
fn pieces(known: &[Extent], images: usize, rank: usize, size: usize) -> Vec<Piece> {
    let begin = Extent { first: 0, decoded: 0, stored: 0 };
    // Each gap follows a stretch, which it continues; the first may follow none.
    let before = Some(begin).filter(|_| known.first().is_none_or(|stretch| stretch.first > 0));
    let stretches: Vec<Extent> = before.into_iter().chain(known.iter().copied()).collect();
    let ends = stretches.iter().skip(1).map(|stretch| stretch.first).chain([images]);
    let gaps: Vec<(Extent, Range<usize>)> =
        stretches.iter().zip(ends).map(|(stretch, end)| (*stretch, stretch.end()..end)).collect();
    let share = part(gaps.iter().map(|(_, gap)| gap.len()).sum(), rank, size);
    let mut pieces = Vec::new();
    let mut before = 0;
    for (stretch, gap) in gaps {
        let from = share.start.clamp(before, before + gap.len()) - before + gap.start;
        let to = share.end.clamp(before, before + gap.len()) - before + gap.start;
        before += gap.len();
        if from < to {
            let stretch = if from == gap.start { stretch } else { Extent { first: from, decoded: 0, stored: 0 } };
            pieces.push(Piece { stretch, places: from..to });
        }
    }
    pieces
}

/// The work of one process.
#[derive(Debug)]
pub struct Decoded {
    /// The pictures that were decoded in this run. A stretch that was continued starts where the
    /// continuation did.
    pub news: Vec<Stretch>,
    /// How far the stretches go that it began or continued.
    pub extents: Vec<Extent>,
    pub stopped: bool,
}

/// Decodes this process' share of the pictures that are not `known` yet. A stop request to any
/// process ends it between two blocks.
///
/// # Errors
/// Names the file that cannot be written.
pub fn decode(
    folder: &Path,
    images: &[PathBuf],
    known: &[Extent],
    options: &PrepareOptions,
    ranks: &dyn Ranks,
    progress: &dyn Progress,
) -> Result<Decoded> {
    let pieces = pieces(known, images.len(), ranks.rank(), ranks.size());
    let left = images.len() - known.iter().map(|stretch| stretch.decoded).sum::<usize>();
    let mut meetings = Meetings { ranks, left: left.div_ceil(ranks.size()).div_ceil(ROUND), since_last: 0 };
    let blocks: Vec<(usize, Range<usize>)> = pieces
        .iter()
        .enumerate()
        .flat_map(|(number, piece)| {
            let end = piece.places.end;
            piece.places.clone().step_by(BLOCK).map(move |start| (number, start..end.min(start + BLOCK)))
        })
        .collect();
    let whose = if ranks.size() > 1 { "preparing images (part of this process)" } else { "preparing images" };
    progress.begin(whose, Some(pieces.iter().map(|piece| piece.places.len() as u64).sum()));
    let mut decoded = Decoded { news: Vec::new(), extents: Vec::new(), stopped: false };
    std::thread::scope(|scope| -> Result<()> {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (sender, receiver) = mpsc::sync_channel(1);
                let blocks_of_lane = blocks.iter().skip(lane).step_by(LANES);
                scope.spawn(move || {
                    // The receiver is gone when writing failed.
                    blocks_of_lane
                        .take_while(|_| !progress.stop_requested())
                        .all(|(_, block)| sender.send(squares(&images[block.clone()], options, progress)).is_ok())
                });
                receiver
            })
            .collect();
        let mut open: Option<(usize, ShardWriter, Lines)> = None;
        for (number, (piece, block)) in blocks.iter().enumerate() {
            if meetings.is_due(block.len()) && meetings.meet(false) {
                decoded.stopped = true;
                break;
            }
            // A lane ends early only when asked to stop: the blocks after it are not written.
            let Ok(pictures) = lanes[number % LANES].recv() else {
                decoded.stopped = true;
                break;
            };
            if open.as_ref().is_none_or(|(current, ..)| current != piece) {
                let stretch = pieces[*piece].stretch;
                let shards = ShardWriter::new(folder, &stretch.part(), options.image_size, stretch.stored)?;
                open = Some((*piece, shards, Lines::open(folder, stretch.first)?));
                decoded.news.push(Stretch { first: block.start, ..Stretch::default() });
                decoded.extents.push(stretch);
            }
            let Some((_, shards, lines)) = &mut open else { continue };
            let mut failures = Vec::with_capacity(pictures.len());
            let mut notes = BTreeMap::new();
            for (picture, remarks) in pictures {
                for note in remarks.iter().filter(|_| picture.is_ok()) {
                    *notes.entry(note.to_string()).or_default() += 1;
                }
                match picture {
                    Ok(pixels) => {
                        shards.push(&pixels)?;
                        failures.push(None);
                    }
                    Err(reason) => failures.push(Some(reason.to_string())),
                }
            }
            shards.sync()?;
            if let (Some(news), Some(extent)) = (decoded.news.last_mut(), decoded.extents.last_mut()) {
                extent.decoded += failures.len();
                extent.stored = shards.written();
                news.failures.extend(failures.iter().cloned());
                add_counts(&mut news.notes, &notes);
            }
            lines.add(failures, notes)?;
        }
        Ok(())
    })?;
    while meetings.left > 0 {
        decoded.stopped |= meetings.meet(decoded.stopped);
    }
    if !decoded.stopped {
        progress.end();
    }
    Ok(decoded)
}

/// When processes meet: equally often for all, however large their shares are.
struct Meetings<'a> {
    ranks: &'a dyn Ranks,
    left: usize,
    /// Pictures of this process since the last one.
    since_last: usize,
}

impl Meetings<'_> {
    /// Whether it is time before `next` more pictures are decoded.
    fn is_due(&mut self, next: usize) -> bool {
        let due = self.since_last + next > ROUND && self.left > 0;
        self.since_last = if due { next } else { self.since_last + next };
        due
    }

    /// Returns whether any process was stopped, which ends the meetings.
    fn meet(&mut self, stopped: bool) -> bool {
        let any = self.ranks.gather_bytes(&[u8::from(stopped)]).iter().any(|said| said == &[1]);
        self.left = if any { 0 } else { self.left - 1 };
        any
    }
}

/// The pixels that a corpus stores, or why the picture is left out, with notes on how it was read.
type DecodedSquare = (Result<Vec<u8>, Reason>, Notes);

/// Decodes a block on all cores.
fn squares(block: &[PathBuf], options: &PrepareOptions, progress: &dyn Progress) -> Vec<DecodedSquare> {
    let picture = |path: &PathBuf| {
        let mut notes = Notes::default();
        let picture = square(path, options, &mut notes);
        progress.advance(1);
        (picture, notes)
    };
    block.par_iter().map(picture).collect()
}

/// Reads a picture in the form that a corpus stores; the error is a short reason fit for counting.
fn square(path: &Path, options: &PrepareOptions, notes: &mut Notes) -> Result<Vec<u8>, Reason> {
    image::square_noting(path, options.image_size, options.decoding, notes).map_err(|error| match error {
        Error::Image { reason, .. } => Reason::from(reason),
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => "image file does not exist".into(),
        Error::Io { source, .. } => format!("image file is unreadable: {}", source.kind()).into(),
        other => other.to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is decoded already, all processes together decode the rest, once, in even
        /// parts, and no two continue one stretch.
        #[test]
        fn what_is_left_is_shared_out(lengths in proptest::collection::vec((0usize..9, 1usize..9), 0..6), rest in 0usize..9, size in 1usize..7) {
            let (mut known, mut images) = (Vec::new(), 0);
            for (gap, decoded) in lengths {
                known.push(Extent { first: images + gap, decoded, stored: decoded / 2 });
                images += gap + decoded;
            }
            images += rest;
            let mut done = vec![0; images];
            known.iter().for_each(|stretch| done[stretch.first..stretch.end()].iter_mut().for_each(|count| *count += 1));
            let left = done.iter().filter(|count| **count == 0).count();
            let mut firsts = Vec::new();
            for rank in 0..size {
                let pieces_of_rank = pieces(&known, images, rank, size);
                prop_assert!(pieces_of_rank.iter().map(|piece| piece.places.len()).sum::<usize>() <= left.div_ceil(size));
                for Piece { stretch, places } in pieces_of_rank {
                    prop_assert_eq!(stretch.end(), places.start);
                    let old = known.iter().find(|old| old.first == stretch.first);
                    prop_assert_eq!(old.copied().unwrap_or(Extent { decoded: 0, stored: 0, ..stretch }), stretch);
                    firsts.push(stretch.first);
                    places.for_each(|image| done[image] += 1);
                }
            }
            prop_assert!(done.iter().all(|&count| count == 1));
            firsts.sort_unstable();
            prop_assert!(firsts.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
