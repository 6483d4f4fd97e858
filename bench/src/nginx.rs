//! An nginx of the run's own: what others serve files with.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

use crate::Result;

/// Where it may be: it is seldom in the path of who is not root.
const PROGRAMS: [&str; 2] = ["nginx", "/usr/sbin/nginx"];
const GLANCE: Duration = Duration::from_millis(50);

/// A running nginx, ended when dropped.
pub struct Nginx {
    pub address: SocketAddr,
    _child: Child,
}

impl Nginx {
    /// Serves the files of a folder, in which its own things lie too.
    pub async fn start(folder: &Path) -> Result<Self> {
        // Another program may take the port before nginx does, which then says so and ends.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let settings = folder.join("nginx.conf");
        fs::write(&settings, configuration(folder, address))?;
        let mut child = PROGRAMS
            .iter()
            .find_map(|program| {
                let mut command = Command::new(program);
                command.arg("-c").arg(&settings).arg("-e").arg(folder.join("nginx.log"));
                command.stdin(Stdio::null()).kill_on_drop(true).spawn().ok()
            })
            .ok_or("there is no nginx to compare with (Debian: apt-get install nginx-light)")?;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                return Err(format!("nginx ended at once: {status}").into());
            }
            sleep(GLANCE).await;
        }
        Ok(Self { address, _child: child })
    }
}

/// One process, so that ending it ends all of it.
fn configuration(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};"))
        .join(" ");
    format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; events {{}}
         http {{ access_log off; sendfile on; tcp_nopush on; {temporary}
                 server {{ listen {address}; root {folder}; }} }}"
    )
}
