//! Boxes from a heat map: connected regions that are hotter than a threshold.
//!
//! The threshold is between the median and the maximum of the map, so that it needs neither labels
//! nor a scale; regions smaller than a patch are left out, because the map has no finer detail.

use serde::Serialize;

use super::heat::HeatMap;

/// A hot region.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HotBox {
    /// `[left, top, right, bottom]`, ends exclusive, in pixels of what [`hot_boxes`] was given or
    /// of what the box was moved to.
    pub bounds: [f64; 4],
    /// Mean cosine inside the region.
    pub mean: f32,
    /// Highest cosine.
    pub peak: f32,
}

/// Regions of a map, the hottest first.
///
/// * `share`: of the way from the median to the maximum, in `[0, 1)`; `patch`: side of a patch in
///   pixels.
///
/// A flat map has none.
pub fn hot_boxes(map: &HeatMap, share: f32, patch: usize) -> Vec<HotBox> {
    let mut sorted = map.values.clone();
    sorted.sort_by(f32::total_cmp);
    let (Some(&median), Some(&most)) = (sorted.get(sorted.len() / 2), sorted.last()) else { return Vec::new() };
    if !median.is_finite() || !most.is_finite() || most <= median {
        return Vec::new();
    }
    let threshold = median + share * (most - median);
    let side = map.side;
    let mut open: Vec<bool> = map.values.iter().map(|&value| value > threshold).collect();
    let mut found = Vec::new();
    for start in 0..open.len() {
        if !open[start] {
            continue;
        }
        open[start] = false;
        let (mut queue, mut region) = (vec![start], Region::default());
        while let Some(at) = queue.pop() {
            let (x, y) = (at % side, at / side);
            region.add(x, y, map.values[at]);
            let steps = [(x > 0).then(|| at - 1), (x + 1 < side).then_some(at + 1), (y > 0).then(|| at - side)];
            for next in steps.into_iter().chain([(y + 1 < side).then_some(at + side)]).flatten() {
                if open[next] {
                    open[next] = false;
                    queue.push(next);
                }
            }
        }
        if region.count >= patch * patch {
            found.push(region.hot_box());
        }
    }
    found.sort_by(|a: &HotBox, b| b.peak.total_cmp(&a.peak));
    found
}

struct Region {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    count: usize,
    sum: f64,
    peak: f32,
}

impl Default for Region {
    fn default() -> Self {
        let (left, top) = (usize::MAX, usize::MAX);
        Region { left, top, right: 0, bottom: 0, count: 0, sum: 0.0, peak: f32::NEG_INFINITY }
    }
}

impl Region {
    fn add(&mut self, x: usize, y: usize, value: f32) {
        (self.left, self.top) = (self.left.min(x), self.top.min(y));
        (self.right, self.bottom) = (self.right.max(x + 1), self.bottom.max(y + 1));
        self.count += 1;
        self.sum += f64::from(value);
        self.peak = self.peak.max(value);
    }

    fn hot_box(&self) -> HotBox {
        HotBox {
            bounds: [self.left, self.top, self.right, self.bottom].map(|x| x as f64),
            mean: (self.sum / self.count as f64) as f32,
            peak: self.peak,
        }
    }
}

/// Position and scale of the model's input in a picture of any size.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Pixels of the picture for a pixel of the model's input.
    pub scale: f64,
    /// Where the input begins in the picture (negative where it begins in the padding).
    pub left: f64,
    pub top: f64,
}

impl Placement {
    /// * `side`, `stored`: of [`super::Preprocessing`]; `width`, `height`: of the picture.
    pub fn new(side: usize, stored: usize, width: usize, height: usize) -> Placement {
        let longest = width.max(height) as f64;
        let scale = longest / stored as f64;
        // The crop begins at a whole pixel.
        let margin = ((stored - side) / 2) as f64 * scale;
        let start = |length: usize| margin - (longest - length as f64) / 2.0;
        Placement { scale, left: start(width), top: start(height) }
    }

    /// A box of the model's input as a box of the picture, cut to it.
    pub fn moved(&self, found: HotBox, width: usize, height: usize) -> HotBox {
        let [left, top, right, bottom] = found.bounds;
        let x = |x: f64| (self.left + x * self.scale).clamp(0.0, width as f64);
        let y = |y: f64| (self.top + y * self.scale).clamp(0.0, height as f64);
        HotBox { bounds: [x(left), y(top), x(right), y(bottom)], ..found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(side: usize, hot: &[(usize, usize, f32)]) -> HeatMap {
        let mut values = vec![0.0; side * side];
        hot.iter().for_each(|&(x, y, value)| values[y * side + x] = value);
        HeatMap { side, values }
    }

    #[test]
    fn regions_are_boxes_and_specks_are_none() {
        let two = map(8, &[(1, 1, 0.9), (2, 1, 0.8), (1, 2, 0.7), (2, 2, 0.7), (6, 6, 1.0)]);
        let found = hot_boxes(&two, 0.5, 2);
        assert_eq!(found.len(), 1, "the hotter one is smaller than a patch");
        assert_eq!((found[0].bounds, found[0].peak), ([1.0, 1.0, 3.0, 3.0], 0.9));
        assert_eq!(hot_boxes(&two, 0.5, 1)[0].bounds, [6.0, 6.0, 7.0, 7.0]);
        assert!(hot_boxes(&map(8, &[]), 0.5, 1).is_empty());
        assert!(hot_boxes(&HeatMap { side: 1, values: vec![f32::NAN] }, 0.5, 1).is_empty());
    }

    #[test]
    fn boxes_find_their_place_in_the_picture() {
        // 256 of a 512×384 picture: 2 pixels each, 64 rows of padding; the crop begins 16 pixels
        // in.
        let placement = Placement::new(224, 256, 512, 384);
        assert_eq!((placement.scale, placement.left, placement.top), (2.0, 32.0, -32.0));
        let found = HotBox { bounds: [0.0, 0.0, 10.0, 32.0], mean: 0.0, peak: 0.0 };
        assert_eq!(placement.moved(found, 512, 384).bounds, [32.0, 0.0, 52.0, 32.0]);
    }

    proptest! {
        #[test]
        fn boxes_lie_inside_and_hold_what_is_hot(
            values in proptest::collection::vec(-1.0f32..1.0, 36), share in 0.0f32..0.99,
        ) {
            let most = values.iter().copied().fold(f32::MIN, f32::max);
            let found = hot_boxes(&HeatMap { side: 6, values: values.clone() }, share, 1);
            prop_assert!(found.windows(2).all(|pair| pair[0].peak >= pair[1].peak));
            for hot in &found {
                let [left, top, right, bottom] = hot.bounds;
                prop_assert!(left < right && top < bottom && right <= 6.0 && bottom <= 6.0 && left >= 0.0 && top >= 0.0);
                prop_assert!(hot.mean <= hot.peak + 1e-6 && hot.peak <= most);
            }
            let mut sorted = values;
            sorted.sort_by(f32::total_cmp);
            prop_assert_eq!(found.first().map(|hot| hot.peak), (sorted[18] < most).then_some(most));
        }
    }
}
