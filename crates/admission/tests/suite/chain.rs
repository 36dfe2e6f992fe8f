//! Order and switches.

use kybern_admission::{Chain, Error, Switches};

fn switches(enable: &[&str], disable: &[&str]) -> Switches {
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Switches { enable: list(enable), disable: list(disable), ..Switches::default() }
}

#[test]
fn plugins_run_in_kubernetes_order() {
    let names = Chain::new(&Switches::default()).expect("a chain").names();
    let place = |name: &str| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{name} runs"));
    let order = [
        "NamespaceLifecycle",
        "LimitRanger",
        "ServiceAccount",
        "NodeRestriction",
        "TaintNodesByCondition",
        "Priority",
        "DefaultTolerationSeconds",
        "DefaultStorageClass",
        "StorageObjectInUseProtection",
        "PersistentVolumeClaimResize",
        "RuntimeClass",
        "CertificateApproval",
        "CertificateSigning",
        "CertificateSubjectRestriction",
        "DefaultIngressClass",
        "DenyServiceExternalIPs",
        "PodTopologyLabels",
        "ResourceQuota",
    ];
    assert!(order.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{names:?}");
    assert_eq!(names.last(), Some(&"ResourceQuota"), "what is refused elsewhere is not counted");
    assert!(!names.contains(&"AlwaysPullImages"), "it is off by default");
}

#[test]
fn switches_name_plugins_and_off_wins() {
    let names = |s: &Switches| Chain::new(s).expect("a chain").names();
    assert!(!names(&switches(&[], &["Priority"])).contains(&"Priority"));
    assert!(!names(&switches(&["Priority"], &["Priority"])).contains(&"Priority"));
    assert!(names(&switches(&["Priority"], &[])).contains(&"Priority"));
    assert_eq!(Chain::new(&switches(&[], &["priority"])).err(), Some(Error::UnknownPlugin("priority".into())));
    let unlimited = Chain::new(&switches(&["EventRateLimit"], &[])).err();
    assert_eq!(unlimited, Some(Error::NotConfigured("EventRateLimit")));
}
