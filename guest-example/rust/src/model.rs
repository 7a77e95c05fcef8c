//! L2-regularised logistic regression, fitted with Newton's method.
//!
//! With `n` rows, features `x`, classes `y` (0 or 1) and `p = 1 / (1 + exp(-(w·x + b)))`, it
//! minimises
//!
//! ```text
//! -1/n Σ (y ln p + (1 - y) ln (1 - p))  +  |w|² / (2 C n)
//! ```
//!
//! which has the same minimum as scikit-learn's `LogisticRegression(C=C)`: the intercept `b` is not
//! penalised. The function is convex, so Newton's method, with the step halved if necessary, finds
//! the minimum from any start, here in about ten iterations.

use crate::data::Samples;

/// The fit ends when no component of the gradient is larger than this.
const TOLERANCE: f64 = 1e-8;

/// If a step is halved this often without lowering the loss, only rounding errors remain and the
/// minimum is reached.
const MAX_HALVINGS: u32 = 30;

/// The settings of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Inverse strength of the penalty, larger than 0. A smaller value gives a simpler model.
    pub c: f64,
    /// The maximum number of iterations.
    pub max_iterations: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { c: 1.0, max_iterations: 100 }
    }
}

/// A fitted model: the log odds of class 1 are `coefficients · features + intercept`.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// One weight per feature.
    pub coefficients: Vec<f64>,
    /// The log odds if all features are 0.
    pub intercept: f64,
}

impl Model {
    /// The probability of class 1.
    pub fn probability(&self, features: &[f64]) -> f64 {
        sigmoid(self.log_odds(features))
    }

    fn log_odds(&self, features: &[f64]) -> f64 {
        dot(&self.coefficients, features) + self.intercept
    }

    /// The mean negative log likelihood of the samples, in nats.
    pub fn log_loss(&self, samples: &Samples) -> f64 {
        let loss = |features: &[f64], positive: bool| {
            let margin = self.log_odds(features);
            softplus(if positive { -margin } else { margin })
        };
        let total: f64 = samples.features.iter().zip(&samples.positive).map(|(row, class)| loss(row, *class)).sum();
        total / samples.len() as f64
    }
}

/// A model and the course of its fit.
#[derive(Debug)]
pub struct Fit {
    /// The model after the last iteration.
    pub model: Model,
    /// The number of iterations.
    pub iterations: u64,
    /// Whether the minimum was reached.
    pub converged: bool,
}

/// Fits a model to standardised samples. Calls `on_iteration` with the iteration, from 1, and the
/// penalised loss after it.
///
/// # Errors
/// Those of `on_iteration`, which end the fit.
pub fn fit<E>(
    samples: &Samples,
    settings: Settings,
    mut on_iteration: impl FnMut(u64, f64) -> Result<(), E>,
) -> Result<Fit, E> {
    let problem = Problem { samples, penalty: 1.0 / (settings.c * samples.len() as f64) };
    let width = samples.features.first().map_or(0, Vec::len);
    let mut model = Model { coefficients: vec![0.0; width], intercept: 0.0 };
    let mut loss = problem.loss(&model);

    for iteration in 1..=settings.max_iterations {
        let (gradient, hessian) = problem.derivatives(&model);
        if gradient.iter().all(|slope| slope.abs() <= TOLERANCE) {
            return Ok(Fit { model, iterations: iteration - 1, converged: true });
        }
        let Some(step) = solve(hessian, gradient) else {
            return Ok(Fit { model, iterations: iteration - 1, converged: false });
        };
        let Some((improved, lower)) = problem.improve(&model, &step, loss) else {
            return Ok(Fit { model, iterations: iteration - 1, converged: true });
        };
        (model, loss) = (improved, lower);
        on_iteration(iteration, loss)?;
    }
    let (gradient, _) = problem.derivatives(&model);
    let converged = gradient.iter().all(|slope| slope.abs() <= TOLERANCE);
    Ok(Fit { model, iterations: settings.max_iterations, converged })
}

/// The function to minimise. Its vectors contain the coefficients first and the intercept last.
struct Problem<'a> {
    samples: &'a Samples,
    penalty: f64,
}

impl Problem<'_> {
    fn loss(&self, model: &Model) -> f64 {
        model.log_loss(self.samples) + self.penalty / 2.0 * dot(&model.coefficients, &model.coefficients)
    }

    /// Gradient and Hessian of the loss.
    fn derivatives(&self, model: &Model) -> (Vec<f64>, Vec<Vec<f64>>) {
        let width = model.coefficients.len();
        let count = self.samples.len() as f64;
        let mut gradient = vec![0.0; width + 1];
        let mut hessian = vec![vec![0.0; width + 1]; width + 1];
        for (features, positive) in self.samples.features.iter().zip(&self.samples.positive) {
            let probability = model.probability(features);
            let residual = (probability - f64::from(u8::from(*positive))) / count;
            let weight = probability * (1.0 - probability) / count;
            // The intercept is the weight of a feature that is always 1.
            let row: Vec<f64> = features.iter().copied().chain([1.0]).collect();
            for i in 0..=width {
                gradient[i] += residual * row[i];
                for j in 0..=i {
                    hessian[i][j] += weight * row[i] * row[j];
                }
            }
        }
        for i in 0..width {
            gradient[i] += self.penalty * model.coefficients[i];
            hessian[i][i] += self.penalty;
        }
        (gradient, hessian)
    }

    /// Returns the model after one step, halved until the loss falls, and its loss. `None` if the
    /// loss never falls.
    fn improve(&self, model: &Model, step: &[f64], loss: f64) -> Option<(Model, f64)> {
        let (intercept_step, coefficient_steps) = step.split_last()?;
        (0..MAX_HALVINGS).map(|halvings| 0.5_f64.powi(halvings as i32)).find_map(|part| {
            let coefficients =
                model.coefficients.iter().zip(coefficient_steps).map(|(weight, step)| weight - part * step).collect();
            let candidate = Model { coefficients, intercept: model.intercept - part * intercept_step };
            let lower = self.loss(&candidate);
            (lower < loss).then_some((candidate, lower))
        })
    }
}

/// Solves `matrix · x = right` for a symmetric positive definite matrix, given by its lower half,
/// with Cholesky's method. Returns `None` if it is not positive definite to working precision.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for i in 0..size {
        for j in 0..=i {
            let rest = matrix[i][j] - dot(&matrix[i][..j], &matrix[j][..j]);
            if i == j {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                matrix[i][i] = rest.sqrt();
            } else {
                matrix[i][j] = rest / matrix[j][j];
            }
        }
    }
    for i in 0..size {
        right[i] = (right[i] - dot(&matrix[i][..i], &right[..i])) / matrix[i][i];
    }
    for i in (0..size).rev() {
        let known: f64 = (i + 1..size).map(|j| matrix[j][i] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    Some(right)
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// `ln(1 + exp(value))` without overflow.
fn softplus(value: f64) -> f64 {
    value.max(0.0) + (-value.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Scaler};
    use crate::report::Evaluation;

    fn close(left: f64, right: f64, within: f64) -> bool {
        (left - right).abs() < within
    }

    /// Training and held-out samples, standardised.
    fn samples() -> (Samples, Samples) {
        let dataset = Dataset::parse(include_bytes!("../../data/breast_cancer.csv")).unwrap();
        let scaler = Scaler::fit(&dataset.training.features);
        let scaled = |part: Samples| Samples { features: scaler.transform(&part.features), positive: part.positive };
        (scaled(dataset.training), scaled(dataset.held_out))
    }

    fn quiet(_: u64, _: f64) -> Result<(), ()> {
        Ok(())
    }

    /// The figures of scikit-learn, from `guest-example/data/README.md`.
    #[test]
    fn fit_agrees_with_scikit_learn() {
        let (training, held_out) = samples();
        let fit = fit(&training, Settings::default(), quiet).unwrap();
        assert!(fit.converged);
        assert!((5..=20).contains(&fit.iterations), "{} iterations", fit.iterations);
        assert!(close(fit.model.log_loss(&training), 0.06069, 5e-5), "{}", fit.model.log_loss(&training));
        assert!(close(fit.model.log_loss(&held_out), 0.04208, 5e-5), "{}", fit.model.log_loss(&held_out));
        assert!(close(fit.model.intercept, 0.10222, 5e-4), "{}", fit.model.intercept);
        let first = [-0.27357, -0.20641, -0.26445, -0.35876, -0.09107];
        for (found, expected) in fit.model.coefficients.iter().zip(first) {
            assert!(close(*found, expected, 5e-4), "{found} is not {expected}");
        }
        assert_eq!(Evaluation::of(&fit.model, &held_out).accuracy(), 1.0);
    }

    #[test]
    fn loss_falls_and_is_reported_in_each_iteration() {
        let (training, _) = samples();
        let mut reported = Vec::new();
        let fit = fit(&training, Settings::default(), |iteration, loss| {
            reported.push((iteration, loss));
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(reported.len() as u64, fit.iterations);
        assert!(reported.is_sorted_by(|before, after| before.0 + 1 == after.0 && before.1 > after.1));
        assert!(reported[0].1 < std::f64::consts::LN_2, "the first iteration improves on the initial model");
    }

    #[test]
    fn stronger_penalty_gives_smaller_coefficients() {
        let (training, _) = samples();
        let size = |c| {
            let fit = fit(&training, Settings { c, ..Settings::default() }, quiet).unwrap();
            dot(&fit.model.coefficients, &fit.model.coefficients)
        };
        assert!(size(0.01) < size(1.0) && size(1.0) < size(100.0));
    }

    #[test]
    fn fit_with_too_few_iterations_is_not_converged() {
        let (training, _) = samples();
        let fit = fit(&training, Settings { max_iterations: 2, ..Settings::default() }, quiet).unwrap();
        assert_eq!((fit.iterations, fit.converged), (2, false));
    }

    #[test]
    fn observer_error_ends_the_fit() {
        let (training, _) = samples();
        let mut calls = 0;
        let result = fit(&training, Settings::default(), |_, _| {
            calls += 1;
            Err("stop")
        });
        assert_eq!((result.unwrap_err(), calls), ("stop", 1));
    }

    #[test]
    fn solves_a_small_system() {
        // The upper half is not read.
        let solution = solve(vec![vec![4.0, f64::NAN], vec![2.0, 3.0]], vec![2.0, -1.0]).unwrap();
        assert!(close(solution[0], 1.0, 1e-12) && close(solution[1], -1.0, 1e-12), "{solution:?}");
        assert!(solve(vec![vec![-1.0]], vec![1.0]).is_none());
    }

    #[test]
    fn extreme_margins_stay_finite() {
        assert_eq!((softplus(1000.0), softplus(-1000.0)), (1000.0, 0.0));
        assert_eq!((sigmoid(1000.0), sigmoid(-1000.0)), (1.0, 0.0));
    }
}
