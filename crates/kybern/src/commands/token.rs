//! `kybern token`: join tokens as bootstrap token Secrets.

use crate::cli::TokenCommand;
use crate::keys;
use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use kybern_api::seam::{Clock, SystemClock};
use kybern_authn::join::{JoinToken, Role};
use kybern_client::http::HttpTransport;
use kybern_client::kubeconfig::Kubeconfig;
use kybern_client::transport::{Resource, Target, Transport, Write};

/// Runs a `kybern token` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(command: TokenCommand) -> Result<()> {
    let TokenCommand::Create { role, ttl, data_dir, kubeconfig } = command;
    let role = match role.as_str() {
        "server" => Role::Server,
        "agent" => Role::Agent,
        other => bail!("--role {other}: must be server or agent"),
    };
    let expires = expiry(SystemClock::default().now(), &ttl)?;
    let keys = keys::load(&data_dir)?
        .with_context(|| format!("{} holds no keys: run this on a server, with its --data-dir", data_dir.display()))?;
    let token = JoinToken::generate(keys.server_ca.der())?;
    let secret = token.to_secret(role, Some(expires), "made by kybern token create");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connection = Kubeconfig::load(&kubeconfig)?.connection()?;
    runtime.block_on(async {
        let target = Target {
            resource: Resource::new("", "v1", "secrets"),
            namespace: "kube-system".into(),
            name: String::new(),
            subresource: String::new(),
            query: Vec::new(),
            term: 0,
        };
        let transport = HttpTransport::new(connection)?;
        transport
            .write(&target, Write::Create(secret.to_string().into()))
            .await
            .context("the cluster refused the token")
    })?;
    println!("{token}");
    Ok(())
}

fn expiry(now: Timestamp, ttl: &str) -> Result<Timestamp> {
    let ttl: SignedDuration = ttl.parse().with_context(|| format!("--ttl {ttl}: must be a duration such as 24h"))?;
    if ttl <= SignedDuration::ZERO {
        bail!("--ttl must be longer than nothing");
    }
    now.checked_add(ttl).context("--ttl is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_and_bounded() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(expiry(now, "2h").unwrap().as_second(), 8_200);
        assert!(expiry(now, "tomorrow").is_err());
        assert!(expiry(now, "-1h").is_err());
    }
}
