//! `GET /v1/disk`: what was written since the runner began, for engines that look at a limit on disk only now and then.
//!
//! A file's change time is the kernel's own: no program without the right to set the clock can move it back. Whatever
//! has one after the runner's start was written, copied up or made since; the image is older. Every mount that lies on a
//! disk counts, `/etc/hosts` and `/dev/termination-log` with them: a cluster counts some of these late, and some never.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use assay_core::control::runner::Written;
use http::{Response, StatusCode};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, lstat},
};
use tokio::task::spawn_blocking;

use crate::{
    answer::{Body, Failure, json, problem},
    files::path,
    state::Runner,
};

/// The longest look.
const PATIENCE: Duration = Duration::from_secs(8);
/// Files with several names are remembered, so that each counts once.
const MOST_LINKED: usize = 100_000;
/// Honest trees are not deeper.
const DEEPEST: usize = 256;
/// File systems that take no disk.
const IN_MEMORY: [&str; 10] = [
    "proc",
    "sysfs",
    "tmpfs",
    "ramfs",
    "devtmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "securityfs",
];

/// Answers with [`Written`].
pub(crate) async fn answer(runner: &Arc<Runner>) -> Result<Response<Body>, Failure> {
    let internal = |text: &str| problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", text);
    let since = runner.since;
    let look = move || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(written(&on_disk(&mounts), since, Instant::now() + PATIENCE))
    };
    let looked: std::io::Result<Written> = spawn_blocking(look)
        .await
        .map_err(|error| internal(&error.to_string()))?;
    match looked {
        Ok(written) => Ok(json(StatusCode::OK, &written)),
        Err(error) => Err(internal(&format!("/proc/self/mountinfo: {error}"))),
    }
}

/// Where something is mounted that takes disk, by the lines of `mountinfo`.
fn on_disk(mounts: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| {
        let (own, of_file_system) = line.split_once(" - ")?;
        let at = own.split(' ').nth(4)?;
        let kind = of_file_system.split(' ').next()?;
        (!IN_MEMORY.contains(&kind)).then(|| unescaped(at))
    };
    mounts.lines().filter_map(of_line).collect()
}

/// Spaces and the like stand there as `\040`.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten();
        let octal = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// What lies beneath these and changed since then, counted from the epoch; what is mounted beneath one of them is its own.
fn written(mounts: &[PathBuf], since: Duration, until: Instant) -> Written {
    let mut sum = Sum {
        since,
        until,
        linked: HashSet::new(),
        written: Written {
            bytes: 0,
            complete: true,
        },
    };
    for mount in mounts {
        sum.add_mount(mount);
    }
    sum.written
}

struct Sum {
    since: Duration,
    until: Instant,
    linked: HashSet<(u64, u64)>,
    written: Written,
}

impl Sum {
    fn add_mount(&mut self, mount: &Path) {
        let Ok(stat) = lstat(mount) else {
            // Something is mounted over it, or it is not for this process.
            return;
        };
        self.add(&stat);
        if !is_folder(&stat) {
            return;
        }
        match path::open_folder(mount, false) {
            Ok(root) => self.add_tree(&root, stat.st_dev),
            Err(_) => self.written.complete = false,
        }
    }

    /// Depth first without recursion; folders are opened again from the top, so that few descriptors are needed.
    fn add_tree(&mut self, root: &OwnedFd, device: u64) {
        let mut folders = vec![PathBuf::new()];
        while let Some(relative) = folders.pop() {
            if Instant::now() > self.until {
                self.written.complete = false;
                return;
            }
            match path::open_beneath(root, &relative, false) {
                Ok(folder) => self.add_folder(&folder, &relative, device, &mut folders),
                // Gone by now.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(_) => self.written.complete = false,
            }
        }
    }

    fn add_folder(&mut self, folder: &OwnedFd, at: &Path, device: u64, below: &mut Vec<PathBuf>) {
        // What is mounted here is walked as a mount of its own.
        if fstat(folder).is_ok_and(|stat| stat.st_dev != device) {
            return;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let opened = openat(folder, ".", flags, Mode::empty()).and_then(Dir::from_fd);
        let Ok(mut opened) = opened else {
            self.written.complete = false;
            return;
        };
        for entry in opened.iter() {
            let Ok(entry) = entry else {
                self.written.complete = false;
                return;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
                continue;
            };
            self.add(&stat);
            if is_folder(&stat) {
                let beneath = at.join(OsStr::from_bytes(name.to_bytes()));
                if beneath.components().count() <= DEEPEST {
                    below.push(beneath);
                } else {
                    self.written.complete = false;
                }
            }
        }
    }

    fn add(&mut self, stat: &FileStat) {
        let seconds = u64::try_from(stat.st_ctime).unwrap_or_default();
        let nanos = u32::try_from(stat.st_ctime_nsec).unwrap_or_default();
        if Duration::new(seconds, nanos) < self.since {
            return;
        }
        let several = stat.st_nlink > 1 && !is_folder(stat);
        if several && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        if self.linked.len() >= MOST_LINKED {
            self.linked.clear();
            self.written.complete = false;
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        self.written.bytes = self.written.bytes.saturating_add(blocks * BLOCK);
    }
}

fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK: u64 = 512;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _, time::SystemTime};

    use super::*;

    const MIB: usize = 1 << 20;

    /// Now, as the kernel's coarse clock stamps files: made known by making one.
    fn now(folder: &Path) -> Duration {
        let mark = folder.join("mark");
        let stamp = || {
            fs::write(&mark, "").unwrap();
            let stat = fs::metadata(&mark).unwrap();
            let seconds = Duration::from_secs(stat.ctime().unsigned_abs());
            seconds + Duration::from_nanos(stat.ctime_nsec().unsigned_abs())
        };
        let first = stamp();
        // The next tick: whatever comes is not stamped as what was.
        std::iter::repeat_with(stamp).find(|next| *next > first).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    fn mib(written: Written) -> u64 {
        assert!(written.complete);
        (written.bytes + (1 << 19)) >> 20
    }

    #[test]
    fn what_is_older_or_has_no_blocks_does_not_count_and_links_count_once() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        fs::create_dir(top.join("image")).unwrap();
        fs::write(top.join("image/old"), vec![1; 3 * MIB]).unwrap();
        fs::write(top.join("image/touched"), vec![1; 2 * MIB]).unwrap();
        let since = now(top);
        let mounts = [top.to_owned()];
        assert_eq!(mib(written(&mounts, since, soon())), 0);

        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/new"), vec![1; 5 * MIB]).unwrap();
        fs::hard_link(top.join("a/b/new"), top.join("a/again")).unwrap();
        fs::File::create(top.join("sparse"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        std::os::unix::fs::symlink("/", top.join("a/out")).unwrap();
        assert_eq!(mib(written(&mounts, since, soon())), 5);

        // Neither a time that a program sets nor another name makes it older.
        let new = fs::File::options()
            .append(true)
            .open(top.join("image/touched"))
            .unwrap();
        new.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(mib(written(&mounts, since, soon())), 7);
    }

    #[test]
    fn a_tree_that_cannot_be_walked_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = [folder.path().to_owned()];
        let since = now(folder.path());
        assert!(!written(&mounts, since, Instant::now()).complete, "no time");
        let mut deep = folder.path().to_owned();
        for _ in 0..=DEEPEST {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        assert!(!written(&mounts, since, soon()).complete, "too deep");
    }

    #[test]
    fn mounts_in_memory_take_no_disk() {
        let mounts = "\
            1 0 0:1 / / rw - overlay overlay rw\n\
            2 1 0:2 / /proc rw - proc proc rw\n\
            3 1 0:3 / /dev rw shared:1 - tmpfs tmpfs rw\n\
            4 3 8:1 /pods/1/log /dev/termination-log rw - ext4 /dev/sda1 rw\n\
            5 1 8:1 /v /with\\040space rw master:3 propagate_from:2 - xfs /dev/sda1 rw\n";
        let there = ["/", "/dev/termination-log", "/with space"].map(PathBuf::from);
        assert_eq!(on_disk(mounts), there);
    }
}
