//! The order in time of a subject's studies that is most likely according to a model.
//!
//! * Images with reports: the temporal losses train forward mapping, in which an image finds the
//!   report of the same time (paper, section 3.4). For every way to assign the images to the
//!   reports' times, the likelihood is `exp(−½ · Σ (CE image→report + CE report→image))`, with
//!   squared distances over the losses' temperature 0.1; normalised over all orders it is a
//!   probability.
//! * Images alone: the order in which neighbours resemble each other most, by the sum of squared
//!   distances along it. A path has no direction, so an order and its reverse are one.
//!
//! Both are exact over all orders, of at most [`MOST`] studies. How sure to be is a matter of the
//! scale of the scores, which
//! [`super::series`] fits to series whose order is known.

use serde::Serialize;

use super::logistic::softmax;
use crate::loss::config::LossConfig;

/// Time points whose orders are looked at; 8! = 40,320.
pub const MOST: usize = 8;

/// What is believed of an order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Believed {
    /// Indexes of the given time points, in the most likely order.
    pub order: Vec<usize>,
    /// Probability of that order among all.
    pub probability: f64,
    /// Probability of the order that was given.
    pub given_probability: f64,
    /// Place of the given order among all, from 1; orders that are equally likely share the best
    /// place.
    pub given_place: usize,
    /// How many orders there are.
    pub orders: usize,
}

/// From `n` images and the reports of the same times, unit vectors; `None` for fewer than 2 or more
/// than [`MOST`].
///
/// * `sharpness`: what the scores are multiplied by; 1 leaves them at the losses' temperature.
pub fn of_images_and_reports(images: &[&[f32]], reports: &[&[f32]], sharpness: f64) -> Option<Believed> {
    let scores = scores_of_images_and_reports(images, reports)?;
    Some(believed(&permutations(images.len()), &scores, sharpness))
}

/// From `n` images, unit vectors; `None` for fewer than 3 or more than [`MOST`]. `sharpness` as
/// there.
pub fn of_images(images: &[&[f32]], sharpness: f64) -> Option<Believed> {
    let scores = scores_of_images(images)?;
    Some(believed(&paths(images.len()), &scores, sharpness))
}

/// A score for each way to put the images at the reports' times, the given one first.
pub(super) fn scores_of_images_and_reports(images: &[&[f32]], reports: &[&[f32]]) -> Option<Vec<f64>> {
    let count = images.len();
    if reports.len() != count || !(2..=MOST).contains(&count) {
        return None;
    }
    let temperature = LossConfig::default().temporal_temperature;
    let distances: Vec<Vec<f64>> =
        images.iter().map(|image| reports.iter().map(|report| distance(image, report)).collect()).collect();
    // Losses of an image at a time: the denominators do not depend on the order.
    let row = |n: usize| softmax(&distances[n].iter().map(|d| -d / temperature).collect::<Vec<f64>>());
    let column = |n: usize| softmax(&distances.iter().map(|row| -row[n] / temperature).collect::<Vec<f64>>());
    let (rows, columns): (Vec<_>, Vec<_>) = (0..count).map(|n| (row(n), column(n))).unzip();
    let likelihood =
        |image: usize, time: usize| 0.5 * (rows[image][time].max(1e-300).ln() + columns[time][image].max(1e-300).ln());
    // An order lists the images by time.
    let score = |order: &Vec<usize>| order.iter().enumerate().map(|(time, &image)| likelihood(image, time)).sum();
    Some(permutations(count).iter().map(score).collect())
}

/// A score for each order of the images and its reverse, the given one first.
pub(super) fn scores_of_images(images: &[&[f32]]) -> Option<Vec<f64>> {
    let count = images.len();
    if !(3..=MOST).contains(&count) {
        return None;
    }
    let temperature = LossConfig::default().temporal_temperature;
    let distances: Vec<Vec<f64>> = images.iter().map(|a| images.iter().map(|b| distance(a, b)).collect()).collect();
    let score =
        |order: &Vec<usize>| -order.windows(2).map(|pair| distances[pair[0]][pair[1]]).sum::<f64>() / temperature;
    Some(paths(count).iter().map(score).collect())
}

/// Of an order and its reverse, the one whose first study was given before its last.
fn paths(count: usize) -> Vec<Vec<usize>> {
    permutations(count).into_iter().filter(|order| order[0] < order[count - 1]).collect()
}

fn believed(orders: &[Vec<usize>], scores: &[f64], sharpness: f64) -> Believed {
    let probabilities = softmax(&scores.iter().map(|score| sharpness * score).collect::<Vec<f64>>());
    // The given order is the first: permutations come sorted.
    let best = (0..orders.len()).fold(0, |best, n| if scores[n] > scores[best] + 1e-9 { n } else { best });
    Believed {
        order: orders[best].clone(),
        probability: probabilities[best],
        given_probability: probabilities[0],
        given_place: 1 + scores.iter().filter(|&&score| score > scores[0] + 1e-9).count(),
        orders: orders.len(),
    }
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// All orders of `0 … count`, sorted.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        all = all
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                let left = (0..count).filter(|n| !order.contains(n)).collect::<Vec<_>>();
                left.into_iter().map(move |n| [order.as_slice(), &[n]].concat())
            })
            .collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A quarter circle, in steps.
    fn arc(places: &[f32]) -> Vec<Vec<f32>> {
        places.iter().map(|position| vec![(position * 1.5).cos(), (position * 1.5).sin()]).collect()
    }

    fn rows(vectors: &[Vec<f32>]) -> Vec<&[f32]> {
        vectors.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn studies_along_a_path_are_put_in_its_order() {
        let (images, reports) = (arc(&[0.7, 0.0, 0.3, 1.0]), arc(&[0.0, 0.3, 0.7, 1.0]));
        let found = of_images_and_reports(&rows(&images), &rows(&reports), 1.0).unwrap();
        assert_eq!((found.order.as_slice(), found.orders), (&[1, 2, 0, 3][..], 24));
        assert!(found.given_place > 1 && found.given_probability < found.probability);
        let surer = of_images_and_reports(&rows(&images), &rows(&reports), 3.0).unwrap();
        assert!(surer.order == found.order && surer.probability > found.probability);
        let found = of_images(&rows(&images), 1.0).unwrap();
        assert_eq!((found.order.as_slice(), found.orders), (&[1, 2, 0, 3][..], 12));
        let given = of_images(&rows(&reports), 1.0).unwrap();
        assert_eq!((given.given_place, given.order.as_slice()), (1, &[0, 1, 2, 3][..]));
    }

    #[test]
    fn what_has_no_order_has_none() {
        let images = arc(&[0.0, 1.0]);
        assert_eq!(of_images(&rows(&images), 1.0), None);
        assert!(of_images_and_reports(&rows(&images), &rows(&images), 1.0).is_some());
        assert_eq!(of_images_and_reports(&rows(&images), &rows(&images[..1]), 1.0), None);
        let many = arc(&[0.1; 9]);
        assert_eq!(of_images(&rows(&many), 1.0), None);
        let same = of_images(&rows(&many[..4]), 1.0).unwrap();
        assert_eq!((same.order.as_slice(), same.given_place), (&[0, 1, 2, 3][..], 1));
        assert!((same.probability - 1.0 / 12.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn probabilities_are_probabilities(places in proptest::collection::vec(0.0f32..1.0, 3..6)) {
            let images = arc(&places);
            let shifted: Vec<f32> = places.iter().map(|position| position * 0.9 + 0.05).collect();
            let reports = arc(&shifted);
            for found in [of_images(&rows(&images), 1.0), of_images_and_reports(&rows(&images), &rows(&reports), 1.0)] {
                let found = found.unwrap();
                prop_assert!(found.given_probability <= found.probability + 1e-9 && found.probability <= 1.0 + 1e-9);
                prop_assert!((1..=found.orders).contains(&found.given_place));
                let mut sorted = found.order.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..places.len()).collect::<Vec<_>>());
            }
        }
    }
}
