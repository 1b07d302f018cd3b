//! Which texts are names: of packages, steps, services, paths.

use unicode_normalization::UnicodeNormalization as _;

/// `org/name`.
pub(super) fn is_package(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric()) && part.bytes().all(is_name_byte)
    };
    !name.contains("..")
        && name
            .split_once('/')
            .is_some_and(|(org, name)| part(org) && part(name))
}

/// A service of a compose file.
pub(super) fn is_service(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(is_name_byte)
}

/// Absolute on Linux or on Windows.
pub(super) fn is_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with('/') || matches!(bytes, [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic())
}

/// A folder's name that every system can hold.
pub(super) fn check_step(name: &str) -> Result<(), String> {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let fault = if name.trim().is_empty() || name == "." || name == ".." {
        "names no folder"
    } else if name.ends_with(['.', ' ']) {
        "ends with a dot or a space"
    } else if name
        .chars()
        .any(|char| "<>:\"/\\|?*".contains(char) || char.is_ascii_control())
    {
        "has a character that not every system can hold"
    } else if is_device(stem) {
        "is a device on Windows"
    } else if name.len() > 255 {
        "is longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(format!("step name {name:?} {fault}"))
}

/// Equal for names that some file system takes for the same.
pub(super) fn step_key(name: &str) -> String {
    // Upper, then lower case is near enough to Unicode case folding: ß and ss meet.
    name.nfc().collect::<String>().to_uppercase().to_lowercase()
}

fn is_device(stem: &str) -> bool {
    let stem = stem.to_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| {
            let mut chars = rest.chars();
            chars.next().is_some_and(|digit| "123456789¹²³".contains(digit)) && chars.next().is_none()
        })
    };
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str())
        || numbered("COM")
        || numbered("LPT")
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}
