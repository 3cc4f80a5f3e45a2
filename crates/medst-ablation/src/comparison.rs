//! Records to numbers: what each arm scores, and how it differs from what it is compared with.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::record::{self, Record};
use crate::statistics::{self, Difference, Noise};
use crate::study::{Outcome, Study};
use crate::unit::Unit;

/// All records of a study that were made as it says now.
pub struct Results<'a> {
    pub study: &'a Study,
    /// By arm, size and seed.
    records: BTreeMap<(String, usize, u64), Record>,
}

/// One arm on one outcome at one size.
#[derive(Clone, Debug)]
pub struct Cell {
    pub outcome: usize,
    /// Whether the claim was declared to show here.
    pub primary: bool,
    pub difference: Difference,
    /// Holm's, over all primary comparisons of the size; nothing for others.
    pub corrected: Option<f64>,
}

impl<'a> Results<'a> {
    pub fn read(study: &'a Study, units: &[Unit]) -> Result<Results<'a>> {
        let mut records = BTreeMap::new();
        for unit in units {
            let known = record::read(&study.results, &unit.arm)?;
            if let Some(found) = record::find(&known, unit, &study.fingerprint(unit)?) {
                records.insert((unit.arm.clone(), unit.size, unit.seed), found.clone());
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

    /// Why runs of an arm gave no figures.
    pub fn failures(&self) -> Vec<(&str, usize, u64, &str)> {
        let failed = self
            .records
            .iter()
            .filter_map(|((arm, size, seed), record)| Some((arm.as_str(), *size, *seed, record.failed.as_deref()?)));
        failed.collect()
    }

    /// Figures of an arm by seed.
    pub fn figures(&self, arm: &str, size: usize, outcome: &Outcome) -> BTreeMap<u64, f64> {
        let own = self.records.iter().filter(|((name, at, _), _)| name == arm && *at == size);
        own.filter_map(|((_, _, seed), record)| Some((*seed, record.figures.get(&outcome.name)?.0))).collect()
    }

    /// Which base's weights the runs of a size started from; nothing where that was not noted.
    pub fn bases(&self, size: usize) -> BTreeSet<Option<&str>> {
        let own = self.records.iter().filter(|((_, at, _), _)| *at == size);
        own.map(|(_, record)| record.base.as_deref()).collect()
    }

    fn base(&self, arm: &str, size: usize, seed: u64) -> Option<&str> {
        self.records.get(&(arm.to_string(), size, seed))?.base.as_deref()
    }

    /// What guessing gives, where that is known.
    pub fn chance(&self, size: usize, outcome: &Outcome) -> Option<f64> {
        let own = self.records.iter().filter(|((_, at, _), _)| *at == size);
        let each: Vec<f64> = own.filter_map(|(_, record)| record.figures.get(&outcome.name)?.1).collect();
        (!each.is_empty()).then(|| statistics::mean(&each))
    }

    /// The noise of an outcome, from the arms that have every seed.
    pub fn noise(&self, size: usize, outcome: &Outcome) -> Option<Noise> {
        let seeds = self.study.scale.seeds.len();
        let rows = self.study.table.arms.iter().map(|arm| self.figures(&arm.name, size, outcome));
        let whole = rows.filter(|row| row.len() == seeds).map(|row| row.into_values().collect());
        statistics::noise(&whole.collect::<Vec<Vec<f64>>>())
    }

    /// All comparisons at a size, by arm, of runs that started from the same base. A positive difference is a better figure.
    pub fn compare(&self, size: usize) -> BTreeMap<&str, Vec<Cell>> {
        let table = &self.study.table;
        let mut cells: BTreeMap<&str, Vec<Cell>> = BTreeMap::new();
        for (place, outcome) in table.outcomes.iter().enumerate() {
            let Some(noise) = self.noise(size, outcome) else { continue };
            for arm in &table.arms {
                let Some(other) = self.study.against(arm) else { continue };
                let base = self.figures(other, size, outcome);
                let sign = if outcome.lower_is_better { -1.0 } else { 1.0 };
                let own = self.figures(&arm.name, size, outcome);
                let alike = |seed: u64| self.base(&arm.name, size, seed) == self.base(other, size, seed);
                let paired = own.iter().filter(|(seed, _)| alike(**seed));
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
