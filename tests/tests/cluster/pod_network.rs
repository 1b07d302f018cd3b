//! The network of a pod, as root of its node sees it, and the sandbox's proxy in it.

use std::{fs::File, net::IpAddr, os::fd::AsRawFd as _, path::Path, process::Command};

/// The network of a pod on this machine, held open.
pub(crate) struct Network {
    file: File,
    /// The process of the sandbox's proxy.
    pub(crate) proxy: u32,
}

impl Network {
    /// Of the pod with this address. The proxy is the one process of that program in it.
    pub(crate) fn of(address: IpAddr) -> Self {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let command = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if command.trim_end() == "assay-proxy" && has_address(&entry.path(), address) {
                let file = File::open(entry.path().join("ns/net")).unwrap();
                return Self { file, proxy: pid };
            }
        }
        panic!("no proxy runs in a pod at {address}");
    }

    /// Runs a program in it that has to succeed.
    pub(crate) fn run(&self, words: &[&str]) {
        let status = Command::new("nsenter")
            .arg(format!("--net={}", self.path()))
            .args(words)
            .status()
            .unwrap();
        assert!(status.success(), "{words:?}");
    }

    /// Where `nsenter` finds it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

fn has_address(process: &Path, address: IpAddr) -> bool {
    let table = std::fs::read_to_string(process.join("net/fib_trie")).unwrap_or_default();
    table
        .lines()
        .any(|line| line.trim_start_matches(['|', '-', ' ']) == address.to_string())
}
