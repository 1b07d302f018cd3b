//! How often the kernel killed something here for memory, by the container's own cgroup.

use std::fs;

/// Version 2, then version 1.
const FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

/// Kills for memory so far; 0 where nobody counts them.
pub(crate) fn oom_kills() -> u64 {
    let mut texts = FILES.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.find_map(|text| count(&text)).unwrap_or(0)
}

fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(
            count("low 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(count(""), None);
    }
}
