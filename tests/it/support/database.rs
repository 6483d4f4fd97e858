//! The tests' Postgres: one private cluster for all processes, one database for each test, made from a
//! template that holds the migrated schema.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    sync::OnceLock,
};

use planasonix::{
    db::schema,
    dev::postgres::{Cluster, Durability, GuardCommand, Search, Settings},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use super::turn::{self, Turn};

/// Where memory serves as a disk, if there is enough of it: tests are many times faster there.
const MEMORY: &str = "/dev/shm";
const ENOUGH_MEMORY: u64 = 512 * 1024 * 1024;

/// A database of one test. Dropped with it.
pub struct Database {
    name: String,
    pub options: PgConnectOptions,
    _turn: Turn,
}

impl Database {
    /// A fresh database with the current schema.
    pub async fn create() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let turn = turn::together();
        Self::copy_of(TEMPLATE.get_or_init(make_template).await, turn).await
    }

    /// A fresh database without a schema.
    pub async fn empty() -> Self {
        Self::copy_of("template0", turn::together()).await
    }

    async fn copy_of(template: &str, turn: Turn) -> Self {
        let name = format!("test_{}_{:08x}", std::process::id(), rand::random::<u32>());
        admin(&format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")).await.unwrap();
        Self { options: options(&name), name, _turn: turn }
    }

    /// Its name on the tests' server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database's URL, for a process of its own.
    pub fn url(&self) -> String {
        cluster().url(&self.name)
    }

    /// The same for another role; the tests' server asks for no password.
    pub fn url_for(&self, role: &str) -> String {
        let (_, place) = self.url().split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        format!("postgres://{role}@{place}")
    }

    /// A connection of another role.
    pub async fn connect_as(&self, role: &str) -> PgConnection {
        PgConnection::connect(&self.url_for(role)).await.unwrap()
    }

    /// Runs a line of shell that finds Postgres's programs and, in `DATABASE_URL`, this database.
    pub fn shell(&self, line: &str, folder: &Path) {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", cluster().programs().display());
        let mut shell = Command::new("sh");
        shell.args(["-ec", line]).current_dir(folder).env("PATH", path).env("DATABASE_URL", self.url());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }

    /// All that it holds, as `pg_dump` writes it.
    pub fn dump(&self) -> String {
        let mut pg_dump = Command::new(cluster().programs().join("pg_dump"));
        let output = pg_dump.arg("--dbname").arg(self.url()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // Psql's own commands carry a random key.
        let lines = text.lines().filter(|line| !line.starts_with('\\'));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Makes the schema one that lacks what this program needs.
    pub async fn forget_the_last_migration(&self) {
        let sql = "DELETE FROM schema_support WHERE migration = (SELECT max(migration) FROM schema_support)";
        self.execute(sql).await;
    }

    /// Makes the schema one that this migration was never applied to.
    pub async fn forget_an_applied_migration(&self, version: i64) {
        self.execute(&format!("DELETE FROM _sqlx_migrations WHERE version = {version}")).await;
    }

    /// Makes the schema one of a later program, which still serves programs from this version on.
    pub async fn migrate_beyond_us(&self, oldest_program: [i32; 3]) {
        let sql = format!(
            "WITH next AS (
                INSERT INTO schema_support SELECT max(migration) + 1, ARRAY{oldest_program:?} FROM schema_support
                RETURNING migration
             )
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT migration, 'of a later program', true, sha256('later'), 1 FROM next"
        );
        self.execute(&sql).await;
    }

    async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut self.connect().await).await.unwrap();
    }

    /// A connection for looking at what is stored.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A destructor cannot wait on the test's own runtime.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(admin(&sql))
        });
        let _ = dropping.join();
    }
}

fn options(database: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(&cluster().url(database)).unwrap()
}

async fn admin(sql: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect_with(&options("postgres")).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    connection.close().await
}

/// Makes the template, once for each schema and cluster; other test processes wait for it.
async fn make_template() -> String {
    let template = format!("template_{:016x}", schema_hash());
    let mut connection = PgConnection::connect_with(&options("postgres")).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut connection).await.unwrap();
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&template)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    if !there {
        let unfinished = format!("unfinished_{template}");
        admin(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await.unwrap();
        admin(&format!("CREATE DATABASE {unfinished}")).await.unwrap();
        schema::migrate(&options(&unfinished)).await.unwrap();
        admin(&format!("ALTER DATABASE {unfinished} RENAME TO {template}")).await.unwrap();
    }
    connection.close().await.unwrap();
    template
}

fn schema_hash() -> u64 {
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        (&file, std::fs::read(&file).unwrap()).hash(&mut hasher);
    }
    hasher.finish()
}

/// The cluster, held until this process ends.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER
        .get_or_init(|| std::thread::spawn(|| Cluster::start(&settings(folder())).unwrap()).join().unwrap())
}

/// How tests run a private Postgres of theirs in a folder.
pub fn settings(dir: PathBuf) -> Settings {
    Settings {
        dir,
        durability: Durability::Fast,
        search: Search { override_dir: None, path: std::env::var_os("PATH") },
        guard: GuardCommand {
            program: env!("CARGO_BIN_EXE_planasonix").into(),
            args: vec!["postgres-guard".into()],
        },
        max_connections: 500,
    }
}

fn folder() -> PathBuf {
    base().join(format!("planasonix-tests-{}", nix::unistd::geteuid()))
}

/// Where the tests' databases lie.
pub fn base() -> PathBuf {
    let free = nix::sys::statvfs::statvfs(MEMORY).map_or(0, |fs| fs.blocks_available() * fs.fragment_size());
    if free >= ENOUGH_MEMORY { Path::new(MEMORY).to_owned() } else { std::env::temp_dir() }
}
