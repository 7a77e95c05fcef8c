use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use strongroom::record::{Blame, Limit, Metric, Number, Output, Point, Progress, SecretUse, TextMetric, TextPoint};

const RECORD: &str = include_str!("../testdata/record.json");

/// Text that breaks pages: markup for every context, entities, references, control and direction
/// characters.
const HOSTILE: &[&str] = &[
    "</script><img src=x onerror=\"alert(1)\">",
    "</style><style>*{display:none}</style>",
    "</title><svg/onload=alert(1)>",
    "\"><a href=\"https://example.org\">free</a>",
    "' onmouseover='alert(1)",
    "<!--",
    "]]>",
    "&lt;&#x3c;&nbsp;&bogus;",
    "{{ 7 * 7 }}{% raw %}{#",
    "javascript:alert(1)",
    "http://example.org/x",
    "\u{202e}gnp.exe\u{2066}",
    "nul\0bell\u{7}esc\u{1b}[2J",
    "line\nbreak\ttab\r",
    "\u{fffe}\u{ffff}\u{feff}\u{200b}",
    "",
];

fn record() -> RunRecord {
    serde_json::from_str(RECORD).unwrap()
}

fn text(stream: LogStream, text: &str) -> LogLine {
    LogLine::Text { stream, goes_on: false, text: text.into() }
}

fn page_with(record: &RunRecord, log: Vec<LogLine>, about: &str) -> String {
    let event = AuditLine { time: "2026-07-01T10:00:00Z".into(), kind: "use".into(), about: about.into() };
    let verdict = AuditVerdict { good: true, text: "verified".into() };
    let created = "2026-07-01T11:00:00Z".parse().unwrap();
    render(&ReportInput { record, log: Ok(Some(log)), events: vec![event], verdict, created }).unwrap()
}

/// Puts a text wherever component text can appear.
fn filled(text: &str, value: f64) -> (RunRecord, Vec<LogLine>) {
    let mut record = record();
    record.component.path = text.into();
    record.reason = Some(text.into());
    record.warnings = vec![text.into()];
    record.progress = Some(Progress { done: 7, total: 3, message: text.into() });
    record.secrets = vec![SecretUse {
        name: text.into(),
        operation: text.into(),
        count: 1,
        denied: 1,
        would_allow: Some(text.into()),
    }];
    let digest = record.component.digest;
    record.outputs = vec![Output { path: text.into(), bytes: 1, sha256: digest }];
    let point = |step, value| Point { step: Some(step), value: Number(value) };
    let points = vec![point(1, 1.0), point(2, value), point(3, 2.0)];
    record.metrics.insert(text.into(), Metric { points, last: Some(Number(value)), dropped: 3 });
    record.metrics.insert(format!("one {text}"), Metric { last: Some(Number(value)), ..Metric::default() });
    record.logged_tags.insert(text.into(), text.into());
    record.logged_parameters.insert(text.into(), text.into());
    let values = vec![TextPoint { step: Some(1), value: text.into() }, TextPoint { step: None, value: text.into() }];
    record.text_metrics.insert(text.into(), TextMetric { points: values, dropped: 1 });
    let log = vec![
        self::text(LogStream::Out, text),
        LogLine::LeftOut(1 << 20),
        self::text(LogStream::Err, text),
        self::text(LogStream::Err, text),
    ];
    (record, log)
}

/// Checks that a page is well formed, contains only the template's elements and attributes, and
/// refers to nothing.
fn check(page: &str) {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document =
        roxmltree::Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{error}\n{page}"));
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(ELEMENTS.contains(&name), "<{name}>");
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(ATTRIBUTES.contains(&name), "{name}={value:?}");
            assert!(
                !value.contains("http:") && !value.contains("https:") && !value.contains("url("),
                "{name}={value:?}"
            );
        }
    }
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("style")).count(), 1);
    for bad in ["<script", "<img", "<link", "<iframe", "<object", "<base", "src=", "href=", "@import", "url("] {
        // Only as markup: component text contains no literal `<` or `"`.
        assert!(!page.contains(&format!("{bad}\"")) && (!bad.starts_with('<') || !page.contains(bad)), "{bad}");
    }
    let control =
        page.chars().find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(control, None);
    assert!(
        page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\"")
    );
}

const ELEMENTS: &[&str] = &[
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "section",
    "footer",
    "h1",
    "h2",
    "p",
    "code",
    "pre",
    "bdi",
    "span",
    "div",
    "ul",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "progress",
    "figure",
    "figcaption",
    "svg",
    "desc",
    "g",
    "path",
    "text",
    "circle",
    "details",
    "summary",
];

const ATTRIBUTES: &[&str] = &[
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "aria-hidden",
    "aria-label",
    "aria-labelledby",
    "role",
    "tabindex",
    "id",
    "value",
    "max",
    "viewBox",
    "d",
    "x",
    "y",
    "dy",
    "cx",
    "cy",
    "r",
    "text-anchor",
];

/// Returns the text of a page as a browser shows it.
fn shown(page: &str) -> String {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(page, options).unwrap();
    let texts: Vec<&str> = document
        .descendants()
        .filter(|node| node.is_text() && !node.parent_element().is_some_and(|parent| parent.has_tag_name("style")))
        .filter_map(|node| node.text())
        .collect();
    texts.concat()
}

// promise: The HTML page of a run is well formed, has no script and no external reference, and
// holds component text as text only.
#[test]
fn hostile_text_in_report_stays_text() {
    for hostile in HOSTILE {
        let (record, log) = filled(hostile, f64::NAN);
        let page = page_with(&record, log, hostile);
        check(&page);
        let plain = hostile.chars().all(|c| !c.is_control() && c < '\u{200b}');
        if plain && !hostile.is_empty() {
            // It appears in the path, the reason, the warning, the progress, two tables, the policy
            // line, the outputs, two metrics, twice in a plot, name and value of a tag, a parameter
            // and a text metric, the log, the audit events, the identifiers and the record.
            let seen = shown(&page).matches(hostile).count();
            assert!(seen >= 21, "{hostile:?} is shown {seen} times");
        }
    }
    let (record, log) = filled("\u{202e}x\0", 1.0);
    assert!(shown(&page_with(&record, log, "")).matches("\\u{202e}x\\x00").count() >= 21);
}

#[test]
fn report_shows_every_part_of_run() {
    let mut record = record();
    record.limit = Some(Limit::Time);
    let log = vec![text(LogStream::Out, "hello"), text(LogStream::Err, "oops"), LogLine::LeftOut(2048)];
    let page = page_with(&record, log, "get dataset-key, allowed");
    check(&page);
    let shown = shown(&page);
    for part in [
        "failed after 1.24 s",
        "train.wasm",
        "the component ended with failure",
        "cause: the component",
        "db-admin = [\"describe\", \"get\"]",
        "the policy serves any component",
        "12.3 MiB",
        "980 ms",
        "dataset-key",
        "200 of 300: fitting",
        "report.txt",
        "mlflow.note.content",
        "so its end is cut",
        "learning_rate",
        "step 2, 3 values",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "hello",
        "oops",
        "2.0 KiB not kept",
        "2048 bytes over the limit log-bytes were dropped",
        "get dataset-key, allowed",
        "verified",
        "first 0.69, last 0.0523, min 0.0523, max 0.69, points 2",
        "\"peak_memory_bytes\": 12900000",
    ] {
        assert!(shown.contains(part), "`{part}` is not on the page:\n{shown}");
    }
    assert_eq!(page.matches("<svg").count(), 1);
}

#[test]
fn minimal_record_of_every_outcome_has_report() {
    let mut bare = record();
    (bare.ended, bare.blame, bare.reason, bare.progress, bare.exit_code) = (None, None, None, None, None);
    bare.secrets.clear();
    bare.metrics.clear();
    bare.outputs.clear();
    bare.warnings.clear();
    bare.log = Default::default();
    for &outcome in Outcome::ALL {
        bare.outcome = outcome;
        check(&page_with(&bare, Vec::new(), ""));
    }
    bare.blame = Some(Blame::Host);
    for (log, words) in
        [(Ok(None), "The component printed nothing."), (Err("the log is damaged".to_owned()), "the log is damaged")]
    {
        let verdict = AuditVerdict { good: false, text: "TAMPERED".into() };
        let created = bare.started;
        let page = render(&ReportInput { record: &bare, log, events: Vec::new(), verdict, created }).unwrap();
        check(&page);
        assert!(shown(&page).contains(words) && shown(&page).contains("TAMPERED"));
    }
}

#[test]
fn report_of_large_run_has_bounded_size() {
    let mut record = record();
    let points: Vec<Point> =
        (0..10_000).map(|at| Point { step: Some(at), value: Number((at as f64).sqrt()) }).collect();
    let metric = Metric { last: points.last().map(|point| point.value), points, dropped: 1_000_000 };
    record.metrics = (0..200).map(|at| (format!("metric-{at:03}"), metric.clone())).collect();
    record.outputs = vec![record.outputs[1].clone(); 10_000];
    record.logged_tags = (0..2_000).map(|at| (format!("tag-{at:04}"), "&".repeat(8_192))).collect();
    let value = TextPoint { step: None, value: "&".repeat(8_192) };
    let texts = TextMetric { points: vec![value], dropped: 0 };
    record.text_metrics = (0..2_000).map(|at| (format!("text-{at:04}"), texts.clone())).collect();
    let lines: Vec<LogLine> = (0..60_000).map(|at| text(LogStream::Out, &format!("{at} {}", "x".repeat(40)))).collect();
    let page = page_with(&record, lines, "");
    check(&page);
    assert!(page.len() < 3 * 1024 * 1024, "{} bytes", page.len());
    let shown = shown(&page);
    for part in [
        "and 9700 more",
        "and 1700 more",
        "MiB not shown on this page",
        "\n0 xxx",
        "59999 xxx",
        "The run record is too large for this page",
    ] {
        assert!(shown.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), PLOTS_MAX);
}

#[test]
fn consecutive_lines_of_stream_form_one_block() {
    let lines = [
        text(LogStream::Out, "one"),
        text(LogStream::Out, ""),
        text(LogStream::Err, "two"),
        LogLine::LeftOut(10),
        text(LogStream::Err, "three"),
    ];
    let (blocks, cut) = log(&lines);
    let block = |class, text: &str| Block { class, text: text.into() };
    assert!(!cut);
    assert_eq!(
        blocks,
        [block("out", "one\n"), block("err", "two"), block("gap", "10 B not kept"), block("err", "three")]
    );
}

#[test]
fn allowed_elements_are_all_used() {
    let (record, log) = filled("x", 3.0);
    let page = page_with(&record, log, "x");
    let used: BTreeSet<&str> = page
        .split('<')
        .skip(1)
        .filter_map(|rest| rest.split([' ', '>', '/']).next().filter(|name| !name.is_empty() && !name.starts_with('!')))
        .collect();
    for element in ELEMENTS {
        assert!(used.contains(element), "<{element}> is allowed and never used");
    }
}

#[test]
fn control_characters_in_page_are_escaped() {
    assert_eq!(visible("a\0b\u{1b}[2J\u{202e}c\u{85}\u{2028}\r"), "a\\x00b\\x1b[2J\\u{202e}c\\u{85}\\u{2028}\\r");
    assert_eq!(visible("\u{fffe}<\u{ffff}"), "\\u{fffe}<\\u{ffff}");
    assert_eq!(visible("tab\tand\nnewline, Grüße &#60;"), "tab\tand\nnewline, Grüße &#60;");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // promise: The HTML page of a run is well formed, has no script and no external reference, and
    // holds component text as text only.
    #[test]
    fn any_record_gives_well_formed_report(
        text in prop_oneof![
            any::<String>(),
            prop::sample::select(HOSTILE).prop_map(str::to_owned),
            "[<>&\"'/=a-z \u{0}-\u{1f}\u{202a}-\u{202e}]{0,40}",
            "x{2000}",
        ],
        value in any::<f64>(),
    ) {
        let (record, log) = filled(&text, value);
        check(&page_with(&record, log, &text));
    }
}
