//! Settings of an environment that may change.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use weft_control_api::v1::{self, OtherNamesRule, environments_client::EnvironmentsClient};

use super::{Connection, One, Shown, answer, name, whole};

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(super) one: One,
    /// How long certificates of its hosts are valid, from the next renewal of each on, seconds: 3,600 to 604,800
    #[arg(long)]
    leaf_seconds: Option<u32>,
    /// What containers are told of names that are not the environment's own
    #[arg(long)]
    other_names: Option<OtherNames>,
    /// A server that other names are forwarded to, ADDRESS, ADDRESS:PORT or [IPv6]:PORT; up to 4
    #[arg(long = "name-server", value_name = "SERVER", requires = "other_names")]
    name_servers: Vec<String>,
}

/// What is said of names that are not an environment's own.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OtherNames {
    /// That they are not answered there
    Refuse,
    /// That they do not exist
    Absent,
    /// What a server outside says; operators say which
    Forward,
}

impl OtherNames {
    fn message(self, name_servers: Vec<String>) -> v1::OtherNames {
        let rule = match self {
            Self::Refuse => OtherNamesRule::Refuse,
            Self::Absent => OtherNamesRule::Absent,
            Self::Forward => OtherNamesRule::Forward,
        };
        v1::OtherNames { rule: rule.into(), name_servers }
    }
}

pub(super) async fn update(connection: &Connection, update: Update) -> Result<Shown> {
    let Update { one, leaf_seconds, other_names, name_servers } = update;
    if leaf_seconds.is_none() && other_names.is_none() {
        bail!("nothing was done: say --leaf-seconds, --other-names or both");
    }
    if leaf_seconds == Some(0) {
        bail!("--leaf-seconds 0 is no time; expected 3600 to 604800");
    }
    let request = v1::UpdateEnvironmentRequest {
        environment: name(one.environment),
        leaf_seconds: leaf_seconds.unwrap_or_default(),
        other_names: other_names.map(|other| other.message(name_servers)),
    };
    let mut environments = EnvironmentsClient::new(connection.channel());
    let changed = answer(environments.update_environment(connection.request(request)).await)?;
    Ok(Shown::Done(format!("environment {} has other settings now", changed.name), whole(changed)))
}
