//! Escapes of XML and HTML.

use super::style::{Names, Number, Style, beyond_ascii};

const MINIMAL: Names = &[('&', "&amp;"), ('<', "&lt;")];
const MARKUP: Names = &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")];
const QUOT: Names = &[('"', "&quot;")];
const QUOT_34: Names = &[('"', "&#34;")];
const APOS: Names = &[('\'', "&apos;")];
const APOS_39: Names = &[('\'', "&#39;")];
const APOS_039: Names = &[('\'', "&#039;")];
const APOS_X27: Names = &[('\'', "&#x27;")];
const BREAKS: Names = &[('\t', "&#9;"), ('\n', "&#10;"), ('\r', "&#13;")];
const BREAKS_HEX: Names = &[('\t', "&#x9;"), ('\n', "&#xA;"), ('\r', "&#xD;")];
const SOLIDUS: Names = &[('/', "&#x2F;")];
const GRAVE_EQUALS: Names = &[('`', "&#x60;"), ('=', "&#x3D;")];
const DECIMAL: Names = &[('&', "&#38;"), ('<', "&#60;"), ('>', "&#62;"), ('"', "&#34;"), ('\'', "&#39;")];
const HEX: Names = &[('&', "&#x26;"), ('<', "&#x3c;"), ('>', "&#x3e;"), ('"', "&#x22;"), ('\'', "&#x27;")];
const HEX_UPPER: Names = &[('&', "&#x26;"), ('<', "&#x3C;"), ('>', "&#x3E;"), ('"', "&#x22;"), ('\'', "&#x27;")];

// XML text and attributes.
pub(super) static XML_MINIMAL: Style = Style::named(&[MINIMAL]);
pub(super) static XML: Style = Style::named(&[MARKUP]);
pub(super) static XML_ASCII: Style = Style::new(&[MARKUP], beyond_ascii, Number::Decimal);
pub(super) static XML_ASCII_HEX: Style = Style::new(&[MARKUP], beyond_ascii, Number::Hexadecimal);
pub(super) static XML_QUOT: Style = Style::named(&[MARKUP, QUOT]);
pub(super) static XML_QUOT_ASCII: Style = Style::new(&[MARKUP, QUOT], beyond_ascii, Number::Decimal);
pub(super) static XML_QUOT_ASCII_HEX: Style = Style::new(&[MARKUP, QUOT], beyond_ascii, Number::Hexadecimal);
pub(super) static XML_APOS: Style = Style::named(&[MARKUP, QUOT, APOS]);
pub(super) static XML_ATTRIBUTE: Style = Style::named(&[MARKUP, QUOT, BREAKS]);
/// Canonical XML, section 2.3.
pub(super) static XML_CANONICAL: Style = Style::named(&[MINIMAL, QUOT, BREAKS_HEX]);
/// `xml.EscapeText`.
pub(super) static XML_GO: Style = Style::named(&[MARKUP, QUOT_34, APOS_39, BREAKS_HEX]);

// HTML, which gained `&apos;` only in HTML 5.
pub(super) static HTML_39: Style = Style::named(&[MARKUP, QUOT, APOS_39]);
pub(super) static HTML_39_ASCII: Style = Style::new(&[MARKUP, QUOT, APOS_39], beyond_ascii, Number::Decimal);
/// PHP.
pub(super) static HTML_039: Style = Style::named(&[MARKUP, QUOT, APOS_039]);
/// Python and Django.
pub(super) static HTML_X27: Style = Style::named(&[MARKUP, QUOT, APOS_X27]);
/// Go and Jinja.
pub(super) static HTML_34_39: Style = Style::named(&[MARKUP, QUOT_34, APOS_39]);
/// The rule of the OWASP cheat sheet.
pub(super) static HTML_OWASP: Style = Style::named(&[MARKUP, QUOT, APOS_X27, SOLIDUS]);
/// `mustache.js`.
pub(super) static HTML_MUSTACHE: Style = Style::named(&[MARKUP, QUOT, APOS_39, SOLIDUS, GRAVE_EQUALS]);

// All five characters by number.
pub(super) static XML_DECIMAL: Style = Style::named(&[DECIMAL]);
pub(super) static XML_HEX: Style = Style::named(&[HEX]);
pub(super) static XML_HEX_UPPER: Style = Style::named(&[HEX_UPPER]);
