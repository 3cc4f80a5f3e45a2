//! Requests to object storage, from threads that may block, with explanations of their failures.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, BackoffConfig, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, RetryConfig, WriteMultipart,
};
use tokio::runtime::Runtime;

use super::Address;
use crate::{Error, Result};

/// Bytes of one request: small enough for slow lines and for memory, large enough that requests do
/// not count.
const PIECE: u64 = 16 << 20;
/// Requests for one object at the same time.
const AT_ONCE: usize = 4;
/// The checksum that an object carries.
const SHA256: &str = "sha256";

/// A bucket.
#[derive(Clone)]
pub struct Client {
    store: Arc<AmazonS3>,
    bucket: String,
    endpoint: String,
}

/// A piece of an object.
pub struct Piece {
    pub bytes: Vec<u8>,
    /// Size of the whole object.
    pub size: u64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bucket {} at {}", self.bucket, self.endpoint)
    }
}

/// The threads that wait for the network.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // Only one provider of cryptography is compiled in, so a failure means that it is installed
        // already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("storage").enable_all();
        builder.build().expect("the system gives threads")
    })
}

impl Client {
    /// The bucket of an address, as the environment says.
    ///
    /// * `retries`: of requests that fail for reasons that may pass.
    ///
    /// # Errors
    /// A variable of the environment that cannot be understood.
    pub fn open(address: &Address, retries: usize) -> Result<Client> {
        let _entered = runtime().enter();
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(10),
                base: 3.0,
            },
            max_retries: retries,
            retry_timeout: Duration::from_secs(180),
        };
        let builder = AmazonS3Builder::from_env().with_bucket_name(&address.bucket).with_retry(retry);
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let endpoint = endpoint.unwrap_or_else(|| "Amazon S3 (AWS_ENDPOINT_URL is not set)".into());
        let store = builder
            .build()
            .map_err(|error| Error::Usage(format!("{address}: {error} (see the environment variables AWS_…)")))?;
        Ok(Client { store: Arc::new(store), bucket: address.bucket.clone(), endpoint })
    }

    /// Like [`Client::open`], but shared by all callers, because reading many small objects should
    /// not open many connections.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn of_bucket(address: &Address) -> Result<Client> {
        static BUCKETS: Mutex<BTreeMap<String, Client>> = Mutex::new(BTreeMap::new());
        let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = buckets.get(&address.bucket) {
            return Ok(client.clone());
        }
        let client = Client::open(address, 8)?;
        buckets.insert(address.bucket.clone(), client.clone());
        Ok(client)
    }

    /// Address of the storage service.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A small object; `None` where no object has that key.
    ///
    /// # Errors
    /// Names the cause of the failure.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let read = async { self.store.get(&Key::from(key)).await?.bytes().await };
        self.optional(key, runtime().block_on(read)).map(|bytes| bytes.map(|bytes| bytes.to_vec()))
    }

    /// A part of an object.
    ///
    /// # Errors
    /// Names the cause of the failure; an object that does not exist.
    pub fn range(&self, key: &str, range: Range<u64>) -> Result<Piece> {
        let read = async {
            let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
            let result = self.store.get_opts(&Key::from(key), options).await?;
            let size = result.meta.size;
            Ok(Piece { size, bytes: result.bytes().await?.to_vec() })
        };
        runtime().block_on(read).map_err(|error| self.fail(key, &error))
    }

    /// Reads a whole object, a piece at a time.
    ///
    /// * `size`: what it must have.
    /// * `take`: gets the pieces in order; false ends the reading early.
    ///
    /// # Errors
    /// Names the cause of the failure; an object that does not exist or has another size.
    pub fn pieces(&self, key: &str, size: u64, mut take: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        let mut at = 0;
        while at < size {
            let wanted = at..size.min(at + PIECE);
            let piece = self.range(key, wanted.clone())?;
            if piece.size != size || piece.bytes.len() as u64 != wanted.end - wanted.start {
                let found = piece.size;
                return Err(self.error(key, format!("has {found} bytes, expected {size}")));
            }
            if !take(&piece.bytes)? {
                return Ok(());
            }
            at = wanted.end;
        }
        Ok(())
    }

    /// Size and checksum (as recorded by [`Client::put`]) of an object, if it exists.
    ///
    /// # Errors
    /// Names the cause of the failure.
    pub fn state(&self, key: &str) -> Result<Option<(u64, Option<String>)>> {
        let read = async {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let result = self.store.get_opts(&Key::from(key), options).await?;
            let checksum = result.attributes.get(&Attribute::Metadata(SHA256.into())).map(|value| value.to_string());
            Ok((result.meta.size, checksum))
        };
        self.optional(key, runtime().block_on(read))
    }

    /// Size of an object, and a value that changes whenever it does, if it exists.
    ///
    /// # Errors
    /// Names the cause of the failure.
    pub fn version(&self, key: &str) -> Result<Option<(u64, String)>> {
        let found = self.optional(key, runtime().block_on(self.store.head(&Key::from(key))))?;
        Ok(found.map(|meta| (meta.size, meta.e_tag.unwrap_or_else(|| meta.last_modified.to_rfc3339()))))
    }

    /// The keys of all objects whose key begins with a folder's.
    ///
    /// # Errors
    /// Names the cause of the failure.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>> {
        use futures_util::TryStreamExt;
        let folder = Key::from(prefix);
        let read = async { self.store.list(Some(&folder)).try_collect::<Vec<ObjectMeta>>().await };
        let all = runtime().block_on(read).map_err(|error| self.fail(prefix, &error))?;
        Ok(all.into_iter().map(|object| object.location.to_string()).collect())
    }

    /// Writes an object; it appears whole or not at all.
    ///
    /// * `next`: gives the next bytes, an empty piece at the end.
    ///
    /// # Errors
    /// Names the cause of the failure.
    pub fn put(
        &self,
        key: &str,
        size: u64,
        sha256: &str,
        mut next: impl FnMut(usize) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let path = Key::from(key);
        let attributes = Attributes::from_iter([(Attribute::Metadata(SHA256.into()), sha256.to_string())]);
        if size <= PIECE {
            let bytes = next(size as usize)?;
            let options = PutOptions { attributes, ..PutOptions::default() };
            let write = self.store.put_opts(&path, bytes.into(), options);
            return runtime().block_on(write).map(drop).map_err(|error| self.fail(key, &error));
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let begun = runtime().block_on(self.store.put_multipart_opts(&path, options));
        // Pieces are sent by tasks of the runtime.
        let _entered = runtime().enter();
        let mut upload =
            WriteMultipart::new_with_chunk_size(begun.map_err(|error| self.fail(key, &error))?, PIECE as usize);
        loop {
            let bytes = match next(PIECE as usize) {
                Ok(bytes) => bytes,
                Err(error) => {
                    let _ = runtime().block_on(upload.abort());
                    return Err(error);
                }
            };
            if bytes.is_empty() {
                break;
            }
            runtime().block_on(upload.wait_for_capacity(AT_ONCE)).map_err(|error| self.fail(key, &error))?;
            upload.put(bytes.into());
        }
        runtime().block_on(upload.finish()).map(drop).map_err(|error| self.fail(key, &error))
    }

    /// Removes an object; a missing object is not an error.
    ///
    /// # Errors
    /// Names the cause of the failure.
    pub fn delete(&self, key: &str) -> Result<()> {
        let path = Key::from(key);
        let done = runtime().block_on(self.store.delete(&path));
        self.optional(key, done).map(drop)
    }

    fn optional<T>(&self, key: &str, result: object_store::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => {
                Ok(None)
            }
            Err(error) => Err(self.fail(key, &error)),
        }
    }

    fn error(&self, key: &str, message: impl Into<String>) -> Error {
        let address = format!("s3://{}/{key}", self.bucket);
        Error::Storage { address, message: message.into(), unreachable: false }
    }

    /// Explains the cause of an error and what to do.
    fn fail(&self, key: &str, error: &object_store::Error) -> Error {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if !text.contains(&cause.to_string()) {
                text += &format!(": {cause}");
            }
            source = cause.source();
        }
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let (bucket, endpoint) = (&self.bucket, &self.endpoint);
        if says(&["NoSuchBucket"]) {
            return self.error(key, format!("{endpoint} has no bucket `{bucket}`"));
        }
        if says(&["latest/api/token", "security-credentials", "169.254.169.254"]) {
            return self.error(
                key,
                "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true for a public bucket)",
            );
        }
        let refused = ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AccessDenied"];
        if let Some(code) = refused.iter().find(|code| text.contains(**code)) {
            return self.error(
                key,
                format!(
                    "{endpoint} refused access ({code}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
                     AWS_SESSION_TOKEN, AWS_REGION, and the permissions of that key"
                ),
            );
        }
        if says(&["URL scheme is not allowed"]) {
            return self.error(key, format!("{endpoint} is plain http; set AWS_ALLOW_HTTP=true to allow it"));
        }
        let unreachable = says(&["error sending request", "Connect", "connect", "timed out", "dns error"]);
        if unreachable {
            let message = format!(
                "cannot reach {endpoint} (check AWS_ENDPOINT_URL; plain http needs AWS_ALLOW_HTTP=true): {text}"
            );
            return Error::Storage { address: format!("s3://{bucket}/{key}"), message, unreachable };
        }
        match error {
            object_store::Error::NotFound { .. } => self.error(key, "no such object"),
            _ => self.error(key, text),
        }
    }
}
