//! The order of entries in a manifest.
//!
//! A directory's children come together, sorted by name, before anything deeper; then the listing of
//! each child directory, in the same order (the idea of apath order is conserve's).

use std::cmp::Ordering;

/// Compares two entries by the directory that lists them and their names; the root is `("", "")`.
pub fn compare_listing(a: (&[u8], &[u8]), b: (&[u8], &[u8])) -> Ordering {
    let directories = if a.0 == b.0 {
        Ordering::Equal
    } else if a.0.is_empty() || b.0.is_empty() {
        a.0.len().cmp(&b.0.len())
    } else {
        components(a.0).cmp(components(b.0))
    };
    directories.then_with(|| a.1.cmp(b.1))
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_come_before_what_is_deeper() {
        let sorted: &[(&str, &str)] = &[
            ("", ""),
            ("", "a"),
            ("", "a.b"),
            ("", "b"),
            ("a", "x"),
            ("a", "y"),
            ("a/x", "1"),
            ("a/x/1", "deep"),
            ("a/y", "0"),
            ("a.b", "q"),
            ("b", "a"),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                let found = compare_listing(
                    (a.0.as_bytes(), a.1.as_bytes()),
                    (b.0.as_bytes(), b.1.as_bytes()),
                );
                assert_eq!(found, i.cmp(&j), "{a:?} {b:?}");
            }
        }
    }
}
