//! Downloads of an agent's bundle, beside the same bytes from nginx.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
};

use crate::{
    Result,
    connected::get,
    contenders::Server,
    database::{self, Database},
    fill,
    nginx::Nginx,
    process, report,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How large the agent's program is
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    megabytes: u32,
    /// How many download at once, one bundle after the other
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100))]
    connections: u64,
    /// How many bundles each downloads in a round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    downloads: u64,
    /// How many rounds count
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many download at once while the server's memory is watched
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    parallel: u64,
    /// Fail if ours has less than so much of nginx's throughput
    #[arg(long)]
    at_least: Option<f64>,
    /// Fail if the downloads that are watched cost more megabytes than this
    #[arg(long)]
    grow_at_most: Option<f64>,
    #[command(flatten)]
    database: database::Args,
}

/// A file as somebody serves it.
#[derive(Clone)]
struct Source {
    address: SocketAddr,
    request: Arc<[u8]>,
    length: u64,
}

/// What the run leaves in the folder for temporary files until it ends.
struct Folder(PathBuf);

pub async fn run(args: Args) -> Result<()> {
    let database = Database::start(&args.database).await?;
    let mut connection = database.connect().await?;
    let workspace = fill::workspace(&mut connection).await?;
    fill::agents(&mut connection, workspace, 0..1).await?;
    let key = fill::key(&database.options, workspace).await?;
    let folder = Folder::with_program(args.megabytes)?;
    let agents = ["--agents-dir".to_owned(), folder.0.display().to_string()];
    let server = Server::start("group-commit", &database.url, &agents).await?;
    let path = format!("/api/agents/installer/{}/linux", fill::agent(0).0);
    let bundle = get(server.address, &key, &path).await?;
    fs::write(folder.0.join("bundle.tar.gz"), &bundle)?;
    let nginx = Nginx::start(&folder.0).await?;
    let length = bundle.len() as u64;
    let ours = Source::new(server.address, &path, &key, length);
    let theirs = Source::new(nginx.address, "/bundle.tar.gz", &key, length);
    let ratio = throughput(&args, &ours, &theirs).await?;
    let grown = memory(&args, &server, &ours).await?;
    server.stop().await?;
    if let Some(wanted) = args.at_least.filter(|wanted| ratio < *wanted) {
        return Err(format!("ours has {ratio:.2} of nginx's throughput, below {wanted}").into());
    }
    match args.grow_at_most.filter(|most| grown > *most) {
        Some(most) => Err(format!("{} downloads cost {grown:.1} MB, above {most}", args.parallel).into()),
        None => Ok(()),
    }
}

/// Both in turns; gives ours over theirs.
async fn throughput(args: &Args, ours: &Source, theirs: &Source) -> Result<f64> {
    let (mut our_rates, mut their_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let (our_rate, their_rate) = (ours.rate(args).await?, theirs.rate(args).await?);
        if round > 0 {
            our_rates.push(our_rate);
            their_rates.push(their_rate);
            ratios.push(our_rate / their_rate);
        }
    }
    let ratio = report::median(&mut our_rates) / report::median(&mut their_rates);
    let row = vec![
        ("ours, MB/s", format!("{:.0}", report::median(&mut our_rates))),
        ("nginx, MB/s", format!("{:.0}", report::median(&mut their_rates))),
        ("ours : nginx", format!("{ratio:.2}")),
        ("the same, median of the rounds", format!("{:.2}", report::median(&mut ratios))),
    ];
    let title =
        format!("{} bytes, {} at once, median of {} rounds", ours.length, args.connections, args.rounds);
    report::rows(&title, &[row], args.database.json)?;
    Ok(ratio)
}

/// Many downloads at once; gives by how many megabytes the server grew.
async fn memory(args: &Args, server: &Server, ours: &Source) -> Result<f64> {
    let before = process::megabytes(server.process(), "VmRSS");
    process::reset_peak(server.process());
    let begun = Arc::new(Barrier::new(usize::try_from(args.parallel)?));
    let mut downloads: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..args.parallel {
        let (source, begun) = (ours.clone(), Arc::clone(&begun));
        downloads.spawn(async move {
            let mut stream = TcpStream::connect(source.address).await?;
            source.ask(&mut stream).await?;
            begun.wait().await;
            source.take(&mut stream).await
        });
    }
    while let Some(done) = downloads.join_next().await {
        done??;
    }
    let peak = process::megabytes(server.process(), "VmHWM");
    let row = vec![
        ("before, MB", format!("{before:.1}")),
        ("at most, MB", format!("{peak:.1}")),
        ("grew by MB", format!("{:.1}", peak - before)),
    ];
    report::rows(&format!("The server's memory, {} at once", args.parallel), &[row], args.database.json)?;
    Ok(peak - before)
}

impl Source {
    fn new(address: SocketAddr, path: &str, key: &str, length: u64) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n\r\n");
        Self { address, request: request.into_bytes().into(), length }
    }

    /// Megabytes a second over all connections.
    async fn rate(&self, args: &Args) -> Result<f64> {
        let started = Instant::now();
        let mut clients: JoinSet<Result<()>> = JoinSet::new();
        for _ in 0..args.connections {
            let (source, downloads) = (self.clone(), args.downloads);
            clients.spawn(async move {
                let mut stream = TcpStream::connect(source.address).await?;
                for _ in 0..downloads {
                    source.ask(&mut stream).await?;
                    source.take(&mut stream).await?;
                }
                Ok(())
            });
        }
        while let Some(done) = clients.join_next().await {
            done??;
        }
        let bytes = report::count(self.length * args.connections * args.downloads);
        Ok(bytes / 1e6 / started.elapsed().as_secs_f64())
    }

    async fn ask(&self, stream: &mut TcpStream) -> Result<()> {
        Ok(stream.write_all(&self.request).await?)
    }

    /// Reads an answer to its end, and throws it away.
    async fn take(&self, stream: &mut TcpStream) -> Result<()> {
        let mut buffer = Vec::with_capacity(256 * 1_024);
        let head = loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err("the answer broke off".into());
            }
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(format!("not served: {}", String::from_utf8_lossy(&buffer)).into());
        }
        let mut left = self.length.saturating_sub((buffer.len() - head) as u64);
        while left > 0 {
            buffer.clear();
            match stream.read_buf(&mut buffer).await? as u64 {
                0 => return Err("the answer broke off".into()),
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }
}

impl Folder {
    /// With a program that nothing compresses, where a server looks for it.
    fn with_program(megabytes: u32) -> Result<Self> {
        let folder = Self(env::temp_dir().join(format!("planasonix-bench-installer-{}", std::process::id())));
        let place = folder.0.join("linux-x86_64");
        fs::create_dir_all(&place)?;
        let mut program = vec![0; usize::try_from(megabytes)? * 1_000_000];
        StdRng::seed_from_u64(7).fill_bytes(&mut program);
        fs::write(Path::join(&place, "planasonix-agent"), program)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
