//! Radiographs in the forms that Python passes: files, their bytes, or decoded pixels. All are
//! processed like a file (`infer::preprocessing`), so the same picture gives the same embedding in
//! every form.

use std::path::PathBuf;

use medst_data::gather::{DeclaredView, check_view, check_view_of};
use medst_data::image::{GreyImage, ImageError, load};
use medst_infer::infer::draw::{self, Canvas};
use medst_infer::infer::{Preprocessing, Radiograph, Views};
use medst_model::{Error, Result};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// A radiograph as Python passes it, named for messages.
pub struct InputPicture {
    name: String,
    content: PictureContent,
}

enum PictureContent {
    File(PathBuf),
    /// The bytes of a JPEG, PNG or DICOM file.
    Encoded(Vec<u8>),
    /// Decoded pixels; an error in them is reported on use.
    Pixels(Result<GreyImage, ImageError>),
}

/// From `("file", path)`, `("bytes", name, data)` or
/// `("pixels", name, data, height, width, channels)`.
impl FromPyObject<'_, '_> for InputPicture {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<InputPicture> {
        let parts = object.cast::<PyTuple>().map_err(PyErr::from)?;
        let kind: String = parts.get_item(0)?.extract()?;
        if kind == "file" {
            let path: PathBuf = parts.get_item(1)?.extract()?;
            return Ok(InputPicture { name: path.display().to_string(), content: PictureContent::File(path) });
        }
        let name: String = parts.get_item(1)?.extract()?;
        let data = parts.get_item(2)?.cast_into::<PyBytes>()?.as_bytes().to_vec();
        let content = match kind.as_str() {
            "bytes" => PictureContent::Encoded(data),
            "pixels" => {
                let (height, width, channels) = (parts.get_item(3)?, parts.get_item(4)?, parts.get_item(5)?);
                let (height, width, channels) = (height.extract()?, width.extract()?, channels.extract()?);
                PictureContent::Pixels(GreyImage::of_samples(width, height, channels, data))
            }
            _ => return Err(PyTypeError::new_err(format!("an image of kind {kind}"))),
        };
        Ok(InputPicture { name, content })
    }
}

/// An error about a picture that is identified by a name.
fn named(name: &str, reason: ImageError) -> Error {
    medst_data::Error::Image { path: name.into(), reason }.into()
}

impl InputPicture {
    /// Preprocesses the picture for the model.
    fn see(&self, preprocessing: Preprocessing) -> Result<Radiograph> {
        let seen = match &self.content {
            PictureContent::File(path) => return preprocessing.open(path),
            PictureContent::Encoded(bytes) => preprocessing.decode(bytes),
            PictureContent::Pixels(picture) => {
                picture.as_ref().map_err(ImageError::clone).and_then(|picture| preprocessing.picture(picture))
            }
        };
        seen.map_err(|reason| named(&self.name, reason))
    }

    /// The position of its parts, for boxes in the pixels of the original picture.
    fn canvas(&self, preprocessing: Preprocessing) -> Result<Canvas> {
        let (side, stored) = (preprocessing.side(), preprocessing.stored());
        let canvas = match &self.content {
            PictureContent::File(path) => return draw::open(path, preprocessing.decoding, side, stored),
            PictureContent::Encoded(bytes) => {
                load::picture_of(bytes, preprocessing.decoding).and_then(|picture| Canvas::new(picture, side, stored))
            }
            PictureContent::Pixels(picture) => picture.clone().and_then(|picture| Canvas::new(picture, side, stored)),
        };
        canvas.map_err(|reason| named(&self.name, reason))
    }

    fn is_frontal(&self, view: DeclaredView) -> Result<bool> {
        match &self.content {
            PictureContent::File(path) => Ok(check_view(path, view)?),
            PictureContent::Encoded(bytes) => check_view_of(bytes, view).map_err(|reason| named(&self.name, reason)),
            PictureContent::Pixels(_) => Ok(view != DeclaredView::Lateral),
        }
    }
}

/// One visit: up to two views, and other data about it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Study {
    pub name: String,
    frontal: Option<InputPicture>,
    lateral: Option<InputPicture>,
    /// `auto`, `frontal` or `lateral`: the view of the first picture if its file does not state
    /// one.
    view: String,
    pub report: Option<String>,
    /// Days.
    pub day: Option<f64>,
}

impl Study {
    /// Its frontal and its lateral view, according to their files. A single picture may turn out to
    /// be lateral.
    fn placed(&self) -> Result<[Option<&InputPicture>; 2]> {
        let view = match self.view.as_str() {
            "frontal" => DeclaredView::Frontal,
            "lateral" => DeclaredView::Lateral,
            _ => DeclaredView::Auto,
        };
        if let Some(lateral) = &self.lateral {
            lateral.is_frontal(DeclaredView::Lateral)?;
        }
        match (&self.frontal, &self.lateral) {
            (Some(picture), lateral) if picture.is_frontal(view)? => Ok([Some(picture), lateral.as_ref()]),
            (Some(picture), None) => Ok([None, Some(picture)]),
            (Some(picture), Some(_)) => Err(Error::Input(format!(
                "{}: expected a frontal view, but both images of the study are lateral",
                picture.name
            ))),
            (None, lateral) => Ok([None, lateral.as_ref()]),
        }
    }

    /// Preprocesses the pictures for the model.
    ///
    /// # Errors
    /// Names the picture that cannot be read; a study without pictures.
    pub fn views(&self, preprocessing: Preprocessing) -> Result<Views> {
        let [frontal, lateral] = self.placed()?.map(|view| view.map(|picture| picture.see(preprocessing)).transpose());
        Views::new(frontal?, lateral?).ok_or_else(|| Error::Input(format!("{}: no image", self.name)))
    }

    /// Canvases of its views, frontal first.
    ///
    /// # Errors
    /// As [`Study::views`].
    pub fn canvases(&self, preprocessing: Preprocessing) -> Result<[Option<Canvas>; 2]> {
        let [frontal, lateral] =
            self.placed()?.map(|view| view.map(|picture| picture.canvas(preprocessing)).transpose());
        Ok([frontal?, lateral?])
    }
}
