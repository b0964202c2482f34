//! One log record as a line of `key=value` pairs, quoted as the logrus library quotes.
//!
//! Where logrus would write an escape that the readers of such lines refuse (`\x1b`, `\a`), the form `\u001b`
//! is written, which all of them read.

use std::fmt::Write as _;

/// Appends ` key=value`, or `key=value` at the start of a line.
pub(super) fn pair(line: &mut String, key: &str, value: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(key);
    line.push('=');
    if value.chars().all(is_plain) {
        line.push_str(value);
    } else {
        quote(line, value);
    }
}

/// The characters that need no quotes. A text without any characters has none either.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._/@^+".contains(c)
}

fn quote(line: &mut String, value: &str) {
    line.push('"');
    for c in value.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\u{8}' => line.push_str("\\b"),
            '\u{c}' => line.push_str("\\f"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if must_escape(c) => {
                write!(line, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Control characters, and what changes the direction or the lines of the text around it. All are below U+10000.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text`, or as much of it as `limit_bytes` allow and a note of how much is missing.
pub(super) fn truncate(text: &str, limit_bytes: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= limit_bytes {
        return text.into();
    }
    let kept = &text[..text.floor_char_boundary(limit_bytes)];
    format!(
        "{kept}\n[cut: {} of {} bytes are left out]",
        text.len() - kept.len(),
        text.len()
    )
    .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> String {
        let mut line = String::new();
        pair(&mut line, "k", text);
        line[2..].to_owned()
    }

    #[test]
    fn values_are_quoted_as_logrus_quotes_them() {
        let cases = [
            ("", ""),
            ("postgresql-0", "postgresql-0"),
            ("velero/b", "velero/b"),
            ("a.b_c@d^e+f", "a.b_c@d^e+f"),
            ("{3m0s}", r#""{3m0s}""#),
            ("<from-annotation>", r#""<from-annotation>""#),
            ("a b", r#""a b""#),
            ("k=v", r#""k=v""#),
            (r#"say "no" \ "#, r#""say \"no\" \\ ""#),
            ("1\n2\r\t", r#""1\n2\r\t""#),
            ("grüße", r#""grüße""#),
            ("\u{1b}[31m\u{7}\u{7f}", r#""\u001b[31m\u0007\u007f""#),
            ("\u{202e}x", r#""\u202ex""#),
        ];
        for (text, want) in cases {
            assert_eq!(value(text), want);
        }
    }

    #[test]
    fn what_is_cut_says_so_and_ends_with_a_whole_character() {
        assert_eq!(truncate("short", 5), "short");
        assert_eq!(truncate("aéb", 2), "a\n[cut: 3 of 4 bytes are left out]");
    }

    proptest! {
        #[test]
        fn a_value_is_one_line_and_reads_back(text: String) {
            let written = value(&text);
            prop_assert!(!written.chars().any(char::is_control));
            let read = if written.starts_with('"') {
                // The readers take quoted values for JSON.
                serde_json::from_str::<String>(&written).unwrap()
            } else {
                prop_assert!(!written.contains([' ', '=', '"']));
                written
            };
            prop_assert_eq!(read, text);
        }
    }
}
