//! A JSON value as YAML. Only block style, and only scalars that every YAML reader understands alike.

use serde_json::Value;

/// The value as a YAML document that ends with a line feed.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0),
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0),
        scalar => {
            out.push_str(&flow(scalar));
            out.push('\n');
        }
    }
    out
}

fn sequence(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        pad(out, indent);
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => {
                // The first key stands beside the dash, the others below it.
                let start = out.len();
                mapping(out, map, indent + 2);
                out.replace_range(start..start + indent + 2, "");
            }
            Value::Array(inner) if !inner.is_empty() => {
                let start = out.len();
                sequence(out, inner, indent + 2);
                out.replace_range(start..start + indent + 2, "");
            }
            scalar => {
                out.push_str(&flow(scalar));
                out.push('\n');
            }
        }
    }
}

fn mapping(out: &mut String, map: &serde_json::Map<String, Value>, indent: usize) {
    for (key, value) in map {
        pad(out, indent);
        out.push_str(&text(key));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(out, inner, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, indent);
            }
            scalar => {
                out.push(' ');
                out.push_str(&flow(scalar));
                out.push('\n');
            }
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

/// Plain where it cannot be taken for anything but a string, else in double quotes (JSON's strings
/// are YAML's).
fn text(string: &str) -> String {
    let plain = string.starts_with(|c: char| c.is_ascii_alphabetic())
        && string
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&string.to_ascii_lowercase().as_str());
    if plain {
        string.to_owned()
    } else {
        Value::String(string.to_owned()).to_string()
    }
}
