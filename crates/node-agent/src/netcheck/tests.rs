//! Two nodes' namespaces on one bridge, with the real plugin.

use super::*;
use crate::cni::{NetConf, Paths};
use std::path::Path;

fn paths(dir: &Path) -> Paths {
    Paths { bin_dir: dir.join("bin"), conf_dir: dir.join("conf") }
}

#[test]
fn checks_are_read_or_refused() {
    assert_eq!(calls("check=pod,n2,10.42.1.7:10999&x=y&check=dns,a.b.,10.43.0.10:53").unwrap().len(), 2);
    for wrong in ["check=pod,n2", "check=pod,n2,nowhere", "check=all,n2,10.42.1.7:1"] {
        assert!(calls(wrong).is_none(), "{wrong}");
    }
}

/// Within a namespace that plays the node.
async fn scenario(dir: PathBuf, node: String) -> io::Result<(Vec<Value>, Vec<Value>, bool)> {
    let conf = NetConf {
        cni_version: "1.0.0".into(),
        name: "kybern".into(),
        plugin: "kybern".into(),
        pod_cidr: "10.42.8.0/24".parse().map_err(io::Error::other)?,
        mtu: 1450,
        data_dir: dir.clone(),
    };
    cni::install(&paths(&dir), Path::new("/nonexistent"), &conf)?;
    let check = NetCheck::new(&node, paths(&dir), ([10, 43, 0, 10].into(), "cluster.local".into()));
    let ask = async |verb: &str, query: &str| check.serve(verb, query).await.map_err(io::Error::other);
    let address = ask("begin", "").await?["address"].as_str().unwrap_or_default().to_owned();
    assert_eq!(ask("begin", "").await?["address"], address.as_str(), "begun twice is begun once");
    let own = format!("check=pod,{node},{address}:{PORT}&check=pod,other,{address}:{PORT}&check=port,x,{address}:9");
    let found = ask("call", &own).await?;
    ask("end", "").await?;
    let gone = ask("call", "check=port,x,10.42.8.1:9").await?;
    let left = netns::exists(&format!("kybern-check-{node}")) || dir.join("addresses").join(&address).exists();
    let list = |v: Value| v.as_array().cloned().unwrap_or_default();
    Ok((list(found), list(gone), left))
}

#[test]
fn a_namespace_answers_and_goes() {
    let node = format!("kybern-nc-{}", std::process::id());
    netns::create(&node).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = (dir.path().to_owned(), node.clone());
    let outcome = netns::run_in_async(&netns::path(&node), || scenario(path, name));
    netns::delete(&node).unwrap();
    let (found, gone, left) = outcome.unwrap();
    assert_eq!(found, [Value::Null, "TCP: somebody else answers".into(), "TCP: refused".into()]);
    assert!(gone[0].is_string() && !left, "{gone:?}");
}
