//! What is written once stays as it is, whoever asks the database.

use assay_core::{
    cause::Cause,
    wire::people::{NewTaskSet, TaskSet},
};
use http::Method;

use crate::{
    evidence::{events, held, post},
    stage::{Stage, eventually, stage},
};

#[tokio::test]
async fn what_is_written_once_is_never_changed() {
    let Some(stage) = stage().await else { return };
    let held = held(&stage).await;
    let new = NewTaskSet {
        name: "set".to_owned(),
        tasks: vec![stage.submission(1).await.tasks[0]],
    };
    let _: TaskSet = stage
        .call(Method::POST, "/v1/task-sets", Some(&new))
        .await
        .unwrap();
    post(&stage, &held, 1..=2).await.unwrap();
    eventually("both are published", || async {
        events(&stage, &held, "limit=10").await.items.len() == 2
    })
    .await;
    stage.finish(&held, Cause::Completed).await;
    for table in [
        "policies",
        "task_sets",
        "task_set_items",
        "audit",
        "events",
        "attempts",
    ] {
        let column = match table {
            "policies" => "body = '{}'",
            "task_sets" => "name = 'another'",
            "task_set_items" => "position = 7",
            "audit" => "action = 'nothing'",
            "events" => "cursor = cursor + 100",
            _ => "detail = 'another'",
        };
        refused(&stage, &format!("UPDATE {table} SET {column}")).await;
        refused(&stage, &format!("DELETE FROM {table}")).await;
    }
}

async fn refused(stage: &Stage, statement: &str) {
    let error = sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&stage.pool)
        .await
        .unwrap_err();
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("23001"), "{statement}: {error}");
}
