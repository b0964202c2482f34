//! Quantities as Kubernetes writes them.

/// A quantity of Kubernetes, such as `10Gi` or `1.5e9`. In its base unit, precise to 15 digits; `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let unit = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    let plain = number.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suffix_has_its_factor() {
        for (text, want) in [
            ("10Gi", 10.0 * 1_073_741_824.0),
            ("1.5e9", 1.5e9),
            ("250m", 0.25),
            ("2", 2.0),
            (".5", 0.5),
            ("1k", 1000.0),
        ] {
            assert_eq!(parse(text), Some(want), "{text}");
        }
        for text in ["", "m", "-1", "x", "1Zi", "inf", "NaN"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
