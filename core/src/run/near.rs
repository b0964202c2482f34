//! Names that a mistyped name may have meant.

/// At most three of `candidates` that are close to `wanted`, the closest first.
pub fn near_misses<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .map(|candidate| (distance(wanted, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(3)
        .map(|(_, candidate)| candidate)
        .collect()
}

/// `KIND "WANTED" not found`, with near misses if there are any.
pub fn not_found<'a>(
    kind: &str,
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let near = near_misses(wanted, candidates);
    if near.is_empty() {
        format!("{kind} {wanted} not found")
    } else {
        format!(
            "{kind} {wanted} not found; did you mean {}?",
            near.join(" or ")
        )
    }
}

/// Characters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_names_come_first() {
        let names = ["shop/postgres-0/data", "shop/postgres-1/data", "other/x/y"];
        assert_eq!(
            not_found("volume", "shop/postgres-1/date", names),
            "volume shop/postgres-1/date not found; did you mean shop/postgres-1/data or \
             shop/postgres-0/data?"
        );
        assert_eq!(not_found("backup", "b", ["nightly"]), "backup b not found");
    }

    #[test]
    fn distances_count_changes() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
