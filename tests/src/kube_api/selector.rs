//! Label and field selectors of lists and watches.

use serde_json::Value;

use super::failure::Failure;

/// Which objects a request is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

/// Fields that every kind can be selected by, and those of single kinds.
const FIELDS: [&str; 10] = [
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "status.phase",
    "type",
    "reason",
    "involvedObject.name",
    "involvedObject.uid",
];

impl Selector {
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, Failure> {
        Ok(Self {
            labels: parse_labels(labels)?,
            fields: parse_fields(fields)?,
        })
    }

    /// Whether it takes everything.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn takes(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels
            .iter()
            .all(|term| term.takes(labels[&term.key].as_str()))
            && self
                .fields
                .iter()
                .all(|(path, equal, wanted)| (field(object, path) == *wanted) == *equal)
    }
}

fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    path.split('.')
        .fold(object, |value, key| &value[key])
        .as_str()
        .unwrap_or_default()
}

impl Term {
    fn takes(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::In(set) => value.is_some_and(|value| set.iter().any(|one| one == value)),
            Test::NotIn(set) => !value.is_some_and(|value| set.iter().any(|one| one == value)),
            Test::Above(bound) => number().is_some_and(|number| number > *bound),
            Test::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// Splits at commas that are not within parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

fn parse_labels(text: &str) -> Result<Vec<Term>, Failure> {
    split(text).into_iter().map(parse_term).collect()
}

fn parse_term(text: &str) -> Result<Term, Failure> {
    let malformed = || {
        let message = format!("unable to parse requirement: found {text:?}");
        Failure::bad_request(message)
    };
    let term = |key: &str, test: Test| {
        let key = key.trim();
        let good = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if key.is_empty() || !key.chars().all(good) {
            return Err(malformed());
        }
        Ok(Term {
            key: key.to_owned(),
            test,
        })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(end) = text.strip_suffix(')') {
        let (head, set) = end.split_once('(').ok_or_else(malformed)?;
        let set = set.split(',').map(|part| part.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => term(key, Test::In(set)),
            (Some(key), Some("notin"), None) => term(key, Test::NotIn(set)),
            _ => Err(malformed()),
        };
    }
    if let Some(key) = text.strip_prefix('!') {
        return term(key, Test::Missing);
    }
    if let Some((key, value)) = text.split_once("!=") {
        return term(key, Test::NotIn(one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return term(key, Test::In(one(value)));
    }
    for (sign, test) in [
        ('>', Test::Above as fn(i64) -> Test),
        ('<', Test::Below as fn(i64) -> Test),
    ] {
        if let Some((key, value)) = text.split_once(sign) {
            return term(key, test(value.trim().parse().map_err(|_| malformed())?));
        }
    }
    term(text, Test::Exists)
}

fn parse_fields(text: &str) -> Result<Vec<(String, bool, String)>, Failure> {
    split(text)
        .into_iter()
        .map(|part| {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (path, true, value)
            } else {
                let message = format!("invalid selector: '{text}'; can't understand '{part}'");
                return Err(Failure::bad_request(message));
            };
            if !FIELDS.contains(&path) {
                let message = format!(
                    "Unable to find {path:?} that match label selector \"\", field selector \
                     {text:?}: field label not supported: {path}"
                );
                return Err(Failure::bad_request(message));
            }
            Ok((path.to_owned(), equal, value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(labels: &str, fields: &str) -> bool {
        let object = json!({
            "metadata": {"name": "a", "labels": {"app": "web", "tier": "1"}},
            "spec": {"nodeName": "n"},
        });
        Selector::parse(labels, fields).unwrap().takes(&object)
    }

    #[test]
    fn labels_are_compared_and_looked_up_in_sets() {
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app!=db",
            "!none",
            "none!=x",
            "app in (db, web)",
            "app notin (db),tier",
            "none notin (a,b)",
            "tier>0",
            "tier<2",
        ] {
            assert!(takes(yes, ""), "{yes}");
        }
        for no in [
            "none",
            "app=db",
            "!app",
            "app in (db)",
            "app=web,tier=2",
            "tier>1",
            "none in (a)",
        ] {
            assert!(!takes(no, ""), "{no}");
        }
    }

    #[test]
    fn fields_are_compared() {
        assert!(takes("", "metadata.name=a,spec.nodeName!=m,status.phase="));
        assert!(!takes("", "spec.nodeName=m"));
        assert!(Selector::parse("", "spec.image=x").is_err());
        assert!(Selector::parse("a in b", "").is_err());
    }
}
