//! Bodies: JSON with pictures in base64, or multipart with pictures as files.
//!
//! Both become the same typed request. A part's name is the place of its value: `frontal`, `phrase`, `studies.0.lateral`; the part `request`
//! may hold the rest as JSON. File names are never looked at. Bodies live in memory only.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use medst::infer::{Radiograph, Sight, Views};
use medst_data::image::dicom;
use medst_data::image::size;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::service::Shared;
use crate::{Error, Result};

/// Time for a body that is not wanted.
const DISCARD: Duration = Duration::from_secs(1);
/// Marks a string that stands for a part of a multipart body. No base64 holds a colon.
const PART: &str = "part:";
/// Parts of a body.
const MOST_PARTS: usize = 256;
/// Highest number in a part's name.
const MOST_ITEMS: usize = 64;

/// A picture in a request: base64 in JSON, a file in multipart.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Byte)]
pub struct Picture(String);

/// A request with the files it came with.
pub struct Upload<T> {
    pub request: T,
    files: Vec<Bytes>,
    shared: Arc<Shared>,
}

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Upload<T> {
    type Rejection = Error;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Upload<T>> {
        let read = tokio::time::timeout(shared.limits.receive, read(request, shared));
        let (value, files) = read.await.map_err(|_| Error::Slow)??;
        let request = serde_json::from_value(value).map_err(|error| Error::Bad(error.to_string()))?;
        Ok(Upload { request, files, shared: shared.clone() })
    }
}

async fn read(request: Request, shared: &Arc<Shared>) -> Result<(Value, Vec<Bytes>)> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|own| own.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > shared.limits.body as u64) {
        discard(request.into_body(), shared).await;
        return Err(too_large(shared));
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|own| own.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => {
            let bytes = Bytes::from_request(request, shared).await.map_err(|error| refused(error.status(), shared))?;
            let value = serde_json::from_slice(&bytes).map_err(|error| Error::Bad(format!("JSON: {error}")))?;
            Ok((value, Vec::new()))
        }
        "multipart/form-data" => {
            let parts = Multipart::from_request(request, shared).await;
            multipart(parts.map_err(|error| Error::Bad(error.body_text()))?, shared).await
        }
        _ => Err(Error::MediaType),
    }
}

/// Reads what a client is sending and keeps nothing: one that is cut off while it sends may not see the answer.
async fn discard(mut body: Body, shared: &Shared) {
    let mut seen = 0;
    let all = async {
        while seen < shared.limits.body {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => seen += frame.data_ref().map_or(0, Bytes::len),
                _ => return,
            }
        }
    };
    // It gets an answer all the same.
    let _ = tokio::time::timeout(DISCARD.min(shared.limits.receive / 2), all).await;
}

fn refused(status: axum::http::StatusCode, shared: &Shared) -> Error {
    match status {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => too_large(shared),
        _ => Error::Bad("the body ended before it was complete".into()),
    }
}

fn too_large(shared: &Shared) -> Error {
    Error::TooLarge(format!("a body has at most {} bytes", shared.limits.body))
}

async fn multipart(mut parts: Multipart, shared: &Shared) -> Result<(Value, Vec<Bytes>)> {
    let fail = |error: axum::extract::multipart::MultipartError| match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => too_large(shared),
        _ => Error::Bad(format!("multipart: {}", error.body_text())),
    };
    let (mut value, mut files, mut count) = (Value::Object(Map::new()), Vec::new(), 0);
    while let Some(part) = parts.next_field().await.map_err(fail)? {
        count += 1;
        if count > MOST_PARTS {
            return Err(Error::TooLarge(format!("a body has at most {MOST_PARTS} parts")));
        }
        let name = part.name().unwrap_or_default().to_string();
        let text = part.file_name().is_none()
            && part.content_type().is_none_or(|kind| kind.starts_with("text/") || kind.starts_with("application/json"));
        let bytes = part.bytes().await.map_err(fail)?;
        let own = match text {
            false => {
                files.push(bytes);
                Value::String(format!("{PART}{}", files.len() - 1))
            }
            true => {
                let text = std::str::from_utf8(&bytes);
                let text = text.map_err(|_| Error::Bad(format!("part {name:?} is not UTF-8")))?;
                if text.starts_with(PART) {
                    return Err(Error::Bad(format!("part {name:?} cannot begin with {PART}")));
                }
                // Lists and objects are JSON, everything else is text.
                match text.trim_start().starts_with(['{', '[']) {
                    true => {
                        serde_json::from_str(text).map_err(|error| Error::Bad(format!("part {name:?}: {error}")))?
                    }
                    false => Value::String(text.to_string()),
                }
            }
        };
        if name == "request" {
            merge(&mut value, own)?;
        } else {
            place(&mut value, &name, own)?;
        }
    }
    Ok((value, files))
}

/// Adds the keys of the part `request` to what the other parts said.
fn merge(value: &mut Value, own: Value) -> Result<()> {
    let (Value::Object(value), Value::Object(own)) = (value, own) else {
        return Err(Error::Bad("part \"request\" must be a JSON object".into()));
    };
    for (key, own) in own {
        if value.insert(key.clone(), own).is_some() {
            return Err(Error::Bad(format!("{key:?} is given twice")));
        }
    }
    Ok(())
}

/// Puts a value at `a.0.b`.
fn place(value: &mut Value, name: &str, own: Value) -> Result<()> {
    let fail = || Error::Bad(format!("part name {name:?} is none of this request"));
    let keys: Vec<&str> = name.split('.').collect();
    let plain = |key: &&str| {
        (1..=32).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if keys.len() > 4 || !keys.iter().all(plain) {
        return Err(fail());
    }
    let mut at = value;
    for key in keys {
        at = match key.parse::<usize>() {
            Ok(number) if number < MOST_ITEMS => {
                if at.is_null() {
                    *at = Value::Array(Vec::new());
                }
                let list = at.as_array_mut().ok_or_else(fail)?;
                if number >= list.len() {
                    list.resize(number + 1, Value::Null);
                }
                &mut list[number]
            }
            Ok(_) => return Err(fail()),
            Err(_) => {
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
                at.as_object_mut().ok_or_else(fail)?.entry(key).or_insert(Value::Null)
            }
        };
    }
    if !at.is_null() {
        return Err(Error::Bad(format!("{name:?} is given twice")));
    }
    *at = own;
    Ok(())
}

impl<T> Upload<T> {
    /// The bytes of a picture.
    ///
    /// # Errors
    /// No base64; `what` names the picture.
    pub fn bytes(&self, picture: &Picture, what: &str) -> Result<Bytes> {
        if let Some(number) = picture.0.strip_prefix(PART) {
            let file = number.parse::<usize>().ok().and_then(|number| self.files.get(number));
            return file.cloned().ok_or_else(|| Error::Bad(format!("{what}: no such part")));
        }
        STANDARD.decode(picture.0.as_bytes()).map(Bytes::from).map_err(|error| Error::Bad(format!("{what}: {error}")))
    }

    /// Decodes the views of a study; `what` names it.
    ///
    /// # Errors
    /// No picture, one that cannot be read, is too large, or is declared to be another view than its header says.
    pub async fn views(
        &self,
        sight: Sight,
        frontal: Option<&Picture>,
        lateral: Option<&Picture>,
        what: &str,
    ) -> Result<Views> {
        let named = |own: Option<&Picture>, view: &str| -> Result<Option<(Bytes, String)>> {
            let what = format!("{what}{view}");
            own.map(|own| Ok((self.bytes(own, &what)?, what))).transpose()
        };
        let (frontal, lateral) = (named(frontal, "frontal")?, named(lateral, "lateral")?);
        let pixels = self.shared.limits.pixels;
        let decoding = self.shared.decoding.clone();
        let decode = move || -> Result<Option<Views>> {
            let _counted = decoding.one();
            let one = |own: Option<(Bytes, String)>, frontal: bool| {
                own.map(|(bytes, what)| decode(&bytes, sight, pixels, frontal, &what)).transpose()
            };
            Ok(Views::of(one(frontal, true)?, one(lateral, false)?))
        };
        let views = self.shared.on_core(decode).await??;
        views.ok_or_else(|| Error::Bad(format!("{what}no picture: give frontal, lateral, or both")))
    }

    /// Refuses more pictures or texts than a request may hold.
    ///
    /// # Errors
    /// Says how many are allowed.
    pub fn check_counts(&self, images: usize, texts: usize) -> Result<()> {
        let limits = &self.shared.limits;
        for (what, count, most) in [("pictures", images, limits.images), ("texts", texts, limits.texts)] {
            if count > most {
                return Err(Error::TooLarge(format!("{count} {what}; a request may hold {most}")));
            }
        }
        Ok(())
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Refuses a picture by the size that its file declares.
///
/// # Errors
/// No picture, or one with more than `most` pixels; `what` names it.
pub fn check_pixels(bytes: &[u8], most: usize, what: &str) -> Result<()> {
    let [width, height] = size::declared(bytes).map_err(|reason| Error::Bad(format!("{what}: {reason}")))?;
    if width.saturating_mul(height) > most {
        return Err(Error::TooLarge(format!("{what}: {width}×{height} pixels; a picture may have {most}")));
    }
    Ok(())
}

fn decode(bytes: &[u8], sight: Sight, most: usize, frontal: bool, what: &str) -> Result<Radiograph> {
    let fail = |reason: String| Error::Bad(format!("{what}: {reason}"));
    check_pixels(bytes, most, what)?;
    if dicom::is_dicom(bytes)
        && let Some(view) = dicom::header_of(bytes).map_err(fail)?.view
        && view.is_frontal() != frontal
    {
        let declared = if frontal { "frontal" } else { "lateral" };
        return Err(fail(format!("was declared {declared}, but its header says {view:?}")));
    }
    sight.decode(bytes).map_err(fail)
}

/// Numbers of multipart bodies are text.
pub fn number<'de, D: Deserializer<'de>, T: DeserializeOwned + std::str::FromStr>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let wrong = |value: &Value| serde::de::Error::custom(format!("{value} is no such number"));
    match &value {
        Value::Null => Ok(None),
        // Rust reads words such as `inf` and `NaN` as numbers.
        Value::String(text) if text.trim().parse::<f64>().is_ok_and(|own| !own.is_finite()) => Err(wrong(&value)),
        Value::String(text) => text.trim().parse().map(Some).map_err(|_| wrong(&value)),
        other => serde_json::from_value(other.clone()).map(Some).map_err(|_| wrong(&value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_placed_by_their_names() {
        let mut value = json!({});
        for (name, own) in
            [("model", "m"), ("studies.1.frontal", "b"), ("studies.0.frontal", "a"), ("studies.0.id", "x")]
        {
            place(&mut value, name, json!(own)).unwrap();
        }
        assert_eq!(value, json!({"model": "m", "studies": [{"frontal": "a", "id": "x"}, {"frontal": "b"}]}));
        merge(&mut value, json!({"count": 3})).unwrap();
        assert!(merge(&mut value, json!({"model": "n"})).is_err());
        for name in [
            "../../etc/passwd",
            "studies.999999999999.frontal",
            "studies.64.x",
            "",
            "a..b",
            "model",
            "model.x",
            "studies.x",
            "a.b.c.d.e",
        ] {
            assert!(place(&mut value, name, json!(1)).is_err(), "{name}");
        }
    }
}
