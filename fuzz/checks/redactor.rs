//! Redacting a stream, in any chunks and with pieces of the needles, gives the same result as the
//! oracle for the whole text.

use arbitrary::{Arbitrary, Unstructured};

use super::host::ids::SecretName;
use super::host::redact::Redactor;
use super::host::redact::reference::{ReferenceValue, reference_redact, reference_value};
use super::host::secret::Secret;

/// One step of a stream.
#[derive(Debug)]
enum Event {
    /// Bytes unrelated to any value.
    Noise(Vec<u8>),
    /// A part of a needle: index of the value, index of the needle, start, length.
    Piece(u8, u8, u8, u8),
    /// A whole needle: index of the value, index of the needle.
    Whole(u8, u8),
    /// Register the next value.
    Register,
}

#[derive(Debug)]
struct Input {
    values: Vec<String>,
    /// How many values to register before the stream starts.
    registered_first: u8,
    chunk_sizes: Vec<u8>,
    events: Vec<Event>,
}

// Not derived: the engine depends on `arbitrary` too, and with the feature `derive` it would be
// built twice.
impl<'a> Arbitrary<'a> for Event {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match input.int_in_range(0..=3_u8)? {
            0 => Self::Noise(input.arbitrary()?),
            1 => Self::Piece(input.arbitrary()?, input.arbitrary()?, input.arbitrary()?, input.arbitrary()?),
            2 => Self::Whole(input.arbitrary()?, input.arbitrary()?),
            _ => Self::Register,
        })
    }
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let (values, registered_first, chunk_sizes) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?);
        Ok(Self { values, registered_first, chunk_sizes, events: input.arbitrary()? })
    }
}

/// Checks one input.
pub(crate) fn check(data: &[u8]) {
    let Ok(input) = <Input>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let cut = |text: &String| text.chars().take(60).collect::<String>();
    let values: Vec<String> = input.values.iter().take(5).map(cut).collect();
    let all: Vec<ReferenceValue> = values.iter().map(|value| reference_value("x", value, 0)).collect();
    let mut sizes = input.chunk_sizes.iter().map(|size| usize::from(*size).max(1)).cycle();
    let redactor = Redactor::new();
    let (mut stream, mut text, mut out) = (redactor.stream(), Vec::new(), Vec::new());
    let mut registered: Vec<ReferenceValue> = Vec::new();
    let register = |registered: &mut Vec<ReferenceValue>, from: usize| {
        if let Some(value) = values.get(registered.len()) {
            let name = format!("n{}", registered.len());
            redactor.register(&SecretName::parse(&name).expect("a name"), &Secret::new(value.clone()).expect("short"));
            registered.push(reference_value(&name, value, from));
        }
    };
    (0..input.registered_first % 6).for_each(|_| register(&mut registered, 0));
    for event in input.events.iter().take(12) {
        let needle = |value: u8, form: u8| -> &[u8] {
            let Some(value) = all.get(usize::from(value) % all.len().max(1)) else { return &[] };
            value.needles.get(usize::from(form) % value.needles.len().max(1)).map_or(&[], Vec::as_slice)
        };
        let bytes = match event {
            Event::Register => {
                register(&mut registered, text.len() - stream.held());
                continue;
            }
            Event::Noise(bytes) => &bytes[..bytes.len().min(64)],
            Event::Whole(value, form) => needle(*value, *form),
            Event::Piece(value, form, from, length) => {
                let whole = needle(*value, *form);
                let from = usize::from(*from) % (whole.len() + 1);
                &whole[from..(from + usize::from(*length)).min(whole.len())]
            }
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).min(rest.len()));
            stream.push(chunk, &mut out);
            text.extend_from_slice(chunk);
            rest = later;
        }
    }
    stream.finish(&mut out);
    let (expected, count) = reference_redact(&registered, &text);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(shown(&out), shown(&expected), "for the text {:?}", shown(&text));
    assert_eq!((redactor.count(), stream.held()), (count, 0));
}
