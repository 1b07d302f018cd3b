//! One throw-away PostgreSQL for the whole test process, one database per test.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;

/// The running server. The shell that started it ends it when our end of its standard input closes, however we end.
struct Server {
    socket: PathBuf,
    _shell: Child,
}

static SERVER: OnceLock<Option<Server>> = OnceLock::new();
static TEMPLATE: Mutex<u32> = Mutex::const_new(0);

/// A connection string to a fresh, migrated database; `None`, with the reason on stderr, where no server can be started.
pub async fn database() -> Option<String> {
    let server = SERVER.get_or_init(start).as_ref()?;
    let url = |name: &str| server.url(name);
    let mut made = TEMPLATE.lock().await;
    let mut admin = PgConnection::connect(&url("postgres")).await.unwrap();
    if *made == 0 {
        sqlx::query("CREATE DATABASE assay_template")
            .execute(&mut admin)
            .await
            .unwrap();
        let pool = assay_api::connect(&url("assay_template"), 1).await.unwrap();
        assay_api::migrate(&pool).await.unwrap();
        pool.close().await;
    }
    *made += 1;
    let name = format!("assay_{made}");
    let create = format!("CREATE DATABASE {name} TEMPLATE assay_template");
    sqlx::query(sqlx::AssertSqlSafe(create))
        .execute(&mut admin)
        .await
        .unwrap();
    Some(url(&name))
}

/// Ends every connection to a database and takes no new one.
pub async fn close(name: &str) {
    let server = SERVER.get().unwrap().as_ref().unwrap();
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    let refuse = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    sqlx::query(sqlx::AssertSqlSafe(refuse))
        .execute(&mut admin)
        .await
        .unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(name)
        .execute(&mut admin)
        .await
        .unwrap();
}

impl Server {
    fn url(&self, name: &str) -> String {
        let socket = self.socket.display();
        format!("postgres://postgres@localhost/{name}?host={socket}")
    }
}

fn start() -> Option<Server> {
    let Some(programs) = programs() else {
        eprintln!("skipped: no PostgreSQL programs (initdb, postgres)");
        return None;
    };
    let Some(account) = account() else {
        eprintln!("skipped: PostgreSQL refuses root and there is no user postgres");
        return None;
    };
    let folder = tempfile::Builder::new()
        .prefix("assay-api-test-")
        .tempdir()
        .unwrap()
        .keep();
    if let Account::Other(uid, gid) = account {
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
    }
    let data = folder.join("data");
    let mut initdb = Command::new(programs.join("initdb"));
    initdb
        .arg("-D")
        .arg(&data)
        .args(["-U", "postgres", "-A", "trust", "--no-sync"]);
    let made = run_as(&mut initdb, &account)
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let script = r#""$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c synchronous_commit=off \
        -c full_page_writes=off -c max_connections=400 >"$2/log" 2>&1 & pid=$!
        cat >/dev/null; kill -INT $pid; wait $pid; rm -rf "$2""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(&programs).arg(&folder);
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let shell = run_as(&mut shell, &account).current_dir("/").spawn().unwrap();
    let deadline = Instant::now() + Duration::from_mins(2);
    while !is_ready(&programs, &folder) {
        assert!(Instant::now() < deadline, "PostgreSQL does not come up");
        std::thread::yield_now();
    }
    Some(Server {
        socket: folder,
        _shell: shell,
    })
}

fn is_ready(programs: &Path, folder: &Path) -> bool {
    let mut probe = Command::new(programs.join("pg_isready"));
    let probe = probe.arg("-h").arg(folder).args(["-U", "postgres"]);
    probe.output().is_ok_and(|output| output.status.success())
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop()
}

/// The user to become.
enum Account {
    Ours,
    Other(u32, u32),
}

/// Ourselves when we are not root; `None` where nobody is fit.
fn account() -> Option<Account> {
    let id = |flag: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let own = String::from_utf8(Command::new("id").arg("-u").output().ok()?.stdout).ok()?;
    if own.trim() != "0" {
        return Some(Account::Ours);
    }
    Some(Account::Other(id("-u", "postgres")?, id("-g", "postgres")?))
}

fn run_as<'c>(command: &'c mut Command, account: &Account) -> &'c mut Command {
    match *account {
        Account::Other(uid, gid) => command.uid(uid).gid(gid),
        Account::Ours => command,
    }
}
