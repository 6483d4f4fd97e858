//! `planasonix dev`: everything that a first look needs, with one command.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    pin::pin,
    str::FromStr,
    sync::Arc,
};

use planasonix_wire::WorkspaceId;
use sqlx::postgres::PgConnectOptions;

use super::{
    agent_programs::for_dev,
    failure::Failure,
    output,
    serve::{bind, serve_metrics, settings},
};
use crate::{
    api_keys::{self, keyring::Keyring},
    config::DevArgs,
    db::{Budget, Db, LaneSizes, Turn, schema, workspace::Rows},
    dev::postgres::{Cluster, Durability, GuardCommand, Settings as ClusterSettings, create_dirs},
    domain::{
        Scope,
        api_key::NewKey,
        credential::{ApiKey, Plain},
        page::PageSize,
    },
    http::startup::{Phase, StartupGate},
    installer::PublicUrl,
    lifecycle::{HttpServer, Service, stop_signal},
};

const WORKSPACE: &str = "dev";
const DATABASE: &str = "planasonix";
const MAX_CONNECTIONS: u16 = 100;

/// Serves from a private Postgres until asked to stop.
///
/// # Errors
/// What stands in the way, in one text.
pub async fn run(args: DevArgs) -> Result<(), Failure> {
    // First, as for `serve`.
    let mut stop = pin!(stop_signal()?);
    let data_dir = args
        .data_dir()
        .ok_or_else(|| Failure::new("there is no home folder to keep data in; name one with --data-dir"))?;
    let listener = bind("--listen", args.listen)?;
    serve_metrics(&args.metrics)?;
    let _lock = lock(&data_dir)?;
    let address = listener.local_addr()?;
    let mut settings = settings(&args.agents, args.admission.clone(), args.shutdown_delay)?;
    let mut http = HttpServer::start(listener, &settings);
    let prepared = http.prepare(stop.as_mut(), prepare(&args, &data_dir, http.gate())).await?;
    let Some((_cluster, options, key)) = prepared else { return Ok(()) };
    let (installers, _build) = for_dev(args.installers, own_url(address)?)?;
    settings.installers = installers;
    let service = Service::start_on(http, options, settings);
    output::line(&welcome(address, &key, &data_dir))?;
    Ok(service.run(stop).await?)
}

/// Starts the private Postgres, brings its schema up, and makes the workspace and its key if they are missing.
async fn prepare(
    args: &DevArgs,
    data_dir: &Path,
    gate: StartupGate,
) -> Result<(Option<Cluster>, PgConnectOptions, String), Failure> {
    gate.enter(Phase::StartingPostgres);
    let (cluster, options) = database(args, data_dir).await?;
    gate.enter(Phase::Migrating);
    schema::migrate(&options).await?;
    schema::check(&options).await??;
    gate.enter(Phase::Preparing);
    let key = workspace_and_key(&options, &data_dir.join("api-key")).await?;
    Ok((cluster, options, key))
}

/// Where this host reaches an address of its own.
fn own_url(mut address: SocketAddr) -> Result<PublicUrl, Failure> {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    format!("http://{address}").parse().map_err(|error| Failure::new(format!("--public-url: {error}")))
}

/// Makes the data folder and holds it, so that two processes do not write one key file.
fn lock(data_dir: &Path) -> Result<File, Failure> {
    let fail = |error: io::Error| Failure::new(format!("cannot use {}: {error}", data_dir.display()));
    create_dirs(data_dir)?;
    let path = data_dir.join("dev.lock");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(fail)?;
            write!(file, "{}", std::process::id()).map_err(fail)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without its number the text still says enough.
            let _ = file.read_to_string(&mut holder);
            Err(Failure::new(format!(
                "{} is in use by another `planasonix dev` (process {holder}); stop it, or choose another folder \
                 with --data-dir",
                data_dir.display()
            )))
        }
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

async fn database(args: &DevArgs, data_dir: &Path) -> Result<(Option<Cluster>, PgConnectOptions), Failure> {
    if let Some(url) = &args.dev_database_url {
        let options = PgConnectOptions::from_str(url).map_err(|error| {
            Failure::new(format!("PLANASONIX_DEV_DATABASE_URL is not a Postgres URL: {error}"))
        })?;
        return Ok((None, options));
    }
    let settings = ClusterSettings {
        dir: data_dir.to_owned(),
        durability: Durability::Durable,
        search: args.search(),
        guard: GuardCommand { program: std::env::current_exe()?, args: vec!["postgres-guard".into()] },
        max_connections: MAX_CONNECTIONS,
    };
    let cluster =
        tokio::task::spawn_blocking(move || Cluster::start(&settings)).await.map_err(io::Error::from)??;
    let postgres = options_of(&cluster.url("postgres"))?;
    schema::create_database(&postgres, DATABASE).await?;
    let options = options_of(&cluster.url(DATABASE))?;
    Ok((Some(cluster), options))
}

fn options_of(url: &str) -> Result<PgConnectOptions, Failure> {
    PgConnectOptions::from_str(url).map_err(|error| Failure::new(format!("the private Postgres: {error}")))
}

/// The development key from its file; another one if that is gone or no longer any good.
async fn workspace_and_key(options: &PgConnectOptions, file: &Path) -> Result<String, Failure> {
    let db = Db::new(options.clone(), LaneSizes { reads: 1, writes: 1 });
    let workspace = match db.workspace_id(WORKSPACE).await? {
        Some(id) => id,
        None => db.create_workspace(WORKSPACE, "Development").await?.ok_or_else(|| {
            Failure::new("somebody else is creating the workspace `dev` at this moment; start again")
        })?,
    };
    let kept = fs::read_to_string(file).ok().map(|text| text.trim().to_owned());
    let key = match kept {
        Some(key) if is_good(&db, &key).await? => key,
        kept => {
            if kept.is_some() || has_keys(&db, workspace).await? {
                tracing::warn!(file = %file.display(), "the kept API key is gone or no longer good; making another");
            }
            let new = NewKey { name: "dev".to_owned(), scopes: Scope::ALL.to_vec(), expires_in_days: None };
            let key = api_keys::create(&db.workspace(workspace, Budget::default()), new).await?.secret;
            keep(file, &key)
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))?;
            key
        }
    };
    db.close().await;
    Ok(key)
}

async fn is_good(db: &Db, key: &str) -> Result<bool, Failure> {
    let Ok(key) = Plain::<ApiKey>::parse(key) else {
        return Ok(false);
    };
    match Keyring::default().open(db, &Arc::new(key), Turn::Internal, &Budget::default()).await {
        Ok(_) => Ok(true),
        Err(error @ (crate::domain::Error::Unavailable(_) | crate::domain::Error::Internal(_))) => {
            Err(error.into())
        }
        Err(_) => Ok(false),
    }
}

async fn has_keys(db: &Db, workspace: WorkspaceId) -> Result<bool, Failure> {
    let door = db.workspace(workspace, Budget::default());
    let first = |mut rows: Rows| async move { rows.api_keys().list(None, PageSize::DEFAULT).await };
    Ok(!door.read("list_keys", first).await?.is_empty())
}

/// Writes the one secret that we ever write down, for its owner's eyes alone.
fn keep(path: &Path, key: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{key}")
}

fn welcome(address: SocketAddr, key: &str, data_dir: &Path) -> String {
    format!(
        r#"Planasonix's control plane listens on http://{address} (Ctrl-C stops it).
Its data and its API key are kept in {data_dir}.

Paste this into another terminal: an agent is registered, enrolls, beats, and shows up.

  export API=http://{address} KEY={key}
  AGENT=$(curl -fsS $API/api/agents -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{{"label":"first-agent","platform":"linux"}}')
  ID=$(echo "$AGENT" | sed 's/.*"id":"\([^"]*\)".*/\1/')
  TOKEN=$(echo "$AGENT" | sed 's/.*"enrollment_token":"\([^"]*\)".*/\1/')
  CREDENTIAL=$(curl -fsS -X POST $API/api/agents/enroll -H "Authorization: Bearer $TOKEN" | sed 's/.*"credential":"\([^"]*\)".*/\1/')
  curl -sS $API/api/agents/$ID/heartbeat -H "Authorization: Bearer $CREDENTIAL" -H 'Content-Type: application/json' -d '{{"version":"2.14.3","cpu_percent":34.2}}'
  curl -sS $API/api/agents/connected -H "Authorization: Bearer $KEY"
  curl -sS $API/api/agents/$ID/health -H "Authorization: Bearer $KEY"

How the real agent comes onto a host, once it is built: the commands to paste there.

  curl -fsS $API/api/agents/manual-install/$ID -H "Authorization: Bearer $KEY" | grep -oE '"command":"([^"\]|\\.)*"' | sed 's/^"command":"//; s/"$//; s/\\\(.\)/\1/g'

And then: it is revoked, its next heartbeat is refused, and it is let back in.

  curl -sS -X POST $API/api/agents/revoke/$ID -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{{"reason":"just trying"}}'
  curl -sS -X POST $API/api/agents/$ID/heartbeat -H "Authorization: Bearer $CREDENTIAL"
  curl -sS -X POST $API/api/agents/enable/$ID -H "Authorization: Bearer $KEY"
"#,
        data_dir = data_dir.display(),
    )
}
