//! Settings of an environment that may change.

use anyhow::{Result, bail};
use clap::Args;
use weft_control_api::v1::{self, environments_client::EnvironmentsClient};

use super::{Connection, One, Shown, answer, name, whole};

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(super) one: One,
    /// How long certificates of its hosts are valid, from the next renewal of each on, seconds: 3,600 to 604,800
    #[arg(long)]
    leaf_seconds: Option<u32>,
}

pub(super) async fn update(connection: &Connection, update: Update) -> Result<Shown> {
    let Update { one, leaf_seconds } = update;
    let Some(leaf_seconds) = leaf_seconds else {
        bail!("nothing was done: say --leaf-seconds");
    };
    let request = v1::UpdateEnvironmentRequest { environment: name(one.environment), leaf_seconds };
    let mut environments = EnvironmentsClient::new(connection.channel());
    let changed = answer(environments.update_environment(connection.request(request)).await)?;
    Ok(Shown::Done(format!("environment {} has other settings now", changed.name), whole(changed)))
}
