//! Label selectors as people write them on a command line: `app=shop,tier in (web,db),!canary`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Longest text, in bytes.
const MAX_BYTES: usize = 16 << 10;
/// Longest name of a label after its prefix, and longest value, in bytes.
const MAX_NAME_BYTES: usize = 63;
/// Longest prefix of a label's name, in bytes.
const MAX_PREFIX_BYTES: usize = 253;

/// A text that is no label selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} is no condition on labels: write KEY=VALUE, KEY!=VALUE, KEY, !KEY, KEY in (A,B) or KEY notin (A,B), with \
     commas between several"
)]
pub struct SelectorError {
    /// The condition that cannot be understood.
    pub part: String,
}

/// Reads a selector, all of whose conditions must hold; a text without any matches everything.
///
/// # Errors
/// A condition cannot be understood, or names no label.
pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
    if text.len() > MAX_BYTES {
        let part = text.chars().take(40).chain(['…']).collect();
        return Err(SelectorError { part });
    }
    let mut selector = LabelSelector::default();
    if text.trim().is_empty() {
        return Ok(selector);
    }
    for part in parts(text) {
        let wrong = || SelectorError {
            part: part.trim().to_owned(),
        };
        let condition = condition(part.trim()).ok_or_else(wrong)?;
        match condition {
            Condition::Equal(key, value) => {
                let equal = selector.match_labels.get_or_insert_default();
                // Two different values of one label can never hold at once.
                match equal.insert(key.to_owned(), value.to_owned()) {
                    Some(before) if before != value => return Err(wrong()),
                    _ => {}
                }
            }
            Condition::Other(key, operator, values) => {
                let values = values.into_iter().map(str::to_owned).collect::<Vec<_>>();
                let requirement = LabelSelectorRequirement {
                    key: key.to_owned(),
                    operator: operator.to_owned(),
                    values: (!values.is_empty()).then_some(values),
                };
                let conditions = selector.match_expressions.get_or_insert_default();
                conditions.push(requirement);
            }
        }
    }
    Ok(selector)
}

enum Condition<'a> {
    Equal(&'a str, &'a str),
    Other(&'a str, &'static str, Vec<&'a str>),
}

/// Parts the text at the commas that are not in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn condition(text: &str) -> Option<Condition<'_>> {
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Condition::Other(
            name(key)?,
            "NotIn",
            vec![value_of(value)?],
        ));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Condition::Equal(name(key)?, value_of(value)?));
    }
    if let Some(inner) = text.strip_suffix(')') {
        let (front, values) = inner.split_once('(')?;
        let (key, word) = front.trim().rsplit_once(char::is_whitespace)?;
        let operator = match word {
            "in" => "In",
            "notin" => "NotIn",
            _ => return None,
        };
        let values = values.split(',').map(value_of).collect::<Option<_>>()?;
        return Some(Condition::Other(name(key)?, operator, values));
    }
    match text.strip_prefix('!') {
        Some(key) => Some(Condition::Other(name(key)?, "DoesNotExist", Vec::new())),
        None => Some(Condition::Other(name(text)?, "Exists", Vec::new())),
    }
}

/// `[PREFIX/]NAME`.
fn name(text: &str) -> Option<&str> {
    let text = text.trim();
    let (prefix, own) = text.split_once('/').unwrap_or(("", text));
    let in_prefix = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let is_prefix = prefix.len() <= MAX_PREFIX_BYTES && prefix.chars().all(in_prefix);
    let has_prefix = text.contains('/');
    (is_prefix && has_prefix != prefix.is_empty() && !own.is_empty() && is_word(own))
        .then_some(text)
}

/// A value, which may be empty.
fn value_of(text: &str) -> Option<&str> {
    let text = text.trim();
    is_word(text).then_some(text)
}

fn is_word(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    let inside = |c: char| edge(c) || matches!(c, '-' | '_' | '.');
    text.is_empty()
        || (text.len() <= MAX_NAME_BYTES
            && text.chars().all(inside)
            && text.starts_with(edge)
            && text.ends_with(edge))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::selection::labels::query;

    #[test]
    fn every_kind_of_condition_is_read() {
        let text = "app=shop, tier == web ,v!=1,x in (a, b),y notin (c),z,!example.com/w,e=";
        assert_eq!(
            json!(parse(text).unwrap()),
            json!({
                "matchLabels": {"app": "shop", "tier": "web", "e": ""},
                "matchExpressions": [
                    {"key": "v", "operator": "NotIn", "values": ["1"]},
                    {"key": "x", "operator": "In", "values": ["a", "b"]},
                    {"key": "y", "operator": "NotIn", "values": ["c"]},
                    {"key": "z", "operator": "Exists"},
                    {"key": "example.com/w", "operator": "DoesNotExist"},
                ],
            })
        );
        assert_eq!(parse(" ").unwrap(), LabelSelector::default());
    }

    #[test]
    fn what_is_no_condition_is_named() {
        for bad in [
            "=a", "a=b=c", "a in", "a in (", "a of (b)", "in (b)", "a,,b", "a b", "a=ü", "-a",
            "/a", "a/", "a/b/c", "a=b,a=c", "a>1", "a in (b", "a in b)",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(
                !bad.contains(",,") || error.part.is_empty(),
                "{bad}: {error}"
            );
            assert!(error.to_string().contains("KEY=VALUE"), "{bad}: {error}");
        }
        assert!(parse(&"a,".repeat(20_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_can_be_written(text in "[a-z0-9=!,() ./-]{0,60}") {
            if let Ok(selector) = parse(&text) {
                prop_assert_eq!(parse(&query(&selector)).unwrap(), selector);
            }
        }
    }
}
