//! The tables in a network namespace, by what servers tell and by who has addresses.

use super::*;
use crate::cni::ipam::Addresses;
use crate::net::netns;
use kybern_wire::node::PolicyPod;
use std::process::Command;

fn own() -> Ipv4Net {
    "10.42.3.0/24".parse().expect("a network")
}

fn nft(line: &str) -> io::Result<String> {
    let out = Command::new("nft").args(line.split(' ')).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Waits until the rules are as `wanted` says.
async fn until(what: &str, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let rules = nft("list ruleset")?;
        if wanted(&rules) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(io::Error::other(format!("{what}: {rules}")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn everything() -> PolicyUpdate {
    let pods = vec![PolicyPod { name: "d/p".into(), policies: Vec::new() }];
    PolicyUpdate { whole: true, pods, ..PolicyUpdate::default() }
}

async fn scenario(directory: &Path) -> io::Result<()> {
    let addresses = Addresses::open(directory, own())?;
    let inside = ipam::directory(directory);
    let link = Holder { owner: "c1\neth0".into(), ..Holder::default() }.link();
    close(own()).await.map_err(io::Error::other)?;
    let (out, mut updates) = mpsc::channel(QUEUE);
    let steps = async {
        addresses.allocate("c1\neth0", "d/p")?;
        nft("flush ruleset")?;
        let shut = |r: &str| r.contains("\" . 10.42.3.2") && !r.contains("10.42.3.2 : accept");
        until("flushed before a server speaks: closed, but for the node", shut).await?;
        out.send(everything()).await.map_err(io::Error::other)?;
        let open = |r: &str| r.matches("10.42.3.2 : accept").count() == 2 && r.contains("\" . 10.42.3.2");
        until("a door for an address that is given", open).await?;
        for line in ["flush ruleset", "flush map ip kybern-policy egress", "delete table bridge kybern-policy"] {
            nft(line)?;
            until(line, open).await?;
        }
        Links::open()?.add_veth(&link, "other", 1500).await?;
        for lost in ["address", "directory"] {
            match lost {
                "address" => std::fs::remove_file(inside.join("10.42.3.2"))?,
                _ => std::fs::rename(&inside, directory.join("away"))?,
            }
            let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
            while ipam::held(&inside).unwrap_or_default().len() != 1 {
                assert!(tokio::time::Instant::now() < deadline, "the {lost} is not written again");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            until("the door is there again", open).await?;
        }
        Links::open()?.delete(&link).await?;
        let addresses = Addresses::open(directory, own())?;
        addresses.release("c1\neth0")?;
        until("given back: closed", |r| !r.contains("10.42.3.2")).await
    };
    tokio::select! {
        () = enforce(own(), &inside, &mut updates) => Ok(()),
        done = steps => done,
    }
}

#[test]
fn doors_open_for_addresses_and_come_back_when_flushed() {
    let name = format!("kybern-enf-{}", std::process::id());
    netns::create(&name).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let outcome = netns::run_in_async(&netns::path(&name), || async move { scenario(&path).await });
    netns::delete(&name).unwrap();
    outcome.unwrap();
}

#[test]
fn rules_that_an_earlier_agent_left_stay_until_a_server_speaks() {
    let name = format!("kybern-enl-{}", std::process::id());
    netns::create(&name).unwrap();
    let outcome = netns::run_in_async(&netns::path(&name), || async {
        close(own()).await.map_err(io::Error::other)?;
        nft("add element ip kybern-policy egress { 10.42.3.9 : accept }")?;
        close(own()).await.map_err(io::Error::other)?;
        let kept = nft("list ruleset")?;
        close("10.42.4.0/24".parse().map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        Ok((kept, nft("list ruleset")?))
    });
    netns::delete(&name).unwrap();
    let (kept, other) = outcome.unwrap();
    assert!(kept.contains("10.42.3.9 : accept"), "{kept}");
    assert!(!other.contains("10.42.3") && other.contains("10.42.4.0/24"), "another pod network begins anew: {other}");
}
