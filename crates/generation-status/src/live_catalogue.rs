//! The catalogue as it is now: the file in `RUSHES_MODELS`, read again when it changes, and the providers of all models that there
//! ever were.
//!
//! Invariants: a file that is wrong in any entry changes nothing: the catalogue that was read last stays. What was ordered of a model
//! that is gone is still handed out, since its provider is kept in the database.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use catalogue::{Catalogue, Fault, Format};
use domain::provider::Provider;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::store::Store;
use crate::{events, metrics};

/// How often the file is looked at. A Kubernetes ConfigMap takes longer to arrive.
const INTERVAL: Duration = Duration::from_secs(5);

/// The catalogue, which may be replaced while the process runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveCatalogue {
    file: Option<Arc<Path>>,
    current: Arc<ArcSwap<Catalogue>>,
    /// What the file and its schemas were when they were read last.
    fingerprint: Arc<ArcSwap<[u8; 32]>>,
    /// The provider of each model, also of those that the catalogue has lost.
    providers: Arc<ArcSwap<HashMap<String, Provider>>>,
}

impl LiveCatalogue {
    /// The models that need no key and no network.
    #[must_use]
    pub fn built_in() -> Self {
        Self::fixed(Catalogue::built_in())
    }

    /// A catalogue that stays as it is.
    #[must_use]
    pub fn fixed(catalogue: Catalogue) -> Self {
        let providers = Arc::new(ArcSwap::from_pointee(providers_of(&catalogue)));
        let current = Arc::new(ArcSwap::from_pointee(catalogue));
        Self { file: None, current, fingerprint: Arc::default(), providers }
    }

    /// The catalogue in a file, read again when it changes.
    ///
    /// # Errors
    /// Every fault of the file, each a sentence with its line.
    pub fn open(file: PathBuf) -> Result<Self, String> {
        let (catalogue, fingerprint) = read(&file)?;
        let fingerprint = Arc::new(ArcSwap::from_pointee(fingerprint));
        Ok(Self { file: Some(file.into()), fingerprint, ..Self::fixed(catalogue) })
    }

    /// The catalogue as it is now.
    #[must_use]
    pub fn current(&self) -> Catalogue {
        Catalogue::clone(&self.current.load())
    }

    /// The ids of the models that are at these providers, or were.
    pub(crate) fn models_at(&self, providers: &[Provider]) -> Vec<String> {
        let known = self.providers.load();
        known.iter().filter(|(_, at)| providers.contains(at)).map(|(model, _)| model.clone()).collect()
    }

    /// The provider that a model is at, or was.
    pub(crate) fn provider_of(&self, model: &str) -> Option<Provider> {
        self.providers.load().get(model).copied()
    }

    /// Reads the file again at an interval, and keeps the providers of its models, until `stop`.
    pub(crate) async fn run(self, store: Store, stop: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut refused, mut recorded) = (String::new(), false);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Some(file) = &self.file {
                match read(file) {
                    Ok((read, fingerprint)) if fingerprint != **self.fingerprint.load() => {
                        events::catalogue_changed(&read);
                        self.current.store(Arc::new(read));
                        self.fingerprint.store(Arc::new(fingerprint));
                        recorded = false;
                        refused.clear();
                    }
                    Ok(_) => refused.clear(),
                    // Said once for each state of the file, and not at each look.
                    Err(faults) if faults != refused => {
                        events::catalogue_refused(&faults);
                        refused = faults;
                    }
                    Err(_) => {}
                }
                metrics::catalogue_refused(!refused.is_empty());
            }
            match self.record(&store, recorded).await {
                Ok(()) => recorded = true,
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "the models' providers could not be kept"
                    );
                }
            }
        }
    }

    /// Keeps the providers of the current models, unless that was done, and reads those of all.
    async fn record(&self, store: &Store, recorded: bool) -> Result<(), Error> {
        let current = providers_of(&self.current.load());
        let mut known =
            if recorded { store.model_providers().await? } else { store.keep_model_providers(&current).await? };
        let moved = |(model, at): (&String, &Provider)| (current.get(model)? != at).then(|| model.clone());
        let moved: BTreeSet<String> = known.iter().filter_map(moved).collect();
        if !recorded {
            events::providers_available(&store.keep_entries(&entries_of(&self.current.load())).await?);
            moved.iter().for_each(|model| events::model_moved(model));
        }
        known.extend(current);
        self.providers.store(Arc::new(known));
        Ok(())
    }
}

fn providers_of(catalogue: &Catalogue) -> HashMap<String, Provider> {
    catalogue.all().iter().map(|model| (model.id.clone(), model.provider)).collect()
}

fn entries_of(catalogue: &Catalogue) -> Vec<(String, [u8; 32])> {
    catalogue.all().iter().map(|model| (model.id.clone(), model.entry_sha256)).collect()
}

/// The catalogue of a file, and a hash of all that was read for it.
fn read(file: &Path) -> Result<(Catalogue, [u8; 32]), String> {
    let digest = RefCell::new(Sha256::new());
    let open = |path: &Path| {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        digest.borrow_mut().update(&text);
        Ok::<_, String>(text)
    };
    let text = open(file)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let format = Format::of_path(&file.to_string_lossy());
    let parsed = Catalogue::parse(format, &text, &|beside| open(&folder.join(beside)));
    let sentences = |faults: Vec<Fault>| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ");
    Ok((parsed.map_err(sentences)?, digest.into_inner().finalize().into()))
}
