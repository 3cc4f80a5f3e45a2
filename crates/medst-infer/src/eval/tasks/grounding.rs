//! Phrase grounding: how strongly a heat map contrasts inside the box of what the phrase names with
//! the rest of the picture.
//!
//! The contrast-to-noise ratio of Boecking et al. (ECCV 2022): `|μ_in − μ_out| / √(σ²_in + σ²_out)`
//! over the pixels of the picture. The sign of the ratio distinguishes heat inside the box from
//! heat around it.
//!
//! * Strict: the model's own heat map, the mean cosine of patches and words.
//! * Literature: that and the cosine with the sentence as a whole, each unsmoothed and smoothed;
//!   the mean intersection over union at cosines above 0.1, 0.2, 0.3, 0.4 and 0.5 (BioViL); phrases
//!   with one box, with several, and with none, which the picture does not show (MedGrounder):
//!   their hottest pixel must be colder than those of phrases that it shows.

use crate::eval::result::{Example, ExampleKind, Figure, Meter, Protocol, Task, TaskResult, Unit, extremes};
use crate::eval::subgroups::Subgroups;
use crate::stats::bootstrap::{Bootstrap, Clusters};
use crate::stats::metrics::Ranking;
use crate::{Error, Result};

/// The evaluator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grounding<'a> {
    pub bootstrap: Bootstrap,
    /// Columns by whose subgroups every figure is broken down.
    pub by: &'a [Subgroups],
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

impl Grounding<'_> {
    /// Takes regions one by one, so that no more heat maps are in memory than the caller creates at
    /// once.
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
            region.check()?;
            match Contrast::new(&region) {
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
        (result.rows, result.subjects) = (scored.len(), Clusters::new(scored.iter().map(|row| &row.0.subject)).count());
        let groups = phrases.iter().map(|phrase| Some(*phrase)).filter(|_| phrases.len() > 1).chain([None]);
        for group in groups {
            let found: Vec<&(Region, Contrast)> =
                scored.iter().filter(|row| group.is_none_or(|phrase| row.0.phrase == phrase)).collect();
            let clusters = Clusters::new(found.iter().map(|row| &row.0.subject));
            let rows = found.iter().map(|row| row.0.row);
            let meter = Meter::new(self.bootstrap, &clusters).by(self.by, rows);
            let name = group.unwrap_or("all phrases");
            let table: [Row; 4] = [
                ("contrast-to-noise ratio", Unit::Number, None, |contrast| contrast.signed.abs()),
                ("contrast-to-noise ratio, signed", Unit::Number, Some(0.0), |contrast| contrast.signed),
                ("AUROC of pixels", Unit::Number, Some(0.5), |contrast| contrast.auroc),
                ("hottest pixel inside", Unit::Share, None, |contrast| contrast.hit),
            ];
            for (figure, unit, chance, value) in table {
                let made = meter.figure(name, figure, unit, found.len(), "no usable box", &|weights| {
                    let total: f64 = weights.iter().sum();
                    let sum: f64 = found.iter().zip(weights).map(|(row, weight)| weight * value(&row.1)).sum();
                    (total > 0.0).then(|| sum / total)
                });
                let area = found.iter().map(|row| row.1.share).sum::<f64>() / found.len().max(1) as f64;
                let chance = if unit == Unit::Share { Some(area) } else { chance };
                result.figures.push(Figure { chance, ..made });
            }
        }
        result.examples = examples(&scored.iter().map(|row| (&row.0, &row.1)).collect::<Vec<_>>());
        Ok(result)
    }

    /// The literature's figures: for each phrase of a picture a region by each of some `variants`,
    /// in their order.
    ///
    /// # Errors
    /// Like [`Grounding::evaluate`]; also if no phrase has a box.
    pub fn evaluate_variants(
        &self,
        variants: &[&str],
        regions: impl IntoIterator<Item = Result<Vec<Region>>>,
    ) -> Result<TaskResult> {
        let method = "cosine of patches with the words of the phrase (mean) or with the phrase as a whole (sentence vector), bilinear, \
                      unsmoothed or smoothed by a Gaussian of 1.5 patches; mean IoU: of cosines above 0.1, 0.2, 0.3, 0.4 and 0.5 with the box";
        let mut result = TaskResult::new(Task::Grounding, Protocol::Literature, method);
        let mut scored: Vec<Vec<Grounded>> = variants.iter().map(|_| Vec::new()).collect();
        for regions in regions {
            let found: Result<Vec<_>> = regions?.into_iter().map(Grounded::new).collect();
            match found?.into_iter().collect::<std::result::Result<Vec<Grounded>, &'static str>>() {
                Ok(found) => scored.iter_mut().zip(found).for_each(|(scored, region)| scored.push(region)),
                Err(reason) => *result.skipped.entry(reason.into()).or_default() += 1,
            }
        }
        let first = scored.first().map_or(&[][..], Vec::as_slice);
        if first.iter().all(|scored| scored.contrast.is_none()) {
            return Err(Error::Evaluation("no phrase has a usable box".into()));
        }
        let clusters = Clusters::new(first.iter().map(|scored| &scored.region.subject));
        let meter = Meter::new(self.bootstrap, &clusters).by(self.by, first.iter().map(|scored| scored.region.row));
        (result.rows, result.subjects) = (first.len(), clusters.count());
        for (name, scored) in variants.iter().zip(&scored) {
            result.figures.extend(variant_figures(name, scored, &meter));
        }
        let shown: Vec<(&Region, &Contrast)> =
            first.iter().filter_map(|scored| Some((&scored.region, scored.contrast.as_ref()?))).collect();
        result.examples = examples(&shown);
        let count = |boxes: fn(usize) -> bool| first.iter().filter(|scored| boxes(scored.region.boxes.len())).count();
        result.notes.push(format!(
            "{} phrases with one box, {} with several, {} with none",
            count(|boxes| boxes == 1),
            count(|boxes| boxes > 1),
            count(|boxes| boxes == 0)
        ));
        Ok(result)
    }
}

/// The phrases with the highest and the lowest contrast of their boxes.
fn examples(scored: &[(&Region, &Contrast)]) -> Vec<Example> {
    let scores: Vec<f64> = scored.iter().map(|row| row.1.signed).collect();
    let example = |(kind, n): (ExampleKind, usize)| {
        let (region, contrast) = scored[n];
        let caption = format!("{}: contrast-to-noise ratio {:+.2}", region.phrase, contrast.signed);
        let mut example = Example::new(kind, caption, [region.row]).looking_for(&region.phrase);
        example.boxes.clone_from(&region.boxes);
        example
    };
    extremes(&scores).into_iter().map(example).collect()
}

/// A phrase in a picture, by one variant of the heat map.
struct Grounded {
    /// Without its heat map; no boxes where the picture does not show the phrase.
    region: Region,
    contrast: Option<Contrast>,
    hottest: f64,
}

impl Grounded {
    fn new(mut region: Region) -> Result<std::result::Result<Grounded, &'static str>> {
        region.check()?;
        if region.heat.iter().any(|value| !value.is_finite()) {
            return Ok(Err("heat map is not finite"));
        }
        let contrast = if region.boxes.is_empty() { None } else { Some(Contrast::new(&region)) };
        let contrast = match contrast.transpose() {
            Ok(contrast) => contrast,
            Err(reason) => return Ok(Err(reason)),
        };
        let heat = std::mem::take(&mut region.heat);
        let hottest = f64::from(heat.into_iter().fold(f32::NEG_INFINITY, f32::max));
        Ok(Ok(Grounded { region, contrast, hottest }))
    }
}

fn variant_figures(group: &str, scored: &[Grounded], meter: &Meter<'_>) -> Vec<Figure> {
    type Boxes = fn(usize) -> bool;
    let kinds: [(&str, Boxes); 3] =
        [("", |boxes| boxes > 0), (", one box", |boxes| boxes == 1), (", several boxes", |boxes| boxes > 1)];
    let table: [Row; 5] = [
        ("contrast-to-noise ratio", Unit::Number, None, |contrast| contrast.signed.abs()),
        ("contrast-to-noise ratio, signed", Unit::Number, Some(0.0), |contrast| contrast.signed),
        ("mean IoU", Unit::Share, None, |contrast| contrast.iou),
        ("AUROC of pixels", Unit::Number, Some(0.5), |contrast| contrast.auroc),
        ("hottest pixel inside", Unit::Share, None, |contrast| contrast.hit),
    ];
    let mut figures = Vec::new();
    for (kind, of_kind) in kinds {
        let used: Vec<usize> = (0..scored.len()).filter(|&n| of_kind(scored[n].region.boxes.len())).collect();
        let all = kind.is_empty();
        if used.is_empty()
            || (!all && used.len() == scored.iter().filter(|grounded| grounded.contrast.is_some()).count())
        {
            continue;
        }
        for (name, unit, chance, value) in
            table.into_iter().filter(|row| all || ["contrast-to-noise ratio", "mean IoU"].contains(&row.0))
        {
            let name = format!("{name}{kind}");
            let made = meter.figure_of(group, &name, unit, &used, "no usable box", &|weights| {
                let values = used.iter().filter_map(|&n| Some((weights[n], value(scored[n].contrast.as_ref()?))));
                let (sum, total) = values.fold((0.0, 0.0), |sums, (weight, x)| (sums.0 + weight * x, sums.1 + weight));
                (total > 0.0).then(|| sum / total)
            });
            figures.push(Figure { chance, ..made });
        }
    }
    let shown: Vec<bool> = scored.iter().map(|grounded| grounded.contrast.is_some()).collect();
    if shown.contains(&false) {
        let ranking = Ranking::new(&scored.iter().map(|grounded| grounded.hottest).collect::<Vec<_>>(), &shown);
        let name = "AUROC, shown against not, by the hottest pixel";
        let made = meter.figure(group, name, Unit::Number, scored.len(), "every phrase is shown", &|weights| {
            ranking.auroc(weights)
        });
        figures.push(made.with_chance(0.5));
    }
    figures
}

impl Region {
    /// # Errors
    /// A heat map that is not square.
    fn check(&self) -> Result<()> {
        if self.heat.len() == self.side * self.side {
            return Ok(());
        }
        let (found, side) = (self.heat.len(), self.side);
        Err(Error::Evaluation(format!("a heat map of side {side} has {found} values, expected {}", side * side)))
    }
}

type Row = (&'static str, Unit, Option<f64>, fn(&Contrast) -> f64);

/// Cosines above which a pixel counts as found, as BioViL's mean IoU has them.
const COSINES: [f64; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];

struct Contrast {
    signed: f64,
    auroc: f64,
    hit: f64,
    /// Intersection over union of the box and what is hotter than a cosine, mean over [`COSINES`].
    iou: f64,
    /// Share of the picture that is inside.
    share: f64,
}

impl Contrast {
    fn new(region: &Region) -> Result<Contrast, &'static str> {
        if region.heat.iter().any(|value| !value.is_finite()) {
            return Err("heat map is not finite");
        }
        let side = region.side as f64;
        let inside: Vec<bool> = (0..region.heat.len())
            .map(|pixel| {
                let (x, y) = ((pixel % region.side) as f64 + 0.5, (pixel / region.side) as f64 + 0.5);
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
        let iou = |cosine: &f64| {
            let found = |row: &(&f64, &bool)| row.0 > cosine;
            let all = heat.iter().zip(&inside).filter(|row| *row.1 || found(row)).count();
            let both = heat.iter().zip(&inside).filter(|row| *row.1 && found(row)).count();
            both as f64 / all as f64
        };
        let most = heat.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let hottest: Vec<bool> = heat.iter().zip(&inside).filter(|row| *row.0 >= most).map(|row| *row.1).collect();
        Ok(Contrast {
            // A flat heat map has no contrast.
            signed: if noise > 0.0 { (mean_in - mean_out) / noise } else { 0.0 },
            auroc: Ranking::new(&heat, &inside).auroc(&vec![1.0; heat.len()]).unwrap_or(0.5),
            hit: hottest.iter().filter(|&&inside| inside).count() as f64 / hottest.len() as f64,
            iou: COSINES.iter().map(iou).sum::<f64>() / COSINES.len() as f64,
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
        let contrast = Contrast::new(&region(heat.clone(), [0.0, 0.0, 0.5, 0.5])).unwrap();
        // Mean 0.9 and variance 0.03 inside, nothing outside.
        assert!((contrast.signed - 0.9 / 0.03f64.sqrt()).abs() < 1e-6);
        assert_eq!((contrast.auroc, contrast.hit, contrast.share), (1.0, 1.0, 0.25));
        assert!(Contrast::new(&region(heat, [0.5, 0.5, 1.0, 1.0])).unwrap().signed < 0.0);
        let flat = Contrast::new(&region(vec![0.3; 16], [0.0, 0.0, 0.5, 0.5])).unwrap();
        assert_eq!((flat.signed, flat.auroc, flat.hit), (0.0, 0.5, 0.25));
    }

    #[test]
    fn phrases_have_none_one_or_many_boxes() {
        // Left half hot at 0.35, the rest cold: above 0.1, 0.2 and 0.3 the left half is found,
        // above 0.4 and 0.5 nothing.
        let heat: Vec<f32> = (0..16).map(|pixel| if pixel % 4 < 2 { 0.35 } else { 0.0 }).collect();
        let with = |boxes: Vec<[f64; 4]>, heat: &[f32], subject: &str| {
            vec![Region { boxes, subject: subject.into(), ..region(heat.to_vec(), [0.0; 4]) }]
        };
        let (top, bottom) = ([0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0]);
        let regions = [
            with(vec![top], &heat, "a"),
            with(vec![top, bottom], &heat, "b"),
            with(vec![], &[0.1; 16], "c"),
            with(vec![], &[0.4; 16], "d"),
        ];
        let result = Grounding::default().evaluate_variants(&["words"], regions.map(Ok)).unwrap();
        let value = |name: &str| result.value("words", name).unwrap();
        // Half of the marked area is in the one box, all of it in the two.
        assert!((value("mean IoU, one box") - 0.3).abs() < 1e-12, "{result}");
        assert!((value("mean IoU, several boxes") - 0.6).abs() < 1e-12, "{result}");
        assert!((value("mean IoU") - 0.45).abs() < 1e-12, "{result}");
        // Hotter than one of the two pictures without it.
        assert_eq!(value("AUROC, shown against not, by the hottest pixel"), 0.5);
        assert!(result.notes[0].contains("1 phrases with one box, 1 with several, 2 with none"), "{result}");
        let none = Grounding::default().evaluate_variants(&["words"], [Ok(with(vec![], &heat, "a"))]);
        assert!(none.unwrap_err().to_string().contains("no phrase has a usable box"));
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
