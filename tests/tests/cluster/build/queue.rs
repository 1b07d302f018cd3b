//! Builds that wait for a place.

use assay_engine::kubernetes::Kubernetes;

use super::{BASE, Stage, cached};

/// With one place the second begins when the first is over.
#[tokio::test(flavor = "multi_thread")]
async fn builds_beyond_what_may_run_at_once_wait_for_each_other() {
    let Some(mut stage) = Stage::set().await else {
        return;
    };
    if let Some(builds) = &mut stage.settings.builds {
        builds.most_at_once = 1;
    }
    stage.engine = Kubernetes::connect(stage.settings.clone()).await.unwrap();
    let dockerfile = format!("FROM {BASE}\nRUN date +begun=%s && sleep 2 && date +ended=%s\n");
    let (one, _folder) = stage.image(&dockerfile);
    let (two, _other) = stage.image(&dockerfile);
    let (one, two) = tokio::join!(stage.build(&one), stage.build(&two));
    let [one, two] = [one, two].map(|(outcome, log)| {
        assert!(!cached(&outcome), "{log}");
        ["begun=", "ended="].map(|word| second(&log, word))
    });
    assert!(one[1] <= two[0] || two[1] <= one[0], "{one:?} {two:?}");
}

/// The number after a word, where a command printed it and is not only named.
fn second(log: &str, word: &str) -> u64 {
    let after = |rest: &str| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let found = log.split(word).skip(1).find_map(after);
    found.unwrap_or_else(|| panic!("no {word} in {log}"))
}
