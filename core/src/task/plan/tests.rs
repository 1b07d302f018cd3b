use super::*;
use crate::{archive::Files, egress::HostName};

fn task(toml: &str) -> Task {
    let (config, warnings) = super::super::Config::parse(toml).unwrap();
    let only = StepFiles {
        name: None,
        instruction: "Do it.".to_owned(),
        workdir: None,
        has_setup: false,
        tests: vec!["tests".to_owned()],
        verifier_image: None,
        verifier_compose: Compose::default(),
        solution: Some("solution".to_owned()),
        trajectory: None,
    };
    let count = config.steps.as_ref().map_or(1, Vec::len);
    Task {
        name: "t".to_owned(),
        config,
        warnings,
        steps: vec![only; count],
        has_dockerfile: true,
        uploads_environment: false,
        compose: Compose::default(),
    }
}

#[expect(clippy::unwrap_in_result, reason = "a test's own preparations cannot fail")]
fn plan_with(toml: &str, contract: Contract, policy: &str) -> Result<Plan, Unplannable> {
    let policy = Policy::parse(policy).unwrap();
    let settings = LimitSettings::default();
    let values = BTreeMap::from([("GIVEN".to_owned(), "value".to_owned())]);
    Plan::of(
        &task(toml),
        &Circumstances {
            contract,
            policy: &policy,
            settings: &settings,
            values: &values,
            gpus: GpuSupport::Typed,
        },
    )
}

fn plan(toml: &str) -> Plan {
    plan_with(toml, Contract::Command, "").unwrap()
}

fn agent_sec(toml: &str) -> Option<f64> {
    plan(toml).steps.first().map(|step| step.agent.timeout_sec)
}

fn reaches(egress: &Egress, host: &str) -> bool {
    egress.allows(&host.parse::<HostName>().unwrap())
}

#[test]
fn an_unset_agent_timeout_is_the_default_and_a_set_one_is_capped() {
    assert_eq!(agent_sec(""), Some(2400.0));
    assert_eq!(agent_sec("[agent]\ntimeout_sec = 60"), Some(60.0));
    assert_eq!(agent_sec("[agent]\ntimeout_sec = 1e9"), Some(14_400.0));
    assert_eq!(agent_sec("[agent]\ntimeout_sec = inf"), Some(2400.0));
    let policy = "[time]\nagent_sec = 100\nverifier_sec = 50\nmultiplier = 2";
    let plan = plan_with("[agent]\ntimeout_sec = 60", Contract::Command, policy).unwrap();
    assert_eq!(
        (
            plan.steps[0].agent.timeout_sec,
            plan.steps[0].verifier.timeout_sec
        ),
        (200.0, 100.0)
    );
}

#[test]
fn sizes_are_capped_and_never_zero() {
    let limits = plan("[environment]\ncpus = 0.5\nmemory_mb = 999999999\nstorage_mb = 0").limits;
    assert_eq!(
        (limits.cpu_milli, limits.memory_mb, limits.storage_mb),
        (500, 65_536, 10_240)
    );
}

#[test]
fn the_agent_reaches_what_the_policy_says_and_the_verifier_what_the_task_says() {
    let toml = "[environment]\nnetwork_mode = 'allowlist'\nallowed_hosts = ['*.a.org']";
    let first = &plan(toml).steps[0];
    assert_eq!(first.agent.egress, Egress::None);
    assert!(reaches(&first.verifier.egress, "x.y.a.org") && !reaches(&first.verifier.egress, "a.com"));
    let ours = plan_with(toml, Contract::Command, "agent_network = 'task'").unwrap();
    assert!(reaches(&ours.steps[0].agent.egress, "x.a.org"));
    let step = "[verifier]\nnetwork_mode = 'no-network'\n[[steps]]\nname = 'a'\n[[steps]]\nname = 'b'\n[steps.verifier]\nnetwork_mode = 'public'";
    let plan = plan(step);
    assert_eq!(plan.steps[0].verifier.egress, Egress::None);
    assert_eq!(plan.steps[1].verifier.egress, Egress::Public);
    assert!(reaches(&plan.build_egress, "pypi.org") && reaches(&plan.setup_egress, "pypi.org"));
}

#[test]
fn patch_agents_are_verified_apart_with_nothing_but_the_diff() {
    let plan = plan_with("artifacts = ['/app']", Contract::Patch, "").unwrap();
    let Mode::Separate(separate) = &plan.steps[0].verifier.mode else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (separate.carry.len(), &separate.image),
        (0, &SeparateImage::SameAsAgent)
    );
    assert!(
        !separate.uploads_environment,
        "the image has what was built into it"
    );
    let steps = "[[steps]]\nname = 'a'\n[[steps]]\nname = 'b'";
    assert_eq!(
        plan_with(steps, Contract::Patch, ""),
        Err(Unplannable::PatchOnSteps)
    );
}

#[test]
fn separate_without_anything_to_carry_is_refused() {
    let carried = |toml: &str, policy: &str| {
        let plan = plan_with(toml, Contract::Command, policy)?;
        match &plan.steps[0].verifier.mode {
            Mode::Separate(separate) => Ok(separate
                .carry
                .iter()
                .map(|artifact| artifact.source.clone())
                .collect::<Vec<_>>()),
            Mode::Shared { .. } => Ok(vec!["shared".to_owned()]),
        }
    };
    assert_eq!(carried("", ""), Ok(vec!["shared".to_owned()]));
    let forced = "[verifier]\nmode = 'separate'";
    assert_eq!(carried("", forced), Err(Unplannable::SeparateNotPossible));
    assert_eq!(
        Unplannable::SeparateNotPossible.cause(),
        Cause::SeparateNotPossible
    );
    let both = |first: &str, second: &str| Ok(vec![first.to_owned(), second.to_owned()]);
    assert_eq!(
        carried("artifacts = ['/app']", forced),
        both("/logs/artifacts", "/app")
    );
    let carry = "[verifier]\nmode = 'separate'\ncarry = ['/work']";
    assert_eq!(carried("", carry), both("/work", "/logs/artifacts"));
    let asked = "[verifier]\nenvironment_mode = 'separate'";
    assert_eq!(carried(asked, ""), Ok(vec!["/logs/artifacts".to_owned()]));
}

#[test]
fn templates_take_named_values_and_a_missing_one_is_named() {
    let toml = "[verifier.env]\nA = '${GIVEN}'\nB = '${OTHER:-x}'\nC = 'a${GIVEN}'";
    let env = &plan(toml).steps[0].verifier.env;
    assert_eq!(
        (env["A"].as_str(), env["B"].as_str(), env["C"].as_str()),
        ("value", "x", "a${GIVEN}")
    );
    let error = plan_with("[environment.env]\nA = '${NOT}'", Contract::Nop, "").unwrap_err();
    assert!(
        error.to_string().contains("environment.env.A") && error.to_string().contains("`NOT`"),
        "{error}"
    );
    let solution = "[solution.env]\nA = '${NOT}'";
    assert!(plan_with(solution, Contract::Nop, "").is_ok());
    assert!(plan_with(solution, Contract::Oracle, "").is_err());
}

#[test]
fn an_oracle_without_a_solution_is_refused() {
    let mut task = task("");
    task.steps[0].solution = None;
    let (policy, settings, values) = (Policy::default(), LimitSettings::default(), BTreeMap::new());
    let given = Circumstances {
        contract: Contract::Oracle,
        policy: &policy,
        settings: &settings,
        values: &values,
        gpus: GpuSupport::None,
    };
    assert!(matches!(Plan::of(&task, &given), Err(Unplannable::NoSolution(_))));
}

#[test]
fn gpus_are_planned_where_they_are_handed_out_and_refused_by_their_key_elsewhere() {
    let (policy, settings, values) = (Policy::default(), LimitSettings::default(), BTreeMap::new());
    let of = |toml: &str, gpus| {
        let contract = Contract::Command;
        let (policy, settings, values) = (&policy, &settings, &values);
        let given = Circumstances {
            contract,
            policy,
            settings,
            values,
            gpus,
        };
        Plan::of(&task(toml), &given)
    };
    let two = "[environment]\ngpus = 2";
    let typed = "[environment]\ngpus = 2\ngpu_types = ['H100', 'A100']";
    let own = "[verifier.environment]\ngpus = 3";
    for (toml, support, key) in [
        (two, GpuSupport::None, "task.toml: environment.gpus: "),
        (typed, GpuSupport::None, "task.toml: environment.gpus: "),
        (typed, GpuSupport::Counted, "task.toml: environment.gpu_types: "),
        (own, GpuSupport::None, "task.toml: verifier.environment.gpus: "),
    ] {
        let refused = of(toml, support).unwrap_err();
        assert!(refused.to_string().starts_with(key), "{refused}");
        assert_eq!(refused.cause(), Cause::TaskInvalid);
    }
    let wanted = ["H100", "A100"].map(str::to_owned).to_vec();
    assert_eq!(of(two, GpuSupport::Counted).unwrap().gpus.count, 2);
    assert_eq!(
        of(typed, GpuSupport::Typed).unwrap().gpus,
        Gpus {
            count: 2,
            types: wanted
        }
    );
    let alone = "[environment]\ngpus = 0\ngpu_types = ['H100']";
    assert_eq!(of(alone, GpuSupport::None).unwrap().gpus, Gpus::default());
    let plan = of(own, GpuSupport::Counted).unwrap();
    let Mode::Separate(verifier) = &plan.steps[0].verifier.mode else {
        panic!("{plan:?}")
    };
    assert_eq!((plan.gpus.count, verifier.gpus.count), (0, 3));
    let same = of(
        "[environment]\ngpus = 1\n[verifier]\nenvironment_mode = 'separate'",
        GpuSupport::Counted,
    );
    let Mode::Separate(verifier) = &same.unwrap().steps[0].verifier.mode else {
        panic!("it is separate")
    };
    assert_eq!(verifier.gpus.count, 1, "the same environment");
}

#[test]
fn steps_are_gated_and_their_rewards_become_one() {
    let plan =
        plan("[[steps]]\nname = 'a'\nmin_reward = 0.5\n[[steps]]\nname = 'b'\nmin_reward = {speed = 1}");
    let reward = |text: &str| crate::reward::read(Some(text.as_bytes()), None).unwrap();
    assert!(plan.steps[0].gate(Some(&reward(r#"{"reward": 0.5}"#))).is_ok());
    assert!(plan.steps[0].gate(Some(&reward(r#"{"reward": 0.4}"#))).is_err());
    assert!(plan.steps[1].gate(Some(&reward(r#"{"reward": 1}"#))).is_err());
    assert!(plan.steps[1].gate(None).is_err());
    let results = [Some(reward(r#"{"reward": 1}"#)), Some(reward(r#"{"reward": 0}"#))];
    assert_eq!(plan.reward(&results), Some(reward(r#"{"reward": 0.5}"#)));
    let last =
        tests::plan("multi_step_reward_strategy = 'final'\n[[steps]]\nname = 'a'\n[[steps]]\nname = 'b'");
    assert_eq!(last.reward(&results), Some(reward(r#"{"reward": 0}"#)));
    assert_eq!(last.reward(&results[..1]), Some(reward(r#"{"reward": 1}"#)));
}

#[test]
fn every_example_is_a_task_without_a_warning() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tasks");
    let mut count = 0;
    for folder in root.read_dir().unwrap() {
        let folder = folder.unwrap().path();
        let files: Files = crate::archive::scan(&folder, crate::archive::Caps::default()).unwrap();
        let task = Task::read(&files, "x").unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert_eq!(task.warnings, [], "{}", folder.display());
        assert!(
            task.steps.iter().all(|step| step.solution.is_some()),
            "{}",
            folder.display()
        );
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn services_count_in_what_a_sandbox_may_have() {
    use super::super::compose::{Service, ServiceImage};
    let service = |memory_bytes| Service {
        name: "db".to_owned(),
        image: ServiceImage::Prebuilt {
            image: "x".to_owned(),
        },
        entrypoint: None,
        command: None,
        env: BTreeMap::new(),
        user: None,
        workdir: None,
        healthcheck: None,
        depends_on: Vec::new(),
        tmpfs: Vec::new(),
        cpu_milli: 500,
        memory_bytes,
        pids: 16,
        ports: std::collections::BTreeSet::new(),
    };
    let of = |memory_bytes| {
        let mut task = task("[environment]\nmemory_mb = 65000\nenv = {A = 'task'}");
        task.compose = Compose {
            main_env: BTreeMap::from(["A", "B"].map(|name| (name.to_owned(), "compose".to_owned()))),
            services: vec![service(memory_bytes)],
        };
        let given = Circumstances {
            contract: Contract::Patch,
            policy: &Policy::default(),
            settings: &LimitSettings::default(),
            values: &BTreeMap::new(),
            gpus: GpuSupport::None,
        };
        Plan::of(&task, &given)
    };
    let plan = of(512 << 20).unwrap();
    assert_eq!(
        (plan.env["A"].as_str(), plan.env["B"].as_str()),
        ("task", "compose")
    );
    let Mode::Separate(own) = &plan.steps[0].verifier.mode else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (plan.services.len(), &own.services),
        (1, &plan.services),
        "the same environment"
    );
    let refused = of(1 << 30).unwrap_err();
    assert_eq!(refused.cause(), Cause::TaskInvalid);
    assert!(refused.to_string().contains("66024 MiB of memory"), "{refused}");
}
