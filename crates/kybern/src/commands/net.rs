//! `kybern net check`: does every node's pod network reach what it should? The agents call each other, services,
//! DNS and the outside from namespaces that are wired like pods'; here is decided what to call, and what it
//! comes to.

use super::identity::{ask, list};
use crate::cli::NetCommand;
use anyhow::{Context, Result, bail};
use futures::future::join_all;
use kybern_api::error::Status;
use kybern_client::http::HttpTransport;
use kybern_client::transport::Resource;
use serde_json::Value;
use std::net::SocketAddrV4;
use std::path::Path;

/// Runs `kybern net`.
///
/// # Errors
/// When something is broken, or the cluster cannot be asked.
pub fn run(command: NetCommand) -> Result<()> {
    let NetCommand::Check { outside, kubeconfig } = command;
    let nodes = nodes(&kubeconfig)?;
    let places = ask(&kubeconfig, async |t| Ok(begin(t, &nodes).await))?;
    let services = services(&kubeconfig, outside)?;
    let plans: Vec<Vec<Check>> = places.iter().map(|p| checks(p, &places, &services)).collect();
    let outcomes = ask(&kubeconfig, async |t| Ok(call(t, &places, &plans).await));
    // The namespaces go away by themselves too.
    let ended = ask(&kubeconfig, async |t| {
        end(t, &places).await;
        Ok(())
    });
    let lines = judge(&places, &plans, outcomes?);
    ended?;
    for line in &lines {
        println!("{line}");
    }
    match lines.iter().filter(|line| line.starts_with(FAIL)).count() {
        0 => Ok(()),
        n => bail!("{n} checks failed"),
    }
}

const FAIL: &str = "FAIL";

/// A node, and its namespace or why there is none.
struct Place {
    node: String,
    /// The node's own address.
    address: String,
    /// Address and port that the namespace answers at.
    at: Result<String, String>,
    /// A name that the cluster's DNS knows, and the DNS' address.
    dns: (String, String),
    /// What the agent knows to be wrong.
    wrong: Vec<String>,
}

/// One call: what it is in words, and to the agent.
#[derive(Clone)]
struct Check {
    what: String,
    /// The node that is called, if it is one.
    to: Option<String>,
    query: String,
}

/// A node's answers: what was wrong with each call, if anything.
type Outcome = Result<Vec<Option<String>>, String>;

fn nodes(kubeconfig: &Path) -> Result<Vec<(String, String)>> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let address = |node: &Value| {
        let all = node["status"]["addresses"].as_array().into_iter().flatten();
        all.clone().find(|a| a["type"] == "InternalIP").map(|a| text(&a["address"])).unwrap_or_default()
    };
    let nodes = list(kubeconfig, &Resource::new("", "v1", "nodes"))?;
    Ok(nodes.iter().map(|n| (text(&n["metadata"]["name"]), address(n))).collect())
}

/// What every namespace calls besides the others and DNS.
fn services(kubeconfig: &Path, outside: Option<SocketAddrV4>) -> Result<Vec<Check>> {
    let all = list(kubeconfig, &Resource::new("", "v1", "services"))?;
    let api = all.iter().find(|s| s["metadata"]["namespace"] == "default" && s["metadata"]["name"] == "kubernetes");
    let api = api.and_then(|s| s["spec"]["clusterIP"].as_str()).context("there is no service kubernetes")?;
    let check = |what: String, query: String| Check { what, to: None, query };
    let mut checks = vec![check("the service kubernetes".into(), format!("port,kubernetes,{api}:443"))];
    checks.extend(outside.map(|to| check(format!("{to} outside"), format!("port,outside,{to}"))));
    Ok(checks)
}

fn path(node: &str, verb: &str) -> String {
    format!("/api/v1/nodes/{node}/proxy/netcheck/{verb}")
}

async fn begin(t: &HttpTransport, nodes: &[(String, String)]) -> Vec<Place> {
    join_all(nodes.iter().map(async |(node, address)| {
        let begun = get(t, &path(node, "begin")).await;
        let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
        let at = begun.as_ref().map(|v| format!("{}:{}", text(v, "address"), v["port"]));
        let dns = begun.as_ref().map(|v| (format!("kubernetes.default.svc.{}.", text(v, "domain")), text(v, "dns")));
        let wrong = begun.as_ref().ok().and_then(|v| v["wrong"].as_array()).into_iter().flatten();
        let wrong = wrong.filter_map(|w| w.as_str().map(str::to_owned)).collect();
        let (at, dns) = (at.map_err(Clone::clone), dns.unwrap_or_default());
        Place { node: node.clone(), address: address.clone(), at, dns, wrong }
    }))
    .await
}

async fn call(t: &HttpTransport, places: &[Place], plans: &[Vec<Check>]) -> Vec<Outcome> {
    join_all(places.iter().zip(plans).map(async |(place, plan)| {
        if plan.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(plan.iter().map(|c| ("check", &c.query)));
        let answer = get(t, &format!("{}?{}", path(&place.node, "call"), query.finish())).await?;
        let wrong = answer.as_array().into_iter().flatten().map(|w| w.as_str().map(str::to_owned));
        let wrong: Vec<_> = wrong.collect();
        if wrong.len() == plan.len() { Ok(wrong) } else { Err("the agent's answer is cut short".into()) }
    }))
    .await
}

async fn end(t: &HttpTransport, places: &[Place]) {
    join_all(places.iter().filter(|p| p.at.is_ok()).map(async |p| get(t, &path(&p.node, "end")).await)).await;
}

async fn get(t: &HttpTransport, path: &str) -> Result<Value, String> {
    let body = t.get_raw(path).await.map_err(|s: Status| s.message)?;
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}

/// What one node calls: every node's namespace, its own first, then the services.
fn checks(place: &Place, places: &[Place], services: &[Check]) -> Vec<Check> {
    if place.at.is_err() {
        return Vec::new();
    }
    let pods = places.iter().filter_map(|p| {
        let at = p.at.as_ref().ok()?;
        let (what, query) = (format!("pods of {}", p.node), format!("pod,{},{at}", p.node));
        Some(Check { what, to: Some(p.node.clone()), query })
    });
    let (own, others): (Vec<_>, Vec<_>) = pods.partition(|c| c.to.as_ref() == Some(&place.node));
    let (name, dns) = &place.dns;
    let dns = Check { what: format!("DNS for {name}"), to: None, query: format!("dns,{name},{dns}:53") };
    own.into_iter().chain(others).chain([dns]).chain(services.iter().cloned()).collect()
}

/// One line for each check, and what the failures have in common.
fn judge(places: &[Place], plans: &[Vec<Check>], outcomes: Vec<Outcome>) -> Vec<String> {
    let mut lines = Vec::new();
    for ((place, plan), outcome) in places.iter().zip(plans).zip(outcomes) {
        let node = &place.node;
        let fail = |what: &str, why: &str| format!("{FAIL}  {node}: {what}: {why}");
        lines.extend(place.wrong.iter().map(|wrong| fail("settings", wrong)));
        let wrong = match place.at.clone().and(outcome) {
            Ok(wrong) => wrong,
            Err(e) => {
                lines.push(fail("the agent", &e));
                continue;
            }
        };
        for (check, wrong) in plan.iter().zip(wrong) {
            lines.push(match wrong {
                None => format!("pass  {node}: {}", check.what),
                Some(why) => fail(&check.what, &(why + &hint(place, check, places))),
            });
        }
    }
    lines
}

/// Where to look when a node's pods do not answer another's.
fn hint(from: &Place, check: &Check, places: &[Place]) -> String {
    let Some(to) = check.to.as_ref().and_then(|to| places.iter().find(|p| p.node == *to)) else {
        return String::new();
    };
    if to.node == from.node {
        return "; is there a firewall on this node?".into();
    }
    let (here, there) = (&from.address, &to.address);
    format!("; UDP 8472 (VXLAN) must pass between {here} and {there}, with host-gw the pods' own addresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(node: &str, at: Result<&str, &str>) -> Place {
        let at = at.map(str::to_owned).map_err(str::to_owned);
        let dns = ("k.".into(), "10.43.0.10".into());
        Place { node: node.into(), address: format!("addr-{node}"), at, dns, wrong: Vec::new() }
    }

    #[test]
    fn every_pair_is_called_and_each_failure_says_where_to_look() {
        let mut places = [place("a", Ok("10.0.0.2:1")), place("b", Ok("10.0.1.2:1")), place("c", Err("gone"))];
        places[0].wrong.push("ip_forward is not 1".into());
        let services = [Check { what: "api".into(), to: None, query: "port,x,y".into() }];
        let plans: Vec<_> = places.iter().map(|p| checks(p, &places, &services)).collect();
        let queries: Vec<_> = plans[1].iter().map(|c| c.query.as_str()).collect();
        assert_eq!(queries, ["pod,b,10.0.1.2:1", "pod,a,10.0.0.2:1", "dns,k.,10.43.0.10:53", "port,x,y"]);
        let outcomes =
            vec![Ok(vec![None, Some("TCP: no answer".into()), None, None]), Err("cut off".into()), Ok(Vec::new())];
        let vxlan = "UDP 8472 (VXLAN) must pass between addr-a and addr-b, with host-gw the pods' own addresses";
        assert_eq!(
            judge(&places, &plans, outcomes),
            [
                "FAIL  a: settings: ip_forward is not 1".to_owned(),
                "pass  a: pods of a".into(),
                format!("FAIL  a: pods of b: TCP: no answer; {vxlan}"),
                "pass  a: DNS for k.".into(),
                "pass  a: api".into(),
                "FAIL  b: the agent: cut off".into(),
                "FAIL  c: the agent: gone".into(),
            ]
        );
    }
}
