//! Phrase grounding: how much a heat map stands out inside the box of what the phrase names.
//!
//! The contrast-to-noise ratio of Boecking et al. (ECCV 2022): `|μ_in − μ_out| / √(σ²_in + σ²_out)` over the pixels of the picture.
//! The signed ratio tells heat inside the box from heat around it.

use crate::eval::bootstrap::{Bootstrap, Clusters};
use crate::eval::metrics::Ranking;
use crate::eval::result::{Example, Figure, Meter, Protocol, Task, TaskResult, Unit, extremes};
use crate::{Error, Result};

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grounding {
    pub bootstrap: Bootstrap,
}

/// A heat map with the boxes of its phrase.
#[derive(Clone, Debug)]
pub struct Region {
    pub phrase: String,
    /// Row by row, `side²` values.
    pub heat: Vec<f32>,
    pub side: usize,
    /// `[left, top, right, bottom]` in fractions of the heat map; a phrase may have several boxes.
    pub boxes: Vec<[f64; 4]>,
    pub subject: String,
    /// Row of the corpus.
    pub row: usize,
}

impl Grounding {
    /// Takes regions one by one: no more heat maps are held than the caller makes at once.
    ///
    /// # Errors
    /// No regions, a heat map of the wrong size, or an error of the caller's.
    pub fn evaluate(&self, regions: impl IntoIterator<Item = Result<Region>>) -> Result<TaskResult> {
        let method = "similarity of patches and words, interpolated bilinearly; contrast-to-noise ratio of the \
                      inside against the outside of the boxes";
        let mut result = TaskResult::new(Task::Grounding, Protocol::Strict, method);
        let mut scored = Vec::new();
        for region in regions {
            let mut region = region?;
            if region.heat.len() != region.side * region.side {
                let (found, side) = (region.heat.len(), region.side);
                return Err(Error::Evaluation(format!("a heat map of side {side} must not have {found} values")));
            }
            match Contrast::of(&region) {
                Ok(contrast) => {
                    region.heat = Vec::new();
                    scored.push((region, contrast));
                }
                Err(reason) => *result.skipped.entry(reason.into()).or_default() += 1,
            }
        }
        if scored.is_empty() && result.skipped.is_empty() {
            return Err(Error::Evaluation("no boxes are given".into()));
        }
        let mut phrases: Vec<&str> = scored.iter().map(|row| row.0.phrase.as_str()).collect();
        phrases.sort_unstable();
        phrases.dedup();
        (result.rows, result.subjects) = (scored.len(), Clusters::of(scored.iter().map(|row| &row.0.subject)).count());
        let groups = phrases.iter().map(|phrase| Some(*phrase)).filter(|_| phrases.len() > 1).chain([None]);
        for group in groups {
            let own: Vec<&(Region, Contrast)> =
                scored.iter().filter(|row| group.is_none_or(|phrase| row.0.phrase == phrase)).collect();
            let clusters = Clusters::of(own.iter().map(|row| &row.0.subject));
            let meter = Meter { bootstrap: self.bootstrap, clusters: &clusters };
            let name = group.unwrap_or("all phrases");
            let table: [Row; 4] = [
                ("contrast-to-noise ratio", Unit::Number, None, |contrast| contrast.signed.abs()),
                ("contrast-to-noise ratio, signed", Unit::Number, Some(0.0), |contrast| contrast.signed),
                ("AUROC of pixels", Unit::Number, Some(0.5), |contrast| contrast.auroc),
                ("hottest pixel inside", Unit::Share, None, |contrast| contrast.hit),
            ];
            for (figure, unit, chance, value) in table {
                let made = meter.figure((name, figure, unit), own.len(), "no usable box", |weights| {
                    let total: f64 = weights.iter().sum();
                    let sum: f64 = own.iter().zip(weights).map(|(row, weight)| weight * value(&row.1)).sum();
                    (total > 0.0).then(|| sum / total)
                });
                let area = own.iter().map(|row| row.1.share).sum::<f64>() / own.len().max(1) as f64;
                let chance = if unit == Unit::Share { Some(area) } else { chance };
                result.figures.push(Figure { chance, ..made });
            }
        }
        let scores: Vec<f64> = scored.iter().map(|row| row.1.signed).collect();
        result.examples = extremes(&scores)
            .into_iter()
            .map(|(kind, n)| {
                let (region, contrast) = &scored[n];
                let caption = format!("{}: contrast-to-noise ratio {:+.2}", region.phrase, contrast.signed);
                let mut example = Example::new(kind, caption, [region.row]).looking_for(&region.phrase);
                example.boxes.clone_from(&region.boxes);
                example
            })
            .collect();
        Ok(result)
    }
}

type Row = (&'static str, Unit, Option<f64>, fn(&Contrast) -> f64);

struct Contrast {
    signed: f64,
    auroc: f64,
    hit: f64,
    /// Share of the picture that is inside.
    share: f64,
}

impl Contrast {
    fn of(region: &Region) -> Result<Contrast, &'static str> {
        if region.heat.iter().any(|value| !value.is_finite()) {
            return Err("heat map is not finite");
        }
        let side = region.side as f64;
        let inside: Vec<bool> = (0..region.heat.len())
            .map(|place| {
                let (x, y) = ((place % region.side) as f64 + 0.5, (place / region.side) as f64 + 0.5);
                let (x, y) = (x / side, y / side);
                region.boxes.iter().any(|&[left, top, right, bottom]| x >= left && x < right && y >= top && y < bottom)
            })
            .collect();
        let count = inside.iter().filter(|&&inside| inside).count();
        if count == 0 {
            return Err("box is outside the model's input");
        }
        if count == inside.len() {
            return Err("box covers the whole image");
        }
        let heat: Vec<f64> = region.heat.iter().map(|&value| f64::from(value)).collect();
        let (mean_in, variance_in) = moments(heat.iter().zip(&inside).filter(|row| *row.1).map(|row| *row.0));
        let (mean_out, variance_out) = moments(heat.iter().zip(&inside).filter(|row| !*row.1).map(|row| *row.0));
        let noise = (variance_in + variance_out).sqrt();
        let most = heat.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let hottest: Vec<bool> = heat.iter().zip(&inside).filter(|row| *row.0 >= most).map(|row| *row.1).collect();
        Ok(Contrast {
            // A flat heat map has no contrast.
            signed: if noise > 0.0 { (mean_in - mean_out) / noise } else { 0.0 },
            auroc: Ranking::new(&heat, &inside).auroc(&vec![1.0; heat.len()]).unwrap_or(0.5),
            hit: hottest.iter().filter(|&&inside| inside).count() as f64 / hottest.len() as f64,
            share: count as f64 / inside.len() as f64,
        })
    }
}

/// Mean and variance.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, values.map(|value| (value - mean).powi(2)).sum::<f64>() / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(heat: Vec<f32>, bounds: [f64; 4]) -> Region {
        Region { phrase: "x".into(), heat, side: 4, boxes: vec![bounds], subject: "s".into(), row: 0 }
    }

    #[test]
    fn heat_in_the_box_is_contrast_and_a_flat_map_has_none() {
        let mut heat = vec![0.0; 16];
        (heat[0], heat[1], heat[4], heat[5]) = (1.0, 1.0, 1.0, 0.6);
        let contrast = Contrast::of(&region(heat.clone(), [0.0, 0.0, 0.5, 0.5])).unwrap();
        // Mean 0.9 and variance 0.03 inside, nothing outside.
        assert!((contrast.signed - 0.9 / 0.03f64.sqrt()).abs() < 1e-6);
        assert_eq!((contrast.auroc, contrast.hit, contrast.share), (1.0, 1.0, 0.25));
        assert!(Contrast::of(&region(heat, [0.5, 0.5, 1.0, 1.0])).unwrap().signed < 0.0);
        let flat = Contrast::of(&region(vec![0.3; 16], [0.0, 0.0, 0.5, 0.5])).unwrap();
        assert_eq!((flat.signed, flat.auroc, flat.hit), (0.0, 0.5, 0.25));
    }

    #[test]
    fn unusable_boxes_are_counted() {
        let heat = vec![0.0; 16];
        let regions = [
            region(heat.clone(), [0.0, 0.0, 1.0, 1.0]),
            region(heat.clone(), [1.1, 0.0, 1.2, 1.0]),
            region(vec![f32::NAN; 16], [0.0, 0.0, 0.5, 0.5]),
        ];
        let result = Grounding::default().evaluate(regions.map(Ok)).unwrap();
        assert_eq!(result.skipped.len(), 3);
        assert!(result.figures.iter().all(|figure| figure.value.is_none() && figure.undefined.is_some()));
        assert!(Grounding::default().evaluate([Ok(Region { side: 5, ..region(heat, [0.0; 4]) })]).is_err());
    }
}
