//! A private PostgreSQL from the distribution's programs: own data folder, own socket, no TCP, ended with us.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tokio::process::{Child, Command};

use crate::error::Error;

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    server: Child,
    socket: PathBuf,
}

/// Who the server runs as: PostgreSQL refuses root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Starts a server on the data in `folder`, made when absent.
    ///
    /// # Errors
    /// Programs or the account are missing, or the server does not come up.
    pub async fn start(programs: &Path, folder: &Path) -> Result<Self, Error> {
        let account = account()?;
        let data = folder.join("data");
        let socket = folder.join("socket");
        prepare(folder, &socket, account)?;
        if !data.join("PG_VERSION").is_file() {
            initialise(programs, &data, account).await?;
        }
        end_leftover(programs, &data, account).await?;
        let log = folder.join("server.log");
        let output = fs::File::create(&log).map_err(|error| Error::unwritable(&log, &error))?;
        let errors = output
            .try_clone()
            .map_err(|error| Error::unwritable(&log, &error))?;
        let mut command = program(&programs.join("postgres"), account);
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&socket)
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        command
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            .kill_on_drop(true);
        let server = command
            .spawn()
            .map_err(|error| Error::Unavailable(format!("cannot start PostgreSQL: {error}")))?;
        let mut postgres = Self { server, socket };
        postgres.wait_ready(programs, account, &log).await?;
        postgres.create_database(programs, account).await?;
        Ok(postgres)
    }

    /// How to connect to the database.
    pub fn url(&self) -> String {
        let socket: String = self
            .socket
            .display()
            .to_string()
            .replace('%', "%25")
            .replace('/', "%2F");
        format!("postgres://{SUPERUSER}@localhost/{DATABASE}?host={socket}")
    }

    /// Ends the server: open transactions are rolled back, everything committed is on disk.
    pub async fn stop(mut self) {
        if let Some(pid) = self.server.id().and_then(|pid| i32::try_from(pid).ok()) {
            // SIGINT is PostgreSQL's fast shutdown. One that ended already needs no signal.
            if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGINT) {
                tracing::debug!(%error, "PostgreSQL is gone already");
            }
        }
        if tokio::time::timeout(Duration::from_secs(20), self.server.wait())
            .await
            .is_err()
        {
            tracing::warn!("PostgreSQL did not end within 20 s and is killed");
        }
    }

    async fn wait_ready(&mut self, programs: &Path, account: Account, log: &Path) -> Result<(), Error> {
        for _ in 0..1_200 {
            if let Ok(Some(status)) = self.server.try_wait() {
                return Err(Error::Unavailable(format!(
                    "PostgreSQL ended at once ({status}): {}",
                    end_of(log)
                )));
            }
            let mut ask = program(&programs.join("pg_isready"), account);
            ask.arg("-q").arg("-h").arg(&self.socket);
            if ask.status().await.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::Unavailable(format!(
            "PostgreSQL was not ready after two minutes: {}",
            end_of(log)
        )))
    }

    async fn create_database(&self, programs: &Path, account: Account) -> Result<(), Error> {
        let mut command = program(&programs.join("createdb"), account);
        command
            .arg("-h")
            .arg(&self.socket)
            .args(["-U", SUPERUSER, DATABASE]);
        let done = command.output().await;
        let done = done.map_err(|error| Error::Unavailable(format!("cannot start createdb: {error}")))?;
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() || said.contains("already exists") {
            Ok(())
        } else {
            Err(Error::Unavailable(format!("createdb: {}", said.trim())))
        }
    }
}

/// The folder of PostgreSQL's programs: `folder`, PATH, or the newest of the distribution's.
///
/// # Errors
/// None is there.
pub fn programs(folder: Option<&Path>) -> Result<PathBuf, Error> {
    let complete = |folder: &Path| PROGRAMS.iter().all(|name| folder.join(name).is_file());
    let missing = || {
        Error::Config(
            "PostgreSQL's programs are missing; `apt-get install postgresql`, or give --postgres-bin or DATABASE_URL".to_owned(),
        )
    };
    if let Some(folder) = folder {
        return if complete(folder) {
            Ok(folder.to_owned())
        } else {
            Err(missing())
        };
    }
    if let Some(folder) = in_path("postgres").and_then(|program| program.parent().map(Path::to_owned))
        && complete(&folder)
    {
        return Ok(folder);
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .map_err(|_| missing())?
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, folder)| complete(folder))
        .collect();
    versions.sort();
    versions.pop().map(|(_, folder)| folder).ok_or_else(missing)
}

/// A program of PATH.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

fn account() -> Result<Account, Error> {
    let me = geteuid();
    if !me.is_root() {
        let gid = nix::unistd::getegid().as_raw();
        return Ok(Account {
            uid: me.as_raw(),
            gid,
        });
    }
    match User::from_name("postgres") {
        Ok(Some(user)) => Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        _ => Err(Error::Config(
            "PostgreSQL refuses root and there is no user `postgres`; `apt-get install postgresql`, or run as another user".to_owned(),
        )),
    }
}

fn prepare(folder: &Path, socket: &Path, account: Account) -> Result<(), Error> {
    for path in [folder, socket] {
        let failed = |error: std::io::Error| Error::unwritable(path, &error);
        fs::create_dir_all(path).map_err(failed)?;
        // The folder is the lock on the door: who cannot enter it cannot reach the socket.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)).map_err(failed)?;
    }
    let length = socket.as_os_str().len() + "/.s.PGSQL.5432".len();
    if length > LONGEST_SOCKET {
        return Err(Error::Config(format!(
            "{} is too long for a socket ({length} of {LONGEST_SOCKET} bytes); give a shorter folder by ASSAY_STATE_DIR",
            socket.display()
        )));
    }
    reachable(folder, account)
}

/// Every folder above must let the account pass.
fn reachable(folder: &Path, account: Account) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    for above in folder
        .ancestors()
        .skip(1)
        .filter(|above| !above.as_os_str().is_empty())
    {
        let metadata = above
            .metadata()
            .map_err(|error| Error::unreadable(above, &error))?;
        let mode = metadata.mode();
        let passes = mode & 0o001 != 0
            || (metadata.uid() == account.uid && mode & 0o100 != 0)
            || (metadata.gid() == account.gid && mode & 0o010 != 0);
        if !passes {
            return Err(Error::Config(format!(
                "PostgreSQL's user cannot enter {}; choose another folder by ASSAY_STATE_DIR, or `chmod o+x {}`",
                above.display(),
                above.display()
            )));
        }
    }
    Ok(())
}

async fn initialise(programs: &Path, data: &Path, account: Account) -> Result<(), Error> {
    let mut command = program(&programs.join("initdb"), account);
    command.arg("-D").arg(data).args([
        "-U",
        SUPERUSER,
        "--auth=trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    let done = command.output().await;
    let done = done.map_err(|error| Error::Unavailable(format!("cannot start initdb: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Error::Unavailable(format!("initdb failed: {}", said.trim())))
}

/// A server that outlived a killed `up` still holds the data; it is asked to end first.
async fn end_leftover(programs: &Path, data: &Path, account: Account) -> Result<(), Error> {
    if !data.join("postmaster.pid").exists() {
        return Ok(());
    }
    let mut command = program(&programs.join("pg_ctl"), account);
    command
        .arg("-D")
        .arg(data)
        .args(["-m", "fast", "-w", "-t", "20", "stop"]);
    let done = command.output().await;
    let done = done.map_err(|error| Error::Unavailable(format!("cannot start pg_ctl: {error}")))?;
    // It fails where the file was left by a server that is gone; the new server then clears it away itself.
    tracing::debug!(code = ?done.status.code(), "asked a leftover PostgreSQL to end");
    Ok(())
}

fn program(path: &Path, account: Account) -> Command {
    let mut command = std::process::Command::new(path);
    // A group of its own: Ctrl-C on the terminal must reach the database after everybody who uses it.
    command.process_group(0).current_dir("/").stdin(Stdio::null());
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C");
    if geteuid().is_root() {
        command.uid(account.uid).gid(account.gid);
    }
    Command::from(command)
}

fn end_of(log: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(log) {
        file.read_to_string(&mut text).unwrap_or_default();
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

const SUPERUSER: &str = "postgres";
const DATABASE: &str = "assay";
const PROGRAMS: [&str; 5] = ["postgres", "initdb", "pg_ctl", "pg_isready", "createdb"];
/// A long queue is some hundred megabytes of rows that change all the time. What the defaults make slow is not the change
/// but the log of it: pages written whole after each checkpoint, buffers that have to be emptied to go on.
const SETTINGS: [&str; 8] = [
    "listen_addresses=",
    "max_connections=100",
    "shared_buffers=256MB",
    "wal_buffers=16MB",
    "wal_compression=on",
    "max_wal_size=2GB",
    "checkpoint_timeout=15min",
    "log_timezone=UTC",
];
const LONGEST_SOCKET: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn skip() {
        eprintln!("skipped: PostgreSQL");
    }

    /// A folder that the database's own user can enter.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::Builder::new()
            .prefix("assay-cli-")
            .tempdir_in("/tmp")
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_server_starts_stops_and_starts_again_on_the_same_data() {
        let Ok(programs) = programs(None) else {
            skip();
            return;
        };
        let folder = folder();
        for _ in 0..2 {
            let postgres = Postgres::start(&programs, &folder.path().join("pg"))
                .await
                .unwrap();
            assert!(postgres.url().contains("host=%2Ftmp"), "{}", postgres.url());
            postgres.stop().await;
            assert!(!folder.path().join("pg/data/postmaster.pid").exists());
        }
    }

    #[tokio::test]
    async fn a_server_left_by_a_killed_program_makes_room() {
        let Ok(programs) = programs(None) else {
            skip();
            return;
        };
        let folder = folder();
        let data = folder.path().join("pg");
        let mut left = Postgres::start(&programs, &data).await.unwrap();
        let next = Postgres::start(&programs, &data).await.unwrap();
        assert!(left.server.wait().await.unwrap().success());
        next.stop().await;
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_told_before_anything_is_started() {
        let folder = folder();
        let deep = folder.path().join("x".repeat(100));
        let me = Account {
            uid: geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        };
        let error = prepare(&deep, &deep.join("socket"), me).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
