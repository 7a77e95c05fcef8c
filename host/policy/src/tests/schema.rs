//! The JSON Schema for editors, held against the parser by an independent validator.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value as Json;

use super::documentation::blocks;
use super::*;

/// The schema, ready to validate.
struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("policy.schema.json", serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let index = compiler.compile("policy.schema.json", &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, index }
    }

    /// What an editor would say of a policy that is TOML.
    fn check(&self, text: &str) -> Result<(), String> {
        let table: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let document = json(&toml::Value::Table(table));
        self.schemas.validate(&document, self.index).map_err(|error| format!("{error:#}"))
    }
}

/// As editors show TOML to a schema: dates and times are strings.
fn json(value: &toml::Value) -> Json {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => Json::from(*number),
        toml::Value::Boolean(value) => (*value).into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(items) => items.iter().map(json).collect(),
        toml::Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

#[test]
fn the_documented_schema_is_the_one_that_is_printed() {
    let page = include_str!("../../../../docs/policy.schema.json");
    assert!(page == SCHEMA, "copy host/policy/src/schema.json to docs/policy.schema.json");
}

#[test]
fn everything_in_it_is_described() {
    fn undescribed(at: &str, schema: &Json, found: &mut Vec<String>) {
        for inner in ["properties", "patternProperties"] {
            for (name, property) in schema[inner].as_object().into_iter().flatten() {
                if property.get("description").is_none() && property.get("$ref").is_none() {
                    found.push(format!("{at}.{name}"));
                }
                undescribed(&format!("{at}.{name}"), property, found);
            }
        }
    }
    let schema: Json = serde_json::from_str(SCHEMA).unwrap();
    let mut found = Vec::new();
    undescribed("", &schema, &mut found);
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        undescribed(name, definition, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn defaults_and_limits_are_those_of_the_parser() {
    let schema: Json = serde_json::from_str(SCHEMA).unwrap();
    let limits = schema["properties"]["limits"]["properties"].as_object().unwrap();
    let rows = Limits::default().rows();
    assert_eq!(limits.len(), rows.len());
    for (name, default) in rows {
        let said = &limits[name]["default"];
        assert_eq!(said.as_str().map_or_else(|| said.to_string(), str::to_owned), default, "{name}");
    }
    assert_eq!(schema["properties"]["tcp"]["maxItems"], TARGETS_MAX);
    assert_eq!(schema["properties"]["secrets"]["maxProperties"], ENTRIES_MAX);
    let operations: Vec<&str> = Operation::ALL.into_iter().map(Operation::as_str).collect();
    assert_eq!(schema["definitions"]["operations"]["items"]["enum"], serde_json::json!(operations));
}

#[test]
fn every_policy_that_people_are_shown_fits_the_schema() {
    let validator = Validator::new();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-example/policies");
    let files =
        std::fs::read_dir(examples).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let starters = (0..8u8).map(|bits| {
        let asks = Asks { secrets: bits & 1 > 0, tcp: bits & 2 > 0, environment: bits & 4 > 0 };
        starter("x.wasm", &Digest::of(b""), asks)
    });
    let suggested = include_str!("../suggest/suggestion.toml").to_owned();
    let all: Vec<String> =
        blocks("toml").into_iter().chain(files).chain(starters).chain([suggested, FULL.to_owned()]).collect();
    assert!(all.len() > 15);
    for text in all {
        Policy::parse(&text, "p").unwrap();
        validator.check(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn what_a_schema_can_say_is_said() {
    let validator = Validator::new();
    for wrong in [
        "",
        "version = 2",
        "version = \"1\"",
        "version = 1\nsecret = 1",
        "version = 1\nsecrets = []",
        "version = 1\ncomponent = \"sha256:abc\"",
        "version = 1\ntcp = \"127.0.0.1:1\"",
        "version = 1\ntcp = [5432]",
        "version = 1\ntcp = [\"127.0.0.1\"]",
        "version = 1\ntcp = [\"127.0.0.1:0\"]",
        "version = 1\ntcp = [\"127.0.0.1:65536\"]",
        "version = 1\ntcp = [\"a:1\", \"a:1\"]",
        "version = 1\n[secrets]\n\"*\" = [\"get\"]",
        "version = 1\n[secrets]\n\"a*b\" = [\"get\"]",
        "version = 1\n[secrets]\ndb_password = [\"get\"]",
        "version = 1\n[secrets]\na = [\"read\"]",
        "version = 1\n[secrets]\na = [\"get\", \"get\"]",
        "version = 1\n[secrets]\na = \"hunter2\"",
        "version = 1\n[secrets]\na = {}",
        "version = 1\n[secrets]\na = { allow = [], max-uses = 0 }",
        "version = 1\n[secrets]\na = { allow = [], max_uses = 1 }",
        "version = 1\n[secrets]\na = { allow = [], expires = 2030-12-01 }",
        "version = 1\n[secrets]\na = { allow = [], expires = 2030-12-01T00:00:00 }",
        "version = 1\n[secrets]\n\"a-*\" = { allow = [], stored-as = \"b\" }",
        "version = 1\n[secrets]\n\"a-*\" = { allow = [], secret-version = \"1\" }",
        "version = 1\n[secrets]\na = { allow = [\"set\"], secret-version = \"1\" }",
        "version = 1\n[secrets]\na = { allow = [\"get\"], stored-as = \"b/c\" }",
        "version = 1\n[environment]\nA = 1",
        "version = 1\n[environment]\n\"A=B\" = \"1\"",
        "version = 1\n[limits]\nmemory = \"2GB\"",
        "version = 1\n[limits]\nmemory = \"63KiB\"",
        "version = 1\n[limits]\nmemory = 5",
        "version = 1\n[limits]\ntime = \"1h30m\"",
        "version = 1\n[limits]\ntime = \"366d\"",
        "version = 1\n[limits]\ntime = \"0s\"",
        "version = 1\n[limits]\nrequests = -1",
        "version = 1\n[limits]\nrequests = \"10\"",
        "version = 1\n[limits]\nthreads = 4",
    ] {
        assert!(Policy::parse(wrong, "p").is_err(), "the parser takes:\n{wrong}");
        assert!(validator.check(wrong).is_err(), "the schema takes:\n{wrong}");
    }
    let amounts = ["64KiB", "65536B", "1MiB", "1GiB", "999999999GiB"].map(|size| format!("memory = \"{size}\""));
    let times = ["1ms", "31536000000ms", "31536000s", "525600m", "8760h", "365d", "90s"]
        .map(|time| format!("time = \"{time}\""));
    for right in amounts.into_iter().chain(times) {
        let text = format!("version = 1\n[limits]\n{right}");
        Policy::parse(&text, "p").unwrap();
        validator.check(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

/// A value for a field, right more often than not.
fn literal() -> impl Strategy<Value = String> {
    let words = [
        "\"get\"",
        "[]",
        "[\"get\"]",
        "[\"get\", \"list\"]",
        "[\"set\"]",
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "1.5",
        "true",
        "\"1h\"",
        "\"2GiB\"",
        "\"64KiB\"",
        "\"65535B\"",
        "\"65536B\"",
        "\"0B\"",
        "\"1ms\"",
        "\"0ms\"",
        "\"365d\"",
        "\"8761h\"",
        "\"zz\"",
        "\"z/\"",
        "2030-12-01T00:00:00Z",
        "2030-12-01T00:00:00+01:00",
        "2030-12-01T00:00:00",
        "2030-12-01",
        "12:00:00",
    ];
    prop_oneof![6 => select(words.to_vec()).prop_map(str::to_owned), 1 => "\"[0-9]{1,20}(B|KiB|MiB|GiB|ms|s|m|h|d)\""]
}

fn field(names: &'static [&'static str]) -> impl Strategy<Value = (String, String)> {
    (select(names.to_vec()), literal()).prop_map(|(name, value)| (name.to_owned(), value))
}

/// `{ a = 1, b = 2 }`, no name twice.
fn inline(fields: Vec<(String, String)>) -> String {
    let fields: BTreeMap<String, String> = fields.into_iter().collect();
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn entry() -> impl Strategy<Value = (String, String)> {
    let key = prop_oneof![4 => "[ab-]{1,3}", 2 => "[ab-]{1,3}\\*", 1 => "[ab*_.]{0,4}", 1 => "a{125,128}\\*?"];
    let fields = field(&["allow", "allow", "max-uses", "expires", "stored-as", "secret-version", "max_uses"]);
    let table = prop::collection::vec(fields, 0..4).prop_map(inline);
    (key, prop_oneof![literal(), table])
}

proptest! {
    /// What the schema accepts the parser accepts. Left out is what a schema cannot say: names that differ in case alone, two ways to
    /// one secret, a date in quotes, an address that is always refused and a host name that is none.
    // promise: The parser accepts every policy that the JSON schema for editors accepts.
    #[test]
    fn what_the_schema_accepts_the_parser_accepts(
        entries in prop::collection::btree_map(entry().prop_map(|(key, _)| key), entry().prop_map(|(_, value)| value), 0..4),
        limits in prop::collection::vec(
            field(&["memory", "time", "output-bytes", "output-files", "compile-time", "log-bytes", "requests", "metrics", "x"]), 0..4),
        targets in prop::collection::btree_set("(127\\.0\\.0\\.1|\\[::1\\]|db|db\\.example|):[0-9]{1,6}", 0..3),
    ) {
        let targets: Vec<String> = targets.into_iter().map(|target| format!("\"{target}\"")).collect();
        let entries: String = entries.into_iter().map(|(key, value)| format!("\"{key}\" = {value}\n")).collect();
        let limits = inline(limits);
        let text = format!("version = 1\ntcp = [{}]\nlimits = {limits}\n[secrets]\n{entries}", targets.join(", "));
        // More than one entry may lead to the one secret that is an alias here.
        prop_assume!(text.matches("stored-as = \"zz\"").count() < 2);
        thread_local!(static VALIDATOR: Validator = Validator::new());
        let accepted = VALIDATOR.with(|validator| validator.check(&text)).is_ok();
        let parsed = Policy::parse(&text, "p");
        prop_assert!(!accepted || parsed.is_ok(), "{}\n{}", parsed.unwrap_err(), text);
        // And the other way round, but for amounts that are written with needless zeros or beyond all reason.
        let odd = text.contains("\"0") || text.bytes().collect::<Vec<_>>().windows(10).any(|part| part.iter().all(u8::is_ascii_digit));
        let odd = odd || text.contains(":0");
        prop_assert!(odd || accepted || parsed.is_err(), "the schema refuses:\n{}", text);
    }
}
