//! Patients, their visits, and the pictures of a visit, as values without files. Each is a function
//! of the cohort's seed and the patient's number, so all layouts and any number of threads give the
//! same patients.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::anatomy::Anatomy;
use super::canvas::{Canvas, Pose};
use super::course::{self, Change, Course};
use super::difficulty::Difficulty;
use super::film::{Exposure, Marker, develop};
use super::finding::{Finding, Present};
use super::projection::{self, Projected};
use super::report::{self, Observation, Written};
use medst_data::split::Split;
use medst_data::study::View;

/// A patient.
#[derive(Debug)]
pub struct Patient {
    pub number: u32,
    pub split: Split,
    pub anatomy: Anatomy,
    pub courses: Vec<Course>,
    pub visits: Vec<Visit>,
    seed: u64,
    difficulty: Difficulty,
}

/// A visit of a patient.
#[derive(Debug)]
pub struct Visit {
    pub day: u32,
    pub has_lateral: bool,
    pub report: String,
    /// Present findings that the report mentions.
    pub mentioned: Vec<Finding>,
}

/// A synthetic picture of a visit.
pub struct DrawnPicture {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
    /// For each present finding, the box `[left, top, right, bottom]` (ends exclusive) of its
    /// effect on the picture; `None` if it does not show.
    pub boxes: Vec<Option<[u32; 4]>>,
}

/// A patient with all pictures drawn.
pub struct DrawnPatient {
    pub patient: Patient,
    pub visits: Vec<DrawnVisit>,
}

/// The pictures of a visit.
pub struct DrawnVisit {
    pub frontal: DrawnPicture,
    pub lateral: Option<DrawnPicture>,
    /// Some visits have a second frontal picture.
    pub second: Option<DrawnPicture>,
}

impl DrawnPatient {
    /// The patient of a number in the cohort of a seed, with pictures `size` pixels high; second
    /// frontal pictures where they are asked for.
    pub fn draw(seed: u64, number: u32, difficulty: Difficulty, size: usize, with_second: bool) -> DrawnPatient {
        let patient = Patient::draw_as(seed, number, difficulty);
        let visit = |visit: usize| DrawnVisit {
            frontal: patient.frontal(visit, size),
            lateral: patient.visits[visit].has_lateral.then(|| patient.lateral(visit, size)),
            second: (with_second && patient.has_second(visit)).then(|| patient.second_frontal(visit, size)),
        };
        let visits = (0..patient.visits.len()).map(visit).collect();
        DrawnPatient { patient, visits }
    }
}

/// A finding's box encloses the pixels where its effect is at least this share of its maximum.
const BOX_SHARE: f32 = 0.3;

/// What a random stream of a patient is for; pictures have one for each visit.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Anatomy, courses and reports.
    Patient,
    Frontal(usize),
    Lateral(usize),
    SecondFrontal(usize),
    /// Whether a visit has a second frontal picture.
    HasSecond(usize),
}

impl Purpose {
    /// Part of what a seed means, so the numbers stay. No patient has 32 visits.
    fn number(self) -> u64 {
        match self {
            Purpose::Patient => 0,
            Purpose::Frontal(visit) => 2 * visit as u64 + 1,
            Purpose::Lateral(visit) => 2 * visit as u64 + 2,
            Purpose::SecondFrontal(visit) => 64 + visit as u64,
            Purpose::HasSecond(visit) => 96 + visit as u64,
        }
    }
}

/// An independent stream of random numbers for each purpose.
fn random(seed: u64, patient: u32, purpose: Purpose) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(u64::from(patient) << 16 | purpose.number());
    random
}

impl Patient {
    /// The patient of a number in the plain cohort of a seed.
    pub fn draw(seed: u64, number: u32) -> Patient {
        Patient::draw_as(seed, number, Difficulty::Plain)
    }

    /// The course of a finding since the visit before, in the words of MS-CXR-T; empty where the
    /// finding was absent and still is, at the first visit, and where the images do not show it.
    pub fn progression(&self, finding: Finding, visit: usize) -> &'static str {
        let course = self.courses.iter().find(|course| course.finding == finding && !course.hidden);
        match course.map(|course| course.change(visit)) {
            Some(Change::Improving | Change::Resolved) => "improving",
            Some(Change::Stable) => "stable",
            Some(Change::Worsening | Change::New) => "worsening",
            Some(Change::First | Change::Absent) | None => "",
        }
    }

    /// The patient of a number in the cohort of a seed.
    pub fn draw_as(seed: u64, number: u32, difficulty: Difficulty) -> Patient {
        let mut random = random(seed, number, Purpose::Patient);
        let split = match random.random_range(0..100) {
            0..70 => Split::Train,
            70..85 => Split::Validate,
            _ => Split::Test,
        };
        let anatomy = Anatomy::draw(&mut random);
        let days = course::days(&mut random);
        let courses = course::courses(days.len(), difficulty, &mut random);
        let visits = (0..days.len())
            .map(|visit| {
                let has_lateral = random.random_bool(0.5);
                let prior = difficulty.prior(visit, &mut random);
                let since = prior.map(|prior| days[visit] - days[prior]);
                let Written { mut text, mentioned } =
                    write_report(&courses, visit, prior, since, has_lateral, &mut random);
                if difficulty == Difficulty::Hard {
                    text = report::with_history(text, &courses, visit, &mut random);
                }
                Visit { day: days[visit], has_lateral, report: text, mentioned }
            })
            .collect();
        Patient { number, split, anatomy, courses, visits, seed, difficulty }
    }

    /// The findings that are present at a visit, each with the number of its course.
    pub fn present(&self, visit: usize) -> Vec<(usize, Present)> {
        self.courses.iter().enumerate().filter_map(|(n, course)| Some((n, course.at(visit)?))).collect()
    }

    /// How the frontal picture of a visit is taken.
    pub fn frontal_view(&self, visit: usize) -> View {
        if self.visits[visit].has_lateral { View::Pa } else { View::Ap }
    }

    /// The seed of the cohort.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether a second frontal picture was taken at a visit: at one of eight.
    fn has_second(&self, visit: usize) -> bool {
        random(self.seed, self.number, Purpose::HasSecond(visit)).random_ratio(1, 8)
    }

    /// The frontal picture of a visit, `size` pixels high.
    pub fn frontal(&self, visit: usize, size: usize) -> DrawnPicture {
        self.frontal_of(visit, size, Purpose::Frontal(visit))
    }

    /// Another frontal picture of the same visit, with a different pose and exposure.
    pub fn second_frontal(&self, visit: usize, size: usize) -> DrawnPicture {
        self.frontal_of(visit, size, Purpose::SecondFrontal(visit))
    }

    fn frontal_of(&self, visit: usize, size: usize, purpose: Purpose) -> DrawnPicture {
        let mut random = random(self.seed, self.number, purpose);
        let pose = pose((0.0, 17.0), self.difficulty, &mut random);
        // The letter is next to the patient's side that it names; the patient's right is on the
        // left of the picture.
        let right = random.random_bool(0.3);
        let (letter, across) = if right { ('R', 0.05..0.1) } else { ('L', 0.84..0.9) };
        let marker = Marker { letter, place: (random.random_range(across), random.random_range(0.03..0.12)) };
        self.picture(visit, (size * 15 / 16, size), pose, Some(marker), &mut random, projection::frontal)
    }

    /// The lateral picture of a visit, `size` pixels high.
    pub fn lateral(&self, visit: usize, size: usize) -> DrawnPicture {
        let mut random = random(self.seed, self.number, Purpose::Lateral(visit));
        let pose = pose((0.6, 17.4), self.difficulty, &mut random);
        let marker = Marker { letter: 'L', place: (random.random_range(0.05..0.1), random.random_range(0.03..0.1)) };
        self.picture(visit, (size * 13 / 16, size), pose, Some(marker), &mut random, projection::lateral)
    }

    fn picture(
        &self,
        visit: usize,
        (width, height): (usize, usize),
        pose: Pose,
        marker: Option<Marker>,
        random: &mut ChaCha8Rng,
        project: impl Fn(&Anatomy, &[Present], Canvas) -> Projected,
    ) -> DrawnPicture {
        let present: Vec<Present> = self.present(visit).into_iter().map(|(_, present)| present).collect();
        let exposure = self.difficulty.exposure(Exposure::draw(random), self.split, &present, random);
        let projected = project(&self.anatomy, &present, Canvas::new(width, height, pose));
        let boxes = projected.shares.iter().map(|share| share.bounds(BOX_SHARE)).collect();
        DrawnPicture { width, height, pixels: develop(&projected.canvas, &exposure, marker, random), boxes }
    }
}

/// A pose as technicians get it: nearly straight, nearly centred; less so in a hard cohort.
fn pose(centre: (f32, f32), difficulty: Difficulty, random: &mut ChaCha8Rng) -> Pose {
    let off = difficulty.pose_factor();
    // A plain height is used unchanged: the sum of its parts would round.
    let distance = |height: f32| if off == 1.0 { height } else { 34.25 + off * (height - 34.25) };
    Pose {
        centre: (centre.0 + off * random.random_range(-0.9..0.9), centre.1 + off * random.random_range(-1.0..1.0)),
        rotation: off * random.random_range(-0.045..0.045),
        height: distance(random.random_range(32.5..36.0)),
    }
}

fn write_report(
    courses: &[Course],
    visit: usize,
    prior: Option<usize>,
    days_since_prior: Option<u32>,
    has_lateral: bool,
    random: &mut ChaCha8Rng,
) -> Written {
    let observed = courses.iter().filter_map(|course| {
        Some(Observation { present: course.at(visit)?, change: course.change_since(prior, visit) })
    });
    let observations: Vec<Observation> = observed.collect();
    let resolved: Vec<Finding> = courses
        .iter()
        .filter(|course| course.change_since(prior, visit) == Change::Resolved)
        .map(|course| course.finding)
        .collect();
    report::write(&observations, &resolved, days_since_prior, has_lateral, random)
}
