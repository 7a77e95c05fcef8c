//! The command line as transcripts: each file in `cases/` holds commands, exit codes and exact output.

use crate::support::guest;

#[test]
fn transcripts() {
    let cases = trycmd::TestCases::new();
    let guests = guest("hello");
    let guests = guests.parent().unwrap();
    cases
        .register_bin("strongroom", std::path::Path::new(env!("CARGO_BIN_EXE_strongroom")))
        .env("STRONGROOM_HOME", "home")
        .env("XDG_CONFIG_HOME", "config")
        .env("GUESTS", guests.to_string_lossy())
        .case("../tests/cases/*.trycmd");
}
