//! `trust-probe HOST`: which clients of an image believe the sandbox's root. Run as the workload, where `HOST` is a model
//! host of its policy, it lets every client that the image has connect there, and prints a table.

use std::{
    fmt,
    io::{self, Write as _},
    process::{Command, Stdio},
};

/// A client that an image may have.
struct Client {
    name: &'static str,
    /// Succeeds where the image has it.
    present: &'static [&'static str],
    /// Connects; `{}` is the host.
    connect: &'static [&'static str],
    /// The exit codes of a client that believed the certificate, whatever it was answered.
    believed: &'static [i32],
    /// Words that say the same where an exit code does not.
    says: &'static str,
    /// What leads it to the bundle; `None` where nothing does.
    variable: Option<&'static str>,
}

/// What became of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Absent,
    Believes,
    /// With the last line that it said.
    Doubts(String),
}

struct Finding<'a> {
    client: &'a Client,
    verdict: Verdict,
}

/// Prints the table, and says whether every client that can be led to the bundle believes it.
pub(crate) fn run(host: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let mut all = true;
    for client in CLIENTS {
        let verdict = client.try_at(host)?;
        all &= !(matches!(verdict, Verdict::Doubts(_)) && client.variable.is_some());
        writeln!(out, "{}", Finding { client, verdict })?;
    }
    Ok(all)
}

impl Client {
    fn try_at(&self, host: &str) -> io::Result<Verdict> {
        let mut present = command(self.present, host);
        let present = present.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !present.is_ok_and(|status| status.success()) {
            return Ok(Verdict::Absent);
        }
        let output = command(self.connect, host).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let code = output.status.code();
        let by_code = code.is_some_and(|code| self.believed.contains(&code));
        let by_words = !self.says.is_empty() && said.contains(self.says);
        if by_code || by_words {
            return Ok(Verdict::Believes);
        }
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        let last = last.unwrap_or("no word").chars().take(LONGEST).collect();
        Ok(Verdict::Doubts(last))
    }
}

/// Ends by itself: `timeout` is in every image that has a shell.
fn command(words: &[&str], host: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("20").stdin(Stdio::null());
    command.args(words.iter().map(|word| word.replace("{}", host)));
    command
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = self.client.variable.unwrap_or("no variable reaches it");
        let (word, detail) = match &self.verdict {
            Verdict::Absent => ("absent", ""),
            Verdict::Believes => ("believes", ""),
            Verdict::Doubts(said) => ("DOUBTS", said.as_str()),
        };
        write!(f, "{:<16} {word:<8} {variable:<34} {detail}", self.client.name)
    }
}

const fn client(
    name: &'static str,
    present: &'static [&'static str],
    connect: &'static [&'static str],
    variable: &'static str,
) -> Client {
    Client {
        name,
        present,
        connect,
        believed: &[0],
        says: "",
        variable: Some(variable),
    }
}

const CLIENTS: &[Client] = &[
    client(
        "curl",
        &["curl", "--version"],
        &["curl", "-sS", "-o", "/dev/null", "https://{}/"],
        "CURL_CA_BUNDLE",
    ),
    client(
        "openssl",
        &["openssl", "version"],
        &[
            "openssl",
            "s_client",
            "-brief",
            "-verify_return_error",
            "-connect",
            "{}:443",
            "-servername",
            "{}",
        ],
        "SSL_CERT_FILE",
    ),
    client(
        "Python ssl",
        &["python3", "-c", "import ssl"],
        &["python3", "-c", PYTHON, "{}"],
        "SSL_CERT_FILE",
    ),
    client(
        "Python requests",
        &["python3", "-c", "import requests"],
        &["python3", "-c", "import requests; requests.get('https://{}/')"],
        "REQUESTS_CA_BUNDLE",
    ),
    client(
        "Python httpx",
        &["python3", "-c", "import httpx"],
        &["python3", "-c", "import httpx; httpx.get('https://{}/')"],
        "SSL_CERT_FILE",
    ),
    client(
        "Node",
        &["node", "--version"],
        &["node", "-e", NODE, "{}"],
        "NODE_EXTRA_CA_CERTS",
    ),
    client(
        "Ruby",
        &["ruby", "-ropenssl", "-e", ""],
        &[
            "ruby",
            "-rnet/http",
            "-e",
            "Net::HTTP.start('{}', 443, use_ssl: true) { |_| }",
        ],
        "SSL_CERT_FILE",
    ),
    client(
        "PHP",
        &["php", "-r", "exit(extension_loaded('openssl') ? 0 : 1);"],
        &["php", "-r", "exit(stream_socket_client('tls://{}:443') ? 0 : 1);"],
        "SSL_CERT_FILE",
    ),
    client(
        "Java",
        &["jshell", "--version"],
        &["sh", "-c", JAVA, "{}"],
        "JAVA_TOOL_OPTIONS",
    ),
    Client {
        believed: &[],
        // As a server's answer is told: the handshake came before it.
        says: "returned error",
        ..client(
            "git",
            &["git", "--version"],
            &["git", "ls-remote", "https://{}/x"],
            "GIT_SSL_CAINFO",
        )
    },
    Client {
        believed: &[0, 8],
        variable: None,
        ..client(
            "wget",
            &["wget", "--version"],
            &["wget", "-q", "-O", "/dev/null", "--tries=1", "https://{}/"],
            "",
        )
    },
];

const PYTHON: &str = "import socket, ssl, sys; host = sys.argv[1]; ssl.create_default_context().wrap_socket(socket.create_connection((host, 443)), server_hostname=host)";
const NODE: &str = "require('https').get('https://' + process.argv[1], () => process.exit(0)).on('error', (error) => { console.error(error.message); process.exit(1); })";
/// Believes: the last line that it prints is the status.
const JAVA: &str = "echo 'try { System.out.println(\"status \" + ((java.net.HttpURLConnection) new java.net.URL(\"https://'$0'/\").openConnection()).getResponseCode()); } catch (Exception error) { System.out.println(error); }' | jshell -s - 2>&1 | tee /dev/stderr | grep -q 'status [0-9]'";
const LONGEST: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_absent_believes_or_doubts_with_its_last_word() {
        let try_it = |present, connect| client("it", present, connect, "IT").try_at("host").unwrap();
        assert_eq!(try_it(&["false"], &["true"]), Verdict::Absent);
        assert_eq!(try_it(&["true"], &["true"]), Verdict::Believes);
        let doubts = try_it(
            &["true"],
            &["sh", "-c", "echo {}; echo unknown authority >&2; exit 1"],
        );
        assert_eq!(doubts, Verdict::Doubts("unknown authority".to_owned()));
    }
}
