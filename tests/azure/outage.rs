//! An outage of the vault while runs are in progress.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::ids::SecretName;
use strongroom::vault::Operator;
use strongroom::vault::cache::Settings;

use crate::support::KeyVault;
use crate::support::azure::Gate;
use crate::support::in_process::{InProcessHost, InProcessRun};

/// A text in the vault's errors.
const MARKER: &str = "text of the vault that no component may see";

/// The minimum duration of the outage.
const OUTAGE: Duration = Duration::from_secs(30);

/// Runs of each host that are in progress when the outage starts, and that start during it.
const IN_PROGRESS: usize = 60;
const LATE: usize = 40;

/// `warm-*` are the same secrets as `during-*`, under names for which runs do not wait.
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

/// The reads of the runs; run `n` takes the steps `n % 4`.
const STEPS: [&[&str]; 4] = [
    &["len=before", "len=during-0", "len=cold", "len=after"],
    &["len=before", "len=during-1", "len=cold", "len=after"],
    &["len=before", "len=during-2", "len=cold", "len=after"],
    &["len=before", "len=during-3", "len=cold", "len=after"],
];

struct TestHost {
    host: InProcessHost,
    gate: Arc<Gate>,
    runs: Vec<tokio::task::JoinHandle<InProcessRun>>,
}

impl TestHost {
    /// Creates a host whose cache entries become stale quickly and are served for `grace` longer.
    fn new(server: &KeyVault, grace: Duration) -> Self {
        let settings = Settings { time_to_live: Duration::from_secs(1), grace, ..Settings::default() };
        let gate = Gate::new(server.cached(settings), &["during", "after"]);
        let max_runs = u32::try_from(IN_PROGRESS + LATE + 1).unwrap();
        Self { host: InProcessHost::with_vault(Arc::clone(&gate) as _, max_runs), gate, runs: Vec::new() }
    }

    fn start(&mut self) {
        let run = self.host.start("exercise", POLICY, STEPS[self.runs.len() % STEPS.len()]);
        self.runs.push(self.host.runtime().spawn(run));
    }

    fn wait_for_arrivals(&self, name: &str, count: usize) {
        self.host.runtime().block_on(self.gate.wait_for_arrivals(name, count));
    }

    /// Waits until the vault serves this host again.
    fn wait_until_served(&self) {
        for _ in 0..240 {
            let run = self.host.run("exercise", POLICY, &["len=probe"]).finished();
            if run.shown.contains("len probe: ok") {
                return;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        panic!("the host has not noticed for a minute that the vault works again");
    }

    /// Returns the ended runs in the order of their starts. Asserts that none contains text of the
    /// vault.
    fn ended_runs(&mut self) -> Vec<(InProcessRun, Vec<Value>)> {
        let runs = std::mem::take(&mut self.runs);
        let ended = runs.into_iter().map(|run| {
            let run = self.host.runtime().block_on(run).expect("no run panics").finished();
            let events = self.host.events(&run.record);
            let all = format!("{}{}{}", run.shown, serde_json::to_string(&run.record).unwrap(), json!(events));
            assert!(!all.contains(MARKER), "{all}");
            assert_eq!(events.last().unwrap()["event"], "run-end");
            (run, events)
        });
        ended.collect()
    }
}

/// Returns the last audit event with an outcome for a secret.
fn outcome<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let matches = |event: &&Value| event["secret"] == name && !event["outcome"].is_null();
    events.iter().rfind(matches).unwrap_or_else(|| panic!("nothing about `{name}` in {events:?}"))
}

/// Makes all requests fail, in one of several ways.
fn fail(server: &KeyVault) {
    let sometimes = |what: Value| server.fault(&json!({"what": what, "probability": 0.2}));
    sometimes(json!({"kind": "status", "code": 429, "message": MARKER}));
    sometimes(json!({"kind": "throttle", "retry-after": 1}));
    sometimes(json!({"kind": "reset"}));
    sometimes(json!({"kind": "reset", "after": 20}));
    sometimes(json!({"kind": "status", "code": 500, "message": MARKER}));
    server.fault(&json!({"what": {"kind": "status", "code": 503, "message": MARKER}}));
}

// promise: A stale value is served only while the vault cannot be reached and the grace period
// lasts, and the audit log marks it.
// attack: vault: show text to a component in an error -> upstream text is shown to the operator
// only
#[test]
fn two_hundred_runs_survive_a_vault_outage() {
    let server = KeyVault::start();
    for name in ["before", "during-0", "during-1", "during-2", "during-3", "cold", "after", "probe"] {
        server.put(name, &json!({"value": format!("the value of {name}")}));
    }
    let mut hosts = [TestHost::new(&server, Duration::from_secs(3600)), TestHost::new(&server, Duration::ZERO)];
    for host in &mut hosts {
        let warm = host.host.run("exercise", WARM, &["len=warm-0", "len=warm-1", "len=warm-2", "len=warm-3"]);
        warm.finished().shows("len warm-3: ok");
        (0..IN_PROGRESS).for_each(|_| host.start());
    }
    hosts.iter().for_each(|host| host.wait_for_arrivals("during", IN_PROGRESS));
    // From here on, the cached values are stale.
    std::thread::sleep(Duration::from_millis(1200));

    let started = Instant::now();
    fail(&server);
    hosts.iter().for_each(|host| host.gate.open("during"));
    for late in 0..LATE {
        match late {
            n if n == LATE / 3 => server.listen("vault", false),
            n if n == 2 * LATE / 3 => server.listen("vault", true),
            _ => {}
        }
        hosts.iter_mut().for_each(TestHost::start);
        std::thread::sleep(OUTAGE / u32::try_from(LATE).unwrap());
    }
    hosts.iter().for_each(|host| host.wait_for_arrivals("after", IN_PROGRESS + LATE));
    let counters = server.counters();
    assert!(started.elapsed() >= OUTAGE);
    server.clear_faults();
    for kind in ["throttle", "reset", "status"] {
        assert!(counters["faults"][kind].as_u64() > Some(0), "{counters}");
    }

    // The outage is over once each host has noticed.
    for host in &hosts {
        host.wait_until_served();
        host.gate.open("after");
    }
    let [with, without] = &mut hosts;
    let unavailable = "error: unavailable: the vault cannot serve now";
    for (index, (run, events)) in with.ended_runs().into_iter().enumerate() {
        let during = format!("during-{}", index % STEPS.len());
        let run = run.shows("len before: ok: 19").shows(&format!("len {during}: ok: 21"));
        run.shows(&format!("len cold: {unavailable}")).shows("len after: ok: 18");
        let overdue = outcome(&events, &during);
        assert_eq!(overdue["detail"]["cache"], "overdue: the vault cannot be reached", "{overdue}");
        assert_eq!(outcome(&events, "cold")["outcome"], "failed: the vault cannot be reached");
        assert_ne!(outcome(&events, "after")["detail"]["cache"], overdue["detail"]["cache"]);
    }
    for (index, (run, events)) in without.ended_runs().into_iter().enumerate() {
        let during = format!("during-{}", index % STEPS.len());
        let run = run.shows(&format!("len {during}: {unavailable}")).shows(&format!("len cold: {unavailable}"));
        run.shows("len after: ok: 18");
        for name in [&during, "cold"] {
            assert_eq!(outcome(&events, name)["outcome"], "failed: the vault cannot be reached");
        }
    }
    println!("the outage lasted {:.1?}; {counters}", started.elapsed());

    // The operator does see the vault's text.
    server.fault(&json!({"what": {"kind": "status", "code": 403, "message": MARKER}}));
    let (vault, name) = (server.vault(), SecretName::parse("probe").unwrap());
    let error = with.host.runtime().block_on(Operator::get(&vault, &name, None)).unwrap_err();
    assert!(error.to_string().contains(MARKER), "{error}");
}
