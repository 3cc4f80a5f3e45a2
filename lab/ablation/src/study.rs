//! What a study is. Two TOML files: the scale (cohorts, seeds, the base configuration of a run),
//! and the table of arms and outcomes, which all scales share.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::unit::Unit;

/// A study, read and checked.
#[derive(Debug)]
pub struct Study {
    pub scale: Scale,
    pub table: Table,
    /// The configuration that every run begins with.
    pub pretrain: PathBuf,
    pretrain_text: String,
    pub results: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The table of arms, relative to this file.
    arms: PathBuf,
    /// The base configuration, relative to this file.
    pretrain: PathBuf,
    /// Path of the records, relative to the working directory.
    results: PathBuf,
    pub seeds: Vec<u64>,
    pub cohort: Cohort,
    /// The patients that every run is judged on. Outcomes of the first go by their own names, those
    /// of the others with the name of the test.
    #[serde(rename = "test")]
    pub tests: Vec<Test>,
    /// Encoders that every run starts from, as the paper starts from trained ones; random weights
    /// where absent.
    pub base: Option<Base>,
}

/// How the encoders that every run starts from are trained.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    pub subjects: usize,
    /// Seed of the cohort and of the run; far from the seeds of the study.
    pub seed: u64,
    pub difficulty: String,
    /// Overrides of the base configuration.
    pub set: Vec<String>,
    /// Where the trained weights are kept, relative to this file. Runs on any machine start from
    /// the same weights if this file is in the repository; without it, they are trained and written
    /// there.
    #[serde(skip_serializing)]
    pub weights: Option<PathBuf>,
}

/// The phantom cohort that the runs of a seed train on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// Patients; seven of ten are for training.
    pub subjects: usize,
    pub difficulty: String,
    /// Height of the drawn pictures in pixels.
    pub picture: usize,
    /// Side of the stored pictures.
    pub image_size: usize,
}

/// Patients that no run trains on, the same for all runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    pub name: String,
    pub difficulty: String,
    /// Patients of the plain cohort.
    pub subjects: usize,
    /// Patients of the cohort in MS-CXR-T's layout; three of ten are in its pairs.
    pub pair_subjects: usize,
    /// Far from the seeds of training.
    pub seed: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The arm that the others are compared with.
    pub control: String,
    #[serde(rename = "outcome")]
    pub outcomes: Vec<Outcome>,
    #[serde(rename = "arm")]
    pub arms: Vec<Arm>,
}

/// A figure of `medst eval` on which arms are compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The name in tables.
    pub name: String,
    /// Which of the tests, by place; filled in when the study is read.
    #[serde(skip)]
    pub test: usize,
    pub task: String,
    pub group: String,
    pub figure: String,
    #[serde(default)]
    pub lower_is_better: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    pub name: String,
    /// The heading that it is listed under.
    pub group: String,
    /// The difference from the control, in a few words.
    pub what: String,
    /// The result that the paper, or the author of the idea, would expect.
    pub claim: String,
    /// The outcomes in which the claim should show most; the family that is corrected for many
    /// comparisons.
    pub primary: Vec<String>,
    /// Overrides as of `medst pretrain --set`.
    #[serde(default)]
    pub set: Vec<String>,
    /// The arm that it is compared with, if not the control.
    pub against: Option<String>,
    /// Patients of its training cohort, if not the study's number.
    pub subjects: Option<usize>,
    /// Its seeds, if not all of the study's.
    pub seeds: Option<Vec<u64>>,
}

impl Study {
    /// # Errors
    /// Names the file and the key that is wrong.
    pub fn load(path: &Path) -> Result<Study> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        let mut scale: Scale = toml::from_str(&read(path)?).with_context(|| path.display().to_string())?;
        if let Some(weights) = scale.base.as_mut().and_then(|base| base.weights.as_mut()) {
            *weights = folder.join(&weights);
        }
        let arms = folder.join(&scale.arms);
        let mut table: Table = toml::from_str(&read(&arms)?).with_context(|| arms.display().to_string())?;
        table.outcomes = in_every_test(&table.outcomes, &scale.tests);
        let pretrain = folder.join(&scale.pretrain);
        let results = scale.results.clone();
        let study = Study { pretrain_text: read(&pretrain)?, pretrain, results, scale, table };
        study.check().with_context(|| format!("{} with {}", path.display(), arms.display()))?;
        Ok(study)
    }

    fn check(&self) -> Result<()> {
        let (scale, table) = (&self.scale, &self.table);
        ensure!(!scale.seeds.is_empty(), "seeds = []: at least one is needed");
        ensure!(!scale.tests.is_empty(), "there is no [[test]]");
        ensure!(!table.outcomes.is_empty(), "there is no [[outcome]]");
        self.arm(&table.control)?;
        let twice =
            |names: Vec<&str>| (1..names.len()).find(|&n| names[..n].contains(&names[n])).map(|n| names[n].to_string());
        if let Some(name) = twice(table.arms.iter().map(|arm| arm.name.as_str()).collect()) {
            bail!("two arms are named `{name}`");
        }
        for arm in &table.arms {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
            ensure!(arm.name.chars().all(plain), "arm `{}`: names are letters, digits, - and .", arm.name);
            if let Some(other) = &arm.against {
                self.arm(other).with_context(|| format!("arm `{}`", arm.name))?;
            }
            for name in &arm.primary {
                let known = table.outcomes.iter().any(|outcome| outcome.name == *name);
                ensure!(known, "arm `{}`: unknown outcome `{name}`", arm.name);
            }
            for seed in arm.seeds.iter().flatten() {
                ensure!(scale.seeds.contains(seed), "arm `{}`: seed {seed} is not one of the study's", arm.name);
            }
        }
        Ok(())
    }

    /// # Errors
    /// Lists the arms there are.
    pub fn arm(&self, name: &str) -> Result<&Arm> {
        let names = || self.table.arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(", ");
        self.table
            .arms
            .iter()
            .find(|arm| arm.name == name)
            .with_context(|| format!("no arm `{name}`; there are {}", names()))
    }

    /// The arm that an arm is compared with; `None` for the control.
    pub fn against<'a>(&'a self, arm: &'a Arm) -> Option<&'a str> {
        let other = arm.against.as_deref().unwrap_or(&self.table.control);
        (other != arm.name).then_some(other)
    }

    /// All units: every arm in the table's order, all seeds of one before the next.
    pub fn units(&self) -> Vec<Unit> {
        let of = |arm: &Arm| {
            let seeds = arm.seeds.as_ref().unwrap_or(&self.scale.seeds);
            seeds.iter().map(|&seed| Unit { arm: arm.name.clone(), seed }).collect::<Vec<_>>()
        };
        self.table.arms.iter().flat_map(of).collect()
    }

    /// The overrides of a unit's run, the run's own folders apart.
    pub fn settings(&self, unit: &Unit) -> Result<Vec<String>> {
        let seed = format!("train.seed={}", unit.seed);
        Ok(std::iter::once(seed).chain(self.arm(&unit.arm)?.set.iter().cloned()).collect())
    }

    /// Identifies what a record was made with: everything that determines a unit's figures, except
    /// the program.
    pub fn fingerprint(&self, unit: &Unit) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        // Parsed values, so that changing a comment in the file does not matter.
        let base: toml::Table = toml::from_str(&self.pretrain_text)?;
        add(&toml::to_string(&base)?);
        add(&self.cohort_name(unit)?);
        self.scale.tests.iter().for_each(|test| add(&self.test_name(test)));
        if self.scale.base.is_some() {
            add(&self.base_name()?);
        }
        self.settings(unit)?.iter().for_each(|setting| add(setting));
        Ok(format!("{:x}", hash.finalize())[..12].to_string())
    }

    /// The folder name of the base run, which depends on everything the run is made with.
    pub fn base_name(&self) -> Result<String> {
        let pictures = [self.scale.cohort.picture, self.scale.cohort.image_size];
        let base: toml::Table = toml::from_str(&self.pretrain_text)?;
        let text = serde_json::to_string(&(&self.scale.base, pictures, base)).expect("numbers and text have a JSON");
        Ok(format!("base-{}", &format!("{:x}", Sha256::digest(text))[..8]))
    }

    /// The cohort that a unit trains on.
    pub fn cohort(&self, unit: &Unit) -> Result<Cohort> {
        let cohort = self.scale.cohort.clone();
        Ok(Cohort { subjects: self.arm(&unit.arm)?.subjects.unwrap_or(cohort.subjects), ..cohort })
    }

    /// The folder name of a unit's cohort, which depends on everything the cohort is made with.
    pub fn cohort_name(&self, unit: &Unit) -> Result<String> {
        let text = serde_json::to_string(&self.cohort(unit)?).expect("numbers and text have a JSON");
        Ok(format!("cohort-{}-{}", &format!("{:x}", Sha256::digest(text))[..8], unit.seed))
    }

    /// The folder name of a test's corpora, which depends on everything they are made with.
    pub fn test_name(&self, test: &Test) -> String {
        let pictures = [self.scale.cohort.picture, self.scale.cohort.image_size];
        let text = serde_json::to_string(&(test, pictures)).expect("numbers and text have a JSON");
        format!("test-{}-{}", test.name, &format!("{:x}", Sha256::digest(text))[..8])
    }
}

fn in_every_test(outcomes: &[Outcome], tests: &[Test]) -> Vec<Outcome> {
    let of = |(place, test): (usize, &Test)| {
        let name = |outcome: &Outcome| match place {
            0 => outcome.name.clone(),
            _ => format!("{}, {}", outcome.name, test.name),
        };
        outcomes
            .iter()
            .map(|outcome| Outcome { name: name(outcome), test: place, ..outcome.clone() })
            .collect::<Vec<_>>()
    };
    tests.iter().enumerate().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_project(name: &str) -> Study {
        Study::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
    }

    fn small() -> Study {
        of_the_project("study.toml")
    }

    #[test]
    fn the_studies_of_the_project_are_well_formed() {
        well_formed(&small());
    }

    fn well_formed(study: &Study) {
        let units = study.units();
        let seeds = study.scale.seeds.len();
        assert!(seeds >= 3);
        // All seeds of an arm before the next arm.
        assert!(units[..seeds].iter().all(|unit| unit.arm == "full"));
        let fewer = |arm: &Arm| arm.seeds.as_ref().map_or(0, |seeds_of_arm| seeds - seeds_of_arm.len());
        assert_eq!(units.len(), seeds * study.table.arms.len() - study.table.arms.iter().map(fewer).sum::<usize>());
        for arm in &study.table.arms {
            // What is claimed of the method has a primary outcome and all seeds.
            let claimed = arm.name != study.table.control && arm.group != "recipe";
            assert_eq!(
                (arm.primary.is_empty(), arm.seeds.is_none()),
                (!claimed, arm.group != "recipe"),
                "{}",
                arm.name
            );
        }
        let marks: std::collections::BTreeSet<String> =
            units.iter().map(|unit| study.fingerprint(unit).unwrap()).collect();
        assert_eq!(marks.len(), units.len(), "no two units have the same fingerprint");
    }

    #[test]
    fn a_fingerprint_changes_with_values_and_not_with_comments() {
        let unit = Unit { arm: "no-local".into(), seed: 1 };
        let (plain, mut other) = (small(), small());
        other.pretrain_text += "\n# a remark\n";
        assert_eq!(plain.fingerprint(&unit).unwrap(), other.fingerprint(&unit).unwrap());
        other.pretrain_text = other.pretrain_text.replace("lr = 1e-3", "lr = 1e-4");
        assert_ne!(plain.fingerprint(&unit).unwrap(), other.fingerprint(&unit).unwrap());
        let mut larger = small();
        larger.scale.cohort.subjects += 1;
        assert_ne!(plain.fingerprint(&unit).unwrap(), larger.fingerprint(&unit).unwrap());
        assert_eq!(plain.settings(&unit).unwrap(), ["train.seed=1", "loss.local_weight=0"]);
    }

    #[test]
    fn mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let outcome = "[[outcome]]\nname = \"a\"\ntask = \"t\"\ngroup = \"g\"\nfigure = \"f\"\n";
        let arm = |name: &str, more: &str| {
            format!("[[arm]]\nname = \"{name}\"\ngroup = \"g\"\nwhat = \"w\"\nclaim = \"c\"\n{more}\n")
        };
        let load = |arms: String| {
            write("arms.toml", &format!("control = \"full\"\n{outcome}{arms}"));
            format!("{:#}", Study::load(&folder.path().join("study.toml")).unwrap_err())
        };
        write("pretrain.toml", "");
        write(
            "study.toml",
            "arms = \"arms.toml\"\npretrain = \"pretrain.toml\"\nresults = \"r\"\nseeds = [1]\n[cohort]\nsubjects = 1\n\
             difficulty = \"hard\"\npicture = 64\nimage_size = 64\n[[test]]\nname = \"hard\"\ndifficulty = \"hard\"\nsubjects = 1\n\
             pair_subjects = 1\nseed = 2\n",
        );
        let full = arm("full", "primary = []");
        assert!(load(arm("other", "primary = []")).contains("no arm `full`; there are other"));
        assert!(load(format!("{full}{full}")).contains("two arms are named `full`"));
        assert!(load(format!("{full}{}", arm("b", "primary = [\"x\"]"))).contains("arm `b`: unknown outcome `x`"));
        assert!(load(arm("full", "primary = []\nsets = []")).contains("sets"));
        assert!(
            load(arm("full", "primary = []\nseeds = [2]")).contains("arm `full`: seed 2 is not one of the study's")
        );
    }
}
