//! The way through a SOCKS proxy, by the code that the agent's own client goes through it with.

use std::{
    future::{Ready, ready},
    io,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::proxy::{SocksV4, SocksV5},
    rt::TokioIo,
};
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

use super::route::Hop;
use crate::config::ProxyScheme;

/// Hands over a connection to the proxy that stands already, once.
#[derive(Debug)]
struct Connected(Option<TcpStream>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// Has the proxy connect us to `host` and `port`. The error is for people.
pub(super) async fn tunnel(stream: TcpStream, hop: &Hop, host: &str, port: u16) -> Result<TcpStream, String> {
    let host = match hop.scheme {
        ProxyScheme::Socks4 | ProxyScheme::Socks5 => resolved_here(host, port).await?,
        _ => host.to_owned(),
    };
    let uri = |text: String| text.parse::<Uri>().map_err(|error| error.to_string());
    let (proxy, target) = (uri(format!("http://{}", hop.place()))?, uri(format!("https://{host}:{port}"))?);
    let connected = Connected(Some(stream));
    let through = if matches!(hop.scheme, ProxyScheme::Socks4 | ProxyScheme::Socks4a) {
        SocksV4::new(proxy, connected).call(target).await.map_err(|error| error.to_string())
    } else {
        let mut socks = SocksV5::new(proxy, connected);
        if let Some((user, password)) = &hop.socks_login {
            socks = socks.with_auth(user.clone(), password.clone());
        }
        socks.call(target).await.map_err(|error| error.to_string())
    };
    through.map(TokioIo::into_inner)
}

/// With `socks4://` and `socks5://` the name is this host's to resolve.
async fn resolved_here(host: &str, port: u16) -> Result<String, String> {
    let name = host.trim_matches(['[', ']']);
    let address = lookup_host((name, port)).await.map_err(|error| format!("{name}: {error}"))?.next();
    let address = address.ok_or_else(|| format!("{name} has no address"))?.ip();
    Ok(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
}
