//! Batches on a vault without transactions: concurrent calls, and an exact list of what was changed
//! if one fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};

use strongroom_core::ids::SecretName;
use strongroom_vault::VaultError;

/// Maximum number of concurrent calls of a batch.
pub(super) const CONCURRENCY: usize = 8;

/// Runs a batch of changes. Changes of one name run in order. After a failure no further change is
/// started, and those in progress are awaited. Returns the results in the order of the batch.
///
/// # Errors
/// The first failure, or [`VaultError::Partial`] with exactly the names that were changed, if any
/// were.
pub(super) async fn change<J, T, F>(
    jobs: Vec<(SecretName, J)>,
    work: impl Fn(SecretName, J) -> F,
) -> Result<Vec<T>, VaultError>
where
    F: Future<Output = Result<T, VaultError>>,
{
    let mut by_name: BTreeMap<SecretName, Vec<(usize, J)>> = BTreeMap::new();
    for (at, (name, job)) in jobs.into_iter().enumerate() {
        by_name.entry(name).or_default().push((at, job));
    }
    let stopped = AtomicBool::new(false);
    let (work, stopped) = (&work, &stopped);
    let lines = stream::iter(by_name.into_iter().map(|(name, jobs)| async move {
        let mut done = Vec::new();
        for (at, job) in jobs {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            match work(name.clone(), job).await {
                Ok(answer) => done.push((at, answer)),
                Err(error) => {
                    stopped.store(true, Ordering::Relaxed);
                    return (name, done, Some(error));
                }
            }
        }
        (name, done, None)
    }));
    let mut lines = lines.buffer_unordered(CONCURRENCY);
    let (mut answers, mut written, mut cause) = (BTreeMap::new(), Vec::new(), None);
    while let Some((name, done, error)) = lines.next().await {
        if !done.is_empty() {
            written.push(name);
        }
        answers.extend(done);
        cause = cause.or(error);
    }
    match cause {
        None => Ok(answers.into_values().collect()),
        Some(cause) if written.is_empty() => Err(cause),
        Some(cause) => {
            written.sort();
            Err(VaultError::Partial { written, cause: Box::new(cause) })
        }
    }
}

/// Reads several items, in order.
///
/// # Errors
/// The first failure, after which no further item is read.
pub(super) async fn read<J, T, F>(jobs: Vec<J>, work: impl Fn(J) -> F) -> Result<Vec<T>, VaultError>
where
    F: Future<Output = Result<T, VaultError>>,
{
    stream::iter(jobs.into_iter().map(work)).buffered(CONCURRENCY).try_collect().await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn reads_are_concurrent_and_in_order() {
        let in_progress = Mutex::new((0, 0));
        let jobs = (0..100).collect();
        let answers = read(jobs, |job: u64| {
            let in_progress = &in_progress;
            async move {
                {
                    let mut count = in_progress.lock().unwrap();
                    count.0 += 1;
                    count.1 = count.1.max(count.0);
                }
                tokio::time::sleep(Duration::from_millis(1 + job % 7)).await;
                in_progress.lock().unwrap().0 -= 1;
                Ok(job)
            }
        });
        assert_eq!(answers.await.unwrap(), (0..100).collect::<Vec<_>>());
        assert_eq!(in_progress.lock().unwrap().1, CONCURRENCY);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_one_name_are_in_order() {
        let log = Mutex::new(Vec::new());
        let jobs = vec![(name("a"), 50), (name("b"), 1), (name("a"), 1), (name("a"), 20)];
        let answers = change(jobs, |name, ms: u64| {
            let log = &log;
            async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if name.as_str() == "a" {
                    log.lock().unwrap().push(ms);
                }
                Ok(ms)
            }
        });
        assert_eq!(answers.await.unwrap(), [50, 1, 1, 20]);
        assert_eq!(*log.lock().unwrap(), [50, 1, 20]);
    }

    proptest! {
        // promise: A partial batch reports exactly which names were written.
        #[test]
        fn partial_error_lists_exactly_what_was_written(
            jobs in prop::collection::vec(("[a-f]", 0_u64..20, prop::bool::weighted(0.9)), 1..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let done = Mutex::new(std::collections::BTreeSet::new());
            let named = jobs.iter().map(|(text, ms, good)| (name(text), (*ms, *good))).collect();
            let answer = runtime.block_on(change(named, |name, (ms, good)| {
                let done = &done;
                async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    if !good {
                        return Err(VaultError::NotFound(name));
                    }
                    done.lock().unwrap().insert(name);
                    Ok(())
                }
            }));
            let done: Vec<_> = done.into_inner().unwrap().into_iter().collect();
            match answer {
                Ok(answers) => prop_assert!(answers.len() == jobs.len() && jobs.iter().all(|job| job.2)),
                Err(VaultError::Partial { written, .. }) => prop_assert_eq!(written, done),
                Err(_) => prop_assert!(done.is_empty()),
            }
        }
    }
}
