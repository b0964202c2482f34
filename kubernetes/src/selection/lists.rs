//! Names to include and to exclude, with wildcards.

use super::glob;

/// Which names are meant: those that are included, or all if none are, without those that are excluded.
///
/// The name "" matches nothing, but a list that has only it is not empty: it includes no name at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameFilter {
    included: Vec<String>,
    excluded: Vec<String>,
}

impl NameFilter {
    /// A filter by these two lists.
    pub fn new(included: &[String], excluded: &[String]) -> Self {
        Self {
            included: included.to_vec(),
            excluded: excluded.to_vec(),
        }
    }

    /// The same, but "" is as if it were not there: for names of kinds.
    pub fn ignoring_empty(included: &[String], excluded: &[String]) -> Self {
        let kept = |list: &[String]| named(list).map(str::to_owned).collect();
        Self {
            included: kept(included),
            excluded: kept(excluded),
        }
    }

    /// Whether it selects this name.
    pub fn selects(&self, name: &str) -> bool {
        self.selects_by(|pattern| glob::matches(pattern, name))
    }

    /// Whether it selects what `is_called` says is called by a name or pattern of the lists.
    pub fn selects_by(&self, is_called: impl Fn(&str) -> bool) -> bool {
        let in_list = |list: &[String]| list.iter().any(|name| !name.is_empty() && is_called(name));
        (self.included.is_empty() || in_list(&self.included)) && !in_list(&self.excluded)
    }

    /// Whether it excludes what `is_called` says is called by a name or pattern of that list.
    pub fn excludes_by(&self, is_called: impl Fn(&str) -> bool) -> bool {
        self.excluded().any(is_called)
    }

    /// Whether it names nothing, neither to include nor to exclude.
    pub fn is_empty(&self) -> bool {
        self.included().chain(self.excluded()).next().is_none()
    }

    /// Whether it selects every name there can be.
    pub fn selects_all(&self) -> bool {
        let all = self.included.is_empty() || self.included.iter().any(|name| name == "*");
        all && self.excluded.iter().all(String::is_empty)
    }

    /// The names and patterns that it includes, without "".
    pub fn included(&self) -> impl Iterator<Item = &str> {
        named(&self.included)
    }

    /// The names and patterns that it excludes, without "".
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        named(&self.excluded)
    }

    /// What is wrong with the lists of `what`, such as "namespaces"; each is one line for a person.
    ///
    /// To exclude "*" makes sense only where `may_exclude_all`, and then nothing is to be included.
    pub fn problems(&self, what: &str, may_exclude_all: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if self.included.len() > 1 && self.included.iter().any(|name| name == "*") {
            problems.push(format!(
                "included {what}: \"*\" stands for all of them; leave out either it or the others"
            ));
        }
        if self.excluded.iter().any(|name| name == "*") {
            if !may_exclude_all {
                problems.push(format!("excluded {what}: \"*\" would leave nothing"));
            } else if !self.included.is_empty() {
                problems.push(format!(
                    "excluded {what}: \"*\" leaves nothing, though some are included"
                ));
            }
        }
        for name in self.excluded() {
            if name != "*" && self.included.iter().any(|other| other == name) {
                problems.push(format!("{what}: {name:?} is both included and excluded"));
            }
        }
        problems
    }
}

fn named(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(included: &[&str], excluded: &[&str]) -> NameFilter {
        let owned = |list: &[&str]| {
            list.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        NameFilter::new(&owned(included), &owned(excluded))
    }

    #[test]
    fn exclusion_beats_inclusion() {
        let cases: [(&[&str], &[&str], &str, bool); 9] = [
            (&[], &[], "shop", true),
            (&["*"], &[], "shop", true),
            (&["shop"], &[], "shop", true),
            (&["shop"], &[], "mail", false),
            (&[], &["shop"], "shop", false),
            (&["shop-*"], &["shop-test"], "shop-prod", true),
            (&["shop-*"], &["shop-test"], "shop-test", false),
            (&["shop", ""], &[""], "shop", true),
            (&[""], &[], "shop", false),
        ];
        for (included, excluded, name, want) in cases {
            let filter = filter(included, excluded);
            assert_eq!(filter.selects(name), want, "{filter:?} {name}");
        }
    }

    #[test]
    fn everything_is_selected_only_if_nothing_is_excluded() {
        assert!(filter(&[], &[]).selects_all() && filter(&["*"], &[""]).selects_all());
        assert!(!filter(&["*"], &["x"]).selects_all() && !filter(&["x*"], &[]).selects_all());
        assert!(!filter(&[""], &[]).selects_all());
    }

    #[test]
    fn contradictions_are_named() {
        let cases: [(&[&str], &[&str], bool, &str); 5] = [
            (&["*", "shop"], &[], false, "included namespaces"),
            (&[], &["*"], false, "would leave nothing"),
            (&["x"], &["*"], true, "though some are included"),
            (&["shop"], &["shop"], false, "\"shop\" is both"),
            (&["a", "a*"], &["a"], false, "\"a\" is both"),
        ];
        for (included, excluded, may, want) in cases {
            let problems = filter(included, excluded).problems("namespaces", may);
            assert!(
                problems.len() == 1 && problems[0].contains(want),
                "{problems:?}"
            );
        }
        assert!(
            filter(&["a", ""], &["b", ""])
                .problems("namespaces", false)
                .is_empty()
        );
        assert!(filter(&[], &["*"]).problems("resources", true).is_empty());
    }
}
