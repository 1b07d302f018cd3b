//! `agent check` and `agent init`.

use std::path::Path;

use assay_core::agent::Contract;

use super::{Context, submit, task};
use crate::{
    args::{AgentCheckArgs, AgentInitArgs, ContractName},
    bundle,
    error::Error,
};

/// Checks what can be checked without running the agent.
pub(super) fn check(context: &Context, args: &AgentCheckArgs) -> Result<(), Error> {
    let manifest = submit::manifest(&args.dir)?;
    if manifest.contract == Contract::Patch {
        check_function(&args.dir)?;
    }
    check_programs(&args.dir, &manifest.run)?;
    check_programs(&args.dir, &manifest.install)?;
    let archive = bundle::pack(&args.dir)?;
    if archive.size_bytes > MOST_BYTES {
        return Err(Error::Data(format!(
            "the bundle has {} bytes and may have {MOST_BYTES}; leave out what the install command can fetch",
            archive.size_bytes
        )));
    }
    if context.screen.json {
        return context.screen.document(&serde_json::json!({
            "name": manifest.name, "contract": manifest.contract, "digest": archive.digest, "size_bytes": archive.size_bytes,
        }));
    }
    context.screen.line(format!(
        "{}: a {} agent, {} bytes, {}\nrun it with `assay run TASK --agent {}`",
        manifest.name,
        manifest.contract,
        archive.size_bytes,
        archive.digest,
        args.dir.display()
    ))
}

fn check_function(folder: &Path) -> Result<(), Error> {
    let path = folder.join("agent.py");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::unreadable(&path, &error))?;
    let defines = |line: &str| {
        let rest = line
            .strip_prefix("def agent_main")
            .or_else(|| line.strip_prefix("agent_main"));
        rest.is_some_and(|rest| rest.trim_start().starts_with(['(', '=', ':']))
            || line.starts_with("from ") && line.contains("import") && line.contains("agent_main")
    };
    if text.lines().any(defines) {
        Ok(())
    } else {
        Err(Error::Data(format!(
            "{} defines no agent_main(input: dict) -> str at its top level; add it",
            path.display()
        )))
    }
}

/// A script that the bundle should hold but does not is the usual slip.
fn check_programs(folder: &Path, argv: &[String]) -> Result<(), Error> {
    let scripts = argv.iter().filter(|word| {
        let inner = word.strip_prefix("/installed-agent/").unwrap_or(word);
        let is_script = [".py", ".sh", ".js"].iter().any(|end| inner.ends_with(end));
        is_script && !inner.starts_with('/') && !folder.join(inner).is_file()
    });
    match scripts.into_iter().next() {
        Some(missing) => Err(Error::Data(format!(
            "agent.toml names {missing:?}, which is not in {}",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// Writes an agent that runs as it stands.
pub(super) fn init(context: &Context, args: &AgentInitArgs) -> Result<(), Error> {
    let files: &[(&str, &str, bool)] = match args.contract {
        ContractName::Patch => &[
            (
                "agent.toml",
                include_str!("../../templates/agent-patch/agent.toml"),
                false,
            ),
            (
                "agent.py",
                include_str!("../../templates/agent-patch/agent.py"),
                false,
            ),
        ],
        ContractName::Command => &[
            (
                "agent.toml",
                include_str!("../../templates/agent-command/agent.toml"),
                false,
            ),
            (
                "agent.sh",
                include_str!("../../templates/agent-command/agent.sh"),
                true,
            ),
        ],
    };
    let name = task::write(&args.dir, files)?;
    task::made(context, "agent", &name, &args.dir)
}

const MOST_BYTES: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_passes_the_check_of_its_parts() {
        let screen = crate::screen::Screen {
            json: false,
            is_terminal: false,
        };
        let folder = tempfile::tempdir().unwrap();
        for (contract, name) in [(ContractName::Patch, "p"), (ContractName::Command, "c")] {
            let dir = folder.path().join(name);
            let context = Context {
                global: crate::args::Global::for_tests(folder.path()),
                places: crate::profile::Places {
                    config: dir.clone(),
                    state: dir.clone(),
                },
                screen,
            };
            init(
                &context,
                &AgentInitArgs {
                    dir: dir.clone(),
                    contract,
                },
            )
            .unwrap();
            assert_eq!(submit::manifest(&dir).unwrap().name, name);
            check(&context, &AgentCheckArgs { dir }).unwrap();
        }
    }

    #[test]
    fn a_patch_agent_without_its_function_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("agent.py"),
            "def main():\n    agent_main_is_absent = 1\n",
        )
        .unwrap();
        let error = check_function(folder.path()).unwrap_err();
        assert!(error.to_string().contains("agent_main"), "{error}");
    }

    #[test]
    fn a_script_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let argv = ["python3".to_owned(), "/installed-agent/agent.py".to_owned()];
        let error = check_programs(folder.path(), &argv).unwrap_err();
        assert!(error.to_string().contains("agent.py"), "{error}");
    }
}
