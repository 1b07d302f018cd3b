//! Secret values: to the worker that leases the run, to nobody else, and gone at the end.

use assay_core::{cause::Cause, secret::SecretValue, upstream::Secret, wire::people::Evaluation};
use assay_runtime::client::Error;
use http::Method;

use crate::stage::{code, stage};

const VALUE: &str = "the-secret-value-0123456789";

fn secret(value: &str, host: &str) -> SecretValue {
    SecretValue {
        value: Secret::new(value),
        host: host.parse().unwrap(),
        header: "authorization".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_sealed_in_the_store_handed_to_workers_and_forgotten_at_the_end() {
    let Some(stage) = stage().await else { return };
    let mut new = stage.submission(1).await;
    new.secrets
        .insert("TOKEN".to_owned(), secret(VALUE, "api.example.com"));
    let evaluation = stage.submit(&new).await;
    let shown: serde_json::Value = stage
        .get(&format!("/v1/evaluations/{}", evaluation.id))
        .await
        .unwrap();
    assert!(!shown.to_string().contains(VALUE));
    let kept = || async {
        sqlx::query_as::<_, (Option<Vec<u8>>, serde_json::Value)>(
            r#"SELECT secrets_sealed, "values" FROM evaluations WHERE id = $1"#,
        )
        .bind(evaluation.id.0)
        .fetch_one(&stage.pool)
        .await
        .unwrap()
    };
    let (sealed, values) = kept().await;
    let sealed = sealed.unwrap();
    assert!(!sealed.windows(VALUE.len()).any(|part| part == VALUE.as_bytes()));
    assert!(!values.to_string().contains("TOKEN"));
    let worker = stage.register("w").await;
    let held = stage.claim(worker, 1).await.pop().unwrap();
    assert_eq!(held.secrets["TOKEN"], secret(VALUE, "api.example.com"));
    stage.finish(&held, Cause::Completed).await;
    assert_eq!(kept().await.0, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_cannot_be_used_are_refused_by_name_and_never_repeated() {
    let Some(stage) = stage().await else { return };
    for (value, host, named) in [
        ("short", "api.example.com", "secrets.TOKEN: value"),
        ("line\nbreak-0123456", "api.example.com", "secrets.TOKEN: value"),
    ] {
        let mut new = stage.submission(1).await;
        new.secrets.insert("TOKEN".to_owned(), secret(value, host));
        let refused: Result<Evaluation, Error> =
            stage.call(Method::POST, "/v1/evaluations", Some(&new)).await;
        let text = format!("{:?}", refused.as_ref().unwrap_err());
        assert!(text.contains(named) && !text.contains(value), "{text}");
        assert_eq!(code(refused), "invalid_request");
    }
    let mut new = stage.submission(1).await;
    new.secrets
        .insert("TOKEN".to_owned(), secret(VALUE, "api.example.com"));
    new.values.insert("TOKEN".to_owned(), "seen".to_owned());
    let refused: Result<Evaluation, Error> = stage.call(Method::POST, "/v1/evaluations", Some(&new)).await;
    assert!(refused.unwrap_err().to_string().contains("TOKEN"));
}
