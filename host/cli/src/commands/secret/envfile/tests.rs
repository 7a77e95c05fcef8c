//! Tests of the `.env` parser.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Vec<(String, String)> {
    let entries = parse(text).unwrap_or_else(|problems| panic!("{text:?}: {problems:?}"));
    entries.into_iter().map(|entry| (entry.name, entry.value.to_string())).collect()
}

fn wrong(text: &str) -> Vec<(usize, &'static str)> {
    let Err(problems) = parse(text) else { panic!("{text:?} was read") };
    problems.into_iter().map(|problem| (problem.line, problem.what)).collect()
}

#[test]
fn unambiguous_values_are_read() {
    for (line, value) in [
        ("A=x", "x"),
        ("A=", ""),
        ("A= ", ""),
        ("A=  # nothing", ""),
        ("  A = x  ", "x"),
        ("\tA\t=\tx\t", "x"),
        ("export A=x", "x"),
        ("export\tA = x", "x"),
        ("A=two words", "two words"),
        ("A=x # remark", "x"),
        ("A=x=y==", "x=y=="),
        ("A=postgres://u:p@h/db?a=b&c=d", "postgres://u:p@h/db?a=b&c=d"),
        ("A=''", ""),
        ("A='x'", "x"),
        ("A=' $x `y` \"z\" \\n # '", " $x `y` \"z\" \\n # "),
        ("A='x' # remark's end", "x"),
        ("A = \"x\"\t# remark", "x"),
        ("A=\"it's\"", "it's"),
        ("A=\"\\n\\r\\t\\\"\\\\\\$\\`\"", "\n\r\t\"\\$`"),
        ("A='one\ntwo'", "one\ntwo"),
        ("A=\"one\r\ntwo\"", "one\ntwo"),
        ("A='one\r\ntwo\rthree'", "one\ntwo\rthree"),
        ("A=ä", "ä"),
    ] {
        for text in [line.to_owned(), format!("{line}\n"), format!("\u{feff}# first\r\n\r\n{line}\r\nB=2")] {
            assert_eq!(read(&text).first(), Some(&("A".to_owned(), value.to_owned())), "{text:?}");
        }
    }
    assert_eq!(read("export=x"), [("export".to_owned(), "x".to_owned())]);
    assert_eq!(read("exported=x"), [("exported".to_owned(), "x".to_owned())]);
    assert_eq!(read(" \n#A=x\n\n"), []);
}

// promise: A value of a `.env` file that common programs read differently is refused.
#[test]
fn ambiguous_values_are_rejected() {
    for (line, what) in [
        ("A", NO_EQUALS),
        ("export A", NO_EQUALS),
        ("A: x", NO_EQUALS),
        ("=x", NO_NAME),
        ("A B=x", NO_NAME),
        ("export =x", NO_NAME),
        ("Ä=x", NO_NAME),
        ("A=$B", DOLLAR),
        ("A=pa$$word", DOLLAR),
        ("A=\"x${B}\"", DOLLAR),
        ("A=\"x`y`\"", AMBIGUOUS),
        ("A=x#y", AMBIGUOUS),
        ("A=#x", AMBIGUOUS),
        ("A=it's", AMBIGUOUS),
        ("A=x\"y\"", AMBIGUOUS),
        ("A=`x`", AMBIGUOUS),
        ("A=C:\\temp", AMBIGUOUS),
        ("A=\"C:\\data\"", ESCAPE),
        ("A='x'y", AFTER),
        ("A='x'#y", AFTER),
        ("A='it'\\''s'", AFTER),
        ("A=x\u{1b}[0m", CONTROL),
        ("A=x\ry", CONTROL),
    ] {
        assert_eq!(wrong(line), [(1, what)], "{line:?}");
        assert_eq!(wrong(&format!("B=1\n{line}\nC=2\n")), [(2, what)], "{line:?}");
    }
}

#[test]
fn all_problems_are_reported_without_contents() {
    let text = "A=1\nhunter2\nB='one\ntwo' three\nC=$x\nD=\"one\n\\x\n\"\nE=5\nF='hunter2\nG=7\n";
    assert_eq!(wrong(text), [(2, NO_EQUALS), (3, AFTER), (5, DOLLAR), (6, ESCAPE), (10, OPEN)]);
    let Err(problems) = parse(text) else { panic!() };
    assert!(problems.iter().all(|problem| !problem.to_string().contains("hunter2")));
    assert_eq!(problems[0].to_string(), format!("line 2: {NO_EQUALS}"));
}

#[test]
fn overlong_value_is_rejected() {
    use strongroom::secret::{Secret, VALUE_MAX};
    for text in ["x".repeat(VALUE_MAX), "ä".repeat(VALUE_MAX / 2), format!("{}€x", "x".repeat(VALUE_MAX - 4))] {
        for (open, close) in [("", ""), ("'", "'"), ("\"", "\"")] {
            let fits = read(&format!("A={open}{text}{close}")).remove(0).1;
            assert!(Secret::new(fits).is_ok());
            for more in ["x", "ä", "€", "𝄞", "€x", "𝄞xxx"] {
                let long = read(&format!("A={open}{text}{more}{close}")).remove(0).1;
                assert!(Secret::new(long).is_err(), "{more:?}");
            }
        }
    }
}

/// Quotes a value with double quotes.
fn in_double_quotes(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\r' => text.push_str("\\r"),
            '"' | '\\' | '$' | '`' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text + "\""
}

proptest! {
    #[test]
    fn any_quoted_value_round_trips(
        values in prop::collection::vec("(?s).{0,40}", 0..6),
        crlf in any::<bool>(),
        spaces in "[ \t]{0,3}",
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = String::new();
        for value in &values {
            // CR before LF cannot be told from a line end, and a single-quoted value cannot contain
            // a single quote.
            let quoted = if value.contains(['\'', '\r']) { in_double_quotes(value) } else { format!("'{value}'") };
            text += &format!("{spaces}NAME{spaces}={spaces}{quoted}{spaces}{end}");
        }
        let read: Vec<String> = read(&text).into_iter().map(|(_, value)| value).collect();
        prop_assert_eq!(read, values);
    }

    // promise: A value of a `.env` file that common programs read differently is refused.
    #[test]
    fn any_text_gives_lines_in_order(text in "(?s)[A=\"'\\\\$#\r\n a-c\u{e4}\t`]{0,60}") {
        let count = text.matches('\n').count() + 1;
        let lines: Vec<usize> = match parse(&text) {
            Ok(entries) => entries.iter().map(|entry| entry.line).collect(),
            Err(problems) => problems.iter().map(|problem| problem.line).collect(),
        };
        prop_assert!(lines.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", lines);
        prop_assert!(lines.iter().all(|line| (1..=count).contains(line)), "{:?}", lines);
    }

    // promise: A value of a `.env` file that common programs read differently is refused.
    #[test]
    fn unquoted_value_is_literal(value in "[ -~]{0,20}") {
        if let Ok(entries) = parse(&format!("A={value}")) {
            prop_assert_eq!(entries.len(), 1);
            let read = entries[0].value.to_string();
            prop_assert!(value.contains(&read));
            let quoted = value.trim_matches(BLANK).starts_with(['\'', '"']);
            prop_assert!(quoted || read == value.split(" #").next().unwrap().trim_matches(BLANK), "{:?} {:?}", value, read);
        }
    }
}
