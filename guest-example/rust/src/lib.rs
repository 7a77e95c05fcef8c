//! A training program as a data scientist would write it, except that it never sees a file in the clear on disk and asks
//! strongroom for its keys.
//!
//! [`data`] reads and standardises the rows, [`database`] gets them from PostgreSQL where they are not in a file, [`model`] fits a logistic regression, [`report`] says how good it is, [`crypt`] seals
//! what is written. [`commands`] puts these together and talks to strongroom through the trait [`host::Host`], so that all of
//! it can be tested as an ordinary Rust library. The component itself is `main.rs`.

pub mod commands;
pub mod crypt;
pub mod data;
pub mod database;
pub mod host;
pub mod model;
pub mod report;
