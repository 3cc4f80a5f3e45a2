//! How a finding changes between two studies.

use serde::Serialize;

/// The course of a finding from the previous to the current study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    Improving,
    Stable,
    Worsening,
}

impl Course {
    /// All courses, in the order of their class numbers.
    pub const ALL: [Course; 3] = [Course::Improving, Course::Stable, Course::Worsening];
    /// How many there are.
    pub const COUNT: usize = Course::ALL.len();

    pub fn name(self) -> &'static str {
        match self {
            Course::Improving => "improving",
            Course::Stable => "stable",
            Course::Worsening => "worsening",
        }
    }

    pub fn parse(name: &str) -> Option<Course> {
        Course::ALL.into_iter().find(|course| course.name() == name)
    }

    /// The class number.
    pub fn class(self) -> usize {
        self as usize
    }

    /// The course of the pair in reverse order.
    pub fn reversed(self) -> Course {
        match self {
            Course::Improving => Course::Worsening,
            Course::Stable => Course::Stable,
            Course::Worsening => Course::Improving,
        }
    }

    /// Names in the order of class numbers.
    pub fn names() -> Vec<String> {
        Course::ALL.map(|course| course.name().to_string()).to_vec()
    }
}
