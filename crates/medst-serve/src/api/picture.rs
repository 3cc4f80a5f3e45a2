//! `POST /v1/picture`: an image for display, decoded as for the models.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst_data::image::{ImageError, dicom};
use medst_infer::infer::display::Display;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::memory::CancellationToken;
use crate::upload::{Upload, UploadedPicture, for_picture};
use crate::{Error, Result};

/// Longest side of returned images.
const LONGEST: usize = 2048;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PictureRequest {
    /// Model name [default: the first model]. Models read images of different sizes.
    #[serde(default)]
    model: Option<String>,
    /// A JPEG, PNG or DICOM file.
    picture: UploadedPicture,
}

#[derive(Serialize, ToSchema)]
pub struct PictureAnswer {
    /// Width and height of the image in the file.
    size: [usize; 2],
    /// 8-bit grey PNG in base64, reduced to at most 2048 pixels per side.
    png: String,
    /// The square that the model's input is cropped from, as PNG in base64. Requests with it
    /// instead of the file get the same answers.
    square: String,
    /// Position of that square: left, top, right, bottom in pixels of the image.
    square_bounds: [f64; 4],
    /// Position of the model's input, likewise.
    read_bounds: [f64; 4],
    /// Number of patches per row and column of the model's input.
    patches: usize,
    header: Option<PictureHeader>,
}

/// Fields of a DICOM header.
#[derive(Serialize, ToSchema)]
pub struct PictureHeader {
    /// PA, AP, LATERAL or LL; null if the file states no view or another one.
    view: Option<String>,
    /// `YYYY-MM-DD`.
    date: Option<String>,
    /// Patient ID, to see whether two files are of the same patient.
    subject: Option<String>,
    study: Option<String>,
}

/// Decodes an image for display as for the models, with the position of the model's input, and the
/// view and date in a DICOM header.
#[utoipa::path(post, path = "/v1/picture",
    request_body(content((PictureRequest = "application/json"), (PictureRequest = "multipart/form-data"))),
    responses((status = 200, description = "the image, the model's square, and their positions", body = PictureAnswer),
        (status = 400, description = "invalid request; the message states why", body = ErrorBody), (status = 401, description = "missing or wrong token"),
        (status = 413, description = "request exceeds a limit"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn picture(upload: Upload<PictureRequest>) -> Result<Json<PictureAnswer>> {
    let request = &upload.request;
    let (_, model) = upload.shared().model(request.model.as_deref())?;
    let (preprocessing, patches) = (model.worker.preprocessing, model.patches);
    let bytes = request.picture.bytes("picture")?;
    let shared = upload.shared().clone();
    let show = move |cancellation: &CancellationToken| -> Result<PictureAnswer> {
        let fail = |reason: ImageError| Error::Bad(format!("picture: {reason}"));
        let _memory = for_picture(&shared, &bytes, cancellation, "picture")?;
        let header = match dicom::is_dicom(&bytes) {
            true => Some(PictureHeader::from_dicom(dicom::header_of(&bytes).map_err(fail)?)),
            false => None,
        };
        let shown = Display::decode(&bytes, preprocessing, LONGEST).map_err(fail)?;
        Ok(PictureAnswer {
            size: shown.original,
            png: STANDARD.encode(shown.png),
            square: STANDARD.encode(shown.square),
            square_bounds: shown.square_bounds,
            read_bounds: shown.read_bounds,
            patches,
            header,
        })
    };
    Ok(Json(upload.shared().on_core(show).await?))
}

impl PictureHeader {
    fn from_dicom(header: dicom::Header) -> PictureHeader {
        let view = header.view.map(|view| format!("{view:?}").to_uppercase());
        PictureHeader {
            view,
            date: header.study_date.as_deref().and_then(date),
            subject: header.subject_id,
            study: header.study_uid,
        }
    }
}

/// `YYYYMMDD` as `YYYY-MM-DD`.
fn date(text: &str) -> Option<String> {
    let digits = text.trim();
    let known = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    known.then(|| format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_calendars() {
        assert_eq!(date("20210503 ").as_deref(), Some("2021-05-03"));
        assert_eq!((date(""), date("2021.05.03"), date("202105")), (None, None, None));
    }
}
