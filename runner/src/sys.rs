//! The one module with `unsafe`: the raw calls that load a filter, reset signals and give memory back.
//!
//! The library's own loader sets `no_new_privs` first, which would break `su` and every setuid file of an image. A
//! process that holds `CAP_SYS_ADMIN` in its user namespace may load a filter without it.
#![expect(
    unsafe_code,
    reason = "seccomp(2) has no safe wrapper that leaves no_new_privs alone; a handler is unsafe, the default is not"
)]

use nix::errno::Errno;
use seccompiler::{BpfProgram, sock_filter};

#[repr(C)]
struct Program {
    len: libc::c_ushort,
    filter: *const sock_filter,
}

/// Loads `program` for this thread and all that it will start.
pub(crate) fn load_filter(program: &BpfProgram) -> nix::Result<()> {
    let header = Program {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, both of which come from a live Vec, and keeps
    // no pointer to them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const header,
        )
    };
    Errno::result(answer).map(drop)
}

/// Gives every signal its default action. What ignores a signal passes that on to all that it executes.
pub(crate) fn default_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: no handler is installed, and nobody else runs in this process. The kernel refuses SIGKILL, SIGSTOP and
        // what the C library keeps for itself; none of them can be ignored.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Gives the kernel back what was freed. The runner stays as long as its sandbox, beside a workload with a memory limit.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator locks its own arenas; nothing that is in use is touched.
    unsafe {
        libc::malloc_trim(0)
    };
}
