use std::collections::BTreeMap;

use super::*;
use strongroom_core::ids::Digest;
use strongroom_core::record::{Blame, ComponentRef, LogCount, Metric, Number, Outcome, Output, Point};

fn record(segment: &str) -> RunRecord {
    RunRecord {
        format: FORMAT,
        id: RunId::generate(),
        segment: segment.into(),
        component: ComponentRef { digest: Digest::of(b"c"), path: "c.wasm".into(), bytes: 1 },
        policy: Digest::of(b""),
        spec: Digest::of(b"s"),
        vault: Some("local:/vault".into()),
        started: "2026-07-01T10:00:00Z".parse().unwrap(),
        ended: None,
        outcome: Outcome::Running,
        blame: None,
        reason: None,
        exit_code: None,
        limit: None,
        secrets: Vec::new(),
        network: Vec::new(),
        peak_memory_bytes: 0,
        cpu_micros: 0,
        metrics: BTreeMap::new(),
        text_metrics: BTreeMap::new(),
        logged_tags: BTreeMap::new(),
        logged_parameters: BTreeMap::new(),
        progress: None,
        outputs: Vec::new(),
        outputs_omitted: 0,
        redactions: 0,
        log: LogCount::default(),
        log_failure: None,
        audit: None,
        timings: None,
        warnings: Vec::new(),
    }
}

fn finished(record: &RunRecord) -> RunRecord {
    RunRecord { outcome: Outcome::Finished, ended: Some(record.started), exit_code: Some(0), ..record.clone() }
}

fn store() -> (tempfile::TempDir, RunStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = RunStore::open(&dir.path().join("home/runs")).unwrap();
    (dir, store)
}

/// Returns the names of records, logs and notes, and of temporary files.
fn names(store: &RunStore) -> Vec<String> {
    let mut names = super::names(&store.dir).unwrap();
    names.extend(super::names(&store.active()).unwrap_or_default());
    names.retain(|name| ![".lock", LAST, ACTIVE].contains(&name.as_str()));
    names.sort();
    names
}

#[test]
fn record_is_written_at_the_start_and_replaced_at_the_end() {
    let (_dir, store) = store();
    let begun = record("01A");
    store.begin(&begun, None).unwrap();
    assert_eq!(store.get(&begun.id).unwrap(), begun);
    assert_eq!(names(&store), [format!("{}.json", begun.id), format!("{}.open", begun.id)]);
    let ended = finished(&begun);
    store.finish(&ended).unwrap();
    assert_eq!(store.get(&begun.id).unwrap(), ended);
    assert_eq!(names(&store), [format!("{}.json", begun.id)]);
}

#[test]
fn directory_and_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, store) = store();
    let begun = record("01A");
    store.begin(&begun, None).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.dir), 0o700);
    assert_eq!(mode(&store.record_path(&begun.id)), 0o600);
    fs::set_permissions(&store.dir, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(RunStore::open(&store.dir), Err(RunStoreError::Folder { .. })));
}

#[test]
fn linked_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("runs");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    assert!(matches!(RunStore::open(&link), Err(RunStoreError::Folder { .. })));
}

#[test]
fn list_with_damaged_records_is_newest_first() {
    let (_dir, store) = store();
    let mut records: Vec<RunRecord> = (0..4).map(|_| finished(&record("01A"))).collect();
    for record in &records {
        store.finish(record).unwrap();
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.id));
    fs::write(store.record_path(&records[1].id), "{\"format\": 1, \"id\":").unwrap();
    fs::write(store.dir.join(".new-01A-x1y2"), "{").unwrap();
    fs::write(store.dir.join("notes.txt"), "").unwrap();
    fs::write(store.dir.join("short.json"), "{}").unwrap();
    let list: Vec<_> = store.list().unwrap().collect();
    assert_eq!(list.iter().map(|(id, _)| *id).collect::<Vec<_>>(), records.iter().map(|r| r.id).collect::<Vec<_>>());
    for (at, (_, result)) in list.iter().enumerate() {
        match at {
            1 => assert!(matches!(result, Err(RunStoreError::Damaged { .. }))),
            _ => assert_eq!(result.as_ref().unwrap(), &records[at]),
        }
    }
}

#[test]
fn record_of_newer_format_is_refused() {
    let (_dir, store) = store();
    let id = RunId::generate();
    fs::write(store.record_path(&id), format!("{{\"format\": 2, \"id\": \"{id}\", \"new\": []}}")).unwrap();
    let error = store.get(&id).unwrap_err();
    assert!(matches!(error, RunStoreError::Newer { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("use a newer one"));
}

#[test]
fn misnamed_or_oversized_record_is_damaged() {
    let (_dir, store) = store();
    let one = finished(&record("01A"));
    store.finish(&one).unwrap();
    let other = RunId::generate();
    fs::copy(store.record_path(&one.id), store.record_path(&other)).unwrap();
    assert!(matches!(store.get(&other), Err(RunStoreError::Damaged { .. })));
    let long = RunId::generate();
    File::create(store.record_path(&long)).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(store.get(&long), Err(RunStoreError::Damaged { .. })));
}

#[test]
fn run_is_found_by_unique_prefix_or_as_last() {
    let (_dir, store) = store();
    assert!(matches!(store.find_by_prefix("last"), Err(RunStoreError::Absent(_))));
    let mut old = finished(&record("01A"));
    old.id = RunId::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
    let mut new = finished(&record("01A"));
    new.id = RunId::parse("01ARZ3NDEKTSV4RRFFQ69G5FB0").unwrap();
    store.finish(&new).unwrap();
    store.finish(&old).unwrap();
    assert_eq!(store.find_by_prefix("last").unwrap(), new);
    assert_eq!(store.find_by_prefix("01arz3ndektsv4rrffq69g5fa").unwrap(), old);
    assert_eq!(store.find_by_prefix(&new.id.to_string()).unwrap(), new);
    assert!(matches!(store.find_by_prefix("01ARZ"), Err(RunStoreError::Ambiguous { count: 2, .. })));
    assert!(matches!(store.find_by_prefix("02"), Err(RunStoreError::Absent(_))));
    assert!(matches!(store.find_by_prefix(""), Err(RunStoreError::Absent(_))));
    assert!(matches!(store.find_by_prefix("../x"), Err(RunStoreError::Absent(_))));
}

// attack: leak: run under a clock in the far future, so that `last` stays that run -> `last` is
// the run that began last
#[test]
fn last_run_is_the_one_that_began_last() {
    let (_dir, store) = store();
    let mut future = record("01A");
    future.id = RunId::parse("7ZZZZZZZZZZZZZZZZZZZZZZZZZ").unwrap();
    let now = record("01A");
    for record in [&future, &now] {
        store.begin(record, None).unwrap();
        assert_eq!(store.find_by_prefix("last").unwrap(), *record);
    }
    // Ending does not change the order, and neither does a record that was removed.
    store.finish(&finished(&future)).unwrap();
    assert_eq!(store.find_by_prefix("last").unwrap(), now);
    fs::remove_file(store.record_path(&now.id)).unwrap();
    assert_eq!(store.find_by_prefix("last").unwrap(), finished(&future));
    fs::remove_file(store.dir.join(LAST)).unwrap();
    fs::write(store.dir.join(LAST), "no link").unwrap();
    assert_eq!(store.find_by_prefix("last").unwrap(), finished(&future));
}

// promise: A stopped process delays another one only for a bounded time, and the error names it.
#[test]
fn busy_store_is_reported_with_its_holder() {
    let (_dir, store) = store();
    store.begin(&record("DEAD"), None).unwrap();
    let lock = store.lock().unwrap();
    let error = store.mark_lost(|_| false).unwrap_err();
    let own = std::process::id();
    assert!(matches!(error, RunStoreError::Busy { holder: Some(holder), .. } if holder == own), "{error:?}");
    assert!(error.to_string().contains(&format!("process {own} holds its lock")), "{error}");
    // Runs can begin and end, and records can be read.
    let other = record("LIVE");
    store.begin(&other, None).unwrap();
    store.finish(&finished(&other)).unwrap();
    assert_eq!(store.list().unwrap().count(), 2);
    drop(lock);
    assert_eq!(store.mark_lost(|_| false).unwrap().len(), 1);
}

#[test]
fn lock_is_released_before_staging_directories_are_removed() {
    let (dir, store) = store();
    let lost = record("DEAD");
    let staging = dir.path().join(format!(".strongroom-{}", lost.id));
    store.begin(&lost, Some(&staging)).unwrap();
    fs::create_dir(&staging).unwrap();
    // Many entries keep the removal busy while other calls take the lock.
    for at in 0..2_000 {
        fs::create_dir(staging.join(at.to_string())).unwrap();
    }
    std::thread::scope(|scope| {
        let sweeps: Vec<_> = (0..4).map(|_| scope.spawn(|| store.mark_lost(|_| false).unwrap().len())).collect();
        let marked: usize = sweeps.into_iter().map(|sweep| sweep.join().unwrap()).sum();
        assert_eq!(marked, 1);
    });
    assert!(!staging.exists());
    assert!(!store.note_path(&lost.id).exists());
}

#[test]
fn notes_of_an_earlier_version_are_found() {
    let (_dir, store) = store();
    let (lost, live) = (record("DEAD"), record("LIVE"));
    for record in [&lost, &live] {
        store.begin(record, None).unwrap();
        fs::rename(store.note_path(&record.id), store.dir.join(format!("{}.open", record.id))).unwrap();
    }
    fs::remove_dir(store.active()).unwrap();
    // A process died while it moved them.
    fs::create_dir(store.dir.join(".new-active")).unwrap();
    assert_eq!(store.mark_lost(|segment| segment == "LIVE").unwrap(), [lost.id]);
    assert!(store.note_path(&live.id).exists());
    assert_eq!(store.mark_lost(|_| false).unwrap(), [live.id]);
}

#[test]
fn only_running_records_of_dead_segments_become_lost() {
    let (_dir, store) = store();
    let live = record("LIVE");
    let dead = record("DEAD");
    let ended = record("DEAD");
    for record in [&live, &dead, &ended] {
        store.begin(record, None).unwrap();
    }
    // Its process was killed between the last two steps of `finish`.
    store.write("DEAD", &finished(&ended)).unwrap();
    assert_eq!(store.mark_lost(|segment| segment == "LIVE").unwrap(), [dead.id]);
    assert_eq!(store.get(&live.id).unwrap(), live);
    assert_eq!(store.get(&ended.id).unwrap(), finished(&ended));
    let lost = store.get(&dead.id).unwrap();
    assert_eq!((lost.outcome, lost.blame, lost.ended), (Outcome::Lost, Some(Blame::Host), None));
    assert!(lost.reason.unwrap().contains("ended without"));
    assert!(store.mark_lost(|segment| segment == "LIVE").unwrap().is_empty());
    assert!(store.note_path(&live.id).exists() && !store.note_path(&ended.id).exists());
}

#[test]
fn temporary_files_of_dead_writers_are_removed() {
    let (_dir, store) = store();
    // An earlier version created them beside the records.
    for name in [".new-LIVE-a", ".new-DEAD-b", ".new-sweep-c"] {
        fs::write(store.dir.join(name), "").unwrap();
    }
    store.mark_lost(|segment| segment == "LIVE").unwrap();
    assert_eq!(names(&store), [".new-LIVE-a"]);
}

#[test]
fn staging_of_lost_run_is_removed_without_following_links() {
    let (dir, store) = store();
    let lost = record("DEAD");
    let staging = dir.path().join(format!(".strongroom-{}", lost.id));
    store.begin(&lost, Some(&staging)).unwrap();
    fs::create_dir_all(staging.join("deep/er")).unwrap();
    fs::write(staging.join("deep/er/model"), "x").unwrap();
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "x").unwrap();
    std::os::unix::fs::symlink(&precious, staging.join("deep/link")).unwrap();
    store.mark_lost(|_| false).unwrap();
    assert!(!staging.exists());
    assert!(precious.join("file").exists());
}

#[test]
fn staging_without_record_is_removed() {
    let (dir, store) = store();
    let never = record("DEAD");
    let staging = dir.path().join(format!(".strongroom-{}", never.id));
    store.begin(&never, Some(&staging)).unwrap();
    fs::create_dir(&staging).unwrap();
    fs::remove_file(store.record_path(&never.id)).unwrap();
    assert!(store.mark_lost(|_| false).unwrap().is_empty());
    assert!(!staging.exists());
    assert!(names(&store).is_empty());
}

#[test]
fn misnamed_or_linked_staging_is_not_removed() {
    let (dir, store) = store();
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).unwrap();
    let misnamed = record("DEAD");
    store.begin(&misnamed, Some(&precious)).unwrap();
    let linked = record("DEAD");
    let link = dir.path().join(format!(".strongroom-{}", linked.id));
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    store.begin(&linked, Some(&link)).unwrap();
    let foreign = record("DEAD");
    let other =
        dir.path().join(format!(".strongroom-{}", linked.id)).join("..").join(format!(".strongroom-{}x", foreign.id));
    fs::create_dir(dir.path().join(format!(".strongroom-{}x", foreign.id))).unwrap();
    store.begin(&foreign, Some(&other)).unwrap();
    assert_eq!(store.mark_lost(|_| false).unwrap().len(), 3);
    assert!(precious.exists() && link.is_symlink());
    assert!(dir.path().join(format!(".strongroom-{}x", foreign.id)).exists());
}

// promise: A run reads from and publishes to the directories that were checked, even if the paths
// change in the meantime.
#[test]
fn link_in_the_staging_path_is_not_followed() {
    let (dir, store) = store();
    let (above, theirs) = (dir.path().join("above"), dir.path().join("theirs"));
    let lost = record("DEAD");
    let name = format!(".strongroom-{}", lost.id);
    for folder in [&above, &theirs] {
        fs::create_dir_all(folder.join(&name)).unwrap();
        fs::write(folder.join(&name).join("file"), "x").unwrap();
    }
    // The link existed when the run began, so it is not part of the stored path.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&above, &link).unwrap();
    store.begin(&lost, Some(&link.join(&name))).unwrap();
    // This link has replaced a directory since and leads to another party's directory.
    fs::rename(&above, dir.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(&theirs, &above).unwrap();
    store.mark_lost(|_| false).unwrap();
    assert!(theirs.join(&name).join("file").exists());

    let again = record("DEAD");
    let name = format!(".strongroom-{}", again.id);
    fs::create_dir(theirs.join(&name)).unwrap();
    store.begin(&again, Some(&link.join(&name))).unwrap();
    store.mark_lost(|_| false).unwrap();
    assert!(!theirs.join(&name).exists());
}

// promise: The run store does not block on a FIFO or another special file in place of a record, log
// or note.
#[test]
fn fifo_in_place_of_a_file_does_not_block() {
    let (_dir, store) = store();
    let run = record("DEAD");
    store.begin(&run, None).unwrap();
    let plant = |name: &str| {
        let path = store.dir.join(name);
        let _ = fs::remove_file(&path);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        path
    };
    let id = run.id;
    for name in
        [format!("{id}.json"), format!("{id}.log"), format!("{ACTIVE}/{id}.open"), format!("{ACTIVE}/.new-DEAD-x")]
    {
        plant(&name);
    }
    assert!(store.get(&id).unwrap_err().to_string().contains("not a regular file"));
    assert!(store.log(&id).unwrap_err().to_string().contains("not a regular file"));
    assert_eq!(store.list().unwrap().filter(|(_, record)| record.is_err()).count(), 1);
    // The cleanup continues with the other runs.
    let other = record("DEAD");
    store.begin(&other, None).unwrap();
    assert_eq!(store.mark_lost(|_| false).unwrap(), [other.id]);
    let lock = plant(".lock");
    assert!(store.mark_lost(|_| false).is_err());
    fs::remove_file(lock).unwrap();
}

#[test]
fn log_without_record_is_removed_and_log_of_lost_run_stays() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, store) = store();
    let (kept, lost, removed) = (record("LIVE"), record("DEAD"), record("DEAD"));
    for record in [&kept, &lost, &removed] {
        store.begin(record, None).unwrap();
        let mut log = store.keep_log(&record.id).unwrap();
        log.write(LogStream::Out, b"one\n");
        assert!(log.finish().is_none());
    }
    let mode = fs::metadata(store.log_path(&kept.id)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    store.finish(&finished(&removed)).unwrap();
    fs::remove_file(store.record_path(&removed.id)).unwrap();
    store.mark_lost(|segment| segment == "LIVE").unwrap();
    assert_eq!(store.list().unwrap().count(), 2);
    let line = LogLine::Text { stream: LogStream::Out, goes_on: false, text: "one".into() };
    assert_eq!(store.log(&kept.id).unwrap(), Some(vec![line.clone()]));
    assert_eq!(store.log(&lost.id).unwrap(), Some(vec![line]));
    assert_eq!(store.log(&removed.id).unwrap(), None);
}

#[test]
fn store_without_logs_creates_none() {
    let (_dir, store) = store();
    assert!(store.keeping(0).keep_log(&RunId::generate()).is_none());
}

#[test]
fn link_in_place_of_a_log_is_not_followed() {
    let (dir, store) = store();
    let begun = record("01A");
    store.begin(&begun, None).unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "strongroom log 1\n").unwrap();
    std::os::unix::fs::symlink(&precious, store.log_path(&begun.id)).unwrap();
    let mut log = store.keep_log(&begun.id).unwrap();
    log.write(LogStream::Out, b"one\n");
    assert!(log.finish().is_some());
    assert!(store.log(&begun.id).is_err());
    assert_eq!(fs::read(&precious).unwrap(), b"strongroom log 1\n");
}

#[test]
fn oversized_record_is_reduced_and_readable() {
    let (_dir, store) = store();
    let mut large = finished(&record("01A"));
    let points = vec![Point { step: Some(1), value: Number(0.5) }; 10_000];
    let metric = Metric { points, last: Some(Number(0.5)), dropped: 1 };
    large.metrics = (0..60).map(|at| (format!("metric-{at}"), metric.clone())).collect();
    let output = |at| Output { path: format!("{at:04}{}", "x".repeat(4_000)), bytes: 1, sha256: Digest::of(b"") };
    large.outputs = (0..10_000).map(output).collect();
    store.finish(&large).unwrap();
    let read = store.get(&large.id).unwrap();
    assert_eq!(read.metrics.len(), 60);
    assert!(read.metrics.values().all(|m| m.points.is_empty() && m.dropped == 10_001 && m.last == Some(Number(0.5))));
    assert!(!read.outputs.is_empty() && read.outputs.len() < 10_000);
    assert_eq!(read.outputs_omitted, 10_000 - read.outputs.len() as u64);
    assert_eq!(read.warnings.len(), 2, "{:?}", read.warnings);
}

#[test]
fn disk_errors_state_what_to_do() {
    let told = |kind: io::ErrorKind| RunStoreError::io("write", Path::new("a.json"), kind.into()).to_string();
    assert_eq!(told(io::ErrorKind::StorageFull), "could not write `a.json`: no storage space; free space on that disk");
    assert!(told(io::ErrorKind::FileTooLarge).ends_with("; raise the limit on the size of files (`ulimit -f`)"));
    assert!(told(io::ErrorKind::ReadOnlyFilesystem).contains("must be on a writable disk"));
    assert!(told(io::ErrorKind::PermissionDenied).contains("belong to the user who runs this"));
    assert_eq!(told(io::ErrorKind::Interrupted), "could not write `a.json`: operation interrupted");
}
