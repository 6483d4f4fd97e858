//! `agent.conf`: the one file of a bundle that differs from agent to agent.

use planasonix_wire::AgentId;

use super::PublicUrl;

/// The configuration of one agent, as its host keeps it.
pub(super) fn agent_conf(url: &PublicUrl, agent: AgentId) -> String {
    format!(
        "\
# The Planasonix agent's configuration: KEY=value lines, taken as they stand. No secret belongs here.
PLANASONIX_API_HOST={url}
PLANASONIX_AGENT_ID={agent}

# For a network that reaches the control plane through a proxy only (ALL_PROXY=socks5h://… for SOCKS). In its user and
# password, @ is written %40, / %2F, ? %3F, # %23 and % %25:
#HTTPS_PROXY=http://proxy.example.com:3128
#NO_PROXY=localhost,127.0.0.1

# More certificate authorities, as PEM, beside those that the system trusts:
#PLANASONIX_CA_FILE=
"
    )
}
