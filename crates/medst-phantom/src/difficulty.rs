//! The settings of a hard cohort. The plain cohort shows that a program works; the hard one is for
//! comparing methods, so no task may be so easy that every method solves it.
//!
//! How the hard cohort differs:
//!
//! * Changes between visits are 0.1 to 0.22 of the scale, little above what counts as a change;
//!   plain: 0.11 to 0.3.
//! * A finding adds only a part of its attenuation to a picture; plain: all of it.
//! * Poses are 1.3 times as far from straight.
//! * Exposures are also darker or lighter than a department's range. In the training split sick
//!   patients tend to darker pictures, elsewhere they do not.
//! * One report of three compares with an earlier visit than the one before, or states that there
//!   is none; plain: always with the visit before.
//! * Reports also mention absent findings as history; plain: they only deny them.
//! * Only the lateral view shows consolidations, pneumonias, effusions and atelectases behind heart
//!   and diaphragm, whatever their size; plain: small effusions.

use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::film::Exposure;
use super::finding::Present;
use medst_data::split::Split;

/// How hard a cohort is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Difficulty {
    #[default]
    Plain,
    Hard,
}

/// In a hard cohort, how much of the range an exposure is off at most, and how much of that
/// sickness decides in the training split.
const EXPOSURE: f32 = 0.06;
const CONFOUNDED: f32 = 0.4;

impl Difficulty {
    pub const ALL: [Difficulty; 2] = [Difficulty::Plain, Difficulty::Hard];

    /// The name that a user types.
    pub fn name(self) -> &'static str {
        match self {
            Difficulty::Plain => "plain",
            Difficulty::Hard => "hard",
        }
    }

    /// Change of severity from visit to visit, of a course that changes.
    pub(super) fn pace(self) -> Range<f32> {
        match self {
            Difficulty::Plain => 0.11..0.3,
            Difficulty::Hard => 0.1..0.22,
        }
    }

    /// See [`Present::contrast`].
    pub(super) fn contrast(self) -> f32 {
        match self {
            Difficulty::Plain => 1.0,
            Difficulty::Hard => 0.9,
        }
    }

    /// Share of the findings that can hide which do.
    pub(super) fn hidden_share(self) -> f64 {
        match self {
            Difficulty::Plain => 0.0,
            Difficulty::Hard => 0.35,
        }
    }

    /// How far off a pose is, against the plain one.
    pub(super) fn pose_factor(self) -> f32 {
        match self {
            Difficulty::Plain => 1.0,
            Difficulty::Hard => 1.3,
        }
    }

    /// The visit that a report compares with.
    pub(super) fn prior(self, visit: usize, random: &mut impl Rng) -> Option<usize> {
        let before = visit.checked_sub(1)?;
        if self == Difficulty::Plain || random.random_ratio(2, 3) {
            return Some(before);
        }
        // An earlier visit, each as likely; where none exists, the author had no prior.
        before.checked_sub(1).map(|last| random.random_range(0..=last))
    }

    /// Exposure of a picture. Apart from chance, it follows a shortcut that holds only in the
    /// training split.
    pub(super) fn exposure(
        self,
        drawn: Exposure,
        split: Split,
        present: &[Present],
        random: &mut ChaCha8Rng,
    ) -> Exposure {
        if self == Difficulty::Plain {
            return drawn;
        }
        let chance: f32 = random.random_range(-1.0..1.0);
        // Findings that no frontal picture shows must not show through the exposure either.
        let sickness: f32 = present.iter().filter(|finding| !finding.hidden).map(|finding| finding.severity).sum();
        let leaning = (2.0 * sickness.min(1.0) - 1.0) * CONFOUNDED;
        let share = if split == Split::Train { leaning + (1.0 - CONFOUNDED) * chance } else { chance };
        drawn.shifted(EXPOSURE * share).noisier(random.random_range(1.0..1.5))
    }
}
