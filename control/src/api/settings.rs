//! Settings of environments, and what requests and answers say of them.

use weft_audit::{Fact, Facts, Name, Word};
use weft_control_api::v1::{self, OtherNamesRule};
use weft_model::{
    record::OtherNames,
    settings::{Change, NAME_SERVERS_MAX, SettingsError, name_server},
};

use crate::error::AppError;

/// How the audit calls servers that other names are forwarded to.
const NAME_SERVERS: [&str; NAME_SERVERS_MAX] =
    ["name-server-1", "name-server-2", "name-server-3", "name-server-4"];

/// What is to be changed.
pub(super) fn change(request: &v1::UpdateEnvironmentRequest) -> Result<Change, AppError> {
    let change = Change {
        leaf_seconds: Some(request.leaf_seconds).filter(|seconds| *seconds > 0),
        other_names: request.other_names.as_ref().map(other_names).transpose()?,
    };
    if change.is_empty() {
        let problem = "is missing; expected leaf_seconds, other_names or both";
        return Err(AppError::invalid("leaf_seconds", problem));
    }
    Ok(change)
}

fn other_names(asked: &v1::OtherNames) -> Result<OtherNames, AppError> {
    let servers = &asked.name_servers;
    let other = match asked.rule() {
        OtherNamesRule::Unspecified => {
            let problem = "is missing; expected refuse, absent or forward";
            return Err(AppError::invalid("other_names.rule", problem));
        }
        OtherNamesRule::Refuse => OtherNames::Refuse,
        OtherNamesRule::Absent => OtherNames::Absent,
        OtherNamesRule::Forward if servers.len() > NAME_SERVERS_MAX => {
            return Err(SettingsError::NameServers(servers.len()).into());
        }
        OtherNamesRule::Forward => {
            let servers = servers.iter().map(|server| name_server(server));
            return Ok(OtherNames::Forward(servers.collect::<Result<_, _>>()?));
        }
    };
    if servers.is_empty() { Ok(other) } else { Err(SettingsError::Unasked.into()) }
}

/// What is said of other names, as it is sent.
pub(super) fn other_names_message(other: &OtherNames) -> v1::OtherNames {
    let (rule, servers) = match other {
        OtherNames::Refuse => (OtherNamesRule::Refuse, &[][..]),
        OtherNames::Absent => (OtherNamesRule::Absent, &[][..]),
        OtherNames::Forward(servers) => (OtherNamesRule::Forward, &servers[..]),
    };
    let name_servers = servers.iter().map(ToString::to_string).collect();
    v1::OtherNames { rule: rule.into(), name_servers }
}

/// What the audit has of a change: also of one that is refused.
pub(super) fn facts(asked: &v1::UpdateEnvironmentRequest) -> Facts {
    let mut facts = Facts::none();
    if asked.leaf_seconds > 0 {
        facts = facts.with(Word::new("leaf-seconds"), Fact::Number(asked.leaf_seconds.into()));
    }
    let Some(other) = &asked.other_names else { return facts };
    let rule = other.rule().as_str_name().rsplit('_').next().unwrap_or_default();
    facts = facts.with(Word::new("other-names"), Fact::Name(Name::asked(&rule.to_lowercase())));
    for (about, server) in NAME_SERVERS.into_iter().zip(&other.name_servers) {
        // A name has no brackets.
        let server = name_server(server).map(|server| format!("{}@{}", server.ip(), server.port()));
        let name = Name::asked(&server.unwrap_or_default());
        facts = facts.with(Word::new(about), Fact::Name(name));
    }
    facts
}
