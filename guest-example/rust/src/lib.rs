//! A training program as a data scientist would write it, except that it never stores plain data on
//! disk and gets its keys from strongroom.
//!
//! [`data`] parses and standardises the rows, [`database`] reads them from PostgreSQL instead of a
//! file, [`model`] fits a logistic regression, [`report`] evaluates it, and [`crypt`] encrypts
//! files. [`commands`] combines these and accesses strongroom through the trait [`host::Host`], so
//! that everything can be tested as an ordinary Rust library. The component itself is `main.rs`.

pub mod commands;
pub mod crypt;
pub mod data;
pub mod database;
pub mod host;
pub mod model;
pub mod report;
