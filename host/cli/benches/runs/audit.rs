//! A long audit log: the speed of writing and verifying it, and the memory needed.

use std::sync::Arc;
use std::time::Instant;

use strongroom::audit::{Audit, Decision, Event, Kind, SyncMode, Verdict, verify};
use strongroom::ids::{RunId, SecretName};

use crate::Size;
use crate::alive::status;
use crate::host::runtime;
use crate::raw::Floor;
use crate::table::{row, shown};

pub(crate) fn measure(size: Size) {
    let folder = tempfile::tempdir().unwrap();
    let events = size.choose(1_000_000, 1_000);
    let event = Event {
        event: Kind::Use,
        run: Some(RunId::generate()),
        operation: Some("get".into()),
        secret: Some(SecretName::parse("db-password").unwrap()),
        decision: Some(Decision::Allowed),
        rule: Some("secrets.db-password".into()),
        outcome: Some("released".into()),
        ..Event::default()
    };

    let audit = Audit::open(&folder.path().join("audit"), SyncMode::Os).unwrap();
    let before = status("VmRSS:");
    let started = Instant::now();
    for _ in 0..events {
        audit.append_blocking(event.clone()).unwrap();
    }
    let took = started.elapsed();
    row(&format!("{events} events appended, `os`"), &rate(events, took));
    row("  resident memory more than before", &format!("{} KiB", status("VmRSS:").saturating_sub(before)));
    let mut floor = Floor::new(folder.path());
    let started = Instant::now();
    (0..events).for_each(|_| floor.event());
    row("  the floor: one hash and one append each", &rate(events, started.elapsed()));
    audit.close().unwrap();
    drop(audit);

    let before = status("VmHWM:");
    let started = Instant::now();
    let report = verify(&folder.path().join("audit"), None).unwrap();
    let took = started.elapsed();
    assert_eq!(report.overall(), Verdict::Intact);
    let bytes: u64 = std::fs::read_dir(folder.path().join("audit"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let speed = bytes as f64 / took.as_secs_f64() / 1e6;
    row("verified", &format!("{}, {speed:.0} MB/s", rate(events, took)));
    row("  resident memory more than before, at most", &format!("{} KiB", status("VmHWM:").saturating_sub(before)));

    // Each event waits for the disk. Concurrent events share a sync.
    let audit = Audit::open(&folder.path().join("always"), SyncMode::Always).unwrap();
    let (runtime, at_once) = (runtime(), 64);
    let events = size.choose(6_400, 64);
    let started = Instant::now();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        let event = Arc::new(event);
        for _ in 0..at_once {
            let (audit, event) = (audit.clone(), Arc::clone(&event));
            tasks.spawn(async move {
                for _ in 0..events / at_once {
                    audit.append((*event).clone()).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
    row(&format!("{events} events of {at_once} runs at once, `always`"), &rate(events, started.elapsed()));
}

fn rate(events: usize, took: std::time::Duration) -> String {
    let each = took / u32::try_from(events).unwrap();
    format!("{:.0} a second, {} each", events as f64 / took.as_secs_f64(), shown(each))
}
