//! Uploads: typed requests from JSON with pictures in base64, or from multipart with pictures as
//! files.
//!
//! | file | what |
//! |---|---|
//! | `body` | reads JSON or multipart, within bounds |
//! | `parts` | the parts of a multipart body as one value |
//! | `picture` | a picture: a file or base64 |
//!
//! File names are ignored. Bodies are kept in memory only.

mod body;
mod parts;
mod picture;

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use medst_data::image::{ImageError, dicom, size};
use medst_infer::infer::draw::Canvas;
use medst_infer::infer::{Preprocessing, Views};
use medst_model::model::view_experts::View;
use serde::de::DeserializeOwned;

use crate::memory::{CancellationToken, Held, Taken};
use crate::state::Shared;
use crate::{Error, Result};

pub use parts::number;
pub use picture::UploadedPicture;

/// A request that was read.
pub struct Upload<T> {
    pub request: T,
    shared: Arc<Shared>,
    _held: Arc<Mutex<Held>>,
}

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Upload<T> {
    type Rejection = Error;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Upload<T>> {
        let read = tokio::time::timeout(shared.limits.receive, body::read(request, shared));
        let (request, held) = read.await.map_err(|_| Error::Slow)??;
        Ok(Upload { request, shared: shared.clone(), _held: held })
    }
}

impl<T> Upload<T> {
    /// Decodes the views of a study; `what` names it.
    ///
    /// # Errors
    /// No picture, an unreadable or too large one, or one whose header states another view than the
    /// declared one.
    pub async fn views(
        &self,
        preprocessing: Preprocessing,
        frontal: Option<&UploadedPicture>,
        lateral: Option<&UploadedPicture>,
        what: &str,
    ) -> Result<Views> {
        let see = move |bytes: &[u8]| preprocessing.decode(bytes);
        let [frontal, lateral] = self.decode([frontal, lateral], what, see).await?;
        Views::new(frontal, lateral).ok_or_else(|| no_picture(what))
    }

    /// Like [`Upload::views`], together with the pictures to draw on.
    ///
    /// # Errors
    /// As [`Upload::views`].
    pub async fn drawn_views(
        &self,
        preprocessing: Preprocessing,
        frontal: Option<&UploadedPicture>,
        lateral: Option<&UploadedPicture>,
    ) -> Result<(Views, Vec<(View, Canvas)>)> {
        let see = move |bytes: &[u8]| Canvas::decode_seen(bytes, preprocessing);
        let [frontal, lateral] = self.decode([frontal, lateral], "", see).await?;
        let (frontal, frontal_canvas) = frontal.unzip();
        let (lateral, lateral_canvas) = lateral.unzip();
        let views = Views::new(frontal, lateral).ok_or_else(|| no_picture(""))?;
        let canvases = [(View::Frontal, frontal_canvas), (View::Lateral, lateral_canvas)];
        Ok((views, canvases.into_iter().filter_map(|(shown, canvas)| Some((shown, canvas?))).collect()))
    }

    /// Decodes a frontal and a lateral view.
    async fn decode<V: Send + 'static>(
        &self,
        views: [Option<&UploadedPicture>; 2],
        what: &str,
        see: impl Fn(&[u8]) -> Result<V, ImageError> + Send + 'static,
    ) -> Result<[Option<V>; 2]> {
        let named = |picture: Option<&UploadedPicture>, view: &str| -> Result<Option<(Bytes, String)>> {
            let what = format!("{what}{view}");
            picture.map(|picture| Ok((picture.bytes(&what)?, what))).transpose()
        };
        let (frontal, lateral) = (named(views[0], "frontal")?, named(views[1], "lateral")?);
        let shared = self.shared.clone();
        let decode = move |cancellation: &CancellationToken| -> Result<[Option<V>; 2]> {
            let _counted = shared.decoding.count_one();
            let view = |named: Option<(Bytes, String)>, frontal: bool| {
                named
                    .map(|(bytes, what)| {
                        let fail = |reason: ImageError| Error::Bad(format!("{what}: {reason}"));
                        let _memory = for_picture(&shared, &bytes, cancellation, &what)?;
                        check_view(&bytes, frontal).and_then(|()| see(&bytes)).map_err(fail)
                    })
                    .transpose()
            };
            Ok([view(frontal, true)?, view(lateral, false)?])
        };
        self.shared.on_core(decode).await
    }

    /// Refuses more pictures or texts than a request may hold.
    ///
    /// # Errors
    /// Too many of either; the message states the limit.
    pub fn check_counts(&self, images: usize, texts: usize) -> Result<()> {
        let limits = &self.shared.limits;
        for (what, count, most) in [("images", images, limits.images), ("texts", texts, limits.texts)] {
            if count > most {
                return Err(Error::TooLarge(format!("too many {what}: {count} (limit {most})")));
            }
        }
        Ok(())
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Refuses a picture by the size that its file declares, and waits for the memory that decoding it
/// takes.
///
/// # Errors
/// No picture, one that is too large, or one that is not wanted any more; `what` names it.
pub fn for_picture(shared: &Shared, bytes: &[u8], cancellation: &CancellationToken, what: &str) -> Result<Taken> {
    cancellation.check()?;
    let [width, height] = size::declared(bytes).map_err(|reason| Error::Bad(format!("{what}: {reason}")))?;
    let (pixels, most) = (width.saturating_mul(height), shared.limits.pixels);
    if pixels > most {
        return Err(Error::TooLarge(format!("{what}: image too large: {width}×{height} pixels (limit {most})")));
    }
    shared.memory.for_picture(pixels.saturating_mul(size::memory_per_pixel(bytes)), cancellation)
}

fn no_picture(what: &str) -> Error {
    Error::Bad(format!("{what}no image: give frontal, lateral, or both"))
}

/// Refuses a picture whose header names another view.
fn check_view(bytes: &[u8], frontal: bool) -> Result<(), ImageError> {
    if dicom::is_dicom(bytes)
        && let Some(view) = dicom::header_of(bytes)?.view
        && view.is_frontal() != frontal
    {
        let declared = if frontal { "frontal" } else { "lateral" };
        return Err(ImageError::OtherView { declared, found: view });
    }
    Ok(())
}
