//! `weft net attach`, `detach` and `peer`.

use std::{
    io::{ErrorKind, Write},
    net::IpAddr,
    path::{self, Path},
};

use anyhow::{Context, Result};
use weft_api::v1::{AddPeerRequest, AttachRequest, DetachRequest, RemovePeerRequest, Share};
use weft_helper::ClientError;

use super::{
    arguments::{
        AttachArguments, DetachArguments, PeerAddArguments, PeerCommand, PeerRemoveArguments,
    },
    call::{CHANGE_TIMEOUT, answer, connect},
};

/// Makes an attachment.
pub(crate) async fn attach(arguments: &AttachArguments, out: &mut impl Write) -> Result<()> {
    let v4 = arguments.address.map(IpAddr::V4);
    let v6 = arguments.address6.map(IpAddr::V6);
    let request = AttachRequest {
        environment: arguments.env.to_string(),
        name: arguments.name.to_string(),
        netns: absolute(&arguments.netns)?,
        interface: arguments.interface.clone().unwrap_or_default(),
        addresses: v4.into_iter().chain(v6).map(|a| a.to_string()).collect(),
        share: Some(Share {
            weight: arguments.weight,
            egress_mbit_max: arguments.egress_mbit_max.unwrap_or_default(),
        }),
    };
    register(arguments, &request.netns)?;
    let mut client = connect(&arguments.socket.socket).await?;
    let made = answer(CHANGE_TIMEOUT, client.attach(request)).await?.created;
    let (name, environment) = (&arguments.name, &arguments.env);
    if made {
        writeln!(out, "attached {name} to {environment}")?;
    } else {
        writeln!(out, "{name} was attached to {environment} already")?;
    }
    Ok(())
}

/// The daemon itself may not choose namespaces: its helper hears from us which one is meant.
fn register(arguments: &AttachArguments, netns: &str) -> Result<()> {
    let name = weft_helper::Name {
        environment: arguments.env.clone(),
        attachment: arguments.name.clone(),
    };
    let helper = weft_helper::socket_beside(&arguments.socket.socket);
    match weft_helper::register(&helper, name, Path::new(netns)) {
        // There is none: the daemon says better what is missing.
        Err(ClientError::Io(error))
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            Ok(())
        }
        result => Ok(result?),
    }
}

/// Removes an attachment.
pub(crate) async fn detach(arguments: &DetachArguments, out: &mut impl Write) -> Result<()> {
    let request =
        DetachRequest { environment: arguments.env.to_string(), name: arguments.name.to_string() };
    let mut client = connect(&arguments.socket.socket).await?;
    answer(CHANGE_TIMEOUT, client.detach(request)).await?;
    writeln!(out, "detached {} from {}", arguments.name, arguments.env)?;
    Ok(())
}

/// Adds or removes a peer.
pub(crate) async fn peer(command: &PeerCommand, out: &mut impl Write) -> Result<()> {
    match command {
        PeerCommand::Add(arguments) => add_peer(arguments, out).await,
        PeerCommand::Remove(arguments) => remove_peer(arguments, out).await,
    }
}

async fn add_peer(arguments: &PeerAddArguments, out: &mut impl Write) -> Result<()> {
    let request = AddPeerRequest {
        environment: arguments.env.to_string(),
        host: arguments.host.to_string(),
        endpoint: arguments.endpoint.to_string(),
        alternative_endpoints: arguments.alternatives.iter().map(ToString::to_string).collect(),
        addresses: arguments.addresses.iter().map(ToString::to_string).collect(),
        keepalive_seconds: arguments.keepalive_seconds.unwrap_or_default(),
    };
    let mut client = connect(&arguments.socket.socket).await?;
    let made = answer(CHANGE_TIMEOUT, client.add_peer(request)).await?.created;
    let (host, environment) = (&arguments.host, &arguments.env);
    if made {
        writeln!(out, "added peer {host} to {environment}")?;
    } else {
        writeln!(out, "peer {host} of {environment} was there and is as asked now")?;
    }
    Ok(())
}

async fn remove_peer(arguments: &PeerRemoveArguments, out: &mut impl Write) -> Result<()> {
    let request = RemovePeerRequest {
        environment: arguments.env.to_string(),
        host: arguments.host.to_string(),
    };
    let mut client = connect(&arguments.socket.socket).await?;
    answer(CHANGE_TIMEOUT, client.remove_peer(request)).await?;
    writeln!(out, "removed peer {} from {}", arguments.host, arguments.env)?;
    Ok(())
}

/// The path as the daemon, which runs in another folder, finds it.
fn absolute(path: &Path) -> Result<String> {
    let path = path::absolute(path).context("--netns: expected the path of a network namespace")?;
    let text = path.into_os_string().into_string();
    text.ok().context("--netns: expected a path in UTF-8")
}
