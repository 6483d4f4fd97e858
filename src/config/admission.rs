//! Whom the service believes and serves, and how often.

use clap::{Args, ValueEnum};

use crate::http::{
    Admission,
    cors::Origin,
    limits::Rates,
    remote_ip::{self, Proxies, Range},
    server::{ConnectionLimits, Timeouts},
};

/// Whom the service believes and serves, and how often. Limits are counted by each process for itself.
#[derive(Debug, Clone, Args)]
pub struct AdmissionArgs {
    /// A proxy, or a range of them, whose word on a client's address counts; repeat for more, or separate by
    /// commas.
    #[arg(long, env = "PLANASONIX_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<Range>,
    /// The header that these proxies write. No other is ever looked at.
    #[arg(
        long,
        env = "PLANASONIX_FORWARDED_HEADER",
        value_name = "HEADER",
        default_value = "x-forwarded-for"
    )]
    forwarded_header: ForwardedHeader,
    /// How many requests a minute an API key may make; 0 is off.
    #[arg(long, env = "PLANASONIX_RATE_LIMIT_KEY", value_name = "REQUESTS", default_value_t = 1_200)]
    rate_limit_key: u32,
    /// How many a minute all API keys of a workspace may make together; 0 is off.
    #[arg(long, env = "PLANASONIX_RATE_LIMIT_WORKSPACE", value_name = "REQUESTS", default_value_t = 6_000)]
    rate_limit_workspace: u32,
    /// How many a minute an agent may make, heartbeats aside; 0 is off.
    #[arg(long, env = "PLANASONIX_RATE_LIMIT_AGENT", value_name = "REQUESTS", default_value_t = 30)]
    rate_limit_agent: u32,
    /// How many a minute may fail to authenticate from one address (of IPv6, from one /64); 0 is off.
    #[arg(long, env = "PLANASONIX_RATE_LIMIT_FAILED_AUTH", value_name = "REQUESTS", default_value_t = 600)]
    rate_limit_failed_auth: u32,
    /// Another origin whose pages may call from a browser; repeat for more, or separate by commas.
    #[arg(long, env = "PLANASONIX_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<Origin>,
    /// The most connections; one beyond is closed at once [default: the least of 200000, 80 % of the limit of
    /// open files, and the memory limit divided by 64 KiB].
    #[arg(long, env = "PLANASONIX_MAX_CONNECTIONS", value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,
    /// The most connections from one address (of IPv6, from one /64), trusted proxies exempt; 0 is off
    /// [default: half of the most connections].
    #[arg(long, env = "PLANASONIX_MAX_CONNECTIONS_PER_ADDRESS", value_name = "CONNECTIONS")]
    max_connections_per_address: Option<u32>,
}

/// The header that trusted proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ForwardedHeader {
    /// What most proxies write.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl From<AdmissionArgs> for Admission {
    fn from(args: AdmissionArgs) -> Self {
        let header = match args.forwarded_header {
            ForwardedHeader::XForwardedFor => remote_ip::ForwardedHeader::XForwardedFor,
            ForwardedHeader::Forwarded => remote_ip::ForwardedHeader::Forwarded,
        };
        let rates = Rates {
            key: args.rate_limit_key,
            workspace: args.rate_limit_workspace,
            agent: args.rate_limit_agent,
            failed_auth: args.rate_limit_failed_auth,
        };
        let number = |given: u32| usize::try_from(given).unwrap_or(usize::MAX);
        let connections = ConnectionLimits {
            total: args.max_connections.map(number),
            per_address: args.max_connections_per_address.map(number),
        };
        Self {
            proxies: Proxies { trusted: args.trusted_proxy, header },
            rates,
            origins: args.cors_origin,
            connections,
            timeouts: Timeouts::default(),
        }
    }
}
