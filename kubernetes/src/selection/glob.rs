//! Patterns for names: `*` any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of all others.

/// Whether `pattern` has anything but plain characters.
pub fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Whether the whole of `name` matches. A bracket that is never closed stands for itself.
///
/// The time is bounded by the product of both lengths.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut done) = (0, 0);
    // Where the last star was, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while done < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, done));
            at += 1;
        } else if let Some(width) = matches_one(&pattern[at..], name[done]) {
            at += width;
            done += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            at = star_at + 1;
            done = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// How much of the pattern matches this one character.
fn matches_one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '[' => match class(pattern) {
            Some((inner, width)) => in_class(inner, c).then_some(width),
            None => (c == '[').then_some(1),
        },
        plain => (plain == c).then_some(1),
    }
}

/// What is between the brackets, and how long it is with them.
fn class(pattern: &[char]) -> Option<(&[char], usize)> {
    // A closing bracket that comes first belongs to the class.
    let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
    Some((&pattern[1..end], end + 1))
}

fn in_class(inner: &[char], c: char) -> bool {
    let (negated, mut rest) = match inner {
        ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, inner),
    };
    let mut found = false;
    while let [first, after @ ..] = rest {
        if let ['-', last, after @ ..] = after {
            found |= (*first..=*last).contains(&c);
            rest = after;
        } else {
            found |= *first == c;
            rest = after;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("shop", "shop", true),
            ("shop", "shop2", false),
            ("*", "", true),
            ("shop-*", "shop-", true),
            ("shop-*", "shop-a-b", true),
            ("*-prod", "shop-prod", true),
            ("*-prod", "shop-prod-2", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "acb", false),
            ("ns-?", "ns-1", true),
            ("ns-?", "ns-12", false),
            ("ns-[0-3]", "ns-2", true),
            ("ns-[0-3]", "ns-4", false),
            ("ns-[!0-3]", "ns-4", true),
            ("ns-[ab]x", "ns-bx", true),
            ("ns-[", "ns-[", true),
            ("[]]", "]", true),
            ("", "", true),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
        assert!(!matches(&"*a".repeat(60), &"b".repeat(2000)));
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in "[*?!^a-c\\[\\]-]{0,12}", name in "[a-c\\[\\]-]{0,12}") {
            let _ = matches(&pattern, &name);
        }

        #[test]
        fn a_plain_name_matches_itself_alone(name in "[a-z0-9.-]{1,20}", other in "[a-z0-9.-]{1,20}") {
            prop_assert!(matches(&name, &name));
            prop_assert_eq!(matches(&name, &other), name == other);
        }
    }
}
