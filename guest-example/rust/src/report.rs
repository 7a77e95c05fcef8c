//! The results of training: the model file and a readable evaluation.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::data::{Samples, Scaler, feature_names};
use crate::model::{Fit, Model, Settings};

/// The format version of [`ModelFile`]. A reader refuses any other.
pub const FORMAT: &str = "training-example-model-1";

/// The number of coefficients in the evaluation.
const SHOWN_COEFFICIENTS: usize = 8;

/// Counts of predictions, with 0.5 as the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluation {
    /// `counts[actual][predicted]`, each class 0 or class 1.
    pub counts: [[usize; 2]; 2],
}

impl Evaluation {
    /// Evaluates the model on standardised samples.
    pub fn of(model: &Model, samples: &Samples) -> Self {
        let mut counts = [[0; 2]; 2];
        for (features, positive) in samples.features.iter().zip(&samples.positive) {
            let predicted = model.probability(features) >= 0.5;
            counts[usize::from(*positive)][usize::from(predicted)] += 1;
        }
        Self { counts }
    }

    /// Returns the share of correct predictions, from 0 to 1.
    pub fn accuracy(&self) -> f64 {
        let right = self.counts[0][0] + self.counts[1][1];
        let all: usize = self.counts.iter().flatten().sum();
        right as f64 / all as f64
    }
}

/// The figures that describe a model's quality. Log losses are in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    /// Mean log loss over the training rows, without the penalty.
    pub train_log_loss: f64,
    /// Mean log loss over the rows that were held out.
    pub held_out_log_loss: f64,
    /// The share of held-out rows that are classified correctly.
    pub held_out_accuracy: f64,
}

/// Everything needed to use the model elsewhere: the content of `model.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelFile {
    /// [`FORMAT`].
    pub format: String,
    /// The names of class 0 and class 1.
    pub classes: [String; 2],
    /// The names of the features, in the order of the model.
    pub features: Vec<String>,
    /// The value subtracted from each feature.
    pub mean: Vec<f64>,
    /// The value by which each feature is then divided.
    pub deviation: Vec<f64>,
    /// The weight of each standardised feature in the log odds of class 1.
    pub coefficients: Vec<f64>,
    /// The log odds of class 1 at the mean of all features.
    pub intercept: f64,
    /// The inverse strength of the penalty.
    pub c: f64,
    /// The number of iterations of the fit.
    pub iterations: u64,
    /// Whether the fit reached the minimum.
    pub converged: bool,
    /// The model's quality.
    pub figures: Figures,
}

impl ModelFile {
    /// Combines a fit with its inputs.
    pub fn new(classes: [String; 2], scaler: Scaler, settings: Settings, fit: &Fit, figures: Figures) -> Self {
        Self {
            format: FORMAT.into(),
            classes,
            features: feature_names(scaler.mean.len()),
            mean: scaler.mean,
            deviation: scaler.deviation,
            coefficients: fit.model.coefficients.clone(),
            intercept: fit.model.intercept,
            c: settings.c,
            iterations: fit.iterations,
            converged: fit.converged,
            figures,
        }
    }

    /// Returns the features with their coefficients, largest first.
    pub fn weightiest(&self) -> Vec<(&str, f64)> {
        let mut pairs: Vec<_> =
            self.features.iter().map(String::as_str).zip(self.coefficients.iter().copied()).collect();
        pairs.sort_by(|left, right| right.1.abs().total_cmp(&left.1.abs()));
        pairs
    }
}

/// Returns the evaluation as Markdown. It contains no row of the data and no secret.
pub fn evaluation_markdown(model: &ModelFile, rows: (usize, usize), evaluation: &Evaluation) -> String {
    let [class_0, class_1] = &model.classes;
    let [[right_0, wrong_0], [wrong_1, right_1]] = evaluation.counts;
    let end = if model.converged { "converged" } else { "stopped before it converged" };
    let mut text = format!(
        "# Evaluation\n\n\
         L2-regularised logistic regression, C = {c}; {end} after {iterations} iterations.\n\n\
         | | rows | log loss | accuracy |\n|---|---|---|---|\n\
         | training | {training} | {train_log_loss:.5} | |\n\
         | held out | {held_out} | {held_out_log_loss:.5} | {accuracy:.4} |\n\n\
         ## Held-out rows\n\n\
         | | predicted {class_0} | predicted {class_1} |\n|---|---|---|\n\
         | {class_0} | {right_0} | {wrong_0} |\n\
         | {class_1} | {wrong_1} | {right_1} |\n\n\
         ## Weightiest features\n\n\
         Log odds of {class_1} for one standard deviation more; the intercept is {intercept:.5}.\n\n\
         | feature | coefficient |\n|---|---|\n",
        c = model.c,
        iterations = model.iterations,
        training = rows.0,
        held_out = rows.1,
        train_log_loss = model.figures.train_log_loss,
        held_out_log_loss = model.figures.held_out_log_loss,
        accuracy = model.figures.held_out_accuracy,
        intercept = model.intercept,
    );
    for (feature, coefficient) in model.weightiest().into_iter().take(SHOWN_COEFFICIENTS) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {feature} | {coefficient:.5} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model_file() -> ModelFile {
        ModelFile {
            format: FORMAT.into(),
            classes: ["malignant".into(), "benign".into()],
            features: vec!["one".into(), "two".into()],
            mean: vec![0.0, 1.0],
            deviation: vec![1.0, 2.0],
            coefficients: vec![0.5, -2.0],
            intercept: 0.25,
            c: 1.0,
            iterations: 9,
            converged: true,
            figures: Figures { train_log_loss: 0.06, held_out_log_loss: 0.04, held_out_accuracy: 0.75 },
        }
    }

    #[test]
    fn predictions_are_counted() {
        let model = Model { coefficients: vec![1.0], intercept: 0.0 };
        let features = [1.0, 1.0, -1.0, -1.0, -1.0].map(|value| vec![value]).to_vec();
        let samples = Samples { features, positive: vec![true, false, false, false, true] };
        let evaluation = Evaluation::of(&model, &samples);
        assert_eq!(evaluation.counts, [[2, 1], [1, 1]]);
        assert_eq!(evaluation.accuracy(), 0.6);
    }

    #[test]
    fn model_file_round_trips_through_json() {
        let json = serde_json::to_string(&model_file()).unwrap();
        assert!(json.contains(r#""held-out-log-loss":0.04"#), "{json}");
        assert_eq!(serde_json::from_str::<ModelFile>(&json).unwrap(), model_file());
    }

    #[test]
    fn evaluation_shows_the_figures() {
        let text = evaluation_markdown(&model_file(), (4, 4), &Evaluation { counts: [[1, 1], [0, 2]] });
        assert!(text.contains("C = 1; converged after 9 iterations"), "{text}");
        assert!(text.contains("| held out | 4 | 0.04000 | 0.7500 |"), "{text}");
        assert!(text.contains("| malignant | 1 | 1 |\n| benign | 0 | 2 |"), "{text}");
        assert!(text.ends_with("| two | -2.00000 |\n| one | 0.50000 |\n"), "{text}");
    }
}
