use std::os::unix::fs::symlink;

use futures_util::StreamExt as _;

use super::*;

async fn names(folder: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let mut pieces = std::pin::pin!(stream(folder.to_owned(), "Dockerfile".to_owned()));
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.header().uid().unwrap(), 0);
            entry.path().unwrap().to_string_lossy().into_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_folder_is_streamed_with_its_links_and_without_what_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("Dockerfile"), "FROM scratch").unwrap();
    fs::write(path.join(".dockerignore"), "data\n!data/keep\n*.log\n").unwrap();
    fs::create_dir(path.join("data")).unwrap();
    fs::write(path.join("data/keep"), vec![7; 200_000]).unwrap();
    fs::write(path.join("data/drop"), "x").unwrap();
    fs::write(path.join("a.log"), "x").unwrap();
    symlink("/etc/passwd", path.join("link")).unwrap();
    assert_eq!(
        names(path).await,
        [".dockerignore", "Dockerfile", "data/keep", "link"]
    );
}

#[tokio::test]
async fn a_folder_that_is_missing_ends_the_stream_with_an_error() {
    let mut pieces = std::pin::pin!(stream(PathBuf::from("/no/such/folder"), "Dockerfile".to_owned()));
    assert!(pieces.next().await.unwrap().is_err());
}
