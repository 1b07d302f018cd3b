//! What the container's cgroup counts, version 1 or 2. Whatever is not there counts as nothing.

use std::{fs, path::PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// Version 1 says "no limit" by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// A reading of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// CPU time, microseconds.
    pub(crate) cpu_us: u64,
    /// Highest memory use, bytes.
    pub(crate) memory_peak: u64,
    /// Kills for memory.
    pub(crate) oom_kills: u64,
    /// Processes that the kernel refused to make because there were too many.
    pub(crate) refused_forks: u64,
}

/// The files of this container's cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// Lines of `/proc/self/cgroup`: controllers and path.
    memberships: Vec<(String, String)>,
}

impl Cgroup {
    /// Of this process.
    pub(crate) fn of_self() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let memberships = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
            })
            .collect();
        Self { memberships }
    }

    /// CPU, memory peak and kills.
    pub(crate) fn counters(&self) -> Counters {
        let cpu_us = self
            .keyed("", "cpu.stat", "usage_usec")
            .or_else(|| Some(self.number("cpuacct", "cpuacct.usage")? / 1000));
        let memory_peak = self
            .number("", "memory.peak")
            .or_else(|| self.number("memory", "memory.max_usage_in_bytes"))
            .or_else(|| self.memory_used());
        let oom_kills = self
            .keyed("", "memory.events", "oom_kill")
            .or_else(|| self.keyed("memory", "memory.oom_control", "oom_kill"));
        Counters {
            cpu_us: cpu_us.unwrap_or(0),
            memory_peak: memory_peak.unwrap_or(0),
            oom_kills: oom_kills.unwrap_or(0),
            refused_forks: self.refused_forks(),
        }
    }

    /// How often a process was refused at the container's limit. A bomb may burn out between two looks at the tasks; this
    /// count stays.
    pub(crate) fn refused_forks(&self) -> u64 {
        self.keyed("", "pids.events", "max")
            .or_else(|| self.keyed("pids", "pids.events", "max"))
            .unwrap_or(0)
    }

    /// Memory that cannot be given back, in percent of the limit; `None` without a limit.
    pub(crate) fn memory_percent(&self) -> Option<u64> {
        let limit = self
            .number("", "memory.max")
            .or_else(|| self.number("memory", "memory.limit_in_bytes"))
            .filter(|limit| (1..NO_LIMIT).contains(limit))?;
        let used = self.memory_used()?;
        if used / (limit / 100).max(1) < 90 {
            return Some(used / (limit / 100).max(1));
        }
        // Close to the limit: caches of files do not count, the kernel takes them back by itself.
        let cache: u64 = ["inactive_file", "active_file", "slab_reclaimable"]
            .iter()
            .filter_map(|key| {
                self.keyed("", "memory.stat", key)
                    .or_else(|| self.keyed("memory", "memory.stat", &format!("total_{key}")))
            })
            .sum();
        Some(used.saturating_sub(cache) / (limit / 100).max(1))
    }

    /// Tasks of this container: its cgroup's count, else what `/proc` shows.
    pub(crate) fn tasks(&self) -> u64 {
        self.number("", "pids.current")
            .or_else(|| self.number("pids", "pids.current"))
            .unwrap_or_else(count_tasks)
    }

    fn memory_used(&self) -> Option<u64> {
        self.number("", "memory.current")
            .or_else(|| self.number("memory", "memory.usage_in_bytes"))
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.read(controller, file)?.trim().parse().ok()
    }

    fn keyed(&self, controller: &str, file: &str, key: &str) -> Option<u64> {
        let text = self.read(controller, file)?;
        value_of(&text, key)
    }

    /// `controller` is empty for version 2. The path of our own group exists only where the whole tree is mounted.
    fn read(&self, controller: &str, file: &str) -> Option<String> {
        let base = PathBuf::from(ROOT).join(controller);
        let own = self
            .memberships
            .iter()
            .find(|(names, _)| names.split(',').any(|name| name == controller))
            .map(|(_, path)| base.join(path.trim_start_matches('/')).join(file));
        own.and_then(|path| fs::read_to_string(path).ok())
            .or_else(|| fs::read_to_string(base.join(file)).ok())
    }
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}

fn count_tasks() -> u64 {
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    processes
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .filter_map(|entry| Some(fs::read_dir(entry.path().join("task")).ok()?.count() as u64))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_matched_whole() {
        let text = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "kill"), None);
    }

    #[test]
    fn this_process_counts_as_a_task() {
        assert!(count_tasks() > 0);
        assert!(Cgroup::of_self().tasks() > 0);
    }
}
