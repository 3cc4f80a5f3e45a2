//! The course of findings between pairs of studies, as a corpus stores it: `pairs.csv` with the
//! columns `previous`, `current` and one per finding.
//!
//! | in `pairs.csv` | sources write |
//! |---|---|
//! | `improving` | improving, improved |
//! | `stable` | stable, no change |
//! | `worsening` | worsening, worsened, worse |
//! | `new`, `resolved` | the same |

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::plan::{PAIRS, Plan, TextTable};

/// The program's word for a course; `None` for an unknown word.
pub fn parse(word: &str) -> Option<&'static str> {
    Some(match word.trim().to_lowercase().as_str() {
        "improving" | "improved" => "improving",
        "stable" | "no change" => "stable",
        "worsening" | "worsened" | "worse" => "worsening",
        "new" => "new",
        "resolved" => "resolved",
        _ => return None,
    })
}

/// The courses that a source gives.
#[derive(Debug, Default)]
pub struct Courses {
    /// Ids of studies, previous first, in the order of the source.
    pairs: Vec<[String; 2]>,
    places: HashMap<[String; 2], usize>,
    /// The course by pair and finding; `None` if the source contradicts itself.
    stated: BTreeMap<(usize, String), Option<&'static str>>,
}

impl Courses {
    /// Notes a pair, which may have no known course.
    pub fn pair(&mut self, ids: [&str; 2]) -> usize {
        let ids = ids.map(str::to_string);
        *self.places.entry(ids.clone()).or_insert_with(|| {
            self.pairs.push(ids);
            self.pairs.len() - 1
        })
    }

    /// Notes the course of a finding. Where a pair has several that differ (the right lung better,
    /// the left one worse), it has none.
    pub fn tell(&mut self, pair: usize, finding: &str, course: &'static str) {
        let finding = finding.trim().to_lowercase().replace([' ', '/', '-'], "_");
        let stated = self.stated.entry((pair, finding)).or_insert(Some(course));
        if *stated != Some(course) {
            *stated = None;
        }
    }

    /// Adds the table to a plan, with the pairs whose studies are in it; contradictions are
    /// counted.
    pub fn finish(self, plan: &mut Plan) {
        let findings: BTreeSet<&String> = self.stated.keys().map(|(_, finding)| finding).collect();
        let cell = |pair: usize, finding: &String| self.stated.get(&(pair, finding.clone())).copied().flatten();
        let row = |(pair, ids): (usize, &[String; 2])| {
            let courses = findings.iter().map(|finding| cell(pair, finding).unwrap_or_default().to_string());
            ids.iter().cloned().chain(courses).collect()
        };
        let fixed = ["previous", "current"].map(String::from).into_iter();
        let columns = fixed.chain(findings.iter().map(|finding| finding.to_string())).collect();
        let studies: HashSet<&str> = plan.studies.iter().map(|study| study.study.0.as_str()).collect();
        let is_there = |ids: &[String; 2]| ids.iter().all(|id| studies.contains(id.as_str()));
        let rows = self.pairs.iter().enumerate().filter(|(_, ids)| is_there(ids)).map(row).collect();
        for _ in self.stated.values().filter(|course| course.is_none()) {
            plan.warn("findings of a pair that change in several ways at once, without a course");
        }
        plan.tables.push(TextTable { name: PAIRS.into(), columns, rows });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::plan::StudyPlan;
    use crate::split::Split;
    use crate::study::{StudyId, SubjectId};

    #[test]
    fn several_courses_of_one_finding_are_none() {
        let mut courses = Courses::default();
        let pair = courses.pair(["a", "b"]);
        courses.tell(pair, "Pleural Effusion", "improving");
        courses.tell(pair, "pleural effusion", "improving");
        courses.tell(pair, "edema", "stable");
        courses.tell(pair, "edema", "worsening");
        courses.tell(pair, "edema", "worsening");
        assert_eq!(courses.pair(["b", "c"]), 1);
        let study = |id: &str| StudyPlan {
            subject: SubjectId("s".into()),
            study: StudyId(id.into()),
            acquired: None,
            split: Split::Test,
            frontals: Vec::new(),
            laterals: Vec::new(),
            report: None,
            labels: BTreeMap::new(),
        };
        courses.pair(["c", "left out"]);
        let mut plan = Plan { studies: ["a", "b", "c"].map(study).to_vec(), ..Plan::default() };
        courses.finish(&mut plan);
        let table = &plan.tables[0];
        assert_eq!(table.columns, ["previous", "current", "edema", "pleural_effusion"]);
        assert_eq!(table.rows, [["a", "b", "", "improving"], ["b", "c", "", ""]]);
        assert_eq!(plan.warnings.values().sum::<u64>(), 1);
        assert_eq!((parse("No change"), parse("Worse"), parse("better")), (Some("stable"), Some("worsening"), None));
    }
}
