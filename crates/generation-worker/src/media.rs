//! The files of an order's input, in the form that its provider takes: in the input itself, in the provider's own storage, or at a
//! link of ours that runs out.
//!
//! Invariant: this comes before the intent, and nothing of it is an order: an upload that failed is tried again as often as it may.
//! Addresses and `data:` URIs are secrets, and no part of a log line, of an error or of a history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chassis::blobs::{self, Name};
use chassis::links::FetchLinks;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::model::{CallOutcome, Evidence, Form, Input, InputFile, Order, Trouble, Upload};
use crate::provider::Provider;

/// The largest file that is put into the input where it may be given otherwise too: what Replicate's API takes at most.
const MAX_DATA: u64 = 256 << 10;
/// How long before its end an upload is made again.
const UPLOAD_MARGIN: Duration = Duration::from_secs(3_600);
/// How long a link holds: an order may wait for a day before it is sent, and its provider for another before it fetches.
const LINK_LASTS: Duration = Duration::from_secs(2 * 24 * 3_600);
/// The uploads that are remembered.
const MAX_UPLOADS: usize = 10_000;

/// Puts files into inputs; clones share everything.
#[derive(Clone)]
pub(crate) struct Media {
    blobs: blobs::Store,
    links: Option<FetchLinks>,
    uploads: Arc<Mutex<HashMap<UploadKey, (String, Instant)>>>,
    /// One file at a time is in memory for an upload, however many orders want one.
    uploading: Arc<Semaphore>,
}

/// An upload is of one provider and one key there, since only that one's account may read it; where the provider has several places
/// of one place; and of one object.
type UploadKey = (&'static str, String, String, Name);

impl Media {
    /// Reads files from `blobs`, and has them fetched by `links` where there are any.
    #[must_use]
    pub(crate) fn new(blobs: blobs::Store, links: Option<FetchLinks>) -> Self {
        Self { blobs, links, uploads: Arc::default(), uploading: Arc::new(Semaphore::new(1)) }
    }

    /// The input that `provider` gets of an order.
    ///
    /// # Errors
    /// What came of reading or uploading a file; nothing was ordered.
    pub(crate) async fn prepare(&self, order: &Order, provider: &dyn Provider) -> Result<Input, Trouble> {
        let mut input = Input { json: order.input.clone(), files: Vec::new() };
        if provider.abilities().in_process {
            for file in &order.files {
                input.files.push(self.read(file).await?);
            }
            return Ok(input);
        }
        let mut json = Value::Object(std::mem::take(&mut input.json));
        for file in &order.files {
            let Some(place) = json.pointer_mut(&file.pointer) else {
                let detail = format!("the order has no place {} for a file", file.pointer);
                return Err(Trouble::new(CallOutcome::ModelRefused, detail));
            };
            *place = Value::String(self.address(order, file, provider).await?);
        }
        if let Value::Object(json) = json {
            input.json = json;
        }
        Ok(input)
    }

    /// The address under which the provider gets a file.
    async fn address(&self, order: &Order, file: &InputFile, provider: &dyn Provider) -> Result<String, Trouble> {
        let forms = provider.file_forms();
        let may = |form| file.forms.is_empty() || file.forms.contains(&form);
        if may(Form::Data) && file.size_bytes <= forms.max_data.min(MAX_DATA) {
            return self.data(file).await;
        }
        if may(Form::Upload) && file.size_bytes <= forms.max_upload {
            return self.upload(order, file, provider).await;
        }
        if let Some(links) = self.links.as_ref().filter(|_| may(Form::Url) && forms.link) {
            return Ok(links.link(&file.name, LINK_LASTS, SystemTime::now()).into());
        }
        if may(Form::Data) && file.size_bytes <= forms.max_data {
            return self.data(file).await;
        }
        let what = format!("{} of {} bytes", file.mime_type, file.size_bytes);
        Err(Trouble::new(
            CallOutcome::FileRefused,
            match may(Form::Url) && forms.link {
                true => format!(
                    "{} takes {what} by an address alone: RUSHES_INTERNAL_KEYS and RUSHES_PUBLIC_URL (https) are not set here",
                    provider.name()
                ),
                false => format!("{} takes {what} in no form that the model's entry allows", provider.name()),
            },
        ))
    }

    async fn data(&self, file: &InputFile) -> Result<String, Trouble> {
        Ok(format!("data:{};base64,{}", file.mime_type, STANDARD.encode(self.read(file).await?)))
    }

    async fn upload(&self, order: &Order, file: &InputFile, provider: &dyn Provider) -> Result<String, Trouble> {
        let place = provider.upload_place(order).to_owned();
        let key = (provider.name(), provider.key().to_owned(), place, file.name.clone());
        // Whoever waited may find that another order has uploaded it.
        let _slot = self.uploading.acquire().await;
        if let Some(address) = self.known(&key) {
            return Ok(address);
        }
        let Upload { address, lasts } = provider.upload(order, file, self.read(file).await?).await?;
        let until = Instant::now() + lasts.saturating_sub(UPLOAD_MARGIN);
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        if uploads.len() >= MAX_UPLOADS {
            let now = Instant::now();
            uploads.retain(|_, (_, until)| now < *until);
        }
        if uploads.len() < MAX_UPLOADS {
            uploads.insert(key, (address.clone(), until));
        }
        Ok(address)
    }

    /// The address of an upload that still lasts.
    fn known(&self, key: &UploadKey) -> Option<String> {
        let uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.get(key).filter(|(_, until)| Instant::now() < *until).map(|(address, _)| address.clone())
    }

    async fn read(&self, file: &InputFile) -> Result<Bytes, Trouble> {
        self.blobs.get(&file.name).await.map_err(|error| match error {
            blobs::Error::Missing(_) => {
                Trouble::new(CallOutcome::NotFound, "a file of the input is not in our storage")
            }
            error => {
                Trouble::new(CallOutcome::StorageUnavailable, "a file of the input cannot be read from our storage")
                    .with_evidence(Evidence::cause(error.to_string()))
            }
        })
    }
}
