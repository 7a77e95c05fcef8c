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
        progress: None,
        outputs: Vec::new(),
        redactions: 0,
        log: LogCount::default(),
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

fn names(store: &RunStore) -> Vec<String> {
    let mut names = store.names().unwrap();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

#[test]
fn a_record_is_there_from_the_beginning_and_replaced_at_the_end() {
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
fn the_folder_and_the_files_are_for_their_owner_alone() {
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
fn a_link_is_no_folder_for_records() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("runs");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    assert!(matches!(RunStore::open(&link), Err(RunStoreError::Folder { .. })));
}

#[test]
fn the_list_is_newest_first_and_survives_damage_and_left_over_files() {
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
fn a_newer_format_is_refused_whatever_else_it_holds() {
    let (_dir, store) = store();
    let id = RunId::generate();
    fs::write(store.record_path(&id), format!("{{\"format\": 2, \"id\": \"{id}\", \"new\": []}}")).unwrap();
    let error = store.get(&id).unwrap_err();
    assert!(matches!(error, RunStoreError::Newer { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("use a newer one"));
}

#[test]
fn a_record_under_another_name_and_an_endless_one_are_damaged() {
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
fn a_run_is_found_by_a_unique_beginning_or_as_the_last() {
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
fn left_over_temporary_files_go_with_their_writer() {
    let (_dir, store) = store();
    for name in [".new-LIVE-a", ".new-DEAD-b", ".new-sweep-c"] {
        fs::write(store.dir.join(name), "").unwrap();
    }
    store.mark_lost(|segment| segment == "LIVE").unwrap();
    assert_eq!(names(&store), [".new-LIVE-a"]);
}

#[test]
fn the_staging_folder_of_a_lost_run_is_removed_and_links_in_it_are_not_followed() {
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
fn a_staging_folder_is_removed_even_where_the_record_was_never_written() {
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
fn nothing_but_a_real_staging_folder_is_removed() {
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
fn a_link_on_the_way_to_a_staging_folder_is_not_followed() {
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
fn what_is_no_file_is_not_waited_for() {
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
    for name in [format!("{id}.json"), format!("{id}.log"), format!("{id}.open"), ".new-DEAD-x".to_owned()] {
        plant(&name);
    }
    assert!(store.get(&id).unwrap_err().to_string().contains("no regular file"));
    assert!(store.log(&id).unwrap_err().to_string().contains("no regular file"));
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
fn a_log_goes_with_its_record_and_stays_with_a_lost_run() {
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
    let line = LogLine::Text { stream: LogStream::Out, goes_on: false, text: "one".into() };
    assert_eq!(store.log(&kept.id).unwrap(), Some(vec![line.clone()]));
    assert_eq!(store.log(&lost.id).unwrap(), Some(vec![line]));
    assert_eq!(store.log(&removed.id).unwrap(), None);
    assert_eq!(store.list().unwrap().count(), 2);
}

#[test]
fn a_store_keeps_no_logs_where_it_should_not() {
    let (_dir, store) = store();
    assert!(store.keeping(0).keep_log(&RunId::generate()).is_none());
}

#[test]
fn a_link_in_place_of_a_log_is_neither_read_nor_written() {
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
fn a_record_over_the_bound_is_thinned_and_stays_readable() {
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
    assert_eq!(read.warnings.len(), 2, "{:?}", read.warnings);
}

#[test]
fn a_disk_that_takes_no_record_is_explained() {
    let told = |kind: io::ErrorKind| RunStoreError::io("write", Path::new("a.json"), kind.into()).to_string();
    assert_eq!(told(io::ErrorKind::StorageFull), "cannot write `a.json`: no storage space; make room on that disk");
    assert!(told(io::ErrorKind::FileTooLarge).ends_with("; raise the limit on the size of files (`ulimit -f`)"));
    assert!(told(io::ErrorKind::ReadOnlyFilesystem).contains("have to be on a disk that can be written"));
    assert!(told(io::ErrorKind::PermissionDenied).contains("belong to the user who runs this"));
    assert_eq!(told(io::ErrorKind::Interrupted), "cannot write `a.json`: operation interrupted");
}
