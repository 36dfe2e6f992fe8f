//! The keys that a server works with now, and everything on it that was made from them.

use crate::{keys, kubeconfigs};
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use kybern_api::certificates::renew_at;
use kybern_api::seam::Clock;
use kybern_apiserver::doors::relay::SERVERS;
use kybern_authn::X509;
use kybern_authn::pki::{ClusterKeys, Issued, San};
use kybern_authn::tls::{Identity, Trust};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a server's certificates live.
const LIFE: jiff::SignedDuration = jiff::SignedDuration::from_hours(365 * 24);
/// A renewal that failed, which only a broken random source could cause, is tried again after this time.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// What a server's certificates name, and where its files are.
#[derive(Debug, Clone)]
pub(in crate::roles) struct Place {
    /// The server's name.
    pub(in crate::roles) name: String,
    /// The address that peers reach it at.
    pub(in crate::roles) address: String,
    /// The URL of its API.
    pub(in crate::roles) url: String,
    /// Names and addresses of its API.
    pub(in crate::roles) names: Vec<San>,
    /// The cluster's DNS domain.
    pub(in crate::roles) domain: &'static str,
    pub(in crate::roles) data_dir: PathBuf,
    /// The administrator's kubeconfig.
    pub(in crate::roles) kubeconfig: PathBuf,
}

/// Holds the keys. TLS settings and authenticators that were made from its parts go by the present set.
pub(in crate::roles) struct Keeper {
    place: Place,
    /// The machine's clock, by which others check what this server shows.
    clock: Arc<dyn Clock>,
    /// The API's clock, by which it judges what clients show. (Tests move it.)
    judging: Arc<dyn Clock>,
    current: ArcSwap<ClusterKeys>,
    /// What the API shows.
    pub(in crate::roles) serving: Arc<Identity>,
    /// What members show to one another, and whom they believe.
    pub(in crate::roles) peer: (Arc<Identity>, Arc<Trust>),
    /// What this server shows to the API of others, and whom it believes there.
    pub(in crate::roles) relay: (Arc<Identity>, Arc<Trust>),
    /// The API's judge of client certificates, once there is one.
    judge: Mutex<Option<Arc<X509>>>,
    /// The step that was taken last; changes also when leaves are made anew.
    taken: watch::Sender<u64>,
}

/// A server's own certificates, made together.
struct Leaves {
    serving: Issued,
    peer: Issued,
    relay: Issued,
}

impl Leaves {
    fn issue(keys: &ClusterKeys, place: &Place, now: Timestamp, judged: Timestamp) -> Result<Self> {
        let user = format!("kybern:server:{}", place.name);
        Ok(Self {
            serving: keys.serving_certificate(&place.name, &place.names, place.domain, now)?,
            peer: keys.peer_certificate(&place.name, &[San::host(&place.address)], now)?,
            relay: keys.client_certificate(&user, &[SERVERS], judged, LIFE)?,
        })
    }
}

impl Keeper {
    /// Makes the server's certificates from `keys`, by the machine's clock or by the one that the API judges by.
    ///
    /// # Errors
    /// At keys that cannot be used.
    pub(in crate::roles) fn new(
        keys: ClusterKeys,
        place: Place,
        clock: Arc<dyn Clock>,
        judging: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let leaves = Leaves::issue(&keys, &place, clock.now(), judging.now())?;
        Ok(Arc::new(Self {
            serving: Identity::new(&leaves.serving)?,
            peer: (Identity::new(&leaves.peer)?, Trust::new(keys.peer_ca.trusted())?),
            relay: (Identity::new(&leaves.relay)?, Trust::new(keys.server_ca.trusted())?),
            judge: Mutex::default(),
            taken: watch::Sender::new(keys.rotation.generation),
            current: ArcSwap::from_pointee(keys),
            place,
            clock,
            judging,
        }))
    }

    /// The keys of now.
    pub(in crate::roles) fn keys(&self) -> Arc<ClusterKeys> {
        self.current.load_full()
    }

    /// The server's name.
    pub(super) fn name(&self) -> &str {
        &self.place.name
    }

    /// Changes with every set that was taken into use.
    pub(in crate::roles) fn taken(&self) -> watch::Receiver<u64> {
        self.taken.subscribe()
    }

    /// Tells this judge of client certificates of every set from now on.
    pub(in crate::roles) fn tell(&self, judge: Arc<X509>) {
        *self.judge.lock() = Some(judge);
    }

    /// Takes a later set into use: on disk first, so that a crash does not go back behind what others were told.
    ///
    /// # Errors
    /// When it cannot be kept or used; then the old set stays in use.
    pub(super) fn take(&self, keys: ClusterKeys) -> Result<()> {
        let leaves = self.issue(&keys)?;
        keys.save(&keys::dir(&self.place.data_dir)).context("the new keys can't be kept")?;
        if let Some(judge) = &*self.judge.lock() {
            judge.set_authorities(keys.client_ca.trusted())?;
        }
        self.peer.1.replace(keys.peer_ca.trusted())?;
        self.relay.1.replace(keys.server_ca.trusted())?;
        self.show(&leaves)?;
        let (generation, phase) = (keys.rotation.generation, keys.phase());
        self.current.store(Arc::new(keys));
        self.taken.send_replace(generation);
        tracing::info!(generation, ?phase, "took over a new set of CAs and made new certificates");
        self.write_kubeconfig()
    }

    fn issue(&self, keys: &ClusterKeys) -> Result<Leaves> {
        Leaves::issue(keys, &self.place, self.clock.now(), self.judging.now())
    }

    fn show(&self, leaves: &Leaves) -> Result<()> {
        self.serving.replace(&leaves.serving)?;
        self.peer.0.replace(&leaves.peer)?;
        Ok(self.relay.0.replace(&leaves.relay)?)
    }

    /// Renews the server's own certificates at 80 % of their life until `cancel`: they are made at the start.
    pub(in crate::roles) async fn renew_in_time(self: Arc<Self>, cancel: CancellationToken) {
        let mut made = self.clock.now();
        loop {
            let due = renew_at(made, made.saturating_add(LIFE).unwrap_or(made));
            let left = std::time::Duration::try_from(due.duration_since(self.clock.now())).unwrap_or_default();
            if cancel.run_until_cancelled(tokio::time::sleep(left)).await.is_none() {
                return;
            }
            let now = self.clock.now();
            let renewed = self.issue(&self.keys()).and_then(|leaves| self.show(&leaves));
            match renewed.and_then(|()| self.write_kubeconfig()) {
                Ok(()) => {
                    made = now;
                    self.taken.send_modify(|_| {});
                    tracing::info!("renewed this server's certificates");
                }
                Err(error) => {
                    tracing::error!(%error, "this server's certificates were not renewed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// The administrator's kubeconfig: made where there is none, renewed where it grows old or believes other
    /// CAs than those of now. One that cannot be read is somebody's own affair, and stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::roles) fn write_kubeconfig(&self) -> Result<()> {
        let (keys, path) = (self.keys(), &self.place.kubeconfig);
        if path.exists() {
            if let Err(error) = kubeconfigs::renew(path, &keys, self.judging.now()) {
                tracing::warn!(error = format!("{error:#}"), "the kubeconfig was not renewed");
            }
            return Ok(());
        }
        kubeconfigs::create(path, "kybern", &self.place.url, &keys, self.judging.now())
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("place", &self.place).finish_non_exhaustive()
    }
}
