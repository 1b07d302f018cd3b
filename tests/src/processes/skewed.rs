//! PostgreSQL on a machine whose clock is wrong: its programs, with a library before the system's that adds to the time.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

/// The programs in `real`, in a folder that everybody may read; the server among them is so many seconds ahead.
///
/// # Errors
/// There is no C compiler.
pub fn postgres(real: &Path, folder: &Path, ahead_sec: i64) -> anyhow::Result<PathBuf> {
    let programs = folder.join("skewed");
    fs::create_dir(&programs)?;
    fs::set_permissions(&programs, fs::Permissions::from_mode(0o755))?;
    let (source, library) = (programs.join("skew.c"), programs.join("skew.so"));
    fs::write(&source, SOURCE)?;
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", &format!("-DAHEAD={ahead_sec}")])
        .args([&source, Path::new("-o"), &library])
        .arg("-ldl")
        .output()
        .context("cc (apt-get install gcc libc6-dev)")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for program in fs::read_dir(real)? {
        let program = program?;
        if program.file_name() != "postgres" {
            symlink(program.path(), programs.join(program.file_name()))?;
        }
    }
    let server = programs.join("postgres");
    let script = format!(
        "#!/bin/sh\nLD_PRELOAD={} exec {} \"$@\"\n",
        library.display(),
        real.join("postgres").display()
    );
    fs::write(&server, script)?;
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755))?;
    Ok(programs)
}

/// Wall clocks alone; waiting goes by the monotonic one.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += AHEAD;
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  static int (*real)(struct timeval *, void *);
  if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
  int failed = real(now, zone);
  if (!failed) now->tv_sec += AHEAD;
  return failed;
}

time_t time(time_t *told) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (told) *told = now.tv_sec;
  return now.tv_sec;
}
"#;
