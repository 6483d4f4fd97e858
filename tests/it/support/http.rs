//! Clients for the tests.

use rustls::crypto::ring::default_provider;

/// A client.
pub fn client() -> reqwest::Client {
    builder().build().unwrap()
}

/// A client with other settings. It knows TLS, since the agent's does and they are built together; the agent
/// names the provider of cryptography in its `main`, the tests do it here. They never speak TLS, so they do not
/// read the system's certificates for every client.
pub fn builder() -> reqwest::ClientBuilder {
    // The second and all later calls find it done.
    let _ = default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([])
}
