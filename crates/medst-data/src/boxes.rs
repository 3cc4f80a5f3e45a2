//! Boxes of phrases in the frontal picture of a study: the label `boxes`, a JSON object
//! `{"width":W,"height":H,"regions":[{"phrase":"edema","left":…,"top":…,"right":…,"bottom":…}]}`
//! in pixels of the picture that was prepared.

use serde::{Deserialize, Serialize};

use crate::json;

/// The label's name.
pub const LABEL: &str = "boxes";

/// The boxes on the frontal picture of a study, each with a phrase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boxes {
    /// Width of the picture in pixels.
    pub width: f64,
    pub height: f64,
    pub regions: Vec<Region>,
}

/// A box, ends exclusive, in pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub phrase: String,
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

/// Why a label gives no boxes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoxesError {
    #[error("label boxes: {0}")]
    Syntax(String),
    #[error("label boxes: the image has no size")]
    NoSize,
    #[error("label boxes: a box has no area inside the image")]
    Outside,
}

impl Boxes {
    /// The label's text.
    pub fn to_label(&self) -> String {
        json::text(self)
    }

    /// Reads a label.
    ///
    /// # Errors
    /// Malformed JSON, a picture without pixels, or a box that is empty or outside the picture.
    pub fn parse(label: &str) -> Result<Boxes, BoxesError> {
        let boxes: Boxes = serde_json::from_str(label).map_err(|error| BoxesError::Syntax(error.to_string()))?;
        let Boxes { width, height, regions } = &boxes;
        let inside = |region: &Region| {
            region.left < region.right
                && region.top < region.bottom
                && region.right > 0.0
                && region.bottom > 0.0
                && region.left < *width
                && region.top < *height
        };
        if !(width.is_finite() && height.is_finite() && *width > 0.0 && *height > 0.0) {
            return Err(BoxesError::NoSize);
        }
        if !regions.iter().all(inside) {
            return Err(BoxesError::Outside);
        }
        Ok(boxes)
    }

    /// `[left, top, right, bottom]` of a box in fractions of the square that a corpus stores: the
    /// picture in its middle, black around it.
    pub fn in_square(&self, region: &Region) -> [f64; 4] {
        let longest = self.width.max(self.height);
        let (x, y) = ((longest - self.width) / 2.0, (longest - self.height) / 2.0);
        [
            (region.left + x) / longest,
            (region.top + y) / longest,
            (region.right + x) / longest,
            (region.bottom + y) / longest,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back_and_broken_ones_are_refused() {
        let region = Region { phrase: "edema".into(), left: 10.0, top: 0.0, right: 30.0, bottom: 40.0 };
        let boxes = Boxes { width: 50.0, height: 100.0, regions: vec![region.clone()] };
        assert_eq!(Boxes::parse(&boxes.to_label()), Ok(boxes.clone()));
        assert_eq!(boxes.in_square(&region), [0.35, 0.0, 0.55, 0.4]);
        let with = |region: Region| Boxes { regions: vec![region], ..boxes.clone() }.to_label();
        assert_eq!(Boxes::parse(&with(Region { right: 5.0, ..region.clone() })), Err(BoxesError::Outside));
        assert!(Boxes::parse(&with(Region { left: 60.0, right: 70.0, ..region.clone() })).is_err());
        let sizeless = Boxes { width: 0.0, ..boxes };
        assert_eq!(Boxes::parse(&sizeless.to_label()), Err(BoxesError::NoSize));
        assert!(Boxes::parse("[[1,2,3,4]]").unwrap_err().to_string().contains("boxes"));
    }
}
