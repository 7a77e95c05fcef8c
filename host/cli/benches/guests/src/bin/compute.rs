//! Measures the computations of training: the example's training loop, and the product of two dense
//! matrices.
//!
//! `compute REPEATS` reads the example's data from `/input/breast_cancer.csv` or the file named by
//! `DATA`. It prints the fastest fit and the fastest product in microseconds, and a checksum of the
//! results, which must be the same everywhere.

#[path = "../../../../../../guest-example/rust/src/data.rs"]
#[allow(dead_code, reason = "the example uses more of it")]
mod data;
#[path = "../../../../../../guest-example/rust/src/model.rs"]
#[allow(dead_code, reason = "the example uses more of it")]
mod model;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use strongroom_bench_guests::number;

/// The number of rows and columns of the matrices.
const SIDE: usize = 256;

fn main() {
    let file = std::env::var("DATA").unwrap_or_else(|_| "/input/breast_cancer.csv".to_owned());
    let dataset = data::Dataset::parse(&std::fs::read(file).unwrap()).unwrap();
    let training = dataset.training;
    let features = data::Scaler::fit(&training.features).transform(&training.features);
    let samples = data::Samples { features, positive: training.positive };
    let (a, b) = (matrix(1), matrix(2));
    let (mut fit, mut product, mut sum) = (f64::INFINITY, f64::INFINITY, 0.0);
    for _ in 0..number(0).max(1) {
        let started = Instant::now();
        let fitted =
            model::fit(black_box(&samples), model::Settings::default(), |_, _| Ok::<(), Infallible>(())).unwrap();
        fit = fit.min(started.elapsed().as_secs_f64());
        let started = Instant::now();
        let c = multiply(black_box(&a), black_box(&b));
        product = product.min(started.elapsed().as_secs_f64());
        sum = fitted.model.coefficients.iter().sum::<f64>() + f64::from(c.iter().sum::<f32>());
    }
    println!("{:.1} {:.1} {sum:.3}", fit * 1e6, product * 1e6);
}

fn matrix(seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as f32 / 65_536.0 - 0.5
    };
    (0..SIDE * SIDE).map(|_| next()).collect()
}

/// Multiplies row by row, so that the inner loop is contiguous in memory and can be vectorized.
fn multiply(a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut c = vec![0.0; SIDE * SIDE];
    for (row, out) in a.chunks_exact(SIDE).zip(c.chunks_exact_mut(SIDE)) {
        for (factor, other) in row.iter().zip(b.chunks_exact(SIDE)) {
            for (out, value) in out.iter_mut().zip(other) {
                *out += factor * value;
            }
        }
    }
    c
}
