//! The seccomp filter: what a container runtime refuses by default, and what would let a process
//! around the packet rules or the user namespace.
//!
//! Three small programs, loaded one after the other; the strictest answer holds. Calls of a foreign ABI kill the
//! process (32-bit) or are unknown (x32), so no rule can be avoided by another numbering.

use std::collections::BTreeMap;

use assay_core::egress::PROXY_UID;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// A filter could not be compiled: a mistake in this module, or an architecture without a table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the compiler.
    #[error("cannot compile the filter: {0}")]
    Compile(#[from] seccompiler::BackendError),
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Every call that is refused whatever its arguments are.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The same for calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// The old way to a packet socket, by type instead of family.
const PACKET_TYPE: u64 = 10;

const NEW_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The filter's programs in the order in which they are to be loaded. `refuse_proxy_id` also refuses to become the
/// proxy's user, for where no user namespace does.
pub fn programs(refuse_proxy_id: bool) -> Result<Vec<BpfProgram>, Error> {
    let permission = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let mut refused = refused()?;
    if refuse_proxy_id {
        refused.extend(proxy_id()?);
    }
    let hidden: Rules = [(libc::SYS_clone3, Vec::new())].into();
    Ok(vec![
        foreign_numbering(),
        compile(hidden, unknown)?,
        compile(refused, permission)?,
    ])
}

fn compile(rules: Rules, action: SeccompAction) -> Result<BpfProgram, Error> {
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, action, ARCH)?.try_into()?)
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

fn refused() -> Result<Rules, Error> {
    let mut rules: Rules = REFUSED
        .iter()
        .chain(REFUSED_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    let namespaces = NEW_NAMESPACES.unsigned_abs();
    let mut clones = Vec::new();
    for bit in (0..32)
        .map(|bit| 1_u32 << bit)
        .filter(|bit| namespaces & bit != 0)
    {
        let same = SeccompCmpOp::MaskedEq(u64::from(bit));
        clones.push(rule(&[(0, same, u64::from(bit))])?);
    }
    rules.insert(libc::SYS_clone, clones);
    let family = |family: i32| rule(&[(0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()))]);
    rules.insert(
        libc::SYS_socket,
        vec![
            family(libc::AF_PACKET)?,
            family(libc::AF_VSOCK)?,
            rule(&[(1, SeccompCmpOp::MaskedEq(0xf), PACKET_TYPE)])?,
        ],
    );
    // Typing into the terminal of another process.
    let terminal_input = libc::TIOCSTI;
    rules.insert(
        libc::SYS_ioctl,
        vec![rule(&[(1, SeccompCmpOp::Eq, terminal_input)])?],
    );
    Ok(rules)
}

/// Every call that could make a process run as the proxy's user.
fn proxy_id() -> Result<Rules, Error> {
    let arguments: [(i64, &[u8]); 4] = [
        (libc::SYS_setuid, &[0]),
        (libc::SYS_setreuid, &[0, 1]),
        (libc::SYS_setresuid, &[0, 1, 2]),
        (libc::SYS_setfsuid, &[0]),
    ];
    let mut rules = Rules::new();
    for (call, positions) in arguments {
        let mut any = Vec::new();
        for position in positions {
            any.push(rule(&[(*position, SeccompCmpOp::Eq, u64::from(PROXY_UID))])?);
        }
        rules.insert(call, any);
    }
    Ok(rules)
}

fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, Error> {
    let mut all = Vec::new();
    for (argument, operator, value) in conditions {
        // The kernel looks at the lower half of these arguments only, so the filter does too.
        all.push(SeccompCondition::new(
            *argument,
            SeccompCmpArgLen::Dword,
            operator.clone(),
            *value,
        )?);
    }
    Ok(SeccompRule::new(all)?)
}

/// Calls numbered `0x4000_0000` and above (x32) are unknown. No other architecture has such numbers.
fn foreign_numbering() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, 0x4000_0000),
        step(
            RETURN,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
        ),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_filters_compile_within_the_kernels_limit() {
        for refuse_proxy_id in [false, true] {
            for program in programs(refuse_proxy_id).unwrap() {
                assert!(!program.is_empty() && program.len() < 4096, "{}", program.len());
            }
        }
    }
}
