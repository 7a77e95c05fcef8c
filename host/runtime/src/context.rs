//! `strongroom:training/context`: the run's parameters and its reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::metrics::Metrics;
use super::observer::Observer;
use super::stop::{Stop, StopCell};
use strongroom_core::ids::RunId;
use strongroom_core::record::{Limit, METRIC_NAMES_MAX, Metric, Number, Point, Progress};
use strongroom_redact::Redactor;

/// The longest name of a metric, in bytes (`wit/training.wit`).
pub const METRIC_NAME_MAX: usize = 128;
/// The longest progress message, in bytes (`wit/training.wit`).
pub const MESSAGE_MAX: usize = 1_024;

/// One run's context.
pub(super) struct Context {
    run: RunId,
    parameters: BTreeMap<String, String>,
    redactor: Redactor,
    observer: Arc<dyn Observer>,
    reports: u64,
    reports_max: u64,
    metrics: Metrics,
    progress: Option<Progress>,
    stop: StopCell,
}

impl Context {
    /// Returns the context of a run. `reports_max` is the policy's `metrics` limit.
    pub(super) fn new(
        run: RunId,
        parameters: BTreeMap<String, String>,
        redactor: Redactor,
        observer: Arc<dyn Observer>,
        reports_max: u64,
        stop: StopCell,
    ) -> Self {
        Self {
            run,
            parameters,
            redactor,
            observer,
            reports: 0,
            reports_max,
            metrics: Metrics::default(),
            progress: None,
            stop,
        }
    }

    /// Returns the run's ID.
    pub(super) fn run_id(&self) -> RunId {
        self.run
    }

    /// Returns the parameters by name.
    pub(super) fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// Takes the reports, for the run record.
    pub(super) fn take_reports(&mut self) -> (BTreeMap<String, Metric>, Option<Progress>) {
        (self.metrics.take(), self.progress.take())
    }

    /// Records one value of a metric.
    ///
    /// # Errors
    /// The outer error ends the run; the inner one tells the component what is wrong with the name.
    pub(super) fn log_metric(&mut self, name: &str, value: f64, step: Option<u64>) -> Result<Result<(), String>, Stop> {
        self.count()?;
        if name.is_empty() || name.len() > METRIC_NAME_MAX {
            return Ok(Err(format!("a metric's name is 1 to {METRIC_NAME_MAX} bytes")));
        }
        if name.chars().any(char::is_control) {
            return Ok(Err("a metric's name has no control characters".to_owned()));
        }
        let name = self.redactor.sanitize(name);
        if !self.metrics.push(name.clone(), Point { step, value: Number(value) }) {
            return Ok(Err(format!("a run has at most {METRIC_NAMES_MAX} metrics")));
        }
        self.observer.metric(&name, value, step);
        Ok(Ok(()))
    }

    /// Records a progress report.
    ///
    /// # Errors
    /// As for `log_metric`.
    pub(super) fn report_progress(&mut self, done: u64, total: u64, message: &str) -> Result<Result<(), String>, Stop> {
        self.count()?;
        if message.len() > MESSAGE_MAX {
            return Ok(Err(format!("a progress message is at most {MESSAGE_MAX} bytes")));
        }
        let progress = Progress { done, total, message: self.redactor.sanitize(message) };
        self.observer.progress(&progress);
        self.progress = Some(progress);
        Ok(Ok(()))
    }

    fn count(&mut self) -> Result<(), Stop> {
        self.reports = self.reports.saturating_add(1);
        if self.reports > self.reports_max { Err(self.stop.stop(Limit::Metrics)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::observer::Silent;
    use super::*;
    use strongroom_core::ids::SecretName;
    use strongroom_core::secret::Secret;

    fn context(max: u64) -> (Context, Redactor) {
        let redactor = Redactor::new();
        let stop = StopCell::default();
        (Context::new(RunId::generate(), BTreeMap::new(), redactor.clone(), Arc::new(Silent), max, stop), redactor)
    }

    #[test]
    fn reports_are_bounded() {
        let (mut context, _) = context(2);
        context.log_metric("loss", 1.0, None).unwrap().unwrap();
        context.report_progress(1, 2, "half").unwrap().unwrap();
        assert_eq!(context.log_metric("loss", 1.0, None).unwrap_err().0, Limit::Metrics);
    }

    #[test]
    fn secret_in_a_name_or_message_is_redacted() {
        let (mut context, redactor) = context(10);
        redactor.register(&SecretName::parse("key").unwrap(), &Secret::new("hunter2hunter".into()).unwrap());
        context.log_metric("is-hunter2hunter", 1.0, Some(3)).unwrap().unwrap();
        context.report_progress(0, 0, "\u{1b}]0;hunter2hunter\u{7}").unwrap().unwrap();
        let (metrics, progress) = context.take_reports();
        let shown = format!("{metrics:?} {progress:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!progress.unwrap().message.contains('\u{1b}'));
    }

    #[test]
    fn invalid_metric_name_is_an_error() {
        let (mut context, _) = context(10);
        for bad in ["", "a\nb", &"x".repeat(129)] {
            assert!(context.log_metric(bad, 0.0, None).unwrap().is_err());
        }
        assert!(context.report_progress(0, 0, &"x".repeat(1_025)).unwrap().is_err());
    }
}
