//! Attachments and slots.

use anyhow::Result;
use clap::{Args, Subcommand};
use weft_control_api::v1::{self, attachments_client::AttachmentsClient};

use super::{
    Output,
    call::{Connection, answer},
    environment::name,
    session::word,
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum AttachmentCommand {
    /// Make an attachment on a host
    Create(Create),
    /// List the attachments of an environment
    List(Of),
    /// Move an attachment to another host, with its addresses
    Move {
        #[command(flatten)]
        one: One,
        /// The host that it is to run on
        #[arg(long)]
        host: String,
    },
    /// Show one attachment, and what its host says of it
    Show(One),
    /// End an attachment
    Release {
        #[command(flatten)]
        one: One,
        /// Only this one of those that had the name
        #[arg(long, default_value_t = 0)]
        generation: u64,
        /// Only show what would end
        #[arg(long)]
        dry_run: bool,
    },
    /// List the slots of an environment that have addresses
    Slots(Of),
    /// Give addresses to a slot before anything fills it
    Reserve(OfSlot),
    /// Take a reservation back
    Unreserve(OfSlot),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    one: One,
    /// Where it runs
    #[arg(long)]
    host: String,
    /// The service that it is of; its own name without
    #[arg(long)]
    service: Option<String>,
    /// The slot of the service that it fills
    #[arg(long, default_value = "0")]
    slot: String,
    /// An address that it must have
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    /// The attachment's name, a DNS label
    name: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct OfSlot {
    /// The environment: its id, or ORGANISATION/NAME
    environment: String,
    /// The service
    service: String,
    /// The slot
    #[arg(default_value = "0")]
    slot: String,
    /// An address that it must have
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<String>,
    #[command(flatten)]
    output: Output,
}

impl AttachmentCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Create(Create { one: One { output, .. }, .. })
            | Self::List(Of { output, .. })
            | Self::Move { one: One { output, .. }, .. }
            | Self::Show(One { output, .. })
            | Self::Release { one: One { output, .. }, .. }
            | Self::Slots(Of { output, .. })
            | Self::Reserve(OfSlot { output, .. })
            | Self::Unreserve(OfSlot { output, .. }) => *output,
        }
    }
}

fn item(attachment: v1::Attachment) -> Item {
    let health = health(&attachment);
    let slot = attachment.slot.unwrap_or_default();
    Item::new()
        .with("name", attachment.name)
        .with("service", slot.service)
        .with("slot", slot.slot)
        .with("addresses", attachment.addresses)
        .with("host", attachment.host)
        .with("generation", attachment.generation)
        .with_some("health", health)
        .with_some("grant", attachment.grant)
}

/// How an attachment's interface is; empty when nobody has said so.
pub(super) fn interface(attachment: &v1::Attachment) -> String {
    match attachment.interface() {
        v1::InterfaceState::Unspecified => String::new(),
        interface => word(interface.as_str_name(), "INTERFACE_STATE_"),
    }
}

/// How it is for others; empty when nothing is known.
pub(super) fn health(attachment: &v1::Attachment) -> String {
    match attachment.health() {
        v1::HealthState::Unspecified => String::new(),
        health => word(health.as_str_name(), "HEALTH_STATE_"),
    }
}

/// With what its host says of it, for whoever looks at one.
fn whole(attachment: v1::Attachment) -> Item {
    let interface = interface(&attachment);
    let (error, reported_ms) = (attachment.error.clone(), attachment.reported_ms);
    item(attachment)
        .with_some("interface", interface)
        .with_some("error", error)
        .with_some("reported_ms", reported_ms)
}

fn placed(attachment: v1::Attachment) -> Shown {
    let (name, host) = (&attachment.name, &attachment.host);
    let sentence = format!("{name} is on {host} with {}", attachment.addresses.join(", "));
    Shown::Done(sentence, whole(attachment))
}

fn slot_item(slot: v1::Slot) -> Item {
    let name = slot.name.unwrap_or_default();
    Item::new()
        .with("service", name.service)
        .with("slot", name.slot)
        .with("addresses", slot.addresses)
        .with_some("attachment", slot.attachment)
        .with("reserved", slot.reserved)
}

pub(super) async fn run(connection: Connection, command: AttachmentCommand) -> Result<Shown> {
    let mut attachments = AttachmentsClient::new(connection.channel());
    match command {
        AttachmentCommand::Create(create) => {
            let One { environment, name: attachment, .. } = create.one;
            let service = create.service.unwrap_or_else(|| attachment.clone());
            let request = v1::CreateAttachmentRequest {
                environment: name(environment),
                name: attachment,
                slot: Some(v1::SlotName { service, slot: create.slot }),
                host: create.host,
                grant: String::new(),
                addresses: create.addresses,
                share: None,
            };
            answer(attachments.create_attachment(connection.request(request)).await).map(placed)
        }
        AttachmentCommand::List(of) => {
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let environment = name(of.environment.clone());
                let request = v1::ListAttachmentsRequest { environment, page };
                let listed =
                    answer(attachments.list_attachments(connection.request(request)).await)?;
                items.extend(listed.attachments.into_iter().map(item));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no attachments" });
                }
            }
        }
        AttachmentCommand::Move { one, host } => {
            let request = v1::MoveAttachmentRequest {
                environment: name(one.environment),
                name: one.name,
                host,
                grant: String::new(),
            };
            answer(attachments.move_attachment(connection.request(request)).await).map(placed)
        }
        AttachmentCommand::Show(one) => {
            let get =
                v1::GetAttachmentRequest { environment: name(one.environment), name: one.name };
            let found = answer(attachments.get_attachment(connection.request(get)).await)?;
            Ok(Shown::One(whole(found)))
        }
        AttachmentCommand::Release { one, dry_run: true, .. } => {
            let get =
                v1::GetAttachmentRequest { environment: name(one.environment), name: one.name };
            let found = answer(attachments.get_attachment(connection.request(get)).await)?;
            let sentence = format!(
                "{} on {} would end, and its addresses {} be free in ten minutes unless its slot is reserved",
                found.name,
                found.host,
                found.addresses.join(", ")
            );
            Ok(Shown::Done(sentence, item(found)))
        }
        AttachmentCommand::Release { one, generation, .. } => {
            let sentence = format!("{} is released", one.name);
            let request = v1::ReleaseAttachmentRequest {
                environment: name(one.environment),
                name: one.name,
                generation,
            };
            answer(attachments.release_attachment(connection.request(request)).await)?;
            Ok(Shown::Done(sentence, Item::new()))
        }
        AttachmentCommand::Slots(of) => {
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = Some(v1::PageRequest { size: 0, after });
                let environment = name(of.environment.clone());
                let request = v1::ListSlotsRequest { environment, page };
                let listed = answer(attachments.list_slots(connection.request(request)).await)?;
                items.extend(listed.slots.into_iter().map(slot_item));
                after = listed.page.unwrap_or_default().next;
                if after.is_empty() {
                    return Ok(Shown::Many { items, empty: "no slots" });
                }
            }
        }
        AttachmentCommand::Reserve(of) => {
            let request = v1::ReserveSlotRequest {
                environment: name(of.environment),
                slot: Some(v1::SlotName { service: of.service, slot: of.slot }),
                addresses: of.addresses,
            };
            let reserved = answer(attachments.reserve_slot(connection.request(request)).await)?;
            let sentence = format!("reserved: {}", reserved.addresses.join(", "));
            Ok(Shown::Done(sentence, slot_item(reserved)))
        }
        AttachmentCommand::Unreserve(of) => {
            let request = v1::UnreserveSlotRequest {
                environment: name(of.environment),
                slot: Some(v1::SlotName { service: of.service, slot: of.slot }),
            };
            answer(attachments.unreserve_slot(connection.request(request)).await)?;
            Ok(Shown::Done("the reservation is taken back".to_owned(), Item::new()))
        }
    }
}
