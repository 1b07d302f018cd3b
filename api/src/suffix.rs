//! Which names are public suffixes: what is below them belongs to different people. The list is part of the program.

use assay_core::egress::HostName;

/// Is this name itself one, such as `co.uk` or `github.io`? Names below an unknown top level are not.
pub fn is_public(name: &HostName) -> bool {
    psl::suffix(name.as_str().as_bytes())
        .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == name.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_registries_and_of_hosters_are_known() {
        for (name, public) in [
            ("co.uk", true),
            ("github.io", true),
            ("example.co.uk", false),
            ("example.com", false),
            ("wild.example", false),
        ] {
            assert_eq!(is_public(&name.parse().unwrap()), public, "{name}");
        }
    }
}
