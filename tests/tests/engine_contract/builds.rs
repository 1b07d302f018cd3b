//! Images.

use std::time::Duration;

use assay_core::{digest::hex, egress::Egress, phase::EgressPhase};
use assay_engine::{BuildNetwork, BuildOutcome, BuildProxy, Error};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::bench::{Bench, Builder, IMAGE, files, image, log, random, spec};

pub async fn an_image_is_built_once_for_its_key<E: Builder>(bench: &Bench<E>) {
    let text = format!(
        "FROM {IMAGE}\nARG WORD=default\nENV SAID=$WORD\nRUN cat > /said <<'END' && grep import /said\nfrom a import b\nEND\n\
         WORKDIR /work\nUSER daemon\n"
    );
    let (spec, _folder) = image(bench, &text);
    let build = || async {
        let (sender, _reader) = log();
        bench.engine.build(&spec, sender).await.unwrap()
    };
    let both = tokio::join!(build(), build());
    let cached = |outcome: &BuildOutcome| match outcome {
        BuildOutcome::Built { cached, .. } => *cached,
        other => panic!("{other:?}"),
    };
    assert_ne!(cached(&both.0), cached(&both.1), "{both:?}");
    assert!(cached(&build().await));
}

pub async fn a_step_that_fails_is_told_with_its_output<E: Builder>(bench: &Bench<E>) {
    let (spec, _folder) = image(
        bench,
        &format!("FROM {IMAGE}\nRUN echo seen-$((1 + 1)) && exit 3\n"),
    );
    let (sender, reader) = log();
    let outcome = bench.engine.build(&spec, sender).await.unwrap();
    let BuildOutcome::Failed { reason } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains("seen-2") && reason.contains('3'), "{reason}");
    assert!(reader.await.unwrap().contains("seen-2"));
    let (spec, _folder) = image(bench, &format!("FROM {IMAGE}\nRUM x\n"));
    let outcome = bench.engine.build(&spec, log().0).await.unwrap();
    assert!(matches!(outcome, BuildOutcome::Failed { .. }), "{outcome:?}");
}

pub async fn a_build_that_never_ends_is_stopped<E: Builder>(bench: &Bench<E>) {
    // Podman 4 lets a step go on whose build is given up. This one is gone before anybody looks what suites left.
    let (mut spec, _folder) = image(bench, &format!("FROM {IMAGE}\nRUN sleep 60\n"));
    spec.timeout = Duration::from_secs(3);
    let outcome = bench.engine.build(&spec, log().0).await.unwrap();
    assert_eq!(outcome, BuildOutcome::TimedOut);
}

/// Podman 4 runs a step under a process of its own, which the kernel kills when the thread that began it ends.
pub async fn a_step_that_the_builder_ends_by_mistake_is_done_again<E: Builder>(bench: &Bench<E>) {
    let mark = hex(&random::<8>());
    let (spec, _folder) = image(
        bench,
        &format!("FROM {IMAGE}\nRUN : {mark}; sleep 4; echo ended-$((1 + 1))\n"),
    );
    let (sender, reader) = log();
    let killer = tokio::spawn(async move {
        loop {
            if let Some(keeper) = keeper_of(&mark) {
                return kill(keeper, Signal::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let outcome = bench.engine.build(&spec, sender).await.unwrap();
    let text = reader.await.unwrap();
    assert!(
        matches!(outcome, BuildOutcome::Built { cached: false, .. }),
        "{outcome:?}\n{text}"
    );
    assert!(
        text.contains("by mistake; building again\n") && text.contains("ended-2"),
        "{text}"
    );
    killer.await.unwrap().unwrap();
}

/// The process of the builder that a step with these words runs under.
fn keeper_of(words: &str) -> Option<Pid> {
    let line = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let found = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid = entry.ok()?.file_name().into_string().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        (line(&pid).contains(words) && line(parent).starts_with("buildah-oci-runtime"))
            .then(|| parent.parse())
    });
    found.map(|pid| Pid::from_raw(pid.unwrap()))
}

pub async fn a_base_image_that_is_missing_is_named<E: Builder>(bench: &Bench<E>) {
    let (spec, _folder) = image(bench, "FROM assay/no-such-base:1\n");
    let error = bench.engine.build(&spec, log().0).await.unwrap_err();
    assert!(
        matches!(&error, Error::NoImage(name) if name == "assay/no-such-base:1"),
        "{error}"
    );
}

/// A forbidden name is not found, and the proxy's control answers in the build's own namespace.
pub async fn a_build_behind_a_proxy_meets_its_resolver<E: Builder>(bench: &Bench<E>) {
    let text = format!(
        "FROM {IMAGE}\nRUN : {} && cat /etc/resolv.conf; ! getent hosts refused.example.org && \
         bash -c 'exec 3<>/dev/tcp/127.0.0.1/15090 && printf \"GET /healthz HTTP/1.0\\r\\n\\r\\n\" >&3 && cat <&3'\n",
        hex(&random::<8>())
    );
    let (mut image, _folder) = image(bench, &text);
    let other = spec();
    image.network = BuildNetwork::Through(Box::new(BuildProxy {
        egress: Egress::None,
        files: files(other.sandbox, EgressPhase::Build),
        attempt: other.attempt,
        run: other.run,
    }));
    let (sender, reader) = log();
    let outcome = bench.engine.build(&image, sender).await.unwrap();
    let text = reader.await.unwrap();
    assert!(
        matches!(outcome, BuildOutcome::Built { cached: false, .. }),
        "{outcome:?}\n{text}"
    );
    assert!(E::RESOLVER.is_none_or(|line| text.contains(line)), "{text}");
    assert!(text.contains("200 OK"), "{text}");
    assert!(bench.engine.list().await.unwrap().is_empty());
}
