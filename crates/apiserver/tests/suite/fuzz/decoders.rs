//! The decoders by themselves, with what follows them on the way of a write: no panic, no hang, an error
//! that is a Status, and what was accepted is read back as what it is.

use super::mutate::{self, Random};
use super::{Input, Run, Watched};
use kybern_api::codec::{self, BodyType, FieldValidation};
use kybern_api::kind::Context;
use kybern_api::meta::quantity::Quantity;
use kybern_api::meta::selector::{FieldSelector, Selector};
use kybern_api::meta::time;
use kybern_api::schedule::{Schedule, zone};
use kybern_api::validate;
use serde_json::{Value, json};

/// Inputs of the short round.
const SHORT: u64 = 3_000;

#[test]
fn decoders_take_anything() {
    let mut run = Run::new(SHORT);
    while run.goes_on() {
        let (mut input, other) = (run.pick(), run.pick());
        let answer = match run.random.below(8) {
            0 | 1 => {
                mutate::tree(&mut input.tree, &other.tree, &mut run.random);
                let bytes = input.tree.to_string().into_bytes();
                body(&input, BodyType::Json, &bytes)
            }
            2 => {
                let mut bytes = input.tree.to_string().into_bytes();
                mutate::bytes(&mut bytes, other.tree.to_string().as_bytes(), &mut run.random);
                body(&input, BodyType::Json, &bytes)
            }
            3 => {
                mutate::tree(&mut input.tree, &other.tree, &mut run.random);
                let bytes = codec::to_yaml(&input.tree).expect("YAML").into_bytes();
                body(&input, BodyType::Yaml, &bytes)
            }
            4 => {
                let mut bytes = codec::to_yaml(&input.tree).expect("YAML").into_bytes();
                mutate::bytes(&mut bytes, b"&a *a - : [{}]|>!!binary\n  \t#%@`", &mut run.random);
                body(&input, BodyType::Yaml, &bytes)
            }
            5 => {
                mutate::bytes(&mut input.bytes, &other.bytes, &mut run.random);
                let bytes = input.bytes.clone();
                body(&input, BodyType::Protobuf, &bytes)
            }
            6 => {
                mutate::tree(&mut input.tree, &other.tree, &mut run.random);
                config(&input)
            }
            _ => words(&input, &mut run.random),
        };
        run.learn(input, &answer);
    }
    run.report("decoders");
}

/// A body, and everything that is done with it before it is stored.
fn body(input: &Input, media: BodyType, bytes: &[u8]) -> String {
    let def = input.def;
    let _watched = Watched::new(&def.kind, bytes);
    let version = def.served.last().expect("a version");
    let tree = match codec::decode_body(media, bytes, def, version, FieldValidation::Warn) {
        Ok(decoded) => decoded.tree,
        Err(status) => {
            assert!(matches!(status.code, 400 | 415), "{status}");
            return format!("{media:?} {status}");
        }
    };
    let ctx = Context { def, subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
    let mut new = tree.clone();
    def.strategy.prepare(&ctx, &mut new, None);
    let mut causes = Vec::new();
    validate::metadata(&ctx, &new, None, &mut causes);
    def.strategy.validate(&ctx, &new, None, &mut causes);
    let mut changed = tree.clone();
    def.strategy.prepare(&ctx, &mut changed, Some(&input.tree));
    def.strategy.validate(&ctx, &changed, Some(&input.tree), &mut Vec::new());
    drop(def.strategy.warnings(&ctx, &new, None));
    drop(def.strategy.slots(&new));
    drop(def.strategy.usage(def, &new));
    let encoded = codec::encode(def, &new);
    assert_eq!(def.strategy.cells(def, &new, &encoded.head, ctx.now).len(), def.columns.len());
    let stored = codec::decode_stored(&codec::stamp(&encoded, 7), def).expect("what was written is read");
    assert_eq!(
        stored.get("spec"),
        {
            def.strategy.default(&mut new);
            new.get("spec")
        },
        "what is read is what was written"
    );
    through_protobuf(input, &new);
    causes.first().map_or_else(|| format!("accepted {}", def.kind), |c| format!("{} {}", c.field, c.message))
}

/// What is accepted in any form has one as a message, and is the same after the second time.
fn through_protobuf(input: &Input, tree: &Value) {
    let (def, version) = (input.def, &input.def.served[0]);
    let there = |tree: Value| {
        let Ok(Some(bytes)) = codec::to_protobuf(&codec::served_tree(def, version, tree)) else { return None };
        let back = codec::decode_body(BodyType::Protobuf, &bytes, def, version, FieldValidation::Strict);
        Some(back.expect("a message of ours is read").tree)
    };
    if let Some(once) = there(tree.clone()) {
        assert_eq!(there(once.clone()), Some(once), "{}", def.kind);
    }
}

fn config(input: &Input) -> String {
    let mut tree = input.tree.clone();
    if let Some(object) = tree.as_object_mut() {
        object.insert("kind".into(), input.def.kind.as_str().into());
        object.insert("apiVersion".into(), input.def.api_version(&input.def.served[0]).into());
    }
    let text = codec::to_yaml(&tree).expect("YAML");
    let _watched = Watched::new("an apply", text.as_bytes());
    match codec::decode_config(text.as_bytes(), input.def, &input.def.served[0], FieldValidation::Strict) {
        Ok(decoded) => format!("apply {}", decoded.warnings.len()),
        Err(status) => {
            assert_eq!(status.code, 400);
            format!("apply {status}")
        }
    }
}

/// Texts that are small languages.
fn words(input: &Input, random: &mut Random) -> String {
    const GOOD: &[&str] = &[
        "a=b,c in (d,e),!f",
        "a>5,b<6,c!=d",
        "metadata.name=x,metadata.namespace!=y",
        "spec.nodeName=a\\,b",
        "1500m",
        "1.5Gi",
        "2e3",
        "2026-01-02T03:04:05.678901+02:00",
        "*/5 1-3,7 * JAN-MAR mon",
        "@every 90s",
        "Europe/Berlin",
        "a/b",
        "10.0.0.0/8",
    ];
    let text = mutate::text(random.of::<&str>(GOOD), random);
    let text = mutate::text(&text, random);
    let _watched = Watched::new("words", text.as_bytes());
    let labels = Selector::parse(&text);
    let fields = FieldSelector::parse(input.def, &text);
    let quantity = text.parse::<Quantity>();
    if let Ok(quantity) = &quantity {
        let again: Quantity = quantity.to_string().parse().expect("its own form");
        assert_eq!(again, *quantity, "{text}");
        assert_eq!(again.to_string(), quantity.to_string(), "{text}");
    }
    if let Ok(selector) = &labels {
        let again = Selector::parse(&selector.to_string()).expect("its own form");
        assert_eq!(again.to_string(), selector.to_string(), "{text}");
    }
    let at = time::parse(&text);
    let schedule = Schedule::parse(&text);
    if let (Ok(schedule), Ok(zone)) = (&schedule, zone("Europe/Berlin")) {
        let next = schedule.next(jiff::Timestamp::UNIX_EPOCH, &zone);
        assert!(next.is_none_or(|at| at > jiff::Timestamp::UNIX_EPOCH), "{text}");
    }
    let object =
        Selector::from_object(Some(&json!({"matchExpressions": [{"key": text, "operator": "In", "values": [text]}]})));
    let told = |e: Option<String>| e.unwrap_or_else(|| "fine".into());
    format!(
        "{} | {} | {} | {} | {} | {} | {}",
        told(labels.err()),
        told(fields.err()),
        told(quantity.err().map(|e| e.to_string())),
        at.is_some(),
        told(schedule.err()),
        told(object.err()),
        zone(&text).is_ok(),
    )
}
