//! When an image is pulled, and what a pod is told meanwhile: the pull policies and their back-off.

use super::credentials::Keyring;
use super::reference;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use jiff::{SignedDuration, Timestamp};
use kybern_api::seam::Clock;
use kybern_wire::cri as pb;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Wait after the first failed pull; doubles.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// Longest wait.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_secs(300);

/// A container's `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Ask the registry before every start.
    Always,
    /// Pull what is not there.
    IfNotPresent,
    /// Use what is there.
    Never,
}

impl Policy {
    /// The policy written, or the image's default: `Always` for the tag latest.
    pub fn of(written: Option<&str>, image: &str) -> Self {
        match written {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ if reference::is_latest(image) => Self::Always,
            _ => Self::IfNotPresent,
        }
    }
}

/// What a container may do as regards its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Start.
    Ready {
        /// It came from its registry just now, for this pod: how.
        pulled: Option<Pulled>,
    },
    /// Wait; the pod is poked when the pull ends.
    Pulling {
        /// It has begun with this call.
        begun: bool,
    },
    /// Wait and say why.
    Waiting {
        /// `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull`, `InvalidImageName`.
        reason: &'static str,
        /// Text for a person.
        message: String,
        /// When the next attempt is due; None: not without a change of the pod.
        retry_at: Option<Timestamp>,
    },
}

/// A pull that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulled {
    /// How long it took.
    pub took: Duration,
    /// The image's size in bytes.
    pub size: u64,
}

/// What a pod wants an image for.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The pod's uid.
    pub pod: &'a str,
    /// The image as it is written.
    pub image: &'a str,
    /// When to pull.
    pub policy: Policy,
    /// Notified at the end of a pull.
    pub poke: &'a Arc<Notify>,
    /// Credentials the pod brings.
    pub keyring: &'a Keyring,
}

#[derive(Debug, Clone)]
enum Pull {
    Running {
        waiting: Vec<Arc<Notify>>,
    },
    /// Pulled, and not yet used by the container that wanted it.
    Done(Pulled),
    Failed {
        message: String,
        at: Timestamp,
        backoff: SignedDuration,
        told: bool,
    },
}

/// Pulls images, each once at a time, and remembers failures. Keys are (pod uid, image): one pod's
/// credentials must not show another a private image's state.
pub struct Puller {
    runtime: Arc<dyn Runtime>,
    clock: Arc<dyn Clock>,
    /// Credentials of the node itself.
    node: Keyring,
    pulls: Mutex<HashMap<(String, String), Pull>>,
}

impl Puller {
    /// Over a runtime.
    pub fn new(runtime: Arc<dyn Runtime>, clock: Arc<dyn Clock>, node: Keyring) -> Self {
        Self { runtime, clock, node, pulls: Mutex::default() }
    }

    /// Is the image there as the policy wants it? Starts a pull where one is due.
    pub async fn ensure(self: &Arc<Self>, order: Order<'_>) -> Readiness {
        let Order { pod, image, policy, .. } = order;
        let Some(full) = reference::normalise(image) else {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            return Readiness::Waiting { reason: "InvalidImageName", message, retry_at: None };
        };
        if policy != Policy::Always {
            let present = self.runtime.image(&full).await;
            match present {
                Ok(Some(_)) => return Readiness::Ready { pulled: self.take_done(pod, image) },
                Ok(None) if policy == Policy::Never => {
                    let message = format!("Container image {image:?} is not present with pull policy of Never");
                    return Readiness::Waiting { reason: "ErrImageNeverPull", message, retry_at: None };
                }
                Ok(None) => {}
                Err(e) => {
                    return Readiness::Waiting {
                        reason: "ImageInspectError",
                        message: format!("Failed to inspect image {image:?}: {e}"),
                        retry_at: Some(self.clock.now() + FIRST_BACKOFF),
                    };
                }
            }
        }
        self.pull(order, full)
    }

    /// Forgets what it knows of a pod.
    pub fn forget(&self, pod: &str) {
        self.pulls.lock().retain(|(p, _), _| p != pod);
    }

    /// Was it pulled for this pod, and not yet used?
    fn take_done(&self, pod: &str, image: &str) -> Option<Pulled> {
        let key = (pod.to_owned(), image.to_owned());
        let mut pulls = self.pulls.lock();
        let Some(Pull::Done(pulled)) = pulls.get(&key) else { return None };
        let pulled = *pulled;
        pulls.remove(&key);
        Some(pulled)
    }

    fn pull(self: &Arc<Self>, order: Order<'_>, full: String) -> Readiness {
        let Order { pod, image, poke, .. } = order;
        let key = (pod.to_owned(), image.to_owned());
        let now = self.clock.now();
        let mut pulls = self.pulls.lock();
        let mut last = None;
        match pulls.get_mut(&key) {
            Some(Pull::Running { waiting }) => {
                if !waiting.iter().any(|w| Arc::ptr_eq(w, poke)) {
                    waiting.push(poke.clone());
                }
                return Readiness::Pulling { begun: false };
            }
            Some(Pull::Done(pulled)) => {
                let pulled = Some(*pulled);
                pulls.remove(&key);
                return Readiness::Ready { pulled };
            }
            Some(Pull::Failed { message, at, backoff, told }) if now < *at + *backoff => {
                let retry_at = Some(*at + *backoff);
                if std::mem::replace(told, true) {
                    let message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
                    return Readiness::Waiting { reason: "ImagePullBackOff", message, retry_at };
                }
                return Readiness::Waiting { reason: "ErrImagePull", message: message.clone(), retry_at };
            }
            Some(Pull::Failed { backoff, .. }) => last = Some(*backoff),
            None => {}
        }
        pulls.insert(key.clone(), Pull::Running { waiting: vec![poke.clone()] });
        drop(pulls);
        let this = self.clone();
        let mut keyring = order.keyring.clone();
        keyring.extend(&self.node);
        let credentials = keyring.for_image(&full);
        tokio::spawn(async move { this.run(key, full, credentials, last).await });
        Readiness::Pulling { begun: true }
    }

    /// Pulls with one credential after the other; without any, as nobody.
    async fn fetch(&self, full: &str, credentials: Vec<pb::AuthConfig>) -> Result<String> {
        let mut attempts: Vec<Option<pb::AuthConfig>> = credentials.into_iter().map(Some).collect();
        if attempts.is_empty() {
            attempts.push(None);
        }
        let mut failed = None;
        for credential in attempts {
            match self.runtime.pull(full, credential).await {
                Ok(id) => return Ok(id),
                Err(e) => failed = Some(e),
            }
        }
        Err(failed.unwrap_or_else(|| Error::Pod("no pull was tried".into())))
    }

    async fn run(
        &self,
        key: (String, String),
        full: String,
        credentials: Vec<pb::AuthConfig>,
        last: Option<SignedDuration>,
    ) {
        let began = tokio::time::Instant::now();
        let outcome = self.fetch(&full, credentials).await;
        let after = match outcome {
            Ok(_) => {
                // A size that cannot be read is only missing from an event's text.
                let size = self.runtime.image(&full).await.ok().flatten().map_or(0, |i| i.size);
                Pull::Done(Pulled { took: began.elapsed(), size })
            }
            Err(e) => Pull::Failed {
                message: e.to_string(),
                at: self.clock.now(),
                backoff: last.map_or(FIRST_BACKOFF, |b| (b * 2).min(MAX_BACKOFF)),
                told: false,
            },
        };
        let before = {
            let mut pulls = self.pulls.lock();
            // A pod that went meanwhile has been forgotten, and stays so.
            match pulls.get_mut(&key) {
                Some(entry) => std::mem::replace(entry, after),
                None => return,
            }
        };
        if let Pull::Running { waiting } = before {
            waiting.iter().for_each(|w| w.notify_one());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::Fake;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use kybern_api::seam::FixedClock;
    use std::collections::BTreeMap;

    fn puller(images: &[&str]) -> (Arc<Puller>, Arc<Fake>, Arc<FixedClock>, Arc<Notify>) {
        let fake = Arc::new(Fake::with_images(images));
        let clock = Arc::new(FixedClock::new(Timestamp::UNIX_EPOCH));
        (Arc::new(Puller::new(fake.clone(), clock.clone(), Keyring::default())), fake, clock, Arc::new(Notify::new()))
    }
    fn reason(r: &Readiness) -> &'static str {
        match r {
            Readiness::Ready { pulled: Some(_) } => "Pulled",
            Readiness::Ready { pulled: None } => "Present",
            Readiness::Pulling { .. } => "Pulling",
            Readiness::Waiting { reason, .. } => reason,
        }
    }

    async fn order(puller: &Arc<Puller>, image: &str, policy: Policy, poke: &Arc<Notify>) -> Readiness {
        let keyring = Keyring::default();
        puller.ensure(Order { pod: "u", image, policy, poke, keyring: &keyring }).await
    }

    #[tokio::test]
    async fn every_credential_is_tried() {
        let (puller, fake, _, poke) = puller(&[]);
        fake.state.lock().registry.insert("a.b/c:1".into());
        fake.state.lock().password = Some("right".into());
        let mut keyring = Keyring::default();
        let json = br#"{"auths": {"a.b": {"username": "u", "password": "right"}, "a.b/c": {"username": "u", "password": "wrong"}}}"#;
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(json.to_vec()))]);
        keyring.add_secret(&Secret { data: Some(data), ..Secret::default() }).unwrap();
        let image = "a.b/c:1";
        assert_eq!(reason(&order(&puller, image, Policy::IfNotPresent, &poke).await), "Pulling");
        poke.notified().await;
        assert_eq!(reason(&order(&puller, image, Policy::IfNotPresent, &poke).await), "ErrImagePull");
        let with = Order { pod: "v", image, policy: Policy::IfNotPresent, poke: &poke, keyring: &keyring };
        assert_eq!(reason(&puller.ensure(with).await), "Pulling");
        poke.notified().await;
        assert_eq!(reason(&puller.ensure(with).await), "Pulled");
    }

    #[test]
    fn default_policies() {
        assert_eq!(Policy::of(None, "busybox"), Policy::Always);
        assert_eq!(Policy::of(None, "busybox:1"), Policy::IfNotPresent);
        assert_eq!(Policy::of(Some("Never"), "busybox"), Policy::Never);
    }

    #[tokio::test]
    async fn what_is_there_is_used_and_what_is_not_is_said() {
        let (puller, fake, _, poke) = puller(&["a.b/c:1"]);
        assert_eq!(reason(&order(&puller, "a.b/c:1", Policy::IfNotPresent, &poke).await), "Present");
        assert_eq!(reason(&order(&puller, "a.b/d:1", Policy::Never, &poke).await), "ErrImageNeverPull");
        assert_eq!(reason(&order(&puller, "a.b/D:1", Policy::Always, &poke).await), "InvalidImageName");
        assert!(fake.state.lock().calls.is_empty(), "nothing was pulled");
    }

    #[tokio::test]
    async fn failures_back_off_and_double() {
        let (puller, fake, clock, poke) = puller(&[]);
        for wait in [10, 20, 40] {
            assert_eq!(
                order(&puller, "a.b/c:1", Policy::IfNotPresent, &poke).await,
                Readiness::Pulling { begun: true }
            );
            poke.notified().await;
            assert_eq!(reason(&order(&puller, "a.b/c:1", Policy::IfNotPresent, &poke).await), "ErrImagePull");
            let later = order(&puller, "a.b/c:1", Policy::IfNotPresent, &poke).await;
            let Readiness::Waiting { reason, retry_at, .. } = later else { panic!("{later:?}") };
            assert_eq!(reason, "ImagePullBackOff");
            assert_eq!(retry_at, Some(clock.now() + SignedDuration::from_secs(wait)));
            clock.advance(Duration::from_secs(wait.unsigned_abs()));
        }
        fake.state.lock().registry.insert("a.b/c:1".into());
        assert_eq!(order(&puller, "a.b/c:1", Policy::IfNotPresent, &poke).await, Readiness::Pulling { begun: true });
        poke.notified().await;
        for expected in ["Pulled", "Present"] {
            assert_eq!(reason(&order(&puller, "a.b/c:1", Policy::IfNotPresent, &poke).await), expected);
        }
    }

    #[tokio::test]
    async fn always_pulls_before_each_start() {
        let (puller, fake, _, poke) = puller(&["a.b/c:1"]);
        fake.state.lock().registry.insert("a.b/c:1".into());
        for _ in 0..2 {
            assert_eq!(order(&puller, "a.b/c:1", Policy::Always, &poke).await, Readiness::Pulling { begun: true });
            poke.notified().await;
            assert_eq!(reason(&order(&puller, "a.b/c:1", Policy::Always, &poke).await), "Pulled");
        }
        assert_eq!(fake.state.lock().calls.len(), 2);
    }
}
