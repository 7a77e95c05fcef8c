"""L2-regularized logistic regression, fitted with Newton's method.

Minimizes the mean log loss plus ``|w|² / (2 C n)``, like scikit-learn's
``LogisticRegression(C=C)``: the intercept is not penalized.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dataset import Samples

TOLERANCE = 1e-8
MAX_HALVINGS = 30


@dataclass
class Model:
    """The log odds of class 1 are ``coefficients · features + intercept``."""

    coefficients: list[float]
    intercept: float

    def log_odds(self, features: list[float]) -> float:
        return _dot(self.coefficients, features) + self.intercept

    def log_loss(self, samples: Samples) -> float:
        """The mean negative log likelihood of the samples, in nats."""
        total = 0.0
        for features, positive in zip(samples.features, samples.positive, strict=True):
            margin = self.log_odds(features)
            total += _softplus(-margin if positive else margin)
        return total / len(samples)

    def accuracy(self, samples: Samples) -> float:
        """The share of samples whose class is predicted."""
        right = sum(
            (self.log_odds(features) >= 0) == positive
            for features, positive in zip(samples.features, samples.positive, strict=True)
        )
        return right / len(samples)


@dataclass
class Fit:
    """A model and the course of its fit."""

    model: Model
    iterations: int
    converged: bool


def fit(
    samples: Samples, c: float, max_iterations: int, on_iteration: Callable[[int, float], None]
) -> Fit:
    """Fits a model to standardized samples.

    Calls ``on_iteration`` with the iteration, from 1, and the penalized loss after it.
    """
    penalty = 1.0 / (c * len(samples))
    model = Model([0.0] * len(samples.features[0]), 0.0)
    loss = _penalized(model, samples, penalty)
    for iteration in range(1, max_iterations + 1):
        gradient, hessian = _derivatives(model, samples, penalty)
        if all(abs(slope) <= TOLERANCE for slope in gradient):
            return Fit(model, iteration - 1, True)
        step = _solve(hessian, gradient)
        better = step and _improve(model, samples, penalty, step, loss)
        if not better:
            # Without a better model only rounding errors remain. Without a step, the fit failed.
            return Fit(model, iteration - 1, step is not None)
        model, loss = better
        on_iteration(iteration, loss)
    gradient, _ = _derivatives(model, samples, penalty)
    return Fit(model, max_iterations, all(abs(slope) <= TOLERANCE for slope in gradient))


def _penalized(model: Model, samples: Samples, penalty: float) -> float:
    size = _dot(model.coefficients, model.coefficients)
    return model.log_loss(samples) + penalty / 2 * size


def _derivatives(
    model: Model, samples: Samples, penalty: float
) -> tuple[list[float], list[list[float]]]:
    """Gradient and lower half of the Hessian of the loss, with the intercept last."""
    width, count = len(model.coefficients) + 1, len(samples)
    columns: list[list[float]] = [[] for _ in range(width)]
    residuals, weights = [], []
    for features, positive in zip(samples.features, samples.positive, strict=True):
        probability = _sigmoid(model.log_odds(features))
        residuals.append((probability - positive) / count)
        weights.append(probability * (1 - probability) / count)
        for column, value in zip(columns, [*features, 1.0], strict=True):
            column.append(value)
    gradient = [_dot(residuals, column) for column in columns]
    weighted = [[w * x for w, x in zip(weights, column, strict=True)] for column in columns]
    hessian = [[_dot(weighted[i], columns[j]) for j in range(i + 1)] for i in range(width)]
    for i, coefficient in enumerate(model.coefficients):
        gradient[i] += penalty * coefficient
        hessian[i][i] += penalty
    return gradient, hessian


def _improve(
    model: Model, samples: Samples, penalty: float, step: list[float], loss: float
) -> tuple[Model, float] | None:
    """Returns the model after one step, halved until the loss falls, and its loss."""
    for halvings in range(MAX_HALVINGS):
        part = 0.5**halvings
        moved = zip(model.coefficients, step[:-1], strict=True)
        candidate = Model([w - part * s for w, s in moved], model.intercept - part * step[-1])
        lower = _penalized(candidate, samples, penalty)
        if lower < loss:
            return candidate, lower
    return None


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Solves for a symmetric positive definite matrix, given by its lower half (Cholesky)."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - _dot(matrix[i][:j], matrix[j][:j])
            if i != j:
                matrix[i][j] = rest / matrix[j][j]
            elif rest > 0:
                matrix[i][i] = math.sqrt(rest)
            else:
                return None
    solution = list(right)
    for i in range(size):
        known = _dot(matrix[i][:i], solution[:i])
        solution[i] = (solution[i] - known) / matrix[i][i]
    for i in reversed(range(size)):
        known = sum(matrix[j][i] * solution[j] for j in range(i + 1, size))
        solution[i] = (solution[i] - known) / matrix[i][i]
    return solution


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(map(operator.mul, left, right))


def _sigmoid(value: float) -> float:
    # `exp` of a large number raises an exception.
    return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))


def _softplus(value: float) -> float:
    """``ln(1 + exp(value))`` without overflow."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
