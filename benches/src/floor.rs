//! The floor: the minimum work of any server for a refresh, which is a small body, one `UPDATE … RETURNING`
//! and one signature.

use std::str::FromStr as _;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};

/// Rows that clients may update, at least one per caller.
pub(crate) const ROWS: i64 = 64;
/// The size of a key set with one ES256 key.
pub(crate) const STATIC_BODY: usize = 260;

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS floor (id BIGINT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)";
const INSERT: &str = "INSERT INTO floor (id, value) VALUES ($1, 0) ON CONFLICT DO NOTHING";
const UPDATE: &str = "UPDATE floor SET value = value + 1 WHERE id = $1 RETURNING value";

#[derive(Clone)]
struct Floor {
    pool: Pool,
    key: Arc<EcdsaKeyPair>,
    random: SystemRandom,
}

#[derive(Clone)]
enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

#[derive(Deserialize)]
struct UpdateRequest {
    id: i64,
}

#[derive(Serialize)]
struct UpdateResponse {
    value: i64,
    signature: String,
}

/// Prints its address, and serves until it is killed.
#[expect(clippy::disallowed_methods, reason = "the floor uses ring directly")]
pub(crate) async fn serve(database_url: &str) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
        .expect("a key");
    let floor = Floor { pool: open(database_url).await, key: Arc::new(key), random };
    let body = "x".repeat(STATIC_BODY);
    let router = Router::new()
        .route("/refresh", post(refresh))
        .route("/static", get(move || async move { body }))
        .with_state(floor);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address"));
    axum::serve(listener, router).await.expect("it serves until it is killed");
}

async fn refresh(State(floor): State<Floor>, Json(request): Json<UpdateRequest>) -> Json<UpdateResponse> {
    let value: i64 = match &floor.pool {
        Pool::Postgres(pool) => sqlx::query_scalar(UPDATE).bind(request.id).fetch_one(pool).await,
        Pool::Sqlite(pool) => sqlx::query_scalar(UPDATE).bind(request.id).fetch_one(pool).await,
    }
    .expect("the row exists");
    let signature = floor.key.sign(&floor.random, &[b'x'; 600]).expect("a signature");
    Json(UpdateResponse { value, signature: URL_SAFE_NO_PAD.encode(signature) })
}

/// As durable as the service: `synchronous_commit` on, `synchronous` FULL.
async fn open(database_url: &str) -> Pool {
    if database_url.starts_with("postgres") {
        let pool = PgPoolOptions::new().max_connections(16).connect(database_url).await.expect("PostgreSQL");
        sqlx::query(TABLE).execute(&pool).await.expect("a table");
        for id in 0..ROWS {
            sqlx::query(INSERT).bind(id).execute(&pool).await.expect("a row");
        }
        return Pool::Postgres(pool);
    }
    let options = SqliteConnectOptions::from_str(database_url)
        .expect("a URL")
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("a file");
    sqlx::query(TABLE).execute(&pool).await.expect("a table");
    for id in 0..ROWS {
        sqlx::query(INSERT).bind(id).execute(&pool).await.expect("a row");
    }
    Pool::Sqlite(pool)
}
