//! What Postgres means to do with a statement of ours.

use sqlx::{AssertSqlSafe, PgConnection, raw_sql};

/// The plan for any values of the statement that this connection has prepared and that begins with this
/// comment. An empty table makes reading all of it cheap, so that is ruled out.
pub async fn generic_plan(connection: &mut PgConnection, comment: &str) -> String {
    let (name, parameters): (String, i32) = sqlx::query_as(
        "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements WHERE statement LIKE $1",
    )
    .bind(format!("-- {comment}\n%"))
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    let nulls = vec!["NULL"; parameters.unsigned_abs() as usize].join(", ");
    for setting in ["plan_cache_mode = force_generic_plan", "enable_seqscan = off"] {
        raw_sql(AssertSqlSafe(format!("SET {setting}"))).execute(&mut *connection).await.unwrap();
    }
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN EXECUTE {name} ({nulls})")))
        .persistent(false)
        .fetch_all(connection)
        .await
        .unwrap();
    lines.join("\n")
}
