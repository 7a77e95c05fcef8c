//! Prints terminal escapes on both streams and in names: a title, the clipboard, a forged summary,
//! overwritten lines, reversed text.
use strongroom_test_guests::{context, secrets};

fn main() {
    for text in [
        "\u{1b}]0;owned\u{7}",
        "\u{1b}]52;c;aGVsbG8=\u{7}",
        "\u{1b}[2J\u{1b}[1;1Houtcome  finished",
        "secret\rpublic",
        "\u{202e}desrever",
        "\u{9b}31m",
        "a\u{8}b",
    ] {
        println!("out {text}");
        eprintln!("err {text}");
    }
    println!("tab\tand newline stay");
    let _ = context::report_progress(1, 1, "\u{1b}[31mred\u{202e}");
    let _ = context::set_tag("tag\u{202e}", "\u{1b}[31mred");
    let _ = context::log_parameter("parameter", "\u{1b}[1;1Houtcome  finished");
    let _ = context::log_text("text", "red\u{202e}\r", None);
    let _ = secrets::get_secret("\u{1b}[2Jname");
    let _ = std::fs::write("/output/\u{1b}[31mred", "x");
}
