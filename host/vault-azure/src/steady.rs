//! One policy for repeating calls: how often, how fast, until when.
//!
//! A call is made of attempts. Between them it waits as long as the vault asks, or longer and longer, with a random part, so that runs
//! that failed together do not come back together. Each attempt takes its place in a rate that lies below the vault's own limits. When
//! the vault keeps failing, calls fail at once for a while, and then one of them tries. All of it is bounded by the call's deadline.

mod breaker;
mod rate;

use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use super::error::Trouble;
use breaker::Breaker;
use rate::Rate;

/// The settings of the policy.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How long a call may take, with all its attempts.
    pub(super) deadline: Duration,
    /// The first wait between attempts; each next one is twice as long.
    pub(super) first_wait: Duration,
    /// The longest wait between attempts that is chosen here.
    pub(super) longest_wait: Duration,
    /// Reads a second. Key Vault's documented limit is 4,000 in ten seconds, shared with whoever else uses the vault.
    pub(super) reads_per_second: u32,
    /// Writes a second. Key Vault's documented limit is 300 in ten seconds.
    pub(super) writes_per_second: u32,
    /// How many attempts in a row have to fail before calls are not made any more.
    pub(super) failures: u32,
    /// For how long they are not.
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

/// What a call does, in the words of the telemetry; what it counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read(&'static str),
    Write(&'static str),
}

/// How an attempt stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Whether an earlier one of the same call may have been carried out although it failed.
    pub(super) after_doubt: bool,
}

/// The policy and its state.
#[derive(Debug)]
pub(super) struct Steady {
    settings: Settings,
    reads: Rate,
    writes: Rate,
    breaker: Breaker,
}

impl Steady {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            reads: Rate::new(settings.reads_per_second),
            writes: Rate::new(settings.writes_per_second),
            breaker: Breaker::new(settings.failures, settings.rest),
            settings,
        }
    }

    /// Makes a call.
    pub(super) async fn call<T, F>(&self, kind: Kind, attempt: impl Fn(Attempt) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let (operation, rate) = match kind {
            Kind::Read(operation) => (operation, &self.reads),
            Kind::Write(operation) => (operation, &self.writes),
        };
        let span = tracing::debug_span!("key vault", operation);
        let deadline = Instant::now() + self.settings.deadline;
        let work = self.attempts(operation, rate, deadline, attempt);
        match tokio::time::timeout_at(deadline, work.instrument(span)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.breaker.failed();
                Err(Trouble::Deadline(self.settings.deadline))
            }
        }
    }

    async fn attempts<T, F>(
        &self,
        operation: &'static str,
        rate: &Rate,
        deadline: Instant,
        attempt: impl Fn(Attempt) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let began = Instant::now();
        let mut number = 0_u32;
        let mut after_doubt = false;
        let mut last = None;
        loop {
            number = number.saturating_add(1);
            // Who has seen what is wrong says that, rather than that it has been seen too often.
            let pass = self.breaker.pass().map_err(|text| last.take().unwrap_or(Trouble::Resting(text)))?;
            rate.take().await;
            let answer = attempt(Attempt { after_doubt }).await;
            pass.end(
                answer.as_ref().err().is_none_or(|trouble| !trouble.is_transient() || trouble.retry_after().is_some()),
            );
            let trouble = match answer {
                Ok(answer) => {
                    let ms = began.elapsed().as_millis() as u64;
                    tracing::debug!(attempts = number, ms, "done");
                    return Ok(answer);
                }
                Err(trouble) => trouble,
            };
            let wait = trouble.retry_after().unwrap_or_else(|| self.wait(number));
            let in_time = Instant::now().checked_add(wait).is_some_and(|then| then < deadline);
            let again = trouble.is_transient() && in_time;
            let ms = began.elapsed().as_millis() as u64;
            tracing::debug!(attempts = number, ms, status = trouble.status(), again, "failed");
            if !again {
                return Err(trouble);
            }
            if number == 1 {
                // Once a call: whoever waits for it should know why.
                let seconds = self.settings.deadline.as_secs();
                tracing::warn!(
                    operation,
                    status = trouble.status(),
                    "Key Vault did not serve; trying again for up to {seconds} s"
                );
            }
            after_doubt |= trouble.is_ambiguous();
            last = Some(trouble);
            tokio::time::sleep(wait).await;
        }
    }

    /// Half of the time that doubles with each attempt, and a random part of the other half.
    fn wait(&self, attempts: u32) -> Duration {
        let doubled = self.settings.first_wait.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        let half = doubled.min(self.settings.longest_wait) / 2;
        // Without random bytes it waits the whole time.
        let part = getrandom::u32().unwrap_or(u32::MAX);
        half + half.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::error::Answer;
    use super::super::guard::Breach;
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>) -> Trouble {
        Trouble::Answer(Answer { status, retry_after: retry_after.map(Duration::from_secs), ..Answer::default() })
    }

    fn settings() -> Settings {
        Settings { failures: 1000, ..Settings::default() }
    }

    /// Fails with each trouble in turn, then answers with the number of attempts and how long all took.
    async fn run(steady: &Steady, troubles: Vec<Trouble>) -> Result<(u32, Duration, bool), Trouble> {
        let count = AtomicU32::new(0);
        let began = Instant::now();
        let call = steady.call(Kind::Read("test"), |attempt| {
            let at = count.fetch_add(1, Ordering::SeqCst);
            let trouble = troubles.get(at as usize).cloned();
            async move { trouble.map_or(Ok(attempt.after_doubt), Err) }
        });
        let doubt = call.await?;
        Ok((count.into_inner(), began.elapsed(), doubt))
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_later_and_later() {
        let steady = Steady::new(settings());
        let troubles = vec![answer(503, None), answer(500, None), answer(429, None)];
        let (attempts, time, _) = run(&steady, troubles).await.unwrap();
        assert_eq!(attempts, 4);
        // 0.25 to 0.5, 0.5 to 1, and 1 to 2 seconds.
        assert!(time >= Duration::from_millis(1750) && time <= Duration::from_millis(3600), "{time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_vault_says_how_long_to_wait() {
        let steady = Steady::new(settings());
        let (attempts, time, _) = run(&steady, vec![answer(429, Some(7)), answer(503, Some(11))]).await.unwrap();
        assert_eq!(attempts, 3);
        assert!(time >= Duration::from_secs(18) && time < Duration::from_secs(19), "{time:?}");
        // Longer than the call may take: not waited for.
        let began = Instant::now();
        let error = run(&steady, vec![answer(429, Some(3600))]).await.unwrap_err();
        assert_eq!((error.status(), began.elapsed()), (Some(429), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_not_tried_again() {
        let steady = Steady::new(settings());
        for trouble in [answer(403, None), answer(404, None), answer(400, None), answer(409, None), answer(401, None)] {
            let status = trouble.status();
            let began = Instant::now();
            let error = run(&steady, vec![trouble]).await.unwrap_err();
            assert_eq!((error.status(), began.elapsed()), (status, Duration::ZERO));
        }
        let foreign = Trouble::Breach(Breach::Foreign("evil.example".into()));
        assert!(matches!(run(&steady, vec![foreign]).await, Err(Trouble::Breach(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline() {
        let steady = Steady::new(settings());
        let began = Instant::now();
        let error = run(&steady, vec![answer(503, None); 1000]).await.unwrap_err();
        assert!(error.is_transient() && began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
        let began = Instant::now();
        let never: Result<(), _> = steady.call(Kind::Read("test"), |_| std::future::pending()).await;
        assert!(matches!(never, Err(Trouble::Deadline(_))));
        assert_eq!(began.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_remembered_that_an_attempt_may_have_been_carried_out() {
        let steady = Steady::new(settings());
        assert!(!run(&steady, vec![answer(429, None)]).await.unwrap().2);
        assert!(run(&steady, vec![answer(500, None), answer(429, None)]).await.unwrap().2);
        let broken = Trouble::Breach(Breach::Broken("the vault", String::new()));
        assert!(run(&steady, vec![broken]).await.unwrap().2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vault_that_keeps_failing_is_left_alone_and_then_tried_by_one() {
        let steady = Steady::new(Settings { failures: 3, ..Settings::default() });
        // The third attempt fails, and there is no fourth.
        assert_eq!(run(&steady, vec![answer(503, None); 9]).await.unwrap_err().status(), Some(503));
        let began = Instant::now();
        assert!(matches!(run(&steady, vec![]).await, Err(Trouble::Resting(_))), "it fails at once");
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(run(&steady, vec![]).await.unwrap().0, 1);
        assert_eq!(run(&steady, vec![answer(503, None)]).await.unwrap().0, 2, "one failure is forgiven again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_host_does_not_leave_the_vault_alone_for_longer_than_asked() {
        let steady = Steady::new(Settings { failures: 2, ..Settings::default() });
        assert_eq!(run(&steady, vec![answer(429, Some(1)); 5]).await.unwrap().0, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_and_writes_keep_below_the_vaults_limits() {
        let steady = Steady::new(Settings::default());
        for (kind, calls, seconds) in [(Kind::Read("test"), 3300, 10), (Kind::Write("test"), 220, 10)] {
            let began = Instant::now();
            let all = (0..calls).map(|_| steady.call(kind, |_| async { Ok(()) }));
            futures_util::future::try_join_all(all).await.unwrap();
            let time = began.elapsed();
            assert!(time >= Duration::from_secs(seconds - 1) && time <= Duration::from_secs(seconds + 1), "{time:?}");
        }
    }
}
