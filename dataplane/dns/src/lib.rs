//! What an environment's gateway address answers inside the overlay: names of its services on port 53, pings,
//! and refusals for everything else. Sans-IO: packets and the time come in, packets go out.
//!
//! ```text
//!  IP packet ─▶ Gateway ─┬─ UDP 53 ───────────────────────▶ Server ─┬─ Zone: names of this environment
//!                        ├─ TCP 53 ─▶ a TCP of its own ───▶         └─ others: refused, absent, or forwarded
//!                        ├─ ICMP echo ─▶ answered                         │ poll_forward / handle_forward_answer
//!                        └─ else ─▶ port unreachable, RST                 ▼
//!                                                                   sockets of the shell
//! ```
//!
//! One [`Gateway`] belongs to one environment, and nothing but code is shared between two of them: no cache, no
//! counter, no table. So neither an answer nor the time that it takes can depend on another environment's names:
//! they are not in any memory that a lookup reads. Within one, an absent name and a name that only another
//! environment has are the same thing and take the same path.
//!
//! [`Zone`] is an immutable snapshot; a new one is swapped in whole. `docs/dns.md` is the page for users.

mod answer;
mod forward;
mod gateway;
mod label;
mod limits;
mod message;
mod place;
mod rate;
mod server;
mod zone;

pub use self::{
    forward::{ForwardAnswerError, ForwardQuery, ForwardToken},
    gateway::{DropReason, Gateway, PACKET_LEN_MAX},
    label::{LabelError, check_label, check_port_name, check_word},
    limits::{
        ADDRESS_TTL_SECONDS, ADDRESSES_ANSWERED_MAX, ADDRESSES_PER_SLOT_MAX, ALIASES_MAX,
        APEX_TTL_SECONDS, CONNECTION_IDLE_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX,
        FORWARD_TIMEOUT, FORWARDS_MAX, FORWARDS_PER_SOURCE_MAX, NEGATIVE_TTL_SECONDS,
        PACKETS_QUEUED_MAX, PORTS_PER_SERVICE_MAX, QUERY_LEN_MAX, ROLES_PER_SLOT_MAX, SERVICES_MAX,
        SLOTS_MAX, SRV_ANSWERED_MAX, TCP_ANSWER_LEN_MAX, UDP_ANSWER_LEN_MAX, UPSTREAMS_MAX,
    },
    message::Transport,
    rate::{Limits, Rate},
    server::{Asker, Handled, Outside, Server, SettingsError},
    zone::{
        AliasRecord, Health, PortRecord, Protocol, ServiceRecord, SlotRecord, Zone, ZoneError,
        ZoneRecords,
    },
};
