//! Names that are like one that does not exist.

use super::{ReadSession, Scope};
use crate::{error::Result, manifest::split_path};

/// Names that a hint holds at most.
const NAMES: usize = 3;
/// From this likeness on, of 0 to 1, a name is worth naming.
const LIKE: f64 = 0.55;

/// What somebody may have meant by a path that is not there.
pub(super) fn hint(session: &ReadSession, path: &[u8]) -> Result<String> {
    let (mut above, mut name) = split_path(path);
    while !above.is_empty() && session.find(above)?.is_none() {
        (above, name) = split_path(above);
    }
    let wanted = String::from_utf8_lossy(name).into_owned();
    let mut best: Vec<(f64, String)> = Vec::new();
    let mut some: Vec<String> = Vec::new();
    for entry in session.entries_in(Scope::default().listing(above)) {
        let entry = entry?;
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let like = likeness(&wanted, &String::from_utf8_lossy(entry.name()));
        if like >= LIKE {
            let at = best.partition_point(|(other, _)| *other >= like);
            best.insert(at, (like, path));
            best.truncate(NAMES);
        } else if some.len() <= NAMES {
            some.push(path);
        }
    }
    let place = if above.is_empty() {
        "the volume's root".to_owned()
    } else {
        String::from_utf8_lossy(above).into_owned()
    };
    Ok(if !best.is_empty() {
        let names: Vec<_> = best.into_iter().map(|(_, path)| path).collect();
        format!("; there is {}", names.join(", "))
    } else if some.is_empty() {
        format!("; {place} is empty there, or no directory")
    } else {
        let more = if some.len() > NAMES { ", …" } else { "" };
        some.truncate(NAMES);
        format!("; {place} holds {}{more}", some.join(", "))
    })
}

/// How alike two names are, from 0 to 1; case counts for nothing, a common beginning for much.
pub(super) fn likeness(wanted: &str, name: &str) -> f64 {
    let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
    strsim::jaro_winkler(&wanted, &name)
        .min(strsim::normalized_damerau_levenshtein(&wanted, &name) + 0.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_alike_and_others_are_not() {
        for (wanted, name) in [
            ("Makefile", "makefile"),
            ("config.yml", "config.yaml"),
            ("datta", "data"),
            ("logs", "log"),
        ] {
            assert!(likeness(wanted, name) >= LIKE, "{wanted} {name}");
        }
        for (wanted, name) in [("nope", "etc"), ("data", "usr"), ("x", "passwd")] {
            assert!(likeness(wanted, name) < LIKE, "{wanted} {name}");
        }
    }
}
