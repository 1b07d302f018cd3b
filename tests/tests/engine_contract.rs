//! What every engine does. The same sentences are run against the fake, Docker, Podman and Kubernetes.
//!
//! `ASSAY_TEST_DOCKER` and `ASSAY_TEST_PODMAN` name the engines' sockets, `ASSAY_SANDBOX_BIN` the folder with our three
//! static programs; `ASSAY_TEST_KUBERNETES` a kubeconfig and `ASSAY_TEST_REGISTRY` the URL of the registry that its nodes
//! pull from, with our images and a builder's (tests/cluster). What is missing is skipped, with the reason.

#[path = "engine_contract/bench.rs"]
mod bench;
#[path = "engine_contract/builds.rs"]
mod builds;
#[path = "engine_contract/daemons.rs"]
mod daemons;
#[path = "engine_contract/sandboxes.rs"]
mod sandboxes;
#[path = "engine_contract/services.rs"]
mod services;

macro_rules! contract {
    ($engine:ident: $($part:ident::$sentence:ident),* $(,)?) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $sentence() {
                    if let Some(bench) = super::bench::$engine().await {
                        super::$part::$sentence(&bench).await;
                    }
                }
            )*
        }
    };
}

// What can be said of every engine, whether something runs in its sandboxes or not.
contract!(fake:
    sandboxes::creating_twice_gives_the_same_sandbox,
    sandboxes::a_destroyed_sandbox_leaves_nothing,
    sandboxes::evidence_tells_how_main_ended,
    builds::an_image_is_built_once_for_its_key,
);
contract!(docker:
    sandboxes::creating_twice_gives_the_same_sandbox,
    sandboxes::a_destroyed_sandbox_leaves_nothing,
    sandboxes::evidence_tells_how_main_ended,
    sandboxes::a_sandbox_gets_ready_and_is_found_again,
    sandboxes::installations_do_not_touch_each_other,
    sandboxes::an_image_that_is_missing_is_named,
    sandboxes::a_proxy_that_is_asked_to_end_does,
    daemons::a_lost_mount_is_met_with_new_containers,
    daemons::a_volume_goes_with_its_container,
    daemons::a_volume_without_its_container_is_found_and_removed,
    services::a_service_is_reached_by_its_name,
    services::a_service_meets_the_walls_of_the_sandbox,
    services::a_service_that_fails_is_told_with_its_last_words,
    services::an_image_of_a_service_that_is_missing_is_named,
    builds::an_image_is_built_once_for_its_key,
    builds::a_step_that_fails_is_told_with_its_output,
    builds::a_build_that_never_ends_is_stopped,
    builds::a_base_image_that_is_missing_is_named,
    builds::a_build_behind_a_proxy_meets_its_resolver,
);
contract!(podman:
    sandboxes::creating_twice_gives_the_same_sandbox,
    sandboxes::a_destroyed_sandbox_leaves_nothing,
    sandboxes::evidence_tells_how_main_ended,
    sandboxes::a_sandbox_gets_ready_and_is_found_again,
    sandboxes::installations_do_not_touch_each_other,
    sandboxes::an_image_that_is_missing_is_named,
    sandboxes::a_proxy_that_is_asked_to_end_does,
    daemons::a_lost_mount_is_met_with_new_containers,
    daemons::a_volume_goes_with_its_container,
    services::a_service_is_reached_by_its_name,
    services::a_service_meets_the_walls_of_the_sandbox,
    services::a_service_that_fails_is_told_with_its_last_words,
    services::an_image_of_a_service_that_is_missing_is_named,
    builds::an_image_is_built_once_for_its_key,
    builds::a_step_that_fails_is_told_with_its_output,
    builds::a_build_that_never_ends_is_stopped,
    builds::a_step_that_the_builder_ends_by_mistake_is_done_again,
    builds::a_base_image_that_is_missing_is_named,
    builds::a_build_behind_a_proxy_meets_its_resolver,
);
// The sentences of `daemons` are about mounts and volumes of container engines: a pod has nothing that outlives it. What
// only the cluster's builds have (one Job for all who ask, whose fault an end is) is asked by cluster/build.rs.
contract!(kubernetes:
    sandboxes::creating_twice_gives_the_same_sandbox,
    sandboxes::a_destroyed_sandbox_leaves_nothing,
    sandboxes::evidence_tells_how_main_ended,
    sandboxes::a_sandbox_gets_ready_and_is_found_again,
    sandboxes::installations_do_not_touch_each_other,
    sandboxes::an_image_that_is_missing_is_named,
    sandboxes::a_proxy_that_is_asked_to_end_does,
    services::a_service_is_reached_by_its_name,
    services::a_service_meets_the_walls_of_the_sandbox,
    services::a_service_that_fails_is_told_with_its_last_words,
    services::an_image_of_a_service_that_is_missing_is_named,
    builds::an_image_is_built_once_for_its_key,
    builds::a_step_that_fails_is_told_with_its_output,
    builds::a_build_that_never_ends_is_stopped,
    builds::a_base_image_that_is_missing_is_named,
    builds::a_build_behind_a_proxy_meets_its_resolver,
);
// The same pods, but for one setting.
contract!(kubernetes_with_a_native_sidecar:
    sandboxes::creating_twice_gives_the_same_sandbox,
    sandboxes::a_destroyed_sandbox_leaves_nothing,
    sandboxes::evidence_tells_how_main_ended,
    sandboxes::a_sandbox_gets_ready_and_is_found_again,
    sandboxes::a_proxy_that_is_asked_to_end_does,
    services::a_service_is_reached_by_its_name,
    services::a_service_meets_the_walls_of_the_sandbox,
);
// The way to runner and proxy is another, and builds do not go it.
contract!(kubernetes_by_port_forward:
    sandboxes::creating_twice_gives_the_same_sandbox,
    sandboxes::a_sandbox_gets_ready_and_is_found_again,
);
