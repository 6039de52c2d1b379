//! Content-addressed object storage: files in a directory or objects in an S3-style bucket, each named by the SHA-256 of
//! its bytes.
//!
//! Invariant: a name never changes what it means. A put is durable before it returns, writes nothing when the bytes are
//! there already, and no reader ever sees half of an object. What is removed was found to be nobody's by whoever removes it.

mod check;
mod file;
mod listing;
mod name;
mod pieces;

use std::{
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::{
    Attribute, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::ClientConfigKey,
    local::LocalFileSystem,
    path::Path,
    prefix::PrefixStore,
};
use tracing::Instrument as _;

use crate::{
    metrics,
    settings::{self, Source},
    status::Failure,
};

pub use check::Access;
pub use listing::Object;
pub use name::{Name, NotAName};

/// Where objects are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `file:///directory` or `s3://bucket/prefix`.
    pub url: String,
    /// For S3: `aws_access_key_id`, `aws_secret_access_key`, `aws_region`, `aws_endpoint` and the like.
    pub options: Vec<(String, String)>,
}

impl Settings {
    /// Reads `RUSHES_BLOBS_URL`, and the usual `AWS_*` variables.
    ///
    /// # Errors
    /// When the URL is missing.
    pub fn read(source: &Source) -> Result<Self, settings::Error> {
        let what = "file:///directory or s3://bucket/prefix";
        Ok(Self { url: source.required("RUSHES_BLOBS_URL", what)?, options: source.starting("AWS_").collect() })
    }
}

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no object of this name.
    #[error("no object {0}")]
    Missing(Name),
    /// The wanted range lies outside the object.
    #[error("the range is outside the object")]
    Range,
    /// The settings name no storage that can be used.
    #[error("RUSHES_BLOBS_URL cannot be used: {0}")]
    Settings(String),
    /// An S3 without TLS, which was not asked for.
    #[error(
        "AWS_ENDPOINT should be https://…, or AWS_ALLOW_HTTP should be true: nothing is sent to it without TLS otherwise"
    )]
    PlainHttp,
    /// What was to be stored under this name has another hash.
    #[error("what was to be stored as {0} is something else")]
    Changed(Name),
    /// What was to be stored could not be read.
    #[error("what was to be stored cannot be read")]
    Source(#[source] std::io::Error),
    /// The storage failed.
    #[error("object storage failed")]
    Storage(#[source] object_store::Error),
}

/// What is known of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was stored.
    pub stored: SystemTime,
}

/// An open object storage; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Whether content types are kept with the objects; a file system has no place for them.
    typed: bool,
}

impl Store {
    /// Opens the storage. A directory is made if it is missing; a bucket is not contacted yet.
    ///
    /// # Errors
    /// When the URL is malformed or the directory cannot be made.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        let wrong = |error: &dyn std::fmt::Display| Error::Settings(error.to_string());
        let url = url::Url::parse(&settings.url).map_err(|error| wrong(&error))?;
        match url.scheme() {
            "file" => {
                let directory: PathBuf = url.to_file_path().map_err(|()| wrong(&"it should be file:///directory"))?;
                std::fs::create_dir_all(&directory).map_err(|error| wrong(&error))?;
                let files =
                    LocalFileSystem::new_with_prefix(directory).map_err(|error| wrong(&error))?.with_fsync(true);
                Ok(Self { inner: Arc::new(files), typed: false })
            }
            "s3" => {
                // reqwest is built without a TLS provider of its own; an error means that one is installed already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let mut builder = AmazonS3Builder::new().with_url(settings.url.as_str());
                for (name, value) in &settings.options {
                    if let Ok(key) = name.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                check_endpoint(&builder)?;
                let bucket = builder.build().map_err(|error| wrong(&error))?;
                let prefix = Path::from(url.path().trim_matches('/'));
                Ok(Self { inner: Arc::new(PrefixStore::new(bucket, prefix)), typed: true })
            }
            _ => Err(wrong(&"it should begin with file:// or s3://")),
        }
    }

    /// Stores `bytes` under their hash and `extension` (letters and digits, lower case) and returns the name.
    ///
    /// # Errors
    /// When the storage fails; then nothing is visible under the name.
    pub async fn put(&self, bytes: Bytes, extension: &str) -> Result<Name, Error> {
        let name = Name::of(&bytes, extension);
        let size = bytes.len();
        let work = async {
            // Hashing is free of the network, a second upload is not.
            if self.exists(&name).await? {
                return Ok(());
            }
            let mut options = PutOptions::from(PutMode::Create);
            if self.typed {
                let kind = name.content_type();
                options.attributes.insert(Attribute::ContentType, kind.into());
            }
            let path = path(&name);
            match self.inner.put_opts(&path, PutPayload::from_bytes(bytes), options).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                Err(error) => Err(Error::Storage(error)),
            }
        };
        measured("put", work).await?;
        metrics::BLOBS_PUT.get().record(size as f64);
        Ok(name)
    }

    /// The whole object.
    ///
    /// # Errors
    /// [`Error::Missing`], or when the storage fails.
    pub async fn get(&self, name: &Name) -> Result<Bytes, Error> {
        let work = async {
            let got = self.inner.get(&path(name)).await;
            let got = got.map_err(|error| sort(name, error))?;
            got.bytes().await.map_err(Error::Storage)
        };
        measured("get", work).await
    }

    /// The bytes of `range`; a range that ends beyond the object is cut, one that begins beyond it is an error.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Range`], or when the storage fails.
    pub async fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes, Error> {
        let work = async {
            let size = self.meta(name).await?.bytes;
            if range.start >= size || range.start >= range.end {
                return Err(Error::Range);
            }
            let range = range.start..range.end.min(size);
            let got = self.inner.get_range(&path(name), range).await;
            got.map_err(|error| sort(name, error))
        };
        measured("get_range", work).await
    }

    /// The object, or the part of it in `range`, piece by piece, so that a large one never lies in memory whole.
    ///
    /// # Errors
    /// [`Error::Missing`], or when the storage fails, before or in the middle of the stream.
    pub async fn stream(
        &self,
        name: &Name,
        range: Option<Range<u64>>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let work = async {
            let got = self.inner.get_opts(&path(name), options).await;
            got.map_err(|error| sort(name, error))
        };
        let got = measured("stream", work).await?;
        let pieces = match got.payload {
            GetResultPayload::File(on_disk, _) => file::pieces(on_disk, got.range).left_stream(),
            GetResultPayload::Stream(pieces) => pieces.right_stream(),
        };
        Ok(pieces.map_err(Error::Storage))
    }

    /// What is known of the object; `None` when there is none of this name.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn head(&self, name: &Name) -> Result<Option<Meta>, Error> {
        match measured("head", self.meta(name)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn exists(&self, name: &Name) -> Result<bool, Error> {
        match self.meta(name).await {
            Ok(_) => Ok(true),
            Err(Error::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn meta(&self, name: &Name) -> Result<Meta, Error> {
        let meta = self.inner.head(&path(name)).await;
        let meta = meta.map_err(|error| sort(name, error))?;
        Ok(Meta { bytes: meta.size, stored: meta.last_modified.into() })
    }
}

/// Refuses an endpoint without TLS where that was not asked for: each request would fail without a word about it.
fn check_endpoint(builder: &AmazonS3Builder) -> Result<(), Error> {
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    let allowed = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    let allowed =
        allowed.is_some_and(|value| ["true", "1", "yes", "on", "t", "y"].contains(&value.to_lowercase().as_str()));
    if endpoint.starts_with("http://") && !allowed { Err(Error::PlainHttp) } else { Ok(()) }
}

/// Two levels, so that no directory holds all objects.
fn path(name: &Name) -> Path {
    let text = name.to_string();
    Path::from(format!("{}/{text}", &text[..2]))
}

fn sort(name: &Name, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::Missing(name.clone()),
        error => Error::Storage(error),
    }
}

async fn measured<T>(operation: &'static str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let began = Instant::now();
    let span = tracing::info_span!("blobs", otel.name = format!("blobs {operation}"), otel.kind = "client");
    let result = work.instrument(span).await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(Error::Missing(_)) => "missing",
        Err(_) => "error",
    };
    metrics::BLOBS_OPERATION_DURATION.with([operation, outcome]).record(began.elapsed());
    result
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Missing(name) => Self::not_found("ASSET_NOT_FOUND", format!("no asset {name}")),
            Error::Range => Self::out_of_range("RANGE_OUTSIDE_ASSET", error.to_string()),
            Error::Settings(_) | Error::PlainHttp | Error::Changed(_) | Error::Source(_) => Self::internal(error),
            Error::Storage(_) => {
                Self::unavailable("DEPENDENCY_DOWN", "the object storage does not answer, try again shortly")
                    .because(error)
            }
        }
    }
}
