//! `strongroom:training/context`: the run's parameters and its reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::metrics::Metrics;
use super::observer::Observer;
use super::stop::{Stop, StopCell};
use super::texts::{Full, Texts};
use strongroom_core::ids::RunId;
use strongroom_core::record::{
    Limit, METRIC_NAMES_MAX, Metric, Number, Point, Progress, RUN_TEXT_MAX, RunRecord, TextMetric, TextPoint,
};
use strongroom_redact::Redactor;

/// The longest name of a metric, a tag or a logged parameter, in bytes (`wit/training.wit`).
pub const METRIC_NAME_MAX: usize = 128;
/// The longest progress message, in bytes (`wit/training.wit`).
pub const MESSAGE_MAX: usize = 1_024;
/// The longest value of a tag, a logged parameter or a text metric, in bytes (`wit/training.wit`).
pub const TEXT_MAX: usize = 8_192;

/// The result of a report: the outer error ends the run, the inner one is the component's.
type Reported = Result<Result<(), String>, Stop>;

/// What a component has reported in a run. All text is redacted and escaped.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Reports {
    /// Metrics by name.
    pub metrics: BTreeMap<String, Metric>,
    /// Text metrics by name.
    pub text_metrics: BTreeMap<String, TextMetric>,
    /// Tags by name.
    pub tags: BTreeMap<String, String>,
    /// Logged parameters by name.
    pub parameters: BTreeMap<String, String>,
    /// The last progress report.
    pub progress: Option<Progress>,
}

impl Reports {
    /// Stores the reports in a run's record.
    pub fn store(self, record: &mut RunRecord) {
        record.metrics = self.metrics;
        record.text_metrics = self.text_metrics;
        record.logged_tags = self.tags;
        record.logged_parameters = self.parameters;
        record.progress = self.progress;
    }
}

/// One run's context.
pub(super) struct Context {
    run: RunId,
    parameters: BTreeMap<String, String>,
    redactor: Redactor,
    observer: Arc<dyn Observer>,
    reports: u64,
    reports_max: u64,
    metrics: Metrics,
    texts: Texts,
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
            texts: Texts::default(),
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
    pub(super) fn take_reports(&mut self) -> Reports {
        let (tags, parameters, text_metrics) = std::mem::take(&mut self.texts).into_parts();
        Reports { metrics: self.metrics.take(), text_metrics, tags, parameters, progress: self.progress.take() }
    }

    /// Records one value of a metric.
    ///
    /// # Errors
    /// The outer error ends the run; the inner one tells the component what is wrong with the name.
    pub(super) fn log_metric(&mut self, name: &str, value: f64, step: Option<u64>) -> Reported {
        self.count()?;
        if let Err(error) = check_name("metric", name) {
            return Ok(Err(error));
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
    pub(super) fn report_progress(&mut self, done: u64, total: u64, message: &str) -> Reported {
        self.count()?;
        if message.len() > MESSAGE_MAX {
            return Ok(Err(format!("a progress message is at most {MESSAGE_MAX} bytes")));
        }
        let progress = Progress { done, total, message: self.redactor.sanitize(message) };
        self.observer.progress(&progress);
        self.progress = Some(progress);
        Ok(Ok(()))
    }

    /// Sets a tag of the run.
    ///
    /// # Errors
    /// The outer error ends the run; the inner one tells the component what is wrong with the name
    /// or the value, or that the run has too many texts.
    pub(super) fn set_tag(&mut self, name: &str, value: &str) -> Reported {
        self.count()?;
        Ok(self.sanitize_pair("tag", name, value).and_then(|(name, value)| {
            self.texts.set_tag(name.clone(), value.clone()).map_err(too_much)?;
            self.observer.tag(&name, Some(&value));
            Ok(())
        }))
    }

    /// Removes a tag of the run, if it is set.
    ///
    /// # Errors
    /// As for `set_tag`.
    pub(super) fn remove_tag(&mut self, name: &str) -> Reported {
        self.count()?;
        Ok(self.sanitize_pair("tag", name, "").map(|(name, _)| {
            self.texts.remove_tag(&name);
            self.observer.tag(&name, None);
        }))
    }

    /// Records a parameter that the component chose.
    ///
    /// # Errors
    /// As for `set_tag`.
    pub(super) fn log_parameter(&mut self, name: &str, value: &str) -> Reported {
        self.count()?;
        Ok(self.sanitize_pair("parameter", name, value).and_then(|(name, value)| {
            self.texts.set_parameter(name.clone(), value.clone()).map_err(too_much)?;
            self.observer.parameter(&name, &value);
            Ok(())
        }))
    }

    /// Records one value of a text metric.
    ///
    /// # Errors
    /// As for `set_tag`.
    pub(super) fn log_text(&mut self, name: &str, value: &str, step: Option<u64>) -> Reported {
        self.count()?;
        Ok(self.sanitize_pair("text metric", name, value).and_then(|(name, value)| {
            self.texts.push(name.clone(), TextPoint { step, value: value.clone() }).map_err(too_much)?;
            self.observer.text(&name, &value, step);
            Ok(())
        }))
    }

    /// Checks and sanitizes a name and a value.
    fn sanitize_pair(&self, kind: &str, name: &str, value: &str) -> Result<(String, String), String> {
        check_name(kind, name)?;
        if value.len() > TEXT_MAX {
            return Err(format!("a {kind}'s value is at most {TEXT_MAX} bytes"));
        }
        Ok((self.redactor.sanitize(name), self.redactor.sanitize(value)))
    }

    fn count(&mut self) -> Result<(), Stop> {
        self.reports = self.reports.saturating_add(1);
        if self.reports > self.reports_max { Err(self.stop.stop(Limit::Metrics)) } else { Ok(()) }
    }
}

fn check_name(kind: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > METRIC_NAME_MAX {
        return Err(format!("a {kind}'s name is 1 to {METRIC_NAME_MAX} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("a {kind}'s name has no control characters"));
    }
    Ok(())
}

fn too_much(_: Full) -> String {
    format!("a run has at most {RUN_TEXT_MAX} bytes of tags, logged parameters and text metrics")
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
    fn tags_parameters_and_text_metrics_count_as_reports() {
        let reports: [fn(&mut Context) -> Reported; 4] = [
            |context| context.set_tag("a", "b"),
            |context| context.remove_tag("a"),
            |context| context.log_parameter("a", "b"),
            |context| context.log_text("a", "b", None),
        ];
        for report in reports {
            let (mut context, _) = context(1);
            report(&mut context).unwrap().unwrap();
            assert_eq!(report(&mut context).unwrap_err().0, Limit::Metrics);
        }
    }

    #[test]
    fn secret_in_a_name_or_message_is_redacted() {
        let (mut context, redactor) = context(10);
        redactor.register(&SecretName::parse("key").unwrap(), &Secret::new("hunter2hunter".into()).unwrap());
        context.log_metric("is-hunter2hunter", 1.0, Some(3)).unwrap().unwrap();
        context.report_progress(0, 0, "\u{1b}]0;hunter2hunter\u{7}").unwrap().unwrap();
        context.set_tag("tag-hunter2hunter", "\u{1b}[2Jhunter2hunter").unwrap().unwrap();
        context.log_parameter("parameter-hunter2hunter", "\u{202e}hunter2hunter").unwrap().unwrap();
        context.log_text("text-hunter2hunter", "a\nhunter2hunter", Some(1)).unwrap().unwrap();
        let reports = context.take_reports();
        let shown = format!("{reports:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!reports.progress.unwrap().message.contains('\u{1b}'));
        assert_eq!(reports.tags["tag-[redacted:key]"], "\\x1b[2J[redacted:key]");
        assert_eq!(reports.parameters["parameter-[redacted:key]"], "\\u{202e}[redacted:key]");
        let text = &reports.text_metrics["text-[redacted:key]"].points[0];
        assert_eq!((text.step, text.value.as_str()), (Some(1), "a\\n[redacted:key]"));
    }

    #[test]
    fn removed_tag_is_not_reported() {
        let (mut context, redactor) = context(10);
        redactor.register(&SecretName::parse("key").unwrap(), &Secret::new("hunter2hunter".into()).unwrap());
        for name in ["kept", "gone", "gone-hunter2hunter"] {
            context.set_tag(name, "value").unwrap().unwrap();
        }
        context.remove_tag("gone").unwrap().unwrap();
        context.remove_tag("gone-hunter2hunter").unwrap().unwrap();
        assert_eq!(context.take_reports().tags.keys().collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn invalid_name_or_value_is_an_error() {
        let (mut context, _) = context(10);
        for bad in ["", "a\nb", &"x".repeat(129)] {
            assert!(context.log_metric(bad, 0.0, None).unwrap().is_err());
        }
        let (mut context, _) = self::context(100);
        for (name, value) in [("", ""), ("a\nb", ""), (&*"x".repeat(129), ""), ("a", &*"x".repeat(TEXT_MAX + 1))] {
            assert!(context.set_tag(name, value).unwrap().is_err());
            assert!(context.log_parameter(name, value).unwrap().is_err());
            assert!(context.log_text(name, value, None).unwrap().is_err());
            assert!(!value.is_empty() || context.remove_tag(name).unwrap().is_err());
        }
        context.set_tag(&"x".repeat(128), &"x".repeat(TEXT_MAX)).unwrap().unwrap();
        assert!(context.report_progress(0, 0, &"x".repeat(1_025)).unwrap().is_err());
    }
}
