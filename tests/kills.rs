//! `kill -9` at random moments in the life of processes that continuously write, run or compile.
//!
//! A child is this test binary running one of the ignored tests below. It reports on its standard
//! output what it has acknowledged, one report per line. A kill happens after a random number of
//! reports and a random part of the mean time between reports, so kills land before the first piece
//! of work, in every step, and after the last, on slow and fast machines alike.

mod compiling;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom::audit::{self, Audit, Event, Expect, Kind, SyncMode, Verdict};
use strongroom::broker::Repeats;
use strongroom::ids::{RunId, SecretName};
use strongroom::policy::Policy;
use strongroom::record::{Outcome, RunRecord};
use strongroom::runner::{Runner, RunnerOptions};
use strongroom::runs::RunStore;
use strongroom::runtime::{ChildCompiler, CodeStore, Compile, Observer, Stream};
use strongroom::secret::Secret;
use strongroom::spec::RunSpec;
use strongroom::vault::cache::{Cache, Settings};
use strongroom::vault::local::{LocalVault, Protection};
use strongroom::vault::{NewSecret, Operator, VaultError};

use crate::support::in_process::compiler;
use crate::support::random::Random;
use crate::support::{Host, files_below, guest, leftovers};

/// The number of processes killed while they write, run components, and compile: more than 200 in
/// total.
const KILLED_WRITERS: usize = 110;
const KILLED_RUNNERS: usize = 70;
const KILLED_COMPILERS: usize = 30;

/// The number of changes, and of pairs of runs, that a child makes if it is not killed.
const CHANGES: u64 = 12;
const PAIRS: u64 = 2;

/// When to kill a child: after this many reports and this further delay.
struct KillMoment {
    reports: usize,
    delay: Duration,
}

/// The reports of a child, and how it ended.
struct ChildRun {
    reports: Vec<String>,
    killed: bool,
    /// The mean time between reports.
    gap: Duration,
}

impl ChildRun {
    /// Starts a child, and kills it at the given moment, if any.
    fn start(test: &str, host: &Host, seed: u64, moment: Option<&KillMoment>) -> Self {
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{seed} {}", host.path().display()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut reports = Vec::new();
        while moment.is_none_or(|moment| reports.len() < moment.reports) && next_report(&mut stdout, &mut reports) {}
        if let Some(moment) = moment {
            std::thread::sleep(moment.delay);
            // Killing fails if the process has ended already.
            let _ = child.kill();
        }
        // Reports written before the signal count as acknowledged.
        while next_report(&mut stdout, &mut reports) {}
        let status = child.wait().unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "a child failed by itself ({status}):\n{stderr}");
        assert!(killed || reports.last().is_some_and(|report| report == "done"), "a child ended early: {reports:?}");
        let gap = started.elapsed() / u32::try_from(reports.len()).unwrap_or(1).max(1);
        Self { reports, killed, gap }
    }

    fn reports_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
        let parts = self.reports.iter().map(|line| line.split(' ').collect::<Vec<_>>());
        parts.filter(move |parts| parts.first() == Some(&kind))
    }
}

/// Reads until the next complete report. Returns false at the end of the output.
fn next_report(stdout: &mut impl BufRead, reports: &mut Vec<String>) -> bool {
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 {
        // The test harness writes to the same pipe, sometimes on the same line.
        if let Some((_, report)) = line.split_once("child: ")
            && let Some(report) = report.strip_suffix('\n')
        {
            reports.push(report.to_owned());
            return true;
        }
        line.clear();
    }
    false
}

/// Reports to the test that started this child.
fn report(text: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "child: {text}").and_then(|()| stdout.flush()).unwrap();
}

/// Reads the seed and the host's folder from the test that started this child. Returns `None` if
/// the ignored test was started by hand.
fn instructions() -> Option<(u64, String)> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let (seed, folder) = line.trim_end().split_once(' ')?;
    Some((seed.parse().ok()?, folder.to_owned()))
}

/// Kills children until enough of them were killed, and calls `check` after each. Returns the
/// numbers of kills before the first piece of work was acknowledged, in the middle, and after the
/// last.
fn kill(test: &str, host: &Host, kills: usize, work: &str, mut check: impl FnMut(u64, &ChildRun)) -> [usize; 3] {
    let mut random = Random::for_this_test();
    let mut landed = [0; 3];
    let seed = random.next();
    let whole = ChildRun::start(test, host, seed, None);
    assert!(whole.reports_of(work).count() > 1, "{:?}", whole.reports);
    check(seed, &whole);
    for _ in 0..kills * 6 {
        let enough = landed.iter().sum::<usize>() >= kills;
        let everywhere = landed[0] > 0 && landed[1] > kills / 4;
        if enough && everywhere {
            break;
        }
        let all = whole.reports.len() as u64;
        // If chance has missed the beginning or the middle, as on a busy machine, aim there.
        let (reports, delay) = match (enough, landed[0]) {
            (true, 0) => (0, 0),
            (true, _) => (all / 2, 0),
            (false, _) => (random.below(all + 1), random.below(1_500)),
        };
        let (reports, delay) = (usize::try_from(reports).unwrap(), u32::try_from(delay).unwrap());
        let moment = KillMoment { reports, delay: whole.gap * delay / 1_000 };
        let seed = random.next();
        let child = ChildRun::start(test, host, seed, Some(&moment));
        let part = match (child.reports_of(work).count(), child.reports.last()) {
            (_, Some(last)) if last == "done" => 2,
            (0, _) => 0,
            _ => 1,
        };
        landed[part] += usize::from(child.killed);
        check(seed, &child);
    }
    println!("killed before, in the middle of and after the work: {landed:?}");
    assert!(landed.iter().sum::<usize>() >= kills && landed[0] > 0 && landed[1] > kills / 4, "{landed:?}");
    landed
}

/// Checks the audit log after a kill, before another process opens it. `position` is the last
/// acknowledged position.
fn check_audit(host: &Host, child: &ChildRun, position: Option<&str>) {
    let dir = host.home().join("audit");
    let expect = position.map(|position| Expect::parse(position).unwrap());
    // A compiler that is about to start briefly inherits the files and their locks.
    let segments = || std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let live = |path: PathBuf| audit::is_live(&dir, path.file_stem().and_then(|name| name.to_str()).unwrap());
    assert!(compiling::eventually(|| !segments().any(live)));
    let report = audit::verify(&dir, expect.as_ref()).unwrap();
    assert!(!report.overall().is_tampering(), "{report:?}");
    let Some(expect) = expect else { return };
    let own = report.segments.iter().find(|segment| segment.segment == expect.segment()).unwrap();
    let verdicts: &[Verdict] = match (child.killed, child.reports.last().map(String::as_str)) {
        (false, _) | (true, Some("done")) => &[Verdict::Intact],
        // The segment may already be closed.
        _ => &[Verdict::Recovered, Verdict::TornLastLine, Verdict::Intact],
    };
    assert!(verdicts.contains(&own.verdict), "{own:?} after {:?}", child.reports);
}

/// One change of the vault.
#[derive(Debug)]
enum Change {
    Set(Vec<(String, String)>),
    Delete(String),
}

impl Change {
    /// Returns the change that a child with this seed makes at this step: a value, a batch, or the
    /// deletion of the previous value.
    fn at(seed: u64, step: u64) -> Self {
        if step % 5 == 4
            && let Self::Set(before) = Self::at(seed, step - 1)
        {
            return Self::Delete(before[0].0.clone());
        }
        let mut random = Random::from_seed(seed ^ step.wrapping_mul(0xd134_2543_de82_ef95));
        let count = if random.below(2) == 0 { 1 } else { 2 + random.below(6) };
        let first = random.below(30);
        let values = (0..count).map(|at| {
            // Some values take several pages of the database.
            let length = if random.below(6) == 0 { 20_000 } else { random.below(80) };
            let filler = "v".repeat(usize::try_from(length).unwrap());
            (format!("name-{}", (first + at) % 30), format!("{seed:x} {step} {at} {filler}"))
        });
        Self::Set(values.collect())
    }

    fn apply(&self, secrets: &mut BTreeMap<String, String>) {
        match self {
            Self::Set(values) => secrets.extend(values.iter().cloned()),
            Self::Delete(name) => drop(secrets.remove(name)),
        }
    }

    async fn apply_to(&self, vault: &LocalVault) -> Result<(), VaultError> {
        let name = |name: &str| SecretName::parse(name).unwrap();
        match self {
            Self::Set(values) => {
                let secret = |(secret_name, value): &(String, String)| {
                    NewSecret::new(name(secret_name), Arc::new(Secret::new(value.clone()).unwrap()))
                };
                Operator::set_many(vault, values.iter().map(secret).collect()).await.map(drop)
            }
            Self::Delete(secret_name) => Operator::delete(vault, &name(secret_name)).await,
        }
    }
}

/// Returns all secrets, decrypted.
fn secrets_of(vault: &LocalVault) -> BTreeMap<String, String> {
    runtime().block_on(async {
        let mut secrets = BTreeMap::new();
        for description in Operator::list(vault).await.unwrap() {
            let stored = Operator::get(vault, &description.name, None).await.unwrap();
            secrets.insert(description.name.as_str().to_owned(), stored.value.expose().to_owned());
        }
        secrets
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn event(kind: Kind, step: u64) -> Event {
    let mut event = Event::default();
    (event.event, event.count) = (kind, Some(step));
    event
}

fn open_vault(home: &Path) -> LocalVault {
    LocalVault::open(&home.join("vault"), Protection::KeyFile).unwrap()
}

#[test]
#[ignore = "the child of `killed_writer_loses_no_acknowledged_write`"]
fn child_that_writes() {
    let Some((seed, folder)) = instructions() else { return };
    let home = Path::new(&folder).join("home");
    let vault = open_vault(&home);
    let audit = Audit::open(&home.join("audit"), SyncMode::Always).unwrap();
    report("opened");
    runtime().block_on(async {
        for step in 0..CHANGES {
            audit.append(event(Kind::Operator, step)).await.unwrap();
            Change::at(seed, step).apply_to(&vault).await.unwrap();
            let position = audit.append(event(Kind::OperatorOutcome, step)).await.unwrap();
            report(&format!("changed {}:{}:{}", position.segment, position.count, position.head));
        }
    });
    audit.close().unwrap();
    drop(vault);
    report("done");
}

// promise: An acknowledged write is never lost.
// promise: After a kill at any moment acknowledged data is present, the audit log verifies, every
// run has a record, and no staging directory or compiler process is left.
#[test]
fn killed_writer_loses_no_acknowledged_write() {
    let host = Host::new();
    let mut secrets = BTreeMap::new();
    let mut unacknowledged = 0;
    kill("kills::child_that_writes", &host, KILLED_WRITERS, "changed", |seed, child| {
        let changed: Vec<_> = child.reports_of("changed").collect();
        check_audit(&host, child, changed.last().map(|parts| parts[1]));

        let acknowledged = changed.len() as u64;
        (0..acknowledged).for_each(|step| Change::at(seed, step).apply(&mut secrets));
        // The next change may have started: it is applied completely or not at all.
        let mut with_next = secrets.clone();
        if acknowledged < CHANGES {
            Change::at(seed, acknowledged).apply(&mut with_next);
        }
        let stored = secrets_of(&open_vault(&host.home()));
        if stored != secrets {
            assert!(
                stored == with_next,
                "seed {seed:x}, {acknowledged} changes acknowledged: the vault contains neither"
            );
            unacknowledged += 1;
            secrets = stored;
        }
    });
    println!("unacknowledged changes that were applied: {unacknowledged}");
    // The program itself opens the home afterwards.
    let verdict = host.ok(&["audit", "verify"]);
    assert!(verdict.contains("recovered") && !verdict.contains("altered"), "{verdict}");
    for (name, value) in &secrets {
        assert_eq!(host.get(name), *value);
    }
}

/// Reports once that a component has printed something, and so has started.
struct Started(std::sync::Once);

impl Observer for Started {
    fn output(&self, _: Stream, _: &[u8]) {
        self.0.call_once(|| report("started"));
    }
}

/// Runs one component of a pair: one reads a secret and writes a file, the other writes secrets and
/// no file.
async fn run_one(runner: &Runner, folder: &Path, output: Option<String>) {
    let (component, args, policy) = match &output {
        Some(_) => ("leak.wasm", "key 4096", "[secrets]\nkey = [\"get\"]"),
        None => (
            "exercise.wasm",
            "set-many=made-a=x,made-b=x get=made-a get=made-a get=nothing",
            "[secrets]\n\"made-*\" = [\"get\", \"set\"]",
        ),
    };
    let mut spec = RunSpec::new(folder.join(component));
    spec.args = args.split(' ').map(str::to_owned).collect();
    spec.output = output.as_ref().map(|name| folder.join(name));
    let policy = Policy::parse(&format!("version = 1\n{policy}"), "test.toml").unwrap();
    let observer = Arc::new(Started(std::sync::Once::new()));
    let record = runner.run(spec, Arc::new(policy), observer, std::future::pending()).await.unwrap();
    assert_eq!(record.outcome, Outcome::Finished, "{record:?}");
    let position = record.audit.unwrap();
    let output = output.unwrap_or_default();
    report(&format!("ended {}:{}:{} {} {output}", position.segment, position.count, position.head, record.id));
}

/// Creates a runner configured as in the program: cache, compiler child, compiled-code cache, run
/// records, and aggregated repeat reads.
fn runner(home: &Path, audit: &Audit, compiler: ChildCompiler) -> Runner {
    let temp = home.join("tmp");
    std::fs::create_dir_all(&temp).unwrap();
    let vault = Arc::new(Cache::new(Arc::new(open_vault(home)), Settings::default()));
    let options = RunnerOptions::new(vault, audit.clone(), Compile::Child(compiler))
        .repeats(Repeats::default())
        .records(Arc::new(RunStore::open(&home.join("runs")).unwrap()))
        .code_store(home.join("code"))
        .temp(temp);
    Runner::new(options).unwrap()
}

#[test]
#[ignore = "the child of `killed_runner_leaves_records_and_no_temporary_files`"]
fn child_that_runs() {
    let Some((seed, folder)) = instructions() else { return };
    let folder = Path::new(&folder);
    let home = folder.join("home");
    let audit = Audit::open(&home.join("audit"), SyncMode::Always).unwrap();
    runtime().block_on(async {
        let runner = runner(&home, &audit, compiler());
        report("opened");
        for pair in 0..PAIRS {
            let output = format!("out-{seed:x}-{pair}");
            tokio::join!(run_one(&runner, folder, Some(output)), run_one(&runner, folder, None));
        }
    });
    audit.close().unwrap();
    report("done");
}

/// State kept between the checks of one test.
#[derive(Default)]
struct SeenRuns {
    runs: BTreeSet<RunId>,
    /// The number of lost runs that the last check found.
    lost: usize,
}

/// Returns all events in the audit log.
fn all_events(host: &Host) -> impl Iterator<Item = Event> {
    audit::read(&host.home().join("audit")).unwrap().filter_map(|item| item.unwrap().event).map(|line| line.event)
}

/// Does what the next process does at its start, then checks that every run has a record and
/// nothing temporary is left.
fn records_after(host: &Host, child: &ChildRun, seen: &mut SeenRuns) -> BTreeMap<RunId, RunRecord> {
    let (home, dir) = (host.home(), host.home().join("audit"));
    let runs = RunStore::open(&home.join("runs")).unwrap();
    seen.lost = runs.mark_lost(|segment| audit::is_live(&dir, segment)).unwrap().len();
    let records: BTreeMap<RunId, _> = runs.list().unwrap().map(|(id, record)| (id, record.unwrap())).collect();
    let new: Vec<_> = records.iter().filter(|(id, _)| seen.runs.insert(**id)).map(|(_, record)| record).collect();
    assert!(new.len() >= child.reports_of("started").count(), "{:?} and only {} records", child.reports, new.len());
    for record in new {
        assert!(matches!(record.outcome, Outcome::Finished | Outcome::Lost), "{record:?}");
    }
    for run in all_events(host).filter_map(|event| event.run) {
        assert!(records.contains_key(&run), "run {run} is in the audit and has no record");
    }
    // Opening the cache, as a runner does, removes partly written files.
    drop(CodeStore::open(&home.join("code")).unwrap());
    assert_eq!(leftovers(host.path(), &home), Vec::<PathBuf>::new());
    records
}

// promise: Every run that started ends with a run record, and the audit log reports the same
// outcome.
// promise: After a kill at any moment acknowledged data is present, the audit log verifies, every
// run has a record, and no staging directory or compiler process is left.
#[test]
fn killed_runner_leaves_records_and_no_temporary_files() {
    let host = Host::new();
    host.set("key", "a-value-that-is-kept");
    // The child must not look for guests, because that could build them.
    for component in ["leak", "exercise"] {
        std::fs::copy(guest(component), host.path().join(format!("{component}.wasm"))).unwrap();
    }
    let (mut lost, mut seen) = (0, SeenRuns::default());
    kill("kills::child_that_runs", &host, KILLED_RUNNERS, "started", |_, child| {
        let ended: Vec<_> = child.reports_of("ended").collect();
        check_audit(&host, child, ended.last().map(|parts| parts[1]));

        let records = records_after(&host, child, &mut seen);
        lost += seen.lost;
        for parts in ended {
            let record = &records[&RunId::parse(parts[2]).unwrap()];
            assert_eq!(record.outcome, Outcome::Finished);
            let files = if parts[3].is_empty() { 0 } else { files_below(&host.path().join(parts[3])).len() };
            assert_eq!((files, record.outputs.len()), if parts[3].is_empty() { (0, 0) } else { (1, 1) });
        }
        // The repeated reads of a completed run are aggregated into one event.
        let events: Vec<_> = all_events(&host).collect();
        for parts in child.reports_of("ended").filter(|parts| parts[3].is_empty()) {
            let run = RunId::parse(parts[2]).unwrap();
            let aggregated = events.iter().filter(|event| event.run == Some(run) && event.event == Kind::Repeats);
            assert_eq!(aggregated.map(|event| event.count).collect::<Vec<_>>(), [Some(2)], "{run}");
        }
        assert_eq!(secrets_of(&open_vault(&host.home()))["key"], "a-value-that-is-kept");
    });
    println!("lost runs: {lost}");
    assert!(lost > KILLED_RUNNERS / 4, "only {lost} runs were lost");
    let verdict = host.ok(&["audit", "verify"]);
    assert!(verdict.contains("recovered") && !verdict.contains("altered"), "{verdict}");
}
