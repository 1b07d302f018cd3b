//! The variables that lead clients to a sandbox's trust bundle, and who reads each: for the runner, which sets them, and
//! for the proxy's audit, which names them when a client trusts nobody.

/// A variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub value: Value,
    /// Which clients read it.
    pub readers: &'static str,
}

/// What a variable says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The path of the whole bundle, PEM.
    Bundle,
    /// The folder that the bundle is in.
    Folder,
    /// Options of the Java machine that name the same roots as a PKCS12 store.
    JavaOptions,
    /// These words.
    Words(&'static str),
}

/// All of them.
pub const VARIABLES: &[Variable] = &[
    bundle("SSL_CERT_FILE", "OpenSSL, Python, Go, Rust, Ruby, uv"),
    bundle("REQUESTS_CA_BUNDLE", "requests, conda"),
    bundle("CURL_CA_BUNDLE", "curl"),
    bundle("NODE_EXTRA_CA_CERTS", "Node, Bun"),
    variable("JAVA_TOOL_OPTIONS", Value::JavaOptions, "Java"),
    bundle("GIT_SSL_CAINFO", "git"),
    bundle("PIP_CERT", "pip"),
    bundle("NPM_CONFIG_CAFILE", "npm"),
    bundle("CARGO_HTTP_CAINFO", "cargo"),
    bundle("DENO_CERT", "Deno"),
    bundle("AWS_CA_BUNDLE", "AWS"),
    bundle("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "gRPC"),
    bundle("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "gcloud"),
    bundle("HEX_CACERTS_PATH", "Hex"),
    bundle("NIX_SSL_CERT_FILE", "Nix"),
    bundle("HTTPLIB2_CA_CERTS", "httplib2"),
    bundle("PERL_LWP_SSL_CA_FILE", "Perl"),
    variable("SSL_CERT_DIR", Value::Folder, "OpenSSL"),
    variable("DENO_TLS_CA_STORE", Value::Words("system,mozilla"), "Deno"),
    variable("UV_NATIVE_TLS", Value::Words("1"), "uv"),
];

/// What to do about a client that does not trust the bundle, in a sentence that names the commonest variables.
pub fn advice() -> String {
    let named: Vec<String> = VARIABLES
        .iter()
        .take(COMMONEST)
        .map(|variable| format!("{} ({})", variable.name, variable.readers))
        .collect();
    format!(
        "a client that does not trust the sandbox's root ends like this: leave {} as the sandbox sets them, or use OPENAI_BASE_URL, which needs no trust",
        named.join(", ")
    )
}

const fn bundle(name: &'static str, readers: &'static str) -> Variable {
    variable(name, Value::Bundle, readers)
}

const fn variable(name: &'static str, value: Value, readers: &'static str) -> Variable {
    Variable { name, value, readers }
}

const COMMONEST: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_the_variables_of_the_commonest_clients() {
        let advice = advice();
        for name in [
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
            "JAVA_TOOL_OPTIONS",
        ] {
            assert!(advice.contains(name), "{advice}");
        }
    }

    #[test]
    fn no_variable_is_set_twice() {
        let names: std::collections::BTreeSet<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), VARIABLES.len());
    }
}
