//! Each documented behaviour of the services, over the wire, in one short test.

mod access;
mod authority;
mod binary;
mod control;
mod faults;
mod metadata;
mod secrets;
mod support;
