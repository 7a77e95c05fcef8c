//! The dataset: reading it, holding rows out, and standardising the features.
//!
//! The layout is scikit-learn's: a first line `rows,features,class 0,class 1`, then the features
//! and the class of each row. Errors name a row, never a value, because the data is confidential.

/// The thirty features of a row, in the order of the file.
const MEASUREMENTS: [&str; 10] = [
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
];

/// The number of features of this dataset.
pub const FEATURES: usize = 3 * MEASUREMENTS.len();

/// The names of class 0 and class 1 of this dataset.
pub const CLASSES: [&str; 2] = ["malignant", "benign"];

/// One in this many rows is held out.
const FOLDS: u64 = 5;

/// Why a dataset could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The first line is not `rows,features,class 0,class 1`.
    #[error("the first line has to be `rows,features,class 0,class 1`")]
    Header,
    /// The number of fields of a row, or the number of rows, differs from the first line.
    #[error("expected {expected} {what} but found {found}")]
    Count { what: &'static str, expected: usize, found: usize },
    /// A field is not a finite number, or a class is neither 0 nor 1.
    #[error("row {row}, field {field}: not a number that can be trained on")]
    Field { row: usize, field: usize },
    /// The file is not CSV.
    #[error("row {row} is not readable as CSV")]
    Csv { row: usize },
    /// The rows contain only one class, so there is nothing to distinguish.
    #[error("the training rows hold only one class")]
    OneClass,
}

/// Rows of features and their classes.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// The features of each sample.
    pub features: Vec<Vec<f64>>,
    /// Whether the sample is of class 1.
    pub positive: Vec<bool>,
}

impl Samples {
    /// Returns the number of samples.
    pub fn len(&self) -> usize {
        self.positive.len()
    }

    /// Returns whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.positive.is_empty()
    }

    fn push(&mut self, features: Vec<f64>, positive: bool) {
        self.features.push(features);
        self.positive.push(positive);
    }
}

/// A dataset, split into rows to train on and rows held out to judge the result: row `i`, counted
/// from 0, is held out when `i % 5 == 4`.
#[derive(Debug)]
pub struct Dataset {
    /// The names of class 0 and class 1.
    pub classes: [String; 2],
    /// Four of five rows.
    pub training: Samples,
    /// Every fifth row.
    pub held_out: Samples,
}

impl Dataset {
    /// Creates a dataset without rows.
    pub fn new(classes: [String; 2]) -> Self {
        Self { classes, training: Samples::default(), held_out: Samples::default() }
    }

    /// Adds the row with this index to its part.
    pub fn push(&mut self, index: u64, features: Vec<f64>, positive: bool) {
        let part = if index % FOLDS == FOLDS - 1 { &mut self.held_out } else { &mut self.training };
        part.push(features, positive);
    }

    /// Returns the number of rows in both parts.
    pub fn rows(&self) -> usize {
        self.training.len() + self.held_out.len()
    }

    /// Returns the dataset if it contains both classes.
    pub fn complete(self) -> Result<Self, DataError> {
        if self.training.positive.iter().all(|class| *class) || !self.training.positive.contains(&true) {
            return Err(DataError::OneClass);
        }
        Ok(self)
    }

    /// Parses the file.
    pub fn parse(file: &[u8]) -> Result<Self, DataError> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
        let mut records = reader.records();
        let header = records.next().and_then(Result::ok).ok_or(DataError::Header)?;
        let (rows, width, classes) = parse_header(&header).ok_or(DataError::Header)?;

        let mut dataset = Self::new(classes);
        for (row, record) in records.enumerate() {
            let record = record.map_err(|_| DataError::Csv { row })?;
            let (features, positive) = parse_row(row, &record, width)?;
            dataset.push(row as u64, features, positive);
        }
        if dataset.rows() != rows {
            return Err(DataError::Count { what: "rows", expected: rows, found: dataset.rows() });
        }
        dataset.complete()
    }
}

fn parse_header(header: &csv::StringRecord) -> Option<(usize, usize, [String; 2])> {
    let fields: Vec<&str> = header.iter().collect();
    let [rows, width, class_0, class_1] = fields.as_slice() else { return None };
    Some((rows.parse().ok()?, width.parse().ok()?, [class_0.to_string(), class_1.to_string()]))
}

fn parse_row(row: usize, record: &csv::StringRecord, width: usize) -> Result<(Vec<f64>, bool), DataError> {
    if record.len() != width + 1 {
        return Err(DataError::Count { what: "fields in each row", expected: width + 1, found: record.len() });
    }
    let mut features = Vec::with_capacity(width);
    for (field, text) in record.iter().take(width).enumerate() {
        let value: f64 = text.trim().parse().map_err(|_| DataError::Field { row, field })?;
        if !value.is_finite() {
            return Err(DataError::Field { row, field });
        }
        features.push(value);
    }
    let positive = match record.iter().next_back().map(str::trim) {
        Some("1") => true,
        Some("0") => false,
        _ => return Err(DataError::Field { row, field: width }),
    };
    Ok((features, positive))
}

/// Returns names for `width` features: those of this dataset, or numbers if the count differs.
pub fn feature_names(width: usize) -> Vec<String> {
    if width != FEATURES {
        return (0..width).map(|index| format!("feature {index}")).collect();
    }
    let named = |prefix: &'static str, suffix: &'static str| MEASUREMENTS.map(|name| format!("{prefix}{name}{suffix}"));
    [named("mean ", ""), named("", " error"), named("worst ", "")].concat()
}

/// Shifts and scales features so that each has mean 0 and standard deviation 1 over the rows used
/// to fit it.
#[derive(Debug, Clone)]
pub struct Scaler {
    /// The mean of each feature.
    pub mean: Vec<f64>,
    /// The population standard deviation of each feature; 1 for a constant feature.
    pub deviation: Vec<f64>,
}

impl Scaler {
    /// Fits the scaler to training rows. Held-out rows would leak into the model.
    pub fn fit(rows: &[Vec<f64>]) -> Self {
        let count = rows.len() as f64;
        let width = rows.first().map_or(0, Vec::len);
        let average = |of: &dyn Fn(&[f64], usize) -> f64| -> Vec<f64> {
            (0..width).map(|column| rows.iter().map(|row| of(row, column)).sum::<f64>() / count).collect()
        };
        let mean = average(&|row, column| row[column]);
        let variance = average(&|row, column| (row[column] - mean[column]).powi(2));
        let deviation = variance.into_iter().map(|value| if value > 0.0 { value.sqrt() } else { 1.0 }).collect();
        Self { mean, deviation }
    }

    /// Returns the standardised rows.
    pub fn transform(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let scales = || self.mean.iter().zip(&self.deviation);
        rows.iter()
            .map(|row| row.iter().zip(scales()).map(|(value, (mean, deviation))| (value - mean) / deviation).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../data/breast_cancer.csv");

    #[test]
    fn every_fifth_row_is_held_out() {
        let dataset = Dataset::parse(FILE).unwrap();
        assert_eq!((dataset.training.len(), dataset.held_out.len()), (456, 113));
        assert_eq!(dataset.classes, ["malignant", "benign"]);
        assert_eq!(dataset.training.features[4][0], 12.45, "row 4 is held out, so row 5 follows row 3");
    }

    #[test]
    fn standardised_training_rows_have_mean_0_and_deviation_1() {
        let dataset = Dataset::parse(FILE).unwrap();
        let rows = Scaler::fit(&dataset.training.features).transform(&dataset.training.features);
        let again = Scaler::fit(&rows);
        assert!(again.mean.iter().all(|mean| mean.abs() < 1e-9));
        assert!(again.deviation.iter().all(|deviation| (deviation - 1.0).abs() < 1e-9));
    }

    #[test]
    fn constant_feature_is_only_shifted() {
        let scaler = Scaler::fit(&[vec![3.0], vec![3.0]]);
        assert_eq!(scaler.transform(&[vec![3.0]]), [[0.0]]);
    }

    #[test]
    fn features_have_names() {
        let names = feature_names(30);
        assert_eq!((names[0].as_str(), names[10].as_str()), ("mean radius", "radius error"));
        assert_eq!(names[29], "worst fractal dimension");
        assert_eq!(feature_names(2), ["feature 0", "feature 1"]);
    }

    #[test]
    fn errors_name_the_row_and_show_no_value() {
        let error = |file: &str| Dataset::parse(file.as_bytes()).unwrap_err().to_string();
        assert_eq!(error(""), "the first line has to be `rows,features,class 0,class 1`");
        assert_eq!(error("rows,1,a,b\n"), "the first line has to be `rows,features,class 0,class 1`");
        assert_eq!(error("2,1,a,b\n1.5,0\n"), "expected 2 rows but found 1");
        assert_eq!(error("1,2,a,b\n1.5,0\n"), "expected 3 fields in each row but found 2");
        assert_eq!(error("1,1,a,b\nprivate,0\n"), "row 0, field 0: not a number that can be trained on");
        assert_eq!(error("1,1,a,b\nNaN,0\n"), "row 0, field 0: not a number that can be trained on");
        assert_eq!(error("1,1,a,b\n1.5,2\n"), "row 0, field 1: not a number that can be trained on");
        assert_eq!(error("2,1,a,b\n1.5,1\n2.5,1\n"), "the training rows hold only one class");
    }
}
