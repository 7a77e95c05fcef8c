"""The dataset: reading it, holding rows out, and standardizing the features.

Errors name a row, never a value, because the data is confidential.
"""

import csv
import math
from dataclasses import dataclass, field

_MEASUREMENTS = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity",
    "concave points", "symmetry", "fractal dimension",
)  # fmt: skip
FEATURES = (
    [f"mean {name}" for name in _MEASUREMENTS]
    + [f"{name} error" for name in _MEASUREMENTS]
    + [f"worst {name}" for name in _MEASUREMENTS]
)
CLASSES = ("malignant", "benign")


class DataError(Exception):
    """A dataset cannot be used."""


@dataclass
class Samples:
    """Rows of features, and whether each is of class 1."""

    features: list[list[float]] = field(default_factory=list)
    positive: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.positive)


@dataclass
class Dataset:
    """Rows to train on, and rows held out: row ``i`` from 0 is held out if ``i % 5 == 4``."""

    training: Samples = field(default_factory=Samples)
    held_out: Samples = field(default_factory=Samples)

    def add(self, index: int, features: list[float], positive: bool) -> None:
        """Adds the row with this index to its part."""
        part = self.held_out if index % 5 == 4 else self.training
        part.features.append(features)
        part.positive.append(positive)

    def complete(self) -> "Dataset":
        """Returns the dataset if it has both classes."""
        if len(set(self.training.positive)) < 2:
            raise DataError("the training rows hold only one class")
        return self


def parse(content: bytes) -> Dataset:
    """Reads the CSV file."""
    lines = csv.reader(content.decode("utf-8", "replace").splitlines())
    header = next(lines, [])
    if len(header) != 4 or not header[0].isdigit() or header[1] != str(len(FEATURES)):
        raise DataError("the first line has to be `rows,30,class 0,class 1`")
    dataset, rows = Dataset(), 0
    for row, line in enumerate(lines):
        if len(line) != len(FEATURES) + 1 or line[-1] not in ("0", "1"):
            raise DataError(f"row {row} does not have {len(FEATURES)} features and a class")
        dataset.add(row, [_number(text, row) for text in line[:-1]], line[-1] == "1")
        rows += 1
    if rows != int(header[0]):
        raise DataError(f"expected {header[0]} rows but found {rows}")
    return dataset.complete()


def _number(text: str, row: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"row {row} has no number that can be trained on")
    return value


@dataclass
class Scaler:
    """Shifts and scales features to mean 0 and deviation 1 over the rows used to fit it."""

    mean: list[float]
    deviation: list[float]

    @classmethod
    def fit(cls, rows: list[list[float]]) -> "Scaler":
        """Fits the scaler to training rows. Held-out rows would leak into the model."""
        columns = list(zip(*rows, strict=True))
        mean = [math.fsum(column) / len(column) for column in columns]
        variance = [
            math.fsum((value - center) ** 2 for value in column) / len(column)
            for column, center in zip(columns, mean, strict=True)
        ]
        return cls(mean, [math.sqrt(value) or 1.0 for value in variance])

    def transform(self, samples: Samples) -> Samples:
        """Returns the standardized samples."""
        scales = list(zip(self.mean, self.deviation, strict=True))
        rows = [
            [(value - mean) / scale for value, (mean, scale) in zip(row, scales, strict=True)]
            for row in samples.features
        ]
        return Samples(rows, samples.positive)
