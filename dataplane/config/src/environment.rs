//! Section `[[environment]]`.

use std::str::FromStr;

use weft_types::{EnvironmentId, HostId};

use crate::{
    context::Context,
    credentials,
    document::Table,
    host::path,
    limits::{ATTACHMENTS_PER_ENVIRONMENT_MAX, PEERS_PER_ENVIRONMENT_MAX},
    member,
    model::{CredentialFiles, Environment},
    names,
    problem::Report,
    space::{self, Space},
};

/// Reads one environment; `None` when anything in it is wrong.
pub(crate) fn read(
    mut table: Table<'_>,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Option<Environment> {
    let id = table.text("id", "the environment's id", report, EnvironmentId::from_str);
    if let Some(id) = &id
        && let Some(first) = context.ids.insert(id.value.clone(), id.field.clone())
    {
        report.about(
            id,
            format_args!("{} is already {first}; expected each environment once", id.value),
        );
    }
    let subnets = space::subnets(&mut table, report);
    let share = member::share(&mut table, report);
    let base = context.base;
    let mut file = |name, report: &mut Report| {
        table.text(name, "the path of a PEM file", report, |s| path(s, base))
    };
    let (ca, cert, key) = (file("ca", report), file("cert", report), file("key", report));
    let own_host: Option<&HostId> = context.host.host.as_ref().map(|at| &at.value);
    let own_id = id.as_ref().map(|at| &at.value);
    let keys = credentials::load(context.files, own_id, own_host, [&ca, &cert, &key], report);

    let names = names::read(&mut table, subnets.as_deref(), report);
    let mut space = Space::new(subnets.clone());
    let attachments: Vec<_> = table
        .tables("attachment", ATTACHMENTS_PER_ENVIRONMENT_MAX, report)
        .into_iter()
        .map(|t| member::attachment(t, context, &mut space, report))
        .collect();
    let peers: Vec<_> = table
        .tables("peer", PEERS_PER_ENVIRONMENT_MAX, report)
        .into_iter()
        .map(|t| member::peer(t, context, &mut space, report))
        .collect();
    member::check_unique_names(&attachments, report);
    member::check_unique_hosts(&peers, report);
    table.finish(report);

    let (anchor, credentials) = keys?;
    Some(Environment {
        id: id?.value,
        subnets: subnets?,
        share,
        files: Some(CredentialFiles { ca: ca?.value, cert: cert?.value, key: key?.value }),
        anchor,
        credentials,
        names,
        attachments: attachments
            .into_iter()
            .map(member::Attachment::finish)
            .collect::<Option<_>>()?,
        peers: peers.into_iter().map(member::Peer::finish).collect::<Option<_>>()?,
    })
}
