//! From records to numbers: the scores of each arm, and its differences from the arm that it is
//! compared with.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::record::{self, Record};
use crate::statistics::{self, Difference, Noise};
use crate::study::{Outcome, Study};
use crate::unit::Unit;

/// All records of a study that match its present configuration.
pub struct Results<'a> {
    pub study: &'a Study,
    /// Records by arm and seed.
    records: BTreeMap<(String, u64), Record>,
}

/// One arm on one outcome.
#[derive(Clone, Debug)]
pub struct Cell {
    pub outcome: usize,
    /// Whether the claim was declared to show here.
    pub primary: bool,
    pub difference: Difference,
    /// Holm's, over all primary comparisons; nothing for others.
    pub corrected: Option<f64>,
}

impl<'a> Results<'a> {
    pub fn read(study: &'a Study, units: &[Unit]) -> Result<Results<'a>> {
        let mut records = BTreeMap::new();
        for unit in units {
            let known = record::read(&study.results, &unit.arm)?;
            if let Some(found) = record::find(&known, unit, &study.fingerprint(unit)?) {
                records.insert((unit.arm.clone(), unit.seed), found.clone());
            }
        }
        Ok(Results { study, records })
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// All records with their arms.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.records.iter().map(|((arm, _), record)| (arm.as_str(), record))
    }

    /// Why runs of an arm gave no figures.
    pub fn failures(&self) -> Vec<(&str, u64, &str)> {
        let all = self.records.iter();
        all.filter_map(|((arm, seed), record)| Some((arm.as_str(), *seed, record.failed.as_deref()?))).collect()
    }

    /// Figures of an arm by seed.
    pub fn figures(&self, arm: &str, outcome: &Outcome) -> BTreeMap<u64, f64> {
        let records = self.records.iter().filter(|((name, _), _)| name == arm);
        records.filter_map(|((_, seed), record)| Some((*seed, record.figures.get(&outcome.name)?.0))).collect()
    }

    /// Which base's weights the runs started from; nothing where that was not noted.
    pub fn bases(&self) -> BTreeSet<Option<&str>> {
        self.all().map(|record| record.base.as_deref()).collect()
    }

    fn base(&self, arm: &str, seed: u64) -> Option<&str> {
        self.records.get(&(arm.to_string(), seed))?.base.as_deref()
    }

    /// The expected value of guessing, if known.
    pub fn chance(&self, outcome: &Outcome) -> Option<f64> {
        let each: Vec<f64> = self.all().filter_map(|record| record.figures.get(&outcome.name)?.1).collect();
        (!each.is_empty()).then(|| statistics::mean(&each))
    }

    /// The noise of an outcome, from the arms that have two seeds or more.
    pub fn noise(&self, outcome: &Outcome) -> Option<Noise> {
        let rows = self.study.table.arms.iter().map(|arm| self.figures(&arm.name, outcome));
        statistics::noise(&rows.collect::<Vec<_>>())
    }

    /// All comparisons, by arm, of runs that started from the same base. A positive difference is a
    /// better figure.
    pub fn compare(&self) -> BTreeMap<&str, Vec<Cell>> {
        let table = &self.study.table;
        let mut cells: BTreeMap<&str, Vec<Cell>> = BTreeMap::new();
        for (place, outcome) in table.outcomes.iter().enumerate() {
            let Some(noise) = self.noise(outcome) else { continue };
            for arm in &table.arms {
                let Some(other) = self.study.against(arm) else { continue };
                let base = self.figures(other, outcome);
                let sign = if outcome.lower_is_better { -1.0 } else { 1.0 };
                let figures = self.figures(&arm.name, outcome);
                let alike = |seed: u64| self.base(&arm.name, seed) == self.base(other, seed);
                let paired = figures.iter().filter(|(seed, _)| alike(**seed));
                let each = paired.filter_map(|(seed, value)| Some(sign * (value - base.get(seed)?)));
                let Some(difference) = statistics::difference(&each.collect::<Vec<_>>(), noise) else { continue };
                let primary = arm.primary.contains(&outcome.name);
                cells.entry(&arm.name).or_default().push(Cell { outcome: place, primary, difference, corrected: None });
            }
        }
        let p: Vec<f64> = cells.values().flatten().filter(|cell| cell.primary).map(|cell| cell.difference.p).collect();
        let primary = cells.values_mut().flatten().filter(|cell| cell.primary);
        primary.zip(statistics::holm(&p)).for_each(|(cell, corrected)| cell.corrected = Some(corrected));
        cells
    }
}
