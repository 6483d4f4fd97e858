//! What is in a bundle.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use planasonix_wire::AgentId;

use super::{Download, path};
use crate::support::{
    App,
    agents::{PROGRAMS, PUBLIC_URL, put, stocked},
    process::Pair,
};

/// Mode and content, by path.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

/// Unpacks with the programs that an operator has.
fn untar(bundle: &Download) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("bundle");
    fs::write(&archive, &bundle.bytes).unwrap();
    let output =
        Command::new("tar").arg("-xpzf").arg(&archive).arg("-C").arg(folder.path()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    fs::remove_file(archive).unwrap();
    let mut files = Files::new();
    read(folder.path(), folder.path(), &mut files);
    files
}

fn read(root: &Path, folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, (mode, fs::read(path).unwrap()));
        }
    }
}

fn unzip(bundle: &Download) -> Files {
    let mut archive = zip::ZipArchive::new(Cursor::new(&bundle.bytes)).unwrap();
    let names: Vec<_> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let mut files = Files::new();
    for name in names {
        let mut file = archive.by_name(&name).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        files.insert(name, (file.unix_mode().unwrap() & 0o7777, content));
    }
    files
}

fn modes(files: &Files) -> Vec<(&str, u32)> {
    files.iter().map(|(name, (mode, _))| (name.strip_prefix("planasonix-agent/").unwrap(), *mode)).collect()
}

fn content<'f>(files: &'f Files, name: &str) -> &'f [u8] {
    &files[&format!("planasonix-agent/{name}")].1
}

fn template(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/installer/templates");
    fs::read(folder.join(name)).unwrap()
}

fn assert_names(files: &Files, agent: AgentId) {
    let conf = std::str::from_utf8(content(files, "agent.conf")).unwrap();
    let settings: Vec<_> = conf.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let expected = [format!("PLANASONIX_API_HOST={PUBLIC_URL}"), format!("PLANASONIX_AGENT_ID={agent}")];
    assert_eq!(settings, expected);
}

#[tokio::test]
async fn a_bundle_for_linux_holds_programs_scripts_services_and_the_agent_s_configuration() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await.id;
    let files = untar(&acme.operator.bundle(agent, "linux").await);
    let expected = [
        ("agent.conf", 0o644),
        ("bin/aarch64/planasonix-agent", 0o755),
        ("bin/x86_64/planasonix-agent", 0o755),
        ("install.sh", 0o755),
        ("planasonix-agent.init", 0o644),
        ("planasonix-agent.service", 0o644),
        ("uninstall.sh", 0o755),
    ];
    assert_eq!(modes(&files), expected);
    assert_eq!(content(&files, "bin/aarch64/planasonix-agent"), PROGRAMS[0].2);
    assert_eq!(content(&files, "bin/x86_64/planasonix-agent"), PROGRAMS[1].2);
    for name in ["install.sh", "planasonix-agent.init", "planasonix-agent.service", "uninstall.sh"] {
        assert_eq!(content(&files, name), template(&format!("linux/{name}")), "{name}");
    }
    assert_names(&files, agent);
}

#[tokio::test]
async fn a_bundle_for_macos_holds_what_there_is_for_macs() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await.id;
    let files = untar(&acme.operator.bundle(agent, "macos").await);
    let expected = [
        ("agent.conf", 0o644),
        ("bin/aarch64/planasonix-agent", 0o755),
        ("com.planasonix.agent.plist", 0o644),
        ("install.sh", 0o755),
        ("uninstall.sh", 0o755),
    ];
    assert_eq!(modes(&files), expected);
    assert_eq!(content(&files, "bin/aarch64/planasonix-agent"), PROGRAMS[2].2);
    assert_names(&files, agent);
}

#[tokio::test]
async fn a_bundle_for_windows_is_a_zip() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await.id;
    let files = unzip(&acme.operator.bundle(agent, "windows").await);
    let expected = [
        ("agent.conf", 0o644),
        ("bin/x86_64/planasonix-agent.exe", 0o755),
        ("install.ps1", 0o644),
        ("uninstall.ps1", 0o644),
    ];
    assert_eq!(modes(&files), expected);
    assert_eq!(content(&files, "bin/x86_64/planasonix-agent.exe"), PROGRAMS[3].2);
    assert_eq!(content(&files, "install.ps1"), template("windows/install.ps1"));
    assert_names(&files, agent);
}

#[tokio::test]
async fn two_agents_bundles_differ_in_the_last_file_alone() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (one, other) = (acme.register("one").await.id, acme.register("other").await.id);
    for platform in ["linux", "macos", "windows"] {
        let unpack = if platform == "windows" { unzip } else { untar };
        let mut bundles = Vec::new();
        for agent in [one, other] {
            let bundle = acme.operator.bundle(agent, platform).await;
            let mut files = unpack(&bundle);
            assert_names(&files, agent);
            files.remove("planasonix-agent/agent.conf");
            bundles.push((bundle.sha256(), files));
        }
        assert_ne!(bundles[0].0, bundles[1].0, "{platform}");
        assert_eq!(bundles[0].1, bundles[1].1, "{platform}");
    }
}

/// Times, owners and order are fixed: nothing of the host or the moment of packing shows.
#[tokio::test]
async fn the_same_request_gives_the_same_bytes_on_every_server() {
    let folder = tempfile::tempdir().unwrap();
    let program: Vec<u8> =
        (0..300_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    for (target, name, _) in PROGRAMS {
        put(folder.path(), target, name, &program);
    }
    let agents = format!("--agents-dir={}", folder.path().display());
    let pair = Pair::start(&[&agents, &format!("--public-url={PUBLIC_URL}")]).await;
    let agent = pair.acme.register("a").await.id;
    for platform in ["linux", "macos", "windows"] {
        let mut seen = Vec::new();
        for server in &pair.servers {
            let caller = pair.acme.operator.at(server.address);
            let ready =
                async || Some(caller.fetch(&path(agent, platform), &[]).await).filter(|d| d.status == 200);
            let bundle = crate::support::ask::eventually(ready).await;
            let again = caller.bundle(agent, platform).await;
            assert!(bundle.bytes == again.bytes && bundle.headers["etag"] == again.headers["etag"]);
            seen.push(bundle);
        }
        assert!(seen[0].bytes == seen[1].bytes, "{platform}");
        assert_eq!(seen[0].headers["etag"], seen[1].headers["etag"]);
    }
}

/// Packed once and packed again, elsewhere and later.
#[tokio::test]
async fn packing_again_changes_nothing() {
    let agent = AgentId::from_uuid(uuid::Uuid::from_u128(7));
    let digests = || {
        let folder = tempfile::tempdir().unwrap();
        for (target, name, bytes) in PROGRAMS {
            put(folder.path(), target, name, bytes);
        }
        let installers = stocked(folder.path());
        planasonix::domain::agent::Platform::ALL
            .iter()
            .map(|platform| installers.package(agent, *platform).unwrap().sha256())
            .collect::<Vec<_>>()
    };
    assert_eq!(digests(), digests());
}
