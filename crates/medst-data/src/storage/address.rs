//! Addresses of objects.

use std::fmt;
use std::path::Path;

use crate::{Error, Result};

/// `s3://BUCKET/PREFIX`: a folder (or an object) of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

impl Address {
    /// The address that a path is, if it is one: paths are what commands and configurations hold.
    ///
    /// # Errors
    /// An address without a bucket.
    pub fn from_path(path: &Path) -> Result<Option<Address>> {
        // Programs that tidy paths leave one slash of two.
        let Some(rest) = path.to_str().and_then(|text| text.strip_prefix("s3:/")) else { return Ok(None) };
        let rest = rest.trim_start_matches('/');
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(Error::Usage(format!("{}: expected s3://BUCKET/PREFIX", path.display())));
        }
        Ok(Some(Address { bucket: bucket.into(), prefix: prefix.trim_matches('/').into() }))
    }

    /// Whether a path means an object or a folder of objects.
    pub fn is(path: &Path) -> bool {
        path.to_str().is_some_and(|text| text.starts_with("s3:/"))
    }

    /// Why nothing can be read from there or written to it.
    #[cfg(not(feature = "s3"))]
    pub fn unsupported(&self) -> Error {
        Error::Usage(format!(
            "{self}: this medst was built without object storage; build it with `--features medst-cli/s3` (or \
             `ALL=1 make build`)"
        ))
    }

    /// The key of an object in this folder.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.into() } else { format!("{}/{name}", self.prefix) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        let of = |text: &str| Address::from_path(Path::new(text)).unwrap();
        for text in ["s3://bucket/a/b", "s3://bucket/a/b/", "s3:/bucket/a/b"] {
            let address = of(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.key("x").as_str()), ("s3://bucket/a/b", "a/b/x"));
        }
        assert_eq!(of("s3://bucket").unwrap().key("x"), "x");
        assert_eq!(of("corpora/s3:"), None);
        assert!(Address::from_path(Path::new("s3://")).unwrap_err().to_string().contains("s3://BUCKET/PREFIX"));
    }
}
