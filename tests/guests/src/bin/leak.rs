//! Prints a secret in each covered encoding, in writes of as many bytes as its argument says. Then
//! uses it as the name and the value of metrics, tags and parameters, in progress, as a file's name,
//! as the name of a secret, and in a failure message.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use strongroom_test_guests::{arg, context, secrets, show};

fn main() {
    let value = secrets::get_secret(&arg(0)).unwrap();
    let split: usize = arg(1).parse().unwrap_or(1);
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = value
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let json: String = value
        .chars()
        .map(|c| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            c => c.to_string(),
        })
        .collect();
    let mut forms = vec![
        ("raw", value.clone()),
        ("hex", hex.clone()),
        ("HEX", hex.to_uppercase()),
        ("percent", percent.clone()),
        ("percent-lower", lower_percent(&percent)),
        ("form", percent.replace("%20", "+")),
        ("percent-all", value.bytes().map(|byte| format!("%{byte:02X}")).collect()),
        ("json", json),
    ];
    for prefix in ["", "a", "ab"] {
        forms.push(("base64", BASE64_STANDARD.encode(format!("{prefix}{value}"))));
        forms.push(("base64-inside", BASE64_STANDARD.encode(format!("{prefix}{value}tail"))));
    }
    for line in value.lines() {
        forms.push(("line", line.to_owned()));
    }
    for (form, text) in &forms {
        for stream in [&mut std::io::stdout() as &mut dyn std::io::Write, &mut std::io::stderr()] {
            write!(stream, "{form}: ").unwrap();
            for piece in text.as_bytes().chunks(split) {
                stream.write_all(piece).unwrap();
                stream.flush().unwrap();
            }
            stream.write_all(b"\n").unwrap();
        }
    }
    let short: String = value.chars().filter(|c| !c.is_control()).take(100).collect();
    println!("metric {:?}", context::log_metric(&format!("m {short}"), 1.0, None).is_ok());
    println!("tag {:?}", context::set_tag(&format!("t {short}"), &value).is_ok());
    println!("parameter {:?}", context::log_parameter(&format!("p {short}"), &hex).is_ok());
    println!("text {:?}", context::log_text(&format!("x {short}"), &percent, None).is_ok());
    println!("progress {:?}", context::report_progress(1, 2, &format!("using {value}")).is_ok());
    println!("file {:?}", std::fs::write(format!("/output/{}", value.lines().last().unwrap()), "x").is_ok());
    println!("name {}", show(&secrets::get_secret(&value)));
    println!("hex as a name {}", show(&secrets::get_secret(&hex)));
    if arg(2) == "fail" {
        eprint!("failing with {value}");
        std::process::exit(1);
    }
}

fn lower_percent(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        out.push(c);
        if c == '%' {
            out.extend(rest.by_ref().take(2).map(|digit| digit.to_ascii_lowercase()));
        }
    }
    out
}
