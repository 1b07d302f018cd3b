//! The clients of the matrix.

use crate::scene;

/// A client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// Its name, as docs/AGENTS.md has it.
    pub(crate) name: &'static str,
    /// The program and its first words; `{}` is the folder of the clients.
    argv: &'static [&'static str],
    /// What it fetches.
    pub(crate) speaks: Speaks,
    /// Whose roots it goes by.
    pub(crate) roots: Roots,
}

/// What a client fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Answers of models, from anywhere.
    Models,
    /// Packages and sources, from hosts that the proxy passes through.
    Packages,
}

/// Whose roots a client goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Those that its environment names.
    Told,
    /// Its own alone, so that it takes the base URL.
    Own,
}

impl Client {
    /// The command line with these last words.
    pub(crate) fn argv(&self, last: &[&str]) -> Vec<String> {
        let folder = scene::folder().display().to_string();
        let first = self.argv.iter().map(|word| word.replace("{}", &folder));
        first.chain(last.iter().map(|&word| word.to_owned())).collect()
    }
}

/// By its name.
pub(crate) fn named(name: &str) -> Client {
    *CLIENTS.iter().find(|client| client.name == name).unwrap()
}

/// All of them.
pub(crate) const CLIENTS: &[Client] = &[
    of_models("curl", &["{}/shell/curl.sh"]),
    of_models("Python requests", &[PYTHON, "-B", PROGRAM, "requests"]),
    of_models("Python urllib3", &[PYTHON, "-B", PROGRAM, "urllib3"]),
    of_models("Python httpx", &[PYTHON, "-B", PROGRAM, "httpx"]),
    of_models("Python aiohttp", &[PYTHON, "-B", PROGRAM, "aiohttp"]),
    of_models("Python openai", &[PYTHON, "-B", PROGRAM, "openai"]),
    of_models("Python anthropic", &[PYTHON, "-B", PROGRAM, "anthropic"]),
    of_models("Python litellm", &[PYTHON, "-B", PROGRAM, "litellm"]),
    of_models("Node fetch", &["node", "{}/node/client.js", "fetch"]),
    of_models("Node openai", &["node", "{}/node/client.js", "openai"]),
    of_models("Go net/http", &["{}/go-client"]),
    of_models("Java HttpClient", &["java", "-cp", "{}/java", "Client"]),
    of_models("Rust reqwest", &["{}/rust-client", "platform"]),
    Client {
        roots: Roots::Own,
        ..of_models("Rust reqwest with bundled roots", &["{}/rust-client", "bundled"])
    },
    of_packages("git", &["{}/shell/package.sh", "git", "{}"]),
    of_packages("pip", &["{}/shell/package.sh", "pip", "{}"]),
    of_packages("npm", &["{}/shell/package.sh", "npm", "{}"]),
];

const PYTHON: &str = "{}/venv/bin/python";
const PROGRAM: &str = "{}/python/client.py";

const fn of_models(name: &'static str, argv: &'static [&'static str]) -> Client {
    Client {
        name,
        argv,
        speaks: Speaks::Models,
        roots: Roots::Told,
    }
}

const fn of_packages(name: &'static str, argv: &'static [&'static str]) -> Client {
    Client {
        speaks: Speaks::Packages,
        ..of_models(name, argv)
    }
}
