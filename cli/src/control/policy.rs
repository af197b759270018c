//! Policies, as documents.

mod difference;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use weft_control_api::v1::{self, policies_client::PoliciesClient};

use super::{
    Output,
    call::{Connection, answer},
    environment::name,
    session::word,
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show the rules in their order; the first that matches decides
    Show(Of),
    /// Replace the policy by that of a file
    Set {
        #[command(flatten)]
        of: Of,
        /// JSON: {"default": "deny", "rules": [{"name": "web-db", "from": "web", "to": "db", "protocol": "tcp",
        /// "ports": [{"first": 5432}], "verdict": "allow"}]}
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Only show which rules would come, go, change or move
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    #[command(flatten)]
    output: Output,
}

impl PolicyCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Show(of) | Self::Set { of, .. } => of.output,
        }
    }
}

/// A policy as a person writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Verdict,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    protocol: Option<Protocol>,
    #[serde(default)]
    ports: Vec<Ports>,
    verdict: Verdict,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    first: u32,
    #[serde(default)]
    last: u32,
}

impl From<Verdict> for v1::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny => Self::Deny,
        }
    }
}

impl From<Rule> for v1::Rule {
    fn from(rule: Rule) -> Self {
        let protocol = match rule.protocol {
            None => v1::Transport::Unspecified,
            Some(Protocol::Tcp) => v1::Transport::Tcp,
            Some(Protocol::Udp) => v1::Transport::Udp,
            Some(Protocol::Icmp) => v1::Transport::Icmp,
        };
        let ports = rule.ports.into_iter();
        Self {
            name: rule.name,
            from: rule.from,
            to: rule.to,
            protocol: protocol.into(),
            ports: ports
                .map(|ports| v1::PortRange { first: ports.first, last: ports.last })
                .collect(),
            verdict: v1::Verdict::from(rule.verdict).into(),
        }
    }
}

fn items(policy: &v1::Policy) -> Vec<Item> {
    let rules = policy.rules.iter().map(|rule| with_rule(Item::new(), rule));
    rules.chain([with_default(Item::new(), policy.default())]).collect()
}

fn with_rule(item: Item, rule: &v1::Rule) -> Item {
    let any = |text: &str| if text.is_empty() { "any".to_owned() } else { text.to_owned() };
    let ports: Vec<String> = rule
        .ports
        .iter()
        .map(|ports| match ports.first == ports.last || ports.last == 0 {
            true => ports.first.to_string(),
            false => format!("{}-{}", ports.first, ports.last),
        })
        .collect();
    let protocol = match rule.protocol() {
        v1::Transport::Unspecified => "any".to_owned(),
        protocol => word(protocol.as_str_name(), "TRANSPORT_"),
    };
    item.with("name", rule.name.as_str())
        .with("from", any(&rule.from))
        .with("to", any(&rule.to))
        .with("protocol", protocol)
        .with("ports", ports)
        .with("verdict", word(rule.verdict().as_str_name(), "VERDICT_"))
}

fn with_default(item: Item, verdict: v1::Verdict) -> Item {
    item.with("name", "(default)")
        .with("from", "any")
        .with("to", "any")
        .with("protocol", "any")
        .with("ports", Vec::<String>::new())
        .with("verdict", word(verdict.as_str_name(), "VERDICT_"))
}

pub(super) async fn run(connection: Connection, command: PolicyCommand) -> Result<Shown> {
    let mut policies = PoliciesClient::new(connection.channel());
    match command {
        PolicyCommand::Show(of) => {
            let request = v1::GetPolicyRequest { environment: name(of.environment) };
            let policy = answer(policies.get_policy(connection.request(request)).await)?;
            Ok(Shown::Many { items: items(&policy), empty: "no rules" })
        }
        PolicyCommand::Set { of, file, dry_run } => {
            let text =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let document: Document = serde_json::from_slice(&text)
                .with_context(|| format!("{} is no policy", file.display()))?;
            let get = v1::GetPolicyRequest { environment: name(of.environment.clone()) };
            let before = answer(policies.get_policy(connection.request(get)).await)?;
            let request = v1::SetPolicyRequest {
                environment: name(of.environment),
                version: before.version,
                default: v1::Verdict::from(document.default).into(),
                rules: document.rules.into_iter().map(v1::Rule::from).collect(),
            };
            if dry_run {
                let after = (request.default(), &request.rules[..]);
                let items = difference::items((before.default(), &before.rules), after);
                return Ok(Shown::Many { items, empty: "nothing would change" });
            }
            let policy = answer(policies.set_policy(connection.request(request)).await)?;
            let sentence =
                format!("version {} holds, with {} rules", policy.version, policy.rules.len());
            Ok(Shown::Done(sentence, Item::new().with("version", policy.version)))
        }
    }
}
