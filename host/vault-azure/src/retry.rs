//! The retry policy: number and rate of attempts, and the deadline of a call.
//!
//! A call consists of attempts. The wait between them is what the vault requests, or grows
//! exponentially with jitter, so that runs that failed together do not retry together. Attempts are
//! limited to a rate below the vault's own limits. If the vault keeps failing, a circuit breaker
//! fails calls at once for a while, then lets one attempt through. Each call has a deadline.

mod breaker;
mod rate;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;
use tracing::Instrument;

use super::error::CallError;
use breaker::Breaker;
use rate::Rate;

/// Settings of the retry policy.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Deadline of a call with all its attempts.
    pub(super) deadline: Duration,
    /// The first wait between attempts, which doubles each time.
    pub(super) first_wait: Duration,
    /// The longest wait that the policy itself chooses.
    pub(super) longest_wait: Duration,
    /// Reads per second. Key Vault's documented limit is 4,000 in ten seconds, shared by all its
    /// clients.
    pub(super) reads_per_second: u32,
    /// Writes per second. Key Vault's documented limit is 300 in ten seconds.
    pub(super) writes_per_second: u32,
    /// Number of consecutive failed attempts that opens the circuit breaker.
    pub(super) failures: u32,
    /// How long the circuit breaker stays open.
    pub(super) rest: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(8),
            reads_per_second: 300,
            writes_per_second: 20,
            failures: 8,
            rest: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Returns exponentially growing waits. The jitter adds up to the whole of a wait, so the waits
    /// without it are halves.
    fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(self.first_wait / 2)
            .with_max_delay(self.longest_wait / 2)
            .with_jitter()
            .without_max_times()
    }
}

/// Operation of a call, for telemetry, and which rate applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read(&'static str),
    Write(&'static str),
}

/// State of a call before an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Whether an earlier attempt of this call failed but may have taken effect.
    pub(super) may_have_run: bool,
}

/// The retry policy with its state.
#[derive(Debug)]
pub(super) struct RetryPolicy {
    settings: Settings,
    reads: Rate,
    writes: Rate,
    breaker: Breaker,
}

impl RetryPolicy {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            reads: Rate::new(settings.reads_per_second),
            writes: Rate::new(settings.writes_per_second),
            breaker: Breaker::new(settings.failures, settings.rest),
            settings,
        }
    }

    /// Makes a call with retries.
    pub(super) async fn call<T, F>(&self, kind: Kind, attempt: impl Fn(Attempt) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let (operation, rate) = match kind {
            Kind::Read(operation) => (operation, &self.reads),
            Kind::Write(operation) => (operation, &self.writes),
        };
        let started = Instant::now();
        let deadline = started + self.settings.deadline;
        let (attempts, may_have_run) = (AtomicU32::new(0), AtomicBool::new(false));
        let work = || async {
            self.breaker.check()?;
            rate.take().await;
            attempts.fetch_add(1, Ordering::Relaxed);
            let answer = attempt(Attempt { may_have_run: may_have_run.load(Ordering::Relaxed) }).await;
            // A vault that asks for a wait works.
            let failed =
                answer.as_ref().is_err_and(|failure| failure.is_transient() && failure.retry_after().is_none());
            self.breaker.record(failed);
            answer
        };
        let retried = work
            .retry(self.settings.backoff())
            .when(|failure| failure.is_transient() && !self.breaker.is_open())
            .adjust(|failure, wait| {
                let wait = failure.retry_after().or(wait)?;
                Instant::now().checked_add(wait).filter(|then| *then < deadline).map(|_| wait)
            })
            .notify(|failure, _| {
                // Logged once per call, to explain the delay.
                if attempts.load(Ordering::Relaxed) == 1 {
                    let seconds = self.settings.deadline.as_secs();
                    tracing::warn!(
                        operation,
                        status = failure.status(),
                        "Key Vault failed; retrying for up to {seconds} s"
                    );
                }
                may_have_run.fetch_or(failure.may_have_run(), Ordering::Relaxed);
            });
        let span = tracing::debug_span!("key vault", operation);
        let answer = tokio::time::timeout_at(deadline, retried.instrument(span.clone())).await.unwrap_or_else(|_| {
            self.breaker.record(true);
            Err(CallError::Deadline(self.settings.deadline))
        });
        let (attempts, ms) = (attempts.into_inner(), started.elapsed().as_millis() as u64);
        span.in_scope(|| match &answer {
            Ok(_) => tracing::debug!(attempts, ms, "done"),
            Err(failure) => tracing::debug!(attempts, ms, status = failure.status(), "failed"),
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Answer;
    use super::super::guard::Breach;
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>) -> CallError {
        CallError::Answer(Answer { status, retry_after: retry_after.map(Duration::from_secs), ..Answer::default() })
    }

    fn settings() -> Settings {
        Settings { failures: 1000, ..Settings::default() }
    }

    /// Fails with each error in turn, then returns the number of attempts and their duration.
    async fn run(retry: &RetryPolicy, troubles: Vec<CallError>) -> Result<(u32, Duration, bool), CallError> {
        let count = AtomicU32::new(0);
        let started = Instant::now();
        let call = retry.call(Kind::Read("test"), |attempt| {
            let at = count.fetch_add(1, Ordering::SeqCst);
            let failure = troubles.get(at as usize).cloned();
            async move { failure.map_or(Ok(attempt.may_have_run), Err) }
        });
        let doubt = call.await?;
        Ok((count.into_inner(), started.elapsed(), doubt))
    }

    #[tokio::test(start_paused = true)]
    async fn transient_errors_are_retried_with_backoff() {
        let retry = RetryPolicy::new(settings());
        let troubles = vec![answer(503, None), answer(500, None), answer(429, None)];
        let (attempts, time, _) = run(&retry, troubles).await.unwrap();
        assert_eq!(attempts, 4);
        // 0.25 to 0.5, 0.5 to 1, and 1 to 2 seconds.
        assert!(time >= Duration::from_millis(1750) && time <= Duration::from_millis(3600), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_respected() {
        let retry = RetryPolicy::new(settings());
        let (attempts, time, _) = run(&retry, vec![answer(429, Some(7)), answer(503, Some(11))]).await.unwrap();
        assert_eq!(attempts, 3);
        assert!(time >= Duration::from_secs(18) && time < Duration::from_secs(19), "{time:?}");
        // Longer than the deadline: no wait.
        let started = Instant::now();
        let error = run(&retry, vec![answer(429, Some(3600))]).await.unwrap_err();
        assert_eq!((error.status(), started.elapsed()), (Some(429), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_errors_are_not_retried() {
        let retry = RetryPolicy::new(settings());
        for failure in [answer(403, None), answer(404, None), answer(400, None), answer(409, None), answer(401, None)] {
            let status = failure.status();
            let started = Instant::now();
            let error = run(&retry, vec![failure]).await.unwrap_err();
            assert_eq!((error.status(), started.elapsed()), (status, Duration::ZERO));
        }
        let foreign = CallError::Breach(Breach::Foreign("evil.example".into()));
        assert!(matches!(run(&retry, vec![foreign]).await, Err(CallError::Breach(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn call_ends_at_its_deadline() {
        let retry = RetryPolicy::new(settings());
        let started = Instant::now();
        let error = run(&retry, vec![answer(503, None); 1000]).await.unwrap_err();
        assert!(error.is_transient() && started.elapsed() <= Duration::from_secs(30), "{:?}", started.elapsed());
        let started = Instant::now();
        let never: Result<(), _> = retry.call(Kind::Read("test"), |_| std::future::pending()).await;
        assert!(matches!(never, Err(CallError::Deadline(_))));
        assert_eq!(started.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_may_have_run_are_recorded() {
        let retry = RetryPolicy::new(settings());
        assert!(!run(&retry, vec![answer(429, None)]).await.unwrap().2);
        assert!(run(&retry, vec![answer(500, None), answer(429, None)]).await.unwrap().2);
        let broken = CallError::Breach(Breach::Broken("the vault", String::new()));
        assert!(run(&retry, vec![broken]).await.unwrap().2);
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_opens_and_lets_one_attempt_through() {
        let retry = RetryPolicy::new(Settings { failures: 3, ..Settings::default() });
        // The third attempt fails, and there is no fourth.
        assert_eq!(run(&retry, vec![answer(503, None); 9]).await.unwrap_err().status(), Some(503));
        let started = Instant::now();
        assert!(matches!(run(&retry, vec![]).await, Err(CallError::CircuitOpen { .. })), "the call fails at once");
        assert_eq!(started.elapsed(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(run(&retry, vec![]).await.unwrap().0, 1);
        assert_eq!(run(&retry, vec![answer(503, None)]).await.unwrap().0, 2, "one failure does not open it again");
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_does_not_open_the_breaker() {
        let retry = RetryPolicy::new(Settings { failures: 2, ..Settings::default() });
        assert_eq!(run(&retry, vec![answer(429, Some(1)); 5]).await.unwrap().0, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn rates_stay_below_the_vaults_limits() {
        let retry = RetryPolicy::new(Settings::default());
        for (kind, calls, seconds) in [(Kind::Read("test"), 3300, 10), (Kind::Write("test"), 220, 10)] {
            let started = Instant::now();
            let all = (0..calls).map(|_| retry.call(kind, |_| async { Ok(()) }));
            futures_util::future::try_join_all(all).await.unwrap();
            let time = started.elapsed();
            assert!(time >= Duration::from_secs(seconds - 1) && time <= Duration::from_secs(seconds + 1), "{time:?}");
        }
    }
}
