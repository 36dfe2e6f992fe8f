//! Structure-aware fuzzing of every decoder and of whole requests.
//!
//! A run starts from the objects of the kinds' golden files, breaks them in ways that know what a tree, a
//! text or a message is, and keeps whatever was answered in a way not seen before: that is what it goes on
//! from. Without variables it is a short round with a fixed seed. `cargo xtask soak fuzz` runs it for long:
//! `KYBERN_FUZZ_SECONDS` says how long, `KYBERN_FUZZ_SEED` with which seed.

mod decoders;
mod mutate;
mod requests;

use kybern_api::kind::{KindDef, Support};
use kybern_api::{codec, kinds};
use mutate::Random;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Inputs that are kept at most.
const CORPUS_MAX: usize = 4_000;
/// One input may take this long; unoptimised code on a busy machine takes several times what it should.
const SLOW: Duration = Duration::from_secs(5);
/// The process may grow by this much, in bytes.
const GROWTH_MAX: u64 = 512 << 20;

/// One input, of a kind.
#[derive(Clone)]
struct Input {
    def: &'static KindDef,
    tree: Value,
    bytes: Vec<u8>,
}

/// What there is to start from, what was kept, and how far a run has come.
struct Run {
    random: Random,
    seeds: Vec<Input>,
    kept: Vec<Input>,
    shapes: BTreeSet<String>,
    executions: u64,
    least: u64,
    until: Instant,
    memory: u64,
}

impl Run {
    /// `least` inputs, and as long as the environment says.
    fn new(least: u64) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
        let seconds = number("KYBERN_FUZZ_SECONDS").unwrap_or(0);
        Self {
            random: Random::new(number("KYBERN_FUZZ_SEED").unwrap_or(1)),
            seeds: seeds(),
            kept: Vec::new(),
            shapes: BTreeSet::new(),
            executions: 0,
            least,
            until: now() + Duration::from_secs(seconds),
            memory: resident(),
        }
    }

    /// Is there more to do?
    fn goes_on(&mut self) -> bool {
        self.executions += 1;
        self.executions <= self.least || now() < self.until
    }

    /// Something to break: what was kept more often than what was there from the start.
    fn pick(&mut self) -> Input {
        let from = if self.kept.is_empty() || self.random.one_in(3) { &self.seeds } else { &self.kept };
        let at = self.random.below(from.len());
        from[at].clone()
    }

    /// Keeps an input whose answer has a new shape.
    fn learn(&mut self, input: Input, answer: &str) {
        if self.shapes.insert(shape(answer)) && self.kept.len() < CORPUS_MAX {
            self.kept.push(input);
        }
    }

    /// What was done; and the process has not grown without bound.
    fn report(&self, what: &str) {
        let grown = resident().saturating_sub(self.memory);
        println!(
            "fuzz {what}: {} executions, corpus of {} ({} seeds, {} kept), {} shapes of answers, {} MiB more memory",
            self.executions - 1,
            self.seeds.len() + self.kept.len(),
            self.seeds.len(),
            self.kept.len(),
            self.shapes.len(),
            grown >> 20
        );
        assert!(grown < GROWTH_MAX, "grew by {grown} bytes");
        assert!(self.shapes.len() > 20, "nothing was reached");
    }
}

/// Watches over one execution: tells its input when it fails, and how long it took.
struct Watched<'a> {
    what: &'a str,
    input: &'a [u8],
    began: Instant,
}

impl<'a> Watched<'a> {
    fn new(what: &'a str, input: &'a [u8]) -> Self {
        Self { what, input, began: now() }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let slow = self.began.elapsed() > SLOW;
        if std::thread::panicking() || slow {
            eprintln!("{}: {}\n{}", self.what, String::from_utf8_lossy(self.input), hex::encode(self.input));
        }
        assert!(!slow || std::thread::panicking(), "{} took {:?}", self.what, self.began.elapsed());
    }
}

#[expect(clippy::disallowed_methods, reason = "the time that passes outside, also where tokio's stands still")]
fn now() -> Instant {
    Instant::now()
}

/// An answer without what differs between equal answers: digits, and what is quoted.
fn shape(answer: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    for c in answer.chars().take(400) {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '0'..='9' => out.push('0'),
            _ => out.push(c),
        }
    }
    out.truncate(out.char_indices().nth(160).map_or(out.len(), |(at, _)| at));
    out
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 4096
}

#[derive(serde::Deserialize)]
struct File {
    group: String,
    plural: String,
    #[serde(default)]
    base: Option<Value>,
    #[serde(default)]
    defaulted: Vec<Defaulted>,
}

#[derive(serde::Deserialize)]
struct Defaulted {
    from: Value,
    to: Value,
}

/// The objects of the kinds' golden files and cases.
fn seeds() -> Vec<Input> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests");
    let mut found = Vec::new();
    for directory in ["golden", "cases"] {
        let mut paths: Vec<_> = std::fs::read_dir(tests.join(directory))
            .expect("the files of the kinds")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("a file");
            let file: File = serde_saphyr::from_str(&text).expect("a golden file");
            let Some(def) = kinds::find(&file.group, &file.plural) else { continue };
            if def.support == Support::Withheld {
                continue;
            }
            let trees = file.base.into_iter().chain(file.defaulted.into_iter().flat_map(|d| [d.from, d.to]));
            found.extend(trees.map(|tree| input(def, tree)));
        }
    }
    assert!(found.len() > 100, "{}", found.len());
    found
}

fn input(def: &'static KindDef, mut tree: Value) -> Input {
    if tree.get("metadata").is_none() {
        tree["metadata"] = serde_json::json!({"name": "a"});
    }
    let complete = codec::served_tree(def, &def.served[0], tree.clone());
    let bytes = codec::to_protobuf(&complete).ok().flatten().unwrap_or_default();
    Input { def, tree, bytes }
}
