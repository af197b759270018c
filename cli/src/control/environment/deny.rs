//! What goes when a host may have no attachments of an environment any more.

use anyhow::Result;
use weft_control_api::v1::{
    self, attachments_client::AttachmentsClient, environments_client::EnvironmentsClient,
};

use super::name;
use crate::control::{
    call::{Connection, answer},
    show::{Item, Shown},
};

/// Says what would happen, and does nothing.
pub(super) async fn show(
    connection: &Connection,
    environment: String,
    host: &str,
    remove_attachments: bool,
) -> Result<Shown> {
    let is_allowed = is_allowed(connection, &environment, host).await?;
    let rest = resting(connection, &environment, host).await?;
    let listed = rest.join(", ");
    let sentence = match (is_allowed, rest.is_empty()) {
        (false, true) => format!("nothing would change: host {host} may have no attachments there"),
        (true, true) => format!("host {host} would be denied; no attachment rests on it"),
        (_, false) if remove_attachments => {
            format!(
                "host {host} would be denied, and {} attachments would go: {listed}",
                rest.len()
            )
        }
        (_, false) => format!(
            "it would be refused: {} attachments rest on it, which go with --remove-attachments: {listed}",
            rest.len()
        ),
    };
    let item = Item::new().with("allowed", is_allowed).with("attachments", rest);
    Ok(Shown::Done(sentence, item))
}

async fn is_allowed(connection: &Connection, environment: &str, host: &str) -> Result<bool> {
    let mut environments = EnvironmentsClient::new(connection.channel());
    let mut after = String::new();
    loop {
        let (environment, page) =
            (name(environment.to_owned()), v1::PageRequest { size: 0, after });
        let request = v1::ListAllowedHostsRequest { environment, page: Some(page) };
        let listed = answer(environments.list_allowed_hosts(connection.request(request)).await)?;
        if listed.hosts.iter().any(|allowed| allowed == host) {
            return Ok(true);
        }
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(false);
        }
    }
}

/// The attachments on a host that rest on no grant.
async fn resting(connection: &Connection, environment: &str, host: &str) -> Result<Vec<String>> {
    let mut attachments = AttachmentsClient::new(connection.channel());
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let (environment, page) =
            (name(environment.to_owned()), v1::PageRequest { size: 0, after });
        let request = v1::ListAttachmentsRequest { environment, page: Some(page) };
        let listed = answer(attachments.list_attachments(connection.request(request)).await)?;
        let on_host =
            listed.attachments.into_iter().filter(|a| a.host == host && a.grant.is_empty());
        names.extend(on_host.map(|attachment| attachment.name));
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(names);
        }
    }
}
