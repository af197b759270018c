//! Calls about policies.

use tonic::{Request, async_trait};
use weft_control_api::v1::{self, policies_server::Policies};
use weft_model::policy::{Policy, PortRange, Rule, Selector, Transport, Verdict};

use super::{Answer, Api, convert};
use crate::error::AppError;

fn verdict(field: &'static str, verdict: v1::Verdict) -> Result<Verdict, AppError> {
    match verdict {
        v1::Verdict::Allow => Ok(Verdict::Allow),
        v1::Verdict::Deny => Ok(Verdict::Deny),
        v1::Verdict::Unspecified => {
            Err(AppError::invalid(field, "is missing; expected allow or deny"))
        }
    }
}

fn verdict_message(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Allow => v1::Verdict::Allow,
        Verdict::Deny => v1::Verdict::Deny,
    }
}

fn selector(field: &'static str, text: &str) -> Result<Selector, AppError> {
    Ok(convert::optional(field, text)?.map_or(Selector::Any, Selector::Service))
}

fn selector_message(selector: Selector) -> String {
    match selector {
        Selector::Any => String::new(),
        Selector::Service(name) => name.to_string(),
    }
}

fn port(port: u32) -> Result<u16, AppError> {
    let problem = || AppError::invalid("rules.ports", format!("{port}; expected 1 to 65535"));
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(problem)
}

fn rule(rule: &v1::Rule) -> Result<Rule, AppError> {
    let ports = rule.ports.iter().map(|range| {
        let first = port(range.first)?;
        Ok(PortRange { first, last: if range.last == 0 { first } else { port(range.last)? } })
    });
    Ok(Rule {
        name: convert::parse("rules.name", &rule.name)?,
        from: selector("rules.from", &rule.from)?,
        to: selector("rules.to", &rule.to)?,
        protocol: match rule.protocol() {
            v1::Transport::Unspecified => None,
            v1::Transport::Tcp => Some(Transport::Tcp),
            v1::Transport::Udp => Some(Transport::Udp),
            v1::Transport::Icmp => Some(Transport::Icmp),
        },
        ports: ports.collect::<Result<_, AppError>>()?,
        verdict: verdict("rules.verdict", rule.verdict())?,
    })
}

/// A policy as it is sent.
pub(super) fn message(policy: Policy) -> v1::Policy {
    let rules = policy.rules.into_iter().map(|rule| v1::Rule {
        name: rule.name.to_string(),
        from: selector_message(rule.from),
        to: selector_message(rule.to),
        protocol: match rule.protocol {
            None => v1::Transport::Unspecified,
            Some(Transport::Tcp) => v1::Transport::Tcp,
            Some(Transport::Udp) => v1::Transport::Udp,
            Some(Transport::Icmp) => v1::Transport::Icmp,
        }
        .into(),
        ports: rule
            .ports
            .into_iter()
            .map(|range| v1::PortRange { first: range.first.into(), last: range.last.into() })
            .collect(),
        verdict: verdict_message(rule.verdict).into(),
    });
    v1::Policy {
        environment: policy.environment.to_string(),
        version: policy.version,
        default: verdict_message(policy.default).into(),
        rules: rules.collect(),
    }
}

#[async_trait]
impl Policies for Api {
    async fn get_policy(&self, request: Request<v1::GetPolicyRequest>) -> Answer<v1::Policy> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let policy = self.app.get_policy(&caller, &name).await?;
            Ok(message(policy))
        })
        .await
    }

    async fn set_policy(&self, request: Request<v1::SetPolicyRequest>) -> Answer<v1::Policy> {
        self.call(request, |caller, request| async move {
            let name = convert::environment_name(request.environment.as_ref())?;
            let default = verdict("default", request.default())?;
            let rules = request.rules.iter().map(rule).collect::<Result<_, _>>()?;
            let set = self.app.set_policy(&caller, &name, request.version, default, rules).await;
            Ok(message(set?))
        })
        .await
    }
}
