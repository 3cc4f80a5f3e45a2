//! Courses: which findings a patient has and how they change from visit to visit.

use rand::Rng;
use rand::seq::IndexedRandom;
use serde::Serialize;

use super::canvas::Noise;
use super::difficulty::Difficulty;
use super::finding::{Finding, Present, Side, Zone};

/// A finding is present from this severity on.
pub const PRESENT: f32 = 0.1;
/// Smaller differences of severity are not a change.
const CHANGE: f32 = 0.08;

/// A finding against the visit before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The first visit.
    First,
    /// Absent before and now.
    Absent,
    New,
    Improving,
    Stable,
    Worsening,
    Resolved,
}

impl Change {
    /// Compares severities; `None` for the first visit.
    pub fn between(before: Option<f32>, now: f32) -> Change {
        match before {
            None => Change::First,
            Some(before) if before < PRESENT && now < PRESENT => Change::Absent,
            Some(before) if before < PRESENT => Change::New,
            Some(_) if now < PRESENT => Change::Resolved,
            Some(before) if now - before > CHANGE => Change::Worsening,
            Some(before) if before - now > CHANGE => Change::Improving,
            Some(_) => Change::Stable,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Change::First => "first",
            Change::Absent => "absent",
            Change::New => "new",
            Change::Improving => "improving",
            Change::Stable => "stable",
            Change::Worsening => "worsening",
            Change::Resolved => "resolved",
        }
    }
}

/// One finding over all visits.
#[derive(Clone, Debug)]
pub struct Course {
    pub finding: Finding,
    pub side: Side,
    pub zone: Zone,
    pub noise: Noise,
    /// See [`Present::hidden`].
    pub hidden: bool,
    /// See [`Present::contrast`].
    pub contrast: f32,
    /// Severity at each visit; the finding counts as absent below [`PRESENT`].
    pub severities: Vec<f32>,
}

impl Course {
    /// The state of the finding at a visit; `None` below [`PRESENT`].
    pub fn at(&self, visit: usize) -> Option<Present> {
        let Course { finding, side, zone, noise, hidden, contrast, .. } = *self;
        let severity = self.severities[visit];
        (severity >= PRESENT).then_some(Present { finding, side, zone, severity, noise, hidden, contrast })
    }

    pub fn change(&self, visit: usize) -> Change {
        self.change_since(visit.checked_sub(1), visit)
    }

    /// The change against an earlier visit.
    pub fn change_since(&self, earlier: Option<usize>, visit: usize) -> Change {
        Change::between(earlier.map(|earlier| self.severities[earlier]), self.severities[visit])
    }
}

/// Days of a patient's visits: 1 to 8, days or months apart.
pub fn days(random: &mut impl Rng) -> Vec<u32> {
    let visits = [1, 1, 1, 2, 2, 3, 4, 4, 4, 5, 6, 7, 8].choose(random).copied().unwrap_or(1);
    let acute = random.random_bool(0.6);
    let mut day = 0;
    (0..visits)
        .map(|visit| {
            if visit > 0 {
                day += if acute { random.random_range(1..6) } else { random.random_range(20..240) };
            }
            day
        })
        .collect()
}

/// The findings of a patient over `visits` visits; none for about one in six.
pub fn courses(visits: usize, difficulty: Difficulty, random: &mut impl Rng) -> Vec<Course> {
    let count = [0, 1, 1, 1, 2, 2, 3].choose(random).copied().unwrap_or(0);
    let mut left = Finding::ALL.to_vec();
    (0..count)
        .map(|_| {
            let finding = left.swap_remove(random.random_range(0..left.len()));
            let side = match finding {
                _ if !finding.has_side() => Side::Both,
                Finding::PleuralEffusion | Finding::Atelectasis if random.random_bool(0.3) => Side::Both,
                _ if random.random_bool(0.5) => Side::Right,
                _ => Side::Left,
            };
            let zone =
                [Zone::Upper, Zone::Mid, Zone::Lower, Zone::Lower].choose(random).copied().unwrap_or(Zone::Lower);
            let noise = Noise { seed: random.random() };
            let severities = severities(visits, difficulty, random);
            // Drawn last, and not at all where nothing hides: a plain cohort keeps its numbers.
            let share = difficulty.hidden_share();
            let hidden = share > 0.0 && finding.can_hide() && random.random_bool(share);
            Course { finding, side, zone, noise, hidden, contrast: difficulty.contrast(), severities }
        })
        .collect()
}

/// Improving, stable or worsening, sometimes turning; small changes of no meaning on top.
fn severities(visits: usize, difficulty: Difficulty, random: &mut impl Rng) -> Vec<f32> {
    let mut slope: f32 = [-1.0, 0.0, 1.0].choose(random).copied().unwrap_or(0.0);
    let mut severity: f32 = match slope {
        s if s < 0.0 => random.random_range(0.45..1.0),
        s if s > 0.0 => random.random_range(0.0..0.55),
        _ => random.random_range(0.14..0.95),
    };
    let pace = random.random_range(difficulty.pace());
    (0..visits)
        .map(|visit| {
            if visit > 0 {
                if random.random_bool(0.12) {
                    slope = -slope;
                }
                severity = (severity + slope * pace + random.random_range(-0.025..0.025)).clamp(0.0, 1.0);
            }
            severity
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_from_severities() {
        assert_eq!(Change::between(None, 0.5), Change::First);
        assert_eq!(Change::between(Some(0.0), 0.05), Change::Absent);
        assert_eq!(Change::between(Some(0.05), 0.2), Change::New);
        assert_eq!(Change::between(Some(0.3), 0.35), Change::Stable);
        assert_eq!(Change::between(Some(0.3), 0.5), Change::Worsening);
        assert_eq!(Change::between(Some(0.8), 0.5), Change::Improving);
        assert_eq!(Change::between(Some(0.3), 0.02), Change::Resolved);
    }
}
