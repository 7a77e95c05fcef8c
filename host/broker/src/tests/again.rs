//! Repeated reads: each is counted once, whatever happens between them.

use proptest::prelude::*;

use super::*;

const ALL: &str = r#"["get", "set", "describe", "delete"]"#;

/// A name of each kind: in full, under another name in the vault, and by a prefix.
const NAMES: [&str; 3] = ["key", "alias", "own-key"];

fn world_of_all_kinds() -> World {
    world(&format!("key = {ALL}\nalias = {{ allow = {ALL}, stored-as = \"inner\" }}\n\"own-*\" = {ALL}"))
}

/// Returns the reads that the audit log reports as served, single or as a total.
fn reads_in(trail: &str) -> BTreeMap<(String, String), u64> {
    let mut reads = BTreeMap::new();
    for line in trail.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        if text("event") == "repeats" || text("outcome") == "released" {
            let count = line["count"].as_u64().unwrap_or(1);
            *reads.entry((text("secret"), text("version"))).or_default() += count;
        }
    }
    reads
}

/// Returns the reads that the record reports as served, by the requested name.
fn reads_of(run: &RunBroker) -> BTreeMap<String, u64> {
    let reads = run.uses().into_iter().filter(|used| used.operation == "get" && used.count > 0);
    reads.map(|used| (used.name, used.count)).collect()
}

/// Executes the step with this number, and returns the values that the run got, each with the
/// requested name.
async fn step(world: &World, step: u8, name: &str, fresh: &str) -> Vec<(String, Arc<Secret>)> {
    let (run, vault) = (&world.run, &world.vault);
    let of = |value: Arc<Secret>| (name.to_owned(), value);
    let stored = if name == "alias" { "inner" } else { name };
    match step {
        0..4 => return run.get(name).await.ok().map(of).into_iter().collect(),
        4 => return run.get(&name.to_uppercase()).await.ok().map(of).into_iter().collect(),
        5 => {
            let values = run.get_many(&NAMES.map(str::to_owned)).await.unwrap();
            return NAMES.iter().zip(values).filter_map(|(name, value)| Some((str::to_owned(name), value?))).collect();
        }
        6 => drop(run.set(name, fresh.to_owned()).await),
        7 => drop(run.delete(name).await),
        8 => drop(run.describe(name).await),
        9 => {
            *vault.fail.lock().unwrap() = Some(VaultError::Unavailable("gone".into()));
            assert!(run.set(name, fresh.to_owned()).await.is_err());
            *vault.fail.lock().unwrap() = None;
        }
        10 => drop(vault.put(stored, fresh)),
        11 => drop(run.uses()),
        12 => run.finish().await.unwrap(),
        _ => vault.cached.store(step == 13, Ordering::SeqCst),
    }
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens between reads: each value that a run got is one read in its record and in
    /// the audit log, under its own name and version.
    // promise: Every read of a secret is counted once in the audit log and the run record, also when it
    // is repeated.
    #[test]
    fn every_read_is_counted_once(steps in prop::collection::vec((0..15u8, 0..NAMES.len()), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = world_of_all_kinds();
            for name in ["key", "inner", "own-key"] {
                world.vault.put(name, &format!("first value of {name}"));
            }
            let (mut in_trail, mut in_record) = (BTreeMap::new(), BTreeMap::new());
            let mut versions: BTreeMap<String, (String, String)> = BTreeMap::new();
            for (at, (what, name)) in steps.into_iter().enumerate() {
                let got = step(&world, what, NAMES[name], &format!("fresh value {at}")).await;
                for (name, stored) in world.vault.secrets.lock().unwrap().iter() {
                    versions.extend(stored.iter().map(|stored| {
                        (stored.value.expose().to_owned(), (name.to_string(), stored.description.version.to_string()))
                    }));
                }
                for (name, value) in got {
                    *in_trail.entry(versions[value.expose()].clone()).or_default() += 1;
                    *in_record.entry(name).or_default() += 1;
                }
            }
            world.run.finish().await.unwrap();
            assert_eq!((reads_in(&world.trail()), reads_of(&world.run)), (in_trail, in_record));
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_reads_at_once_each_is_counted() {
    let world = Arc::new(world_of_all_kinds());
    for name in ["key", "inner", "own-key"] {
        world.vault.put(name, &format!("first value of {name}"));
    }
    let tasks: Vec<_> = (0..8_u8)
        .map(|task| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut got = 0;
                for at in 0..100_u8 {
                    // Mostly reads. One task also makes an occasional change or looks at the
                    // counts.
                    let what =
                        if task == 0 && at % 4 == 0 { [6, 7, 8, 10, 11, 12][usize::from(at / 4 % 6)] } else { at % 6 };
                    let name = NAMES[usize::from(at % 3)];
                    got += step(&world, what, name, &format!("fresh value {task} {at}")).await.len() as u64;
                    tokio::task::yield_now().await;
                }
                got
            })
        })
        .collect();
    let mut got = 0;
    for task in tasks {
        got += task.await.unwrap();
    }
    world.run.finish().await.unwrap();
    let (in_trail, in_record) = (reads_in(&world.trail()), reads_of(&world.run));
    assert_eq!(
        (in_trail.values().sum::<u64>(), in_record.values().sum::<u64>()),
        (got, got),
        "{in_trail:?} {in_record:?}"
    );
}
