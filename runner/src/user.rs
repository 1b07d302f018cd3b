//! Users by name or number, read from the image's own `/etc/passwd` and `/etc/group`.
//!
//! No libc lookups: the runner is static, and the files belong to the workload, so they are only ever parsed.

use std::{
    fs::OpenOptions,
    io::Read as _,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
};

use crate::isolation::PROXY_ID;

const LONGEST_FILE: u64 = 1 << 20;

/// Who a child runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// User id.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
    /// All groups.
    pub(crate) groups: Vec<u32>,
    /// Its home, `/` when unknown.
    pub(crate) home: String,
    /// Its name, when it has one.
    pub(crate) name: Option<String>,
}

/// Why there is no such account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Not in `/etc/passwd`.
    #[error("no such user: {0}")]
    NoUser(String),
    /// Not in `/etc/group`.
    #[error("no such group: {0}")]
    NoGroup(String),
    /// The proxy's own id.
    #[error("user {PROXY_ID} belongs to the proxy")]
    Proxy,
}

/// The account that `spec` names: `name`, `uid`, each with an optional `:group`; root when absent.
pub(crate) fn resolve(spec: Option<&str>) -> Result<Account, Error> {
    resolve_in(spec, &read("/etc/passwd"), &read("/etc/group"))
}

fn resolve_in(spec: Option<&str>, passwd: &str, group: &str) -> Result<Account, Error> {
    let spec = spec.filter(|spec| !spec.is_empty()).unwrap_or("0");
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let number = user.parse::<u32>().ok();
    let known = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let uid = fields.get(2)?.parse::<u32>().ok()?;
        let fits = number.map_or(fields[0] == user, |number| number == uid);
        fits.then(|| Account {
            uid,
            gid: fields.get(3).and_then(|gid| gid.parse().ok()).unwrap_or(0),
            groups: Vec::new(),
            home: fields
                .get(5)
                .filter(|home| home.starts_with('/'))
                .map_or("/", |home| home)
                .to_owned(),
            name: Some(fields[0].to_owned()),
        })
    });
    let mut account = match (known, number) {
        (Some(account), _) => account,
        (None, Some(uid)) => Account {
            uid,
            gid: 0,
            groups: Vec::new(),
            home: "/".to_owned(),
            name: None,
        },
        (None, None) => return Err(Error::NoUser(user.to_owned())),
    };
    if let Some(wanted) = wanted_group {
        account.gid = group_id(wanted, group)?;
        account.groups = vec![account.gid];
    } else {
        account.groups = memberships(&account, group);
    }
    if account.uid == PROXY_ID || account.groups.contains(&PROXY_ID) {
        return Err(Error::Proxy);
    }
    Ok(account)
}

fn group_id(wanted: &str, group: &str) -> Result<u32, Error> {
    let by_name = || {
        group.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == wanted)
                .then(|| fields.nth(1)?.parse().ok())
                .flatten()
        })
    };
    wanted
        .parse()
        .ok()
        .or_else(by_name)
        .ok_or_else(|| Error::NoGroup(wanted.to_owned()))
}

fn memberships(account: &Account, group: &str) -> Vec<u32> {
    let mut groups = vec![account.gid];
    let Some(name) = &account.name else {
        return groups;
    };
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let (Some(gid), Some(members)) = (fields.get(2).and_then(|gid| gid.parse().ok()), fields.get(3))
        else {
            continue;
        };
        if members.split(',').any(|member| member == name) && !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    groups
}

/// The text of a regular file, or nothing: a pipe or an endless device in its place must not stop us.
fn read(path: &str) -> String {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let Ok(file) = open else {
        return String::new();
    };
    let regular = file.metadata().is_ok_and(|metadata| {
        let kind = metadata.file_type();
        !(kind.is_fifo() || kind.is_char_device() || kind.is_block_device())
    });
    let mut text = Vec::new();
    if regular && file.take(LONGEST_FILE).read_to_end(&mut text).is_err() {
        text.clear();
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\np:x:1337:1337::/:\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\nadm:x:4:bob,ann\nwheel:x:10:ann\n";

    fn account(spec: &str) -> Result<(u32, u32, Vec<u32>, String), Error> {
        resolve_in(Some(spec), PASSWD, GROUP).map(|a| (a.uid, a.gid, a.groups, a.home))
    }

    #[test]
    fn names_and_numbers_with_and_without_groups() {
        let ann = (1000, 1001, vec![1001, 4, 10], "/home/ann".to_owned());
        assert_eq!(account("ann"), Ok(ann.clone()));
        assert_eq!(account("1000"), Ok(ann));
        assert_eq!(account("ann:adm"), Ok((1000, 4, vec![4], "/home/ann".to_owned())));
        assert_eq!(account("7:8"), Ok((7, 8, vec![8], "/".to_owned())));
        assert_eq!(account(""), Ok((0, 0, vec![0], "/root".to_owned())));
    }

    #[test]
    fn unknown_names_and_the_proxy_are_refused() {
        assert_eq!(account("eve"), Err(Error::NoUser("eve".to_owned())));
        assert_eq!(account("ann:eve"), Err(Error::NoGroup("eve".to_owned())));
        for spec in ["1337", "p", "1337:0", "0:1337"] {
            assert_eq!(account(spec), Err(Error::Proxy), "{spec}");
        }
    }

    #[test]
    fn a_device_in_place_of_the_file_is_empty() {
        assert_eq!(read("/dev/zero"), "");
        assert_eq!(read("/nowhere"), "");
    }
}
