use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::super::commit::Sink;
use super::*;

#[test]
fn a_closed_segment_is_intact_and_reads_back() {
    with_home(|place| {
        let before = jiff::Timestamp::now();
        let segment = place.closed(3);
        let report = place.report();
        assert_eq!(report.overall(), Verdict::Intact);
        assert_eq!(report.segments[0].events, 5);

        let items: Vec<Item> = read(&place.dir()).unwrap().map(Result::unwrap).collect();
        let events: Vec<&LineEvent> = items.iter().map(|item| item.event.as_ref().unwrap()).collect();
        let kinds: Vec<Kind> = events.iter().map(|line| line.event.event).collect();
        assert_eq!(kinds, [Kind::SegmentStart, Kind::Decision, Kind::Decision, Kind::Decision, Kind::SegmentEnd]);
        assert_eq!(events[2].event, event(1));
        assert_eq!(events[0].event.detail["pid"], std::process::id().to_string());
        assert_eq!(events[0].event.detail["uid"], rustix::process::getuid().as_raw().to_string());
        for (number, item) in items.iter().enumerate() {
            assert_eq!((item.segment.as_str(), item.line), (segment.as_str(), number as u64 + 1));
            assert_eq!(item.event.as_ref().unwrap().seq, item.line);
            assert!(item.event.as_ref().unwrap().time >= before);
        }
    });
}

#[test]
fn segments_are_read_in_order_and_damage_is_shown() {
    with_home(|place| {
        let mut segments = vec![place.closed(1), place.killed(0), place.closed(2)];
        segments.sort();
        fs::write(place.file(&segments[0]), b"{}\nno event\n{\"seq\":").unwrap();
        let items: Vec<Item> = read(&place.dir()).unwrap().map(Result::unwrap).collect();
        let mut seen: Vec<&str> = items.iter().map(|item| item.segment.as_str()).collect();
        seen.dedup();
        assert_eq!(seen, segments);
        let damaged: Vec<u64> = items.iter().filter(|item| item.event.is_none()).map(|item| item.line).collect();
        assert_eq!(damaged, [1, 2]);
    });
}

#[test]
fn closing_twice_is_closing_once_and_ends_the_writing() {
    with_home(|place| {
        let audit = place.open();
        let clone = audit.clone();
        assert!(is_live(&place.dir(), audit.segment()));
        assert_eq!(place.verdict(audit.segment()), Verdict::Live);
        clone.close().unwrap();
        let ledger = fs::read(place.ledger()).unwrap();
        audit.close().unwrap();
        assert_eq!(fs::read(place.ledger()).unwrap(), ledger);
        assert!(!is_live(&place.dir(), audit.segment()));
        assert!(matches!(audit.append_blocking(event(0)), Err(AuditError::Closed(_))));
        assert_eq!(place.report().overall(), Verdict::Intact);
    });
}

#[test]
fn the_last_clone_closes() {
    with_home(|place| {
        let audit = place.open();
        let segment = audit.segment().to_owned();
        let clone = audit.clone();
        drop(audit);
        assert_eq!(place.verdict(&segment), Verdict::Live);
        drop(clone);
        assert_eq!(place.verdict(&segment), Verdict::Intact);
    });
}

#[test]
fn a_position_is_what_verify_expects() {
    with_home(|place| {
        let audit = place.open();
        let position = audit.append_blocking(event(0)).unwrap();
        assert_eq!(position, audit.position());
        assert_eq!(position.count, 2);
        audit.append_blocking(event(1)).unwrap();
        let expect = Expect::try_from(&position).unwrap();
        assert_eq!(Expect::parse(&expect.to_string()), Ok(expect.clone()));
        let overall = || verify(&place.dir(), Some(&expect)).unwrap().overall();
        assert_eq!(overall(), Verdict::Live);
        audit.close().unwrap();
        assert_eq!(overall(), Verdict::Intact);
    });
}

#[test]
fn what_does_not_fit_changes_nothing() {
    with_home(|place| {
        let audit = place.open();
        let mut long = event(0);
        long.outcome = Some("x".repeat(64 * 1024).into());
        let error = audit.append_blocking(long).unwrap_err();
        assert!(matches!(error, AuditError::TooLong(_)), "{error}");
        for reserved in [Kind::SegmentStart, Kind::SegmentEnd] {
            let event = Event { event: reserved, ..Event::default() };
            assert!(matches!(audit.append_blocking(event), Err(AuditError::Reserved)));
        }
        // Around the text a line is as long as the one before, but for some digits of the time.
        audit.append_blocking(Event { outcome: Some("".into()), ..event(0) }).unwrap();
        let around = lines(&place.file(audit.segment())).last().unwrap().len();
        let with = |bytes| Event { outcome: Some("x".repeat(bytes).into()), ..event(0) };
        audit.append_blocking(with(64 * 1024 - around - 16)).unwrap();
        assert!(matches!(audit.append_blocking(with(64 * 1024 - around + 16)), Err(AuditError::TooLong(_))));
        audit.close().unwrap();
        assert_eq!(place.report().overall(), Verdict::Intact);
    });
}

#[derive(Default)]
struct Counters {
    writes: AtomicU64,
    syncs: AtomicU64,
    /// Syncs wait until this many writes were made.
    gate: Mutex<u64>,
    moved: Condvar,
    fail_sync: AtomicBool,
    /// The next write takes half of the line.
    half: AtomicBool,
    interrupt: AtomicBool,
}

impl Counters {
    fn hold_until(&self, writes: u64) {
        *self.gate.lock().unwrap() = writes;
        self.moved.notify_all();
    }
}

struct Faulty {
    file: Arc<dyn Sink>,
    counters: Arc<Counters>,
}

impl Sink for Faulty {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.counters.interrupt.swap(false, Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        if self.counters.half.swap(false, Ordering::SeqCst) {
            return self.file.write(&bytes[..bytes.len() / 2]);
        }
        let written = self.file.write(bytes)?;
        let _gate = self.counters.gate.lock().unwrap();
        self.counters.writes.fetch_add(1, Ordering::SeqCst);
        self.counters.moved.notify_all();
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        let mut gate = self.counters.gate.lock().unwrap();
        while self.counters.writes.load(Ordering::SeqCst) < *gate {
            gate = self.counters.moved.wait(gate).unwrap();
        }
        drop(gate);
        self.counters.syncs.fetch_add(1, Ordering::SeqCst);
        if self.counters.fail_sync.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.file.sync()
    }
}

fn faulty(place: &Place) -> (Audit, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let inner = Arc::clone(&counters);
    let audit =
        Audit::open_with(&place.dir(), SyncMode::Always, |file| Arc::new(Faulty { file, counters: inner })).unwrap();
    (audit, counters)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_share_a_sync_and_keep_their_order() {
    const EVENTS: u64 = 200;
    let place = Place::new();
    let (audit, counters) = faulty(&place);
    let before = counters.syncs.load(Ordering::SeqCst);
    counters.hold_until(counters.writes.load(Ordering::SeqCst) + EVENTS);
    let tasks: Vec<_> = (0..EVENTS)
        .map(|number| {
            let audit = audit.clone();
            tokio::spawn(async move { (number, audit.append(event(number)).await.unwrap()) })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    // The first sync began with the first event and ended with the last; what came meanwhile went into the second.
    let syncs = counters.syncs.load(Ordering::SeqCst) - before;
    assert!((1..=2).contains(&syncs), "{syncs} syncs");

    let written = lines(&place.file(audit.segment()));
    let mut counts: Vec<u64> = answers.iter().map(|(_, position)| position.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, (2..EVENTS + 2).collect::<Vec<_>>());
    for (number, position) in answers {
        let line = &written[usize::try_from(position.count).unwrap() - 1];
        assert_eq!(position.head, chain::segment_line(line).to_hex().to_string());
        let found: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!((found["seq"].as_u64(), found["count"].as_u64()), (Some(position.count), Some(number)));
    }
    audit.close().unwrap();
    assert_eq!(place.report().overall(), Verdict::Intact);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_append_leaves_an_event_and_disturbs_nobody() {
    let place = Place::new();
    let (audit, counters) = faulty(&place);
    let start = counters.writes.load(Ordering::SeqCst);
    counters.hold_until(start + 3);
    {
        let append = std::pin::pin!(audit.append(event(0)));
        assert!(futures_util::poll!(append).is_pending());
    }
    let other = audit.clone();
    let second = tokio::spawn(async move { other.append(event(1)).await });
    let third = audit.append(event(2)).await.unwrap();
    let second = second.await.unwrap().unwrap();
    assert_eq!([2, 1, 0].map(|back| third.count.max(second.count) - back), [2, 3, 4]);
    audit.close().unwrap();
    assert_eq!(place.report().overall(), Verdict::Intact);
    assert_eq!(place.report().segments[0].events, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_fails_all_who_wait_and_all_who_come() {
    let place = Place::new();
    let (audit, counters) = faulty(&place);
    counters.fail_sync.store(true, Ordering::SeqCst);
    counters.hold_until(counters.writes.load(Ordering::SeqCst) + 4);
    let tasks: Vec<_> = (0..4)
        .map(|number| {
            let audit = audit.clone();
            tokio::spawn(async move { audit.append(event(number)).await })
        })
        .collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(AuditError::Failed { .. })));
    }
    // The disk is well again; the segment is not, because nobody knows what is on the disk.
    counters.fail_sync.store(false, Ordering::SeqCst);
    let length = fs::metadata(place.file(audit.segment())).unwrap().len();
    let error = audit.append(event(9)).await.unwrap_err();
    assert!(error.to_string().contains("takes no more events (cannot make it durable: "), "{error}");
    assert!(matches!(audit.append_blocking(event(9)), Err(AuditError::Failed { .. })));
    assert!(matches!(audit.close(), Err(AuditError::Failed { .. })));
    assert_eq!(fs::metadata(place.file(audit.segment())).unwrap().len(), length);
    let segment = audit.segment().to_owned();
    drop(audit);
    assert_eq!(place.verdict(&segment), Verdict::Recovered);
}

#[test]
fn half_a_line_is_followed_by_nothing() {
    with_home(|place| {
        let (audit, counters) = faulty(place);
        audit.append_blocking(event(0)).unwrap();
        counters.half.store(true, Ordering::SeqCst);
        let error = audit.append_blocking(event(1)).unwrap_err();
        assert!(matches!(error, AuditError::Failed { .. }), "{error}");
        let left = fs::read(place.file(audit.segment())).unwrap();
        assert!(matches!(audit.append_blocking(event(2)), Err(AuditError::Failed { .. })));
        assert_eq!(fs::read(place.file(audit.segment())).unwrap(), left);
        let segment = audit.segment().to_owned();
        drop(audit);
        assert_eq!(place.verdict(&segment), Verdict::TornLastLine);
        place.closed(0);
        assert_eq!(place.verdict(&segment), Verdict::TornLastLine);
    });
}

#[test]
fn an_interrupted_write_is_tried_again() {
    with_home(|place| {
        let (audit, counters) = faulty(place);
        counters.interrupt.store(true, Ordering::SeqCst);
        audit.append_blocking(event(0)).unwrap();
        assert!(!counters.interrupt.load(Ordering::SeqCst));
        audit.close().unwrap();
        assert_eq!(place.report().overall(), Verdict::Intact);
    });
}

#[test]
fn a_full_disk_gets_a_clear_error() {
    with_home(|place| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = Audit::open_with(&place.dir(), SyncMode::Always, |_| Arc::new(full)).unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert!(error.contains("; make room on that disk): nothing is served without an audit"), "{error}");
        // What is left is a segment that was announced and never begun.
        assert_eq!(place.report().overall(), Verdict::Recovered);
        place.closed(0);
        assert_eq!(place.report().overall(), Verdict::Recovered);
    });
}

#[test]
fn processes_share_a_folder() {
    with_home(|place| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        place.closed(2);
                    }
                });
            }
            // What verify sees at any moment is live, intact, or a file that is about to be announced; never damage.
            for _ in 0..20 {
                let seen = verify(&place.dir(), None).map_or(Verdict::Intact, |report| report.overall());
                assert!(seen <= Verdict::Live, "{seen}");
            }
        });
        let report = place.report();
        assert_eq!(report.overall(), Verdict::Intact);
        assert_eq!(report.segments.len(), 32);
    });
}

/// What the child of the test below does: it appends for ever and says how far it is.
#[test]
#[ignore = "the child process of `kill_at_any_moment_loses_nothing_acknowledged`"]
fn child_writes_until_it_is_killed() {
    let mut dir = String::new();
    io::stdin().read_line(&mut dir).unwrap();
    let audit = Audit::open(Path::new(dir.trim_end()), SyncMode::Always).unwrap();
    for number in 0.. {
        let position = audit.append_blocking(event(number)).unwrap();
        println!("at {} {}", position.count, position.head);
    }
}

// promise: An acknowledged write is never lost.
#[test]
fn kill_at_any_moment_loses_nothing_acknowledged() {
    with_home(|place| {
        let mut last = Vec::new();
        for round in 0..6 {
            let mut child = Command::new("/proc/self/exe")
                .args(["--exact", "tests::writing::child_writes_until_it_is_killed", "--ignored", "--nocapture"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            writeln!(child.stdin.take().unwrap(), "{}", place.dir().display()).unwrap();
            let mut acknowledged = BufReader::new(child.stdout.take().unwrap())
                .lines()
                .map(Result::unwrap)
                .filter_map(|line| line.split_once("at ").map(|(_, rest)| rest.to_owned()));
            let position = acknowledged.nth(3 + 5 * round).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            let newest = place.report().segments.last().unwrap().segment.clone();
            assert!(!is_live(&place.dir(), &newest));
            last.push(format!("{newest}:{}", position.replace(' ', ":")));
            for expect in &last {
                let expect = Expect::parse(expect).unwrap();
                let report = verify(&place.dir(), Some(&expect)).unwrap();
                let verdict = verdict_of(&report, expect.segment());
                assert!(matches!(verdict, Verdict::Recovered | Verdict::TornLastLine), "{verdict}");
                assert!(report.overall() <= Verdict::TornLastLine);
            }
        }
    });
}
