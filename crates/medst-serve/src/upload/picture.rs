//! A picture in a request: base64 in JSON, a file in multipart.

use std::borrow::Cow;
use std::fmt;

use axum::body::Bytes;
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Visitor};
use utoipa::ToSchema;

use crate::{Error, Result};

/// The bytes of a JPEG, PNG or DICOM file. In JSON they are base64, with or without padding and
/// line breaks, also as a data URI.
#[derive(Clone, Debug, ToSchema)]
#[schema(as = Picture, value_type = String, format = Byte)]
pub struct UploadedPicture(Content);

#[derive(Clone, Debug)]
enum Content {
    Base64(String),
    File(Bytes),
}

impl UploadedPicture {
    /// The file's bytes.
    ///
    /// # Errors
    /// Text that is not base64; `what` names the picture.
    pub fn bytes(&self, what: &str) -> Result<Bytes> {
        match &self.0 {
            Content::File(bytes) => Ok(bytes.clone()),
            Content::Base64(text) => {
                let bytes = decoded(text).map_err(|reason| {
                    let how = "send the bytes of the file in base64, or the file itself in multipart/form-data";
                    Error::Bad(format!("{what}: {reason}; {how}"))
                });
                bytes.map(Bytes::from)
            }
        }
    }
}

impl<'de> Deserialize<'de> for UploadedPicture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UploadedPicture, D::Error> {
        struct Bodies;

        impl Visitor<'_> for Bodies {
            type Value = UploadedPicture;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an image as base64 or as a file")
            }

            fn visit_str<E>(self, text: &str) -> Result<UploadedPicture, E> {
                Ok(UploadedPicture(Content::Base64(text.to_string())))
            }

            fn visit_string<E>(self, text: String) -> Result<UploadedPicture, E> {
                Ok(UploadedPicture(Content::Base64(text)))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<UploadedPicture, E> {
                Ok(UploadedPicture(Content::File(bytes.into())))
            }
        }

        deserializer.deserialize_any(Bodies)
    }
}

/// Decodes base64: with or without padding, in either alphabet (RFC 4648, sections 4 and 5), with
/// or without line breaks (MIME), alone or in a data URI (RFC 2397).
fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim_ascii();
    let encoded = match text.split_at_checked(5) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("data:") => {
            let (kind, data) = rest.split_once(',').ok_or("data URI without a comma")?;
            if !kind.to_ascii_lowercase().ends_with(";base64") {
                return Err("data URI is not base64 (expected data:image/png;base64,…)".into());
            }
            data
        }
        _ => text,
    };
    let joined: Cow<str> = match encoded.bytes().any(|byte| byte.is_ascii_whitespace()) {
        true => encoded.split_ascii_whitespace().collect::<String>().into(),
        false => encoded.into(),
    };
    let alphabet = if joined.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    let configuration = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet, configuration).decode(joined.as_bytes());
    bytes.map_err(|error| format!("not base64: {}", error.to_string().trim_end_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_people_write_it() {
        let bytes = [0xfb, 0xff, 0xfe, 7];
        for text in [
            "+//+Bw==",
            "+//+Bw",
            "-__-Bw",
            " +//+\r\nBw==\n",
            "data:image/png;base64,+//+Bw==",
            "DATA:image/dicom;name=a.dcm;BASE64,+//+Bw",
        ] {
            assert_eq!(decoded(text).as_deref(), Ok(&bytes[..]), "{text}");
        }
        assert_eq!(decoded(""), Ok(Vec::new()));
        for (text, expected) in [
            ("https://example.org/a.png", "not base64"),
            ("+//+-__-", "not base64"),
            ("+//+B", "not base64"),
            ("data:image/png;base64", "without a comma"),
            ("data:image/png,%89PNG", "not base64 (expected data:"),
        ] {
            assert!(decoded(text).unwrap_err().contains(expected), "{text}");
        }
    }
}
