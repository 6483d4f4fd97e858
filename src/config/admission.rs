//! Whom the service believes and serves, and how often.

use clap::{Args, ValueEnum};

use crate::http::{
    Admission,
    cors::Origin,
    limits::Rates,
    remote_ip::{self, Proxies, Range},
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
        Self { proxies: Proxies { trusted: args.trusted_proxy, header }, rates, origins: args.cors_origin }
    }
}
