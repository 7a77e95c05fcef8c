//! A vault that is gone for a while, with runs under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::ids::SecretName;
use strongroom::vault::Operator;
use strongroom::vault::cache::Settings;

use crate::support::KeyVault;
use crate::support::azure::Gate;
use crate::support::inside::{Inside, Seen};

/// What the vault says with its errors.
const MARKER: &str = "a text of the vault's that no component is to see";

/// How long the vault is gone, at least.
const OUTAGE: Duration = Duration::from_secs(30);

/// Runs of each host that are under way when the vault goes, and that begin while it is gone.
const UNDER_WAY: usize = 60;
const LATE: usize = 40;

/// `warm-*` are the same secrets as `during-*`, by names for which no run waits.
const POLICY: &str = r#"version = 1
[secrets]
before = ["get"]
during-0 = ["get"]
during-1 = ["get"]
during-2 = ["get"]
during-3 = ["get"]
cold = ["get"]
after = ["get"]
probe = ["get"]
[limits]
time = "10m"
"#;

const WARM: &str = r#"version = 1
[secrets]
warm-0 = { allow = ["get"], stored-as = "during-0" }
warm-1 = { allow = ["get"], stored-as = "during-1" }
warm-2 = { allow = ["get"], stored-as = "during-2" }
warm-3 = { allow = ["get"], stored-as = "during-3" }
"#;

/// What the runs ask for: each the line of one of these, in turn.
const ASKS: [&[&str]; 4] = [
    &["len=before", "len=during-0", "len=cold", "len=after"],
    &["len=before", "len=during-1", "len=cold", "len=after"],
    &["len=before", "len=during-2", "len=cold", "len=after"],
    &["len=before", "len=during-3", "len=cold", "len=after"],
];

struct World {
    inside: Inside,
    gate: Arc<Gate>,
    runs: Vec<tokio::task::JoinHandle<Seen>>,
}

impl World {
    /// A host whose cache lets values grow old quickly, and serves them for a while longer or not.
    fn new(server: &KeyVault, grace: Duration) -> Self {
        let settings = Settings { time_to_live: Duration::from_secs(1), grace, ..Settings::default() };
        let gate = Gate::new(server.cached(settings), &["during", "after"]);
        let room = u32::try_from(UNDER_WAY + LATE + 1).unwrap();
        Self { inside: Inside::around(Arc::clone(&gate) as _, room), gate, runs: Vec::new() }
    }

    fn start(&mut self) {
        let run = self.inside.start("exercise", POLICY, ASKS[self.runs.len() % ASKS.len()]);
        self.runs.push(self.inside.runtime().spawn(run));
    }

    fn gathered(&self, name: &str, count: usize) {
        self.inside.runtime().block_on(self.gate.gathered(name, count));
    }

    /// Returns when the vault serves this host again.
    fn wait_until_served(&self) {
        for _ in 0..240 {
            let seen = self.inside.run("exercise", POLICY, &["len=probe"]).finished();
            if seen.shown.contains("len probe: ok") {
                return;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        panic!("the vault is back, and the host has not noticed for a minute");
    }

    /// The runs' ends, in the order of their starts. Nothing of the vault's texts is in them.
    fn ends(&mut self) -> Vec<(Seen, Vec<Value>)> {
        let runs = std::mem::take(&mut self.runs);
        let ended = runs.into_iter().map(|run| {
            let seen = self.inside.runtime().block_on(run).expect("no run panics").finished();
            let events = self.inside.events(&seen.record);
            let all = format!("{}{}{}", seen.shown, serde_json::to_string(&seen.record).unwrap(), json!(events));
            assert!(!all.contains(MARKER), "{all}");
            assert_eq!(events.last().unwrap()["event"], "run-end");
            (seen, events)
        });
        ended.collect()
    }
}

/// What the audit says of the use of a secret.
fn outcome<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let is_it = |event: &&Value| event["secret"] == name && !event["outcome"].is_null();
    events.iter().rfind(is_it).unwrap_or_else(|| panic!("nothing about `{name}` in {events:?}"))
}

/// Everything fails, in one of several ways.
fn fail(server: &KeyVault) {
    let some = |what: Value| server.fault(&json!({"what": what, "probability": 0.2}));
    some(json!({"kind": "status", "code": 429, "message": MARKER}));
    some(json!({"kind": "throttle", "retry-after": 1}));
    some(json!({"kind": "reset"}));
    some(json!({"kind": "reset", "after": 20}));
    some(json!({"kind": "status", "code": 500, "message": MARKER}));
    server.fault(&json!({"what": {"kind": "status", "code": 503, "message": MARKER}}));
}

// promise: A stale value is served only while the vault cannot be reached and the grace period
// lasts, and the audit log marks it.
// attack: vault: show text to a component in an error -> upstream text is shown to the operator
// only
#[test]
fn two_hundred_runs_outlast_a_vault_that_is_gone_for_half_a_minute() {
    let server = KeyVault::start();
    for name in ["before", "during-0", "during-1", "during-2", "during-3", "cold", "after", "probe"] {
        server.put(name, &json!({"value": format!("the value of {name}")}));
    }
    let mut worlds = [World::new(&server, Duration::from_secs(3600)), World::new(&server, Duration::ZERO)];
    for world in &mut worlds {
        let warm = world.inside.run("exercise", WARM, &["len=warm-0", "len=warm-1", "len=warm-2", "len=warm-3"]);
        warm.finished().shows("len warm-3: ok");
        (0..UNDER_WAY).for_each(|_| world.start());
    }
    worlds.iter().for_each(|world| world.gathered("during", UNDER_WAY));
    // What was read so far is older than the cache would serve from here on.
    std::thread::sleep(Duration::from_millis(1200));

    let gone = Instant::now();
    fail(&server);
    worlds.iter().for_each(|world| world.gate.open("during"));
    for late in 0..LATE {
        match late {
            n if n == LATE / 3 => server.listen("vault", false),
            n if n == 2 * LATE / 3 => server.listen("vault", true),
            _ => {}
        }
        worlds.iter_mut().for_each(World::start);
        std::thread::sleep(OUTAGE / u32::try_from(LATE).unwrap());
    }
    worlds.iter().for_each(|world| world.gathered("after", UNDER_WAY + LATE));
    let counters = server.counters();
    assert!(gone.elapsed() >= OUTAGE);
    server.no_faults();
    for kind in ["throttle", "reset", "status"] {
        assert!(counters["faults"][kind].as_u64() > Some(0), "{counters}");
    }

    // It is back when each host has noticed.
    for world in &worlds {
        world.wait_until_served();
        world.gate.open("after");
    }
    let [with, without] = &mut worlds;
    let unavailable = "error: unavailable: the vault cannot serve now";
    for (at, (seen, events)) in with.ends().into_iter().enumerate() {
        let during = format!("during-{}", at % ASKS.len());
        let seen = seen.shows("len before: ok: 19").shows(&format!("len {during}: ok: 21"));
        seen.shows(&format!("len cold: {unavailable}")).shows("len after: ok: 18");
        let overdue = outcome(&events, &during);
        assert_eq!(overdue["detail"]["cache"], "overdue: the vault cannot be reached", "{overdue}");
        assert_eq!(outcome(&events, "cold")["outcome"], "failed: the vault cannot be reached");
        assert_ne!(outcome(&events, "after")["detail"]["cache"], overdue["detail"]["cache"]);
    }
    for (at, (seen, events)) in without.ends().into_iter().enumerate() {
        let during = format!("during-{}", at % ASKS.len());
        let seen = seen.shows(&format!("len {during}: {unavailable}")).shows(&format!("len cold: {unavailable}"));
        seen.shows("len after: ok: 18");
        for name in [&during, "cold"] {
            assert_eq!(outcome(&events, name)["outcome"], "failed: the vault cannot be reached");
        }
    }
    println!("the vault was gone for {:.1?}; {counters}", gone.elapsed());

    // The text that was looked for does reach the operator.
    server.fault(&json!({"what": {"kind": "status", "code": 403, "message": MARKER}}));
    let (vault, name) = (server.vault(), SecretName::parse("probe").unwrap());
    let error = with.inside.runtime().block_on(Operator::get(&vault, &name, None)).unwrap_err();
    assert!(error.to_string().contains(MARKER), "{error}");
}
