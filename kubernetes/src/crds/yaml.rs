//! Objects as YAML documents that are the same every time: keys in order of their names, block style only.

use serde::Serialize;
use serde_json::{Map, Value};

/// The objects as one YAML stream, each document after a line `---`.
pub fn to_yaml<T: Serialize>(objects: &[T]) -> String {
    let mut out = String::new();
    for object in objects {
        out.push_str("---\n");
        let value = serde_json::to_value(object).expect("an API object is JSON");
        match &value {
            Value::Object(map) => mapping(&mut out, map, 0),
            other => line(&mut out, &scalar(other)),
        }
    }
    out
}

fn mapping(out: &mut String, map: &Map<String, Value>, indent: usize) {
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    for (key, value) in entries {
        out.extend(std::iter::repeat_n(' ', indent));
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
            other => line(out, &format!(" {}", scalar(other))),
        }
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        let start = out.len();
        match item {
            Value::Object(map) if !map.is_empty() => mapping(out, map, indent + 2),
            Value::Array(inner) if !inner.is_empty() => sequence(out, inner, indent + 2),
            other => {
                out.extend(std::iter::repeat_n(' ', indent + 2));
                line(out, &scalar(other));
            }
        }
        // The item's first line stands beside its dash.
        out.replace_range(start + indent..=start + indent, "-");
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        // Empty collections, numbers, booleans and null are the same in JSON and YAML.
        other => other.to_string(),
    }
}

/// The string without quotes where no YAML reader can take it for something else, else as JSON has it.
fn text(string: &str) -> String {
    let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let plain = string.starts_with(|c: char| c.is_ascii_alphabetic())
        && string
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !reserved.contains(&string.to_lowercase().as_str());
    if plain {
        string.to_owned()
    } else {
        Value::from(string).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_reads_back_as_what_it_was() {
        let object = json!({
            "b": [1, "two", {"x": [], "y": {}}, [true, null], []],
            "a": {"no": "yes", "text": "a: b # c\n\"d\"", "": "1.0"},
            "é": "12:30",
        });
        let yaml = to_yaml(std::slice::from_ref(&object));
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, object, "{yaml}");
        assert!(yaml.starts_with("---\n") && yaml.find("a:") < yaml.find("b:"));
    }
}
