//! `kill -9` at random moments over the whole life of processes that write and run without pause.
//!
//! A child is this test binary again, running one of the ignored tests below. It says on its standard output what it has acknowledged, a word a
//! line. A moment is one of its words, drawn evenly, and a part of the time that it takes from one word to the next: kills land before the first
//! piece of work, in every step of it and behind the last, on a slow machine as on a fast one.

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
use strongroom::vault::local::{LocalVault, Unlock};
use strongroom::vault::{NewSecret, Operator, VaultError};

use crate::support::inside::compiler;
use crate::support::random::Random;
use crate::support::{Host, files_below, guest, left_over};

/// How many processes are killed while they write, while they run components, and while they compile: more than 200 together.
const KILLED_WRITERS: usize = 110;
const KILLED_RUNNERS: usize = 70;
const KILLED_COMPILERS: usize = 30;

/// How many changes, and how many pairs of runs, a child makes that nobody kills.
const CHANGES: u64 = 12;
const PAIRS: u64 = 2;

/// When to kill: this long after that many words.
struct Moment {
    words: usize,
    then: Duration,
}

/// What a child said, and how it ended.
struct Life {
    words: Vec<String>,
    killed: bool,
    /// From each word to the next, in the mean.
    gap: Duration,
}

impl Life {
    /// Starts a child and kills it at the moment, if there is one.
    fn live(test: &str, host: &Host, seed: u64, moment: Option<&Moment>) -> Self {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{seed} {}", host.path().display()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut words = Vec::new();
        while moment.is_none_or(|moment| words.len() < moment.words) && next_word(&mut stdout, &mut words) {}
        if let Some(moment) = moment {
            std::thread::sleep(moment.then);
            // A process that has ended already takes no signal.
            let _ = child.kill();
        }
        // What was said before the signal was acknowledged too.
        while next_word(&mut stdout, &mut words) {}
        let status = child.wait().unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "a child failed by itself ({status}):\n{stderr}");
        assert!(killed || words.last().is_some_and(|word| word == "done"), "a child ended early: {words:?}");
        let gap = begun.elapsed() / u32::try_from(words.len()).unwrap_or(1).max(1);
        Self { words, killed, gap }
    }

    fn said<'a>(&'a self, word: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
        let parts = self.words.iter().map(|line| line.split(' ').collect::<Vec<_>>());
        parts.filter(move |parts| parts.first() == Some(&word))
    }
}

/// Reads up to the next word that was said to its end. False where there is none any more.
fn next_word(stdout: &mut impl BufRead, words: &mut Vec<String>) -> bool {
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 {
        // The test harness writes on the same pipe, also in front of a word.
        if let Some((_, word)) = line.split_once("child: ")
            && let Some(word) = word.strip_suffix('\n')
        {
            words.push(word.to_owned());
            return true;
        }
        line.clear();
    }
    false
}

/// Says a word to the test that started this child.
fn say(word: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "child: {word}").and_then(|()| stdout.flush()).unwrap();
}

/// What the test told its child: a seed and the host's folder. None where somebody runs the ignored tests by hand.
fn told() -> Option<(u64, String)> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let (seed, folder) = line.trim_end().split_once(' ')?;
    Some((seed.parse().ok()?, folder.to_owned()))
}

/// Kills children until enough of them died by it, and has what is there looked at after each. The numbers answered are the kills that landed
/// before the first piece of work was acknowledged, in the middle, and after the last.
fn kill(test: &str, host: &Host, kills: usize, work: &str, mut look: impl FnMut(u64, &Life)) -> [usize; 3] {
    let mut random = Random::for_this_test();
    let mut landed = [0; 3];
    let seed = random.next();
    let whole = Life::live(test, host, seed, None);
    assert!(whole.said(work).count() > 1, "{:?}", whole.words);
    look(seed, &whole);
    for _ in 0..kills * 6 {
        let enough = landed.iter().sum::<usize>() >= kills;
        let everywhere = landed[0] > 0 && landed[1] > kills / 4;
        if enough && everywhere {
            break;
        }
        let all = whole.words.len() as u64;
        // On a busy machine chance may have left out the beginning, or the middle: then that is what is tried.
        let (words, then) = match (enough, landed[0]) {
            (true, 0) => (0, 0),
            (true, _) => (all / 2, 0),
            (false, _) => (random.below(all + 1), random.below(1_500)),
        };
        let (words, then) = (usize::try_from(words).unwrap(), u32::try_from(then).unwrap());
        let moment = Moment { words, then: whole.gap * then / 1_000 };
        let seed = random.next();
        let life = Life::live(test, host, seed, Some(&moment));
        let place = match (life.said(work).count(), life.words.last()) {
            (_, Some(last)) if last == "done" => 2,
            (0, _) => 0,
            _ => 1,
        };
        landed[place] += usize::from(life.killed);
        look(seed, &life);
    }
    println!("killed before, in the middle of and after the work: {landed:?}");
    assert!(landed.iter().sum::<usize>() >= kills && landed[0] > 0 && landed[1] > kills / 4, "{landed:?}");
    landed
}

/// What every audit has to be after a kill, before any other process has looked at it; `position` is the last that was acknowledged.
fn check_audit(host: &Host, life: &Life, position: Option<&str>) {
    let dir = host.home().join("audit");
    let expect = position.map(|position| Expect::parse(position).unwrap());
    // A child that the process was about to start has its files, and their locks, for a moment longer.
    let segments = || std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let live = |path: PathBuf| audit::is_live(&dir, path.file_stem().and_then(|name| name.to_str()).unwrap());
    assert!(compiling::comes(|| !segments().any(live)));
    let report = audit::verify(&dir, expect.as_ref()).unwrap();
    assert!(!report.overall().is_tampering(), "{report:?}");
    let Some(expect) = expect else { return };
    let own = report.segments.iter().find(|segment| segment.segment == expect.segment()).unwrap();
    let verdicts: &[Verdict] = match (life.killed, life.words.last().map(String::as_str)) {
        (false, _) | (true, Some("done")) => &[Verdict::Intact],
        // It may have been closed already.
        _ => &[Verdict::Recovered, Verdict::TornLastLine, Verdict::Intact],
    };
    assert!(verdicts.contains(&own.verdict), "{own:?} after {:?}", life.words);
}

/// One change of the vault.
#[derive(Debug)]
enum Change {
    Set(Vec<(String, String)>),
    Delete(String),
}

impl Change {
    /// The change that a child with this seed makes at this step: a value, a batch of them, or the deletion of what it has just set.
    fn at(seed: u64, step: u64) -> Self {
        if step % 5 == 4
            && let Self::Set(before) = Self::at(seed, step - 1)
        {
            return Self::Delete(before[0].0.clone());
        }
        let mut random = Random::of(seed ^ step.wrapping_mul(0xd134_2543_de82_ef95));
        let count = if random.below(2) == 0 { 1 } else { 2 + random.below(6) };
        let first = random.below(30);
        let values = (0..count).map(|at| {
            // Now and then one that takes several pages of the database.
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

    async fn make(&self, vault: &LocalVault) -> Result<(), VaultError> {
        let name = |name: &str| SecretName::parse(name).unwrap();
        match self {
            Self::Set(values) => {
                let secret = |(called, value): &(String, String)| {
                    NewSecret::new(name(called), Arc::new(Secret::new(value.clone()).unwrap()))
                };
                Operator::set_many(vault, values.iter().map(secret).collect()).await.map(drop)
            }
            Self::Delete(called) => Operator::delete(vault, &name(called)).await,
        }
    }
}

/// The secrets that are there, each opened.
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

fn opened(home: &Path) -> LocalVault {
    LocalVault::open(&home.join("vault"), Unlock::KeyFile).unwrap()
}

#[test]
#[ignore = "the child of `a_write_is_there_whole_if_it_was_acknowledged_and_whole_or_not_at_all_if_not`"]
fn child_that_writes() {
    let Some((seed, folder)) = told() else { return };
    let home = Path::new(&folder).join("home");
    let vault = opened(&home);
    let audit = Audit::open(&home.join("audit"), SyncMode::Always).unwrap();
    say("opened");
    runtime().block_on(async {
        for step in 0..CHANGES {
            audit.append(event(Kind::Operator, step)).await.unwrap();
            Change::at(seed, step).make(&vault).await.unwrap();
            let position = audit.append(event(Kind::OperatorOutcome, step)).await.unwrap();
            say(&format!("changed {}:{}:{}", position.segment, position.count, position.head));
        }
    });
    audit.close().unwrap();
    drop(vault);
    say("done");
}

// promise: An acknowledged write is never lost.
// promise: After a kill at any moment acknowledged data is present, the audit log verifies, every
// run has a record, and no staging directory or compiler process is left.
#[test]
fn a_write_is_there_whole_if_it_was_acknowledged_and_whole_or_not_at_all_if_not() {
    let host = Host::new();
    let mut secrets = BTreeMap::new();
    let mut unacknowledged = 0;
    kill("kills::child_that_writes", &host, KILLED_WRITERS, "changed", |seed, life| {
        let changed: Vec<_> = life.said("changed").collect();
        check_audit(&host, life, changed.last().map(|parts| parts[1]));

        let acknowledged = changed.len() as u64;
        (0..acknowledged).for_each(|step| Change::at(seed, step).apply(&mut secrets));
        // One more change may have been under way: it is there as a whole, or not at all.
        let mut with_next = secrets.clone();
        if acknowledged < CHANGES {
            Change::at(seed, acknowledged).apply(&mut with_next);
        }
        let there = secrets_of(&opened(&host.home()));
        if there != secrets {
            assert!(there == with_next, "seed {seed:x}, {acknowledged} changes acknowledged: the vault holds neither");
            unacknowledged += 1;
            secrets = there;
        }
    });
    println!("changes that were made and not acknowledged: {unacknowledged}");
    // The program itself takes the home over.
    let verdict = host.ok(&["audit", "verify"]);
    assert!(verdict.contains("recovered") && !verdict.contains("altered"), "{verdict}");
    for (name, value) in &secrets {
        assert_eq!(host.get(name), *value);
    }
}

/// Says once that a component has printed something, so that it has started.
struct Started(std::sync::Once);

impl Observer for Started {
    fn output(&self, _: Stream, _: &[u8]) {
        self.0.call_once(|| say("started"));
    }
}

/// What one of the two runs of a pair is: one reads a secret and leaves a file, one writes secrets and leaves nothing.
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
    say(&format!("ended {}:{}:{} {} {output}", position.segment, position.count, position.head, record.id));
}

/// A runner as the program has it: the cache before the vault, a compiler in a process of its own, a store of compiled code, run records, and repeated
/// reads audited in sum.
fn runner(home: &Path, audit: &Audit, compiler: ChildCompiler) -> Runner {
    let temp = home.join("tmp");
    std::fs::create_dir_all(&temp).unwrap();
    let vault = Arc::new(Cache::new(Arc::new(opened(home)), Settings::default()));
    let options = RunnerOptions::new(vault, audit.clone(), Compile::Child(compiler))
        .repeats(Repeats::default())
        .records(Arc::new(RunStore::open(&home.join("runs")).unwrap()))
        .code_store(home.join("code"))
        .temp(temp);
    Runner::new(options).unwrap()
}

#[test]
#[ignore = "the child of `a_run_that_started_has_a_record_and_leaves_no_private_folder`"]
fn child_that_runs() {
    let Some((seed, folder)) = told() else { return };
    let folder = Path::new(&folder);
    let home = folder.join("home");
    let audit = Audit::open(&home.join("audit"), SyncMode::Always).unwrap();
    runtime().block_on(async {
        let runner = runner(&home, &audit, compiler());
        say("opened");
        for pair in 0..PAIRS {
            let output = format!("out-{seed:x}-{pair}");
            tokio::join!(run_one(&runner, folder, Some(output)), run_one(&runner, folder, None));
        }
    });
    audit.close().unwrap();
    say("done");
}

/// What the looks before have seen.
#[derive(Default)]
struct Known {
    runs: BTreeSet<RunId>,
    /// How many runs the last look found to be cut off.
    lost: usize,
}

/// The events in the trail, of all runs.
fn trail(host: &Host) -> impl Iterator<Item = Event> {
    audit::read(&host.home().join("audit")).unwrap().filter_map(|item| item.unwrap().event).map(|line| line.event)
}

/// Does what the next process does when it starts. Every run has a record then, and nothing private is left.
fn records_after(host: &Host, life: &Life, known: &mut Known) -> BTreeMap<RunId, RunRecord> {
    let (home, dir) = (host.home(), host.home().join("audit"));
    let runs = RunStore::open(&home.join("runs")).unwrap();
    known.lost = runs.mark_lost(|segment| audit::is_live(&dir, segment)).unwrap().len();
    let records: BTreeMap<RunId, _> = runs.list().unwrap().map(|(id, record)| (id, record.unwrap())).collect();
    let new: Vec<_> = records.iter().filter(|(id, _)| known.runs.insert(**id)).map(|(_, record)| record).collect();
    assert!(new.len() >= life.said("started").count(), "{:?} and only {} records", life.words, new.len());
    for record in new {
        assert!(matches!(record.outcome, Outcome::Finished | Outcome::Lost), "{record:?}");
    }
    for run in trail(host).filter_map(|event| event.run) {
        assert!(records.contains_key(&run), "run {run} is in the audit and has no record");
    }
    // Opened as a runner opens it, which clears away what was half written.
    drop(CodeStore::open(&home.join("code")).unwrap());
    assert_eq!(left_over(host.path(), &home), Vec::<PathBuf>::new());
    records
}

// promise: Every run that started ends with a run record, and the audit log reports the same
// outcome.
// promise: After a kill at any moment acknowledged data is present, the audit log verifies, every
// run has a record, and no staging directory or compiler process is left.
#[test]
fn a_run_that_started_has_a_record_and_leaves_no_private_folder() {
    let host = Host::new();
    host.set("key", "a-value-that-is-kept");
    // A child looks for no guest, which may mean to build it.
    for component in ["leak", "exercise"] {
        std::fs::copy(guest(component), host.path().join(format!("{component}.wasm"))).unwrap();
    }
    let (mut lost, mut known) = (0, Known::default());
    kill("kills::child_that_runs", &host, KILLED_RUNNERS, "started", |_, life| {
        let ended: Vec<_> = life.said("ended").collect();
        check_audit(&host, life, ended.last().map(|parts| parts[1]));

        let records = records_after(&host, life, &mut known);
        lost += known.lost;
        for parts in ended {
            let record = &records[&RunId::parse(parts[2]).unwrap()];
            assert_eq!(record.outcome, Outcome::Finished);
            let files = if parts[3].is_empty() { 0 } else { files_below(&host.path().join(parts[3])).len() };
            assert_eq!((files, record.outputs.len()), if parts[3].is_empty() { (0, 0) } else { (1, 1) });
        }
        // Of the repeated reads of a run that ended there is a sum.
        let events: Vec<_> = trail(&host).collect();
        for parts in life.said("ended").filter(|parts| parts[3].is_empty()) {
            let run = RunId::parse(parts[2]).unwrap();
            let sums = events.iter().filter(|event| event.run == Some(run) && event.event == Kind::Repeats);
            assert_eq!(sums.map(|event| event.count).collect::<Vec<_>>(), [Some(2)], "{run}");
        }
        assert_eq!(secrets_of(&opened(&host.home()))["key"], "a-value-that-is-kept");
    });
    println!("runs that were cut off: {lost}");
    assert!(lost > KILLED_RUNNERS / 4, "only {lost} runs were cut off");
    let verdict = host.ok(&["audit", "verify"]);
    assert!(verdict.contains("recovered") && !verdict.contains("altered"), "{verdict}");
}
