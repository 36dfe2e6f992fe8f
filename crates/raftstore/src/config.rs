//! What a member needs to start, and why it could not.

use crate::columns::FORMAT;
use crate::history::Retention;
use crate::types::{Member, MemberId};
use openraft::SnapshotPolicy;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How fast members notice that a leader is gone.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A leader shows itself this often.
    pub heartbeat: Duration,
    /// A follower that has heard nothing for `election_max` plus a random time between these two
    /// stands for election.
    pub election_min: Duration,
    /// See `election_min`; also how long a quorum's acknowledgement lets a leader act.
    pub election_max: Duration,
}

impl Default for Timing {
    /// For small machines: an election 1.2 to 1.5 s after a leader died, none because a disk was slow. Each
    /// heartbeat costs every member some wake-ups, so there are no more than elections need.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(750),
        }
    }
}

/// When the log is cut off.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// After so many entries the log is cut.
    pub cut_every: u64,
    /// So many entries stay, for members that come back; a member further behind gets a snapshot.
    pub keep: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { cut_every: 5_000, keep: 10_000 }
    }
}

/// What a member needs to start.
pub struct Config {
    /// Where its data is; created when missing.
    pub data_dir: PathBuf,
    /// The cluster's id (visible ASCII). None: the one in the data directory.
    pub cluster: Option<String>,
    /// This member's id: [`crate::node::RaftStore::FOUNDER`] for the first member of a cluster, an allocated one for
    /// others. None: the one in the data directory.
    pub id: Option<MemberId>,
    /// `host:port` to listen on for the other members.
    pub listen: String,
    /// What the other members are told: the address to reach it, which its certificate must name, and more.
    pub advertise: Member,
    /// For the members' port: must ask for client certificates of the members' CA.
    pub tls_server: Arc<rustls::ServerConfig>,
    /// For connections to other members: must present this member's certificate.
    pub tls_client: Arc<rustls::ClientConfig>,
    /// Election and heartbeat times.
    pub timing: Timing,
    /// The replay window.
    pub retention: Retention,
    /// Length of the log.
    pub log: LogLimits,
}

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened: damaged, locked by another process, or not permitted.
    #[error("cannot open the store in {path}: {reason}")]
    Open {
        /// The data directory.
        path: PathBuf,
        /// What the database says.
        reason: String,
    },
    /// The data directory belongs to something else.
    #[error("{path} holds the data of {found}, not of {wanted}: choose another data directory or the right cluster")]
    Foreign {
        /// The data directory.
        path: PathBuf,
        /// Whose data it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// The data directory is empty and the configuration does not say what to begin.
    #[error("{0} is empty: found a cluster or join one")]
    Nobody(PathBuf),
    /// The data was written by a newer version.
    #[error("{path} has format {found}, this version knows {FORMAT}: it was written by a newer version")]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The address cannot be listened on.
    #[error("cannot listen for members on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A value of the configuration is not usable.
    #[error("invalid configuration: {0}")]
    Invalid(String),
    /// What was read from disk makes no sense.
    #[error("the store in {path} is damaged: {reason}")]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Config {
    /// openraft's form of it.
    pub(crate) fn raft(&self, cluster: &str) -> Result<openraft::Config, String> {
        let millis = |duration: Duration| duration.as_millis() as u64;
        let raft = openraft::Config {
            cluster_name: cluster.to_owned(),
            heartbeat_interval: millis(self.timing.heartbeat),
            election_timeout_min: millis(self.timing.election_min),
            election_timeout_max: millis(self.timing.election_max),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.log.cut_every),
            max_in_snapshot_log_to_keep: self.log.keep,
            purge_batch_size: 256,
            replication_lag_threshold: self.log.cut_every.max(self.log.keep) * 2,
            // A snapshot is streamed whole; this bounds the transfer of a large state over a slow link.
            install_snapshot_timeout: 600_000,
            enable_pre_vote: Some(true),
            // After a restart a member stands for election like any other: a term means one run of a leader,
            // which is what makes proposals of a past term certainly lost (`pending`).
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms 200ms ..500ms".to_owned(),
            ..openraft::Config::default()
        };
        raft.validate().map_err(|error| error.to_string())
    }
}
