//! Amounts as Kubernetes writes them.

/// In thousandths: `250m` is 250, `2` is 2000, `1Gi` is 1024³ · 1000. `None` for what is no amount.
pub(super) fn thousandths(text: &str) -> Option<u128> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u128 = match unit {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000 * 1_000,
        "M" => 1_000 * 1_000_000,
        "G" => 1_000 * 1_000_000_000,
        "T" => 1_000 * 1_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let places = u32::try_from(part.len()).ok().filter(|places| *places <= 9)?;
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    Some(digits.checked_mul(factor)? / 10_u128.pow(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_the_cluster_writes_them() {
        for (text, amount) in [
            ("250m", 250),
            ("2", 2_000),
            ("1.5", 1_500),
            ("0.5Gi", 1_000 << 29),
            ("128Mi", 1_000 << 27),
            ("1k", 1_000_000),
        ] {
            assert_eq!(thousandths(text), Some(amount), "{text}");
        }
        for text in ["", "x", "1Xi", "-1", "1.0000000001"] {
            assert_eq!(thousandths(text), None, "{text:?}");
        }
    }
}
