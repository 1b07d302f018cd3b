//! `task init`, and how folders are made from templates.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::Context;
use crate::{args::InitArgs, error::Error};

/// Writes a task that passes `task check`.
pub(super) fn init(context: &Context, args: &InitArgs) -> Result<(), Error> {
    let files = [
        ("task.toml", include_str!("../../templates/task/task.toml"), false),
        (
            "instruction.md",
            include_str!("../../templates/task/instruction.md"),
            false,
        ),
        (
            "environment/Dockerfile",
            include_str!("../../templates/task/environment/Dockerfile"),
            false,
        ),
        (
            "tests/test.sh",
            include_str!("../../templates/task/tests/test.sh"),
            true,
        ),
        (
            "solution/solve.sh",
            include_str!("../../templates/task/solution/solve.sh"),
            true,
        ),
    ];
    let name = write(&args.dir, &files)?;
    made(context, "task", &name, &args.dir)
}

/// Says what was made, and how it is checked.
pub(super) fn made(context: &Context, what: &str, name: &str, folder: &Path) -> Result<(), Error> {
    if context.screen.json {
        let document = serde_json::json!({ "name": name, "folder": folder });
        return context.screen.document(&document);
    }
    let folder = folder.display();
    context.screen.line(format!(
        "{what} {name} is in {folder}; check it with `assay {what} check {folder}`"
    ))
}

/// Makes a folder from (path, content, runnable); `@NAME@` becomes its name, which is returned. Nothing is overwritten.
pub(super) fn write(folder: &Path, files: &[(&str, &str, bool)]) -> Result<String, Error> {
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(sane) {
        return Err(Error::Usage(format!(
            "{name:?} is no name; want letters, digits, `-`, `_` and `.`"
        )));
    }
    if folder.exists() {
        return Err(Error::CannotWrite(format!(
            "{} exists; nothing was written",
            folder.display()
        )));
    }
    for (path, content, runnable) in files {
        let path = folder.join(path);
        let failed = |error: std::io::Error| Error::unwritable(&path, &error);
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        std::fs::write(&path, content.replace("@NAME@", &name)).map_err(failed)?;
        let mode = if *runnable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_user_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(folder.path(), &[("a", "b", false)]).unwrap_err();
        assert_eq!(error.exit_code(), 73);
        assert!(!folder.path().join("a").exists());
    }

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        assert_eq!(write(Path::new("/tmp/a b"), &[]).unwrap_err().exit_code(), 64);
    }
}
