//! An environment's services for whoever watches them, in parts that are made one by one.
//!
//! ```text
//!   ServiceCursor { told, turn }
//!        │ a turn begins: at this revision                    a .. f │ g .. m │ n .. z   in the order of names,
//!        ▼                                                      part    part    part     each as it is when it is made
//!   next_services ── everything, or what changed since `told` ──▶ …  the last one: told = when the turn began
//! ```
//!
//! Nothing is kept for a reader but how far it has come, and a part is of bounded size, however much has changed. What
//! changes while a turn lasts may be behind it already: the next turn tells everything since this one began.

use weft_store::Revision;
use weft_types::EnvironmentId;

use super::{DocumentId, Projection, ServiceDocument};
use crate::id::ServiceName;

/// How far somebody who watches an environment's services has come.
#[derive(Debug, Clone, Default)]
pub struct ServiceCursor {
    /// Everything up to here was told.
    told: Revision,
    /// What is being told.
    turn: Option<Turn>,
}

/// Once through the names.
#[derive(Debug, Clone)]
struct Turn {
    /// Everything is told, not only what changed.
    is_snapshot: bool,
    began: Revision,
    /// The last name of the part before.
    last: Option<ServiceName>,
}

impl ServiceCursor {
    /// Of somebody who has what was told up to `told`; 0 for nothing.
    #[must_use]
    pub fn after(told: Revision) -> Self {
        Self { told, turn: None }
    }

    /// There is another part of what is being told.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        self.turn.is_some()
    }
}

/// A part of what is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePart<T> {
    /// What the reader has after the last part: each service as it was then, or later.
    pub revision: Revision,
    /// What the reader had before is void. The first part of everything says so.
    pub is_snapshot: bool,
    /// Services as they are now.
    pub services: Vec<T>,
    /// Services that are no more.
    pub removed: Vec<ServiceName>,
    /// Another part follows.
    pub more: bool,
}

impl<T> ServicePart<T> {
    /// Something is new.
    #[must_use]
    pub fn says_something(&self) -> bool {
        self.is_snapshot || !self.services.is_empty() || !self.removed.is_empty()
    }

    /// Takes of both, in the order of their names, what there is room for; returns the last name.
    fn fill<'a>(
        &mut self,
        puts: impl Iterator<Item = &'a ServiceDocument>,
        gone: Vec<ServiceName>,
        len_max: usize,
        convert: impl Fn(&ServiceDocument) -> (T, usize),
    ) -> Option<ServiceName> {
        let (mut puts, mut gone) = (puts.peekable(), gone.into_iter().peekable());
        let (mut last, mut len) = (None, 0);
        loop {
            let is_next = |put: &&ServiceDocument| gone.peek().is_none_or(|name| put.name < *name);
            let put = puts.peek().copied().filter(is_next);
            let (name, service, next_len) = match (put, gone.peek()) {
                (Some(put), _) => {
                    let (service, len) = convert(put);
                    (&put.name, Some(service), len)
                }
                (None, Some(name)) => (name, None, name.as_str().len()),
                (None, None) => return last,
            };
            if last.is_some() && len + next_len > len_max {
                self.more = true;
                return last;
            }
            len += next_len;
            last = Some(name.clone());
            match service {
                Some(service) => {
                    puts.next();
                    self.services.push(service);
                }
                None => self.removed.extend(gone.next()),
            }
        }
    }
}

impl Projection {
    /// Everything that is known of an environment's services, by name, whoever asks: also where no host is a member.
    pub fn services(&self, environment: &EnvironmentId) -> impl Iterator<Item = &ServiceDocument> {
        let tenancy = self.environments.get(environment);
        tenancy.into_iter().flat_map(|tenancy| tenancy.services(Revision(0), None))
    }

    /// The next part for a reader; an empty one when nothing is new. `convert` makes of a service what is told, and says
    /// how many bytes that has: of these there are at most `len_max` in a part, or one service.
    pub fn next_services<T>(
        &self,
        environment: &EnvironmentId,
        cursor: &mut ServiceCursor,
        len_max: usize,
        convert: impl Fn(&ServiceDocument) -> (T, usize),
    ) -> ServicePart<T> {
        let going = cursor.turn.take().filter(|turn| self.goes_on(turn, cursor.told));
        let is_first = going.is_none();
        let mut turn = going.unwrap_or_else(|| self.begin(cursor.told));
        let mut part = ServicePart {
            revision: turn.began,
            is_snapshot: is_first && turn.is_snapshot,
            services: Vec::new(),
            removed: Vec::new(),
            more: false,
        };
        let after = if turn.is_snapshot { Revision(0) } else { cursor.told };
        let puts = self.puts(environment, after, turn.last.as_ref());
        let gone = self.names_gone(environment, &turn, after);
        turn.last = part.fill(puts, gone, len_max, convert);
        if part.more {
            cursor.turn = Some(turn);
        } else {
            cursor.told = turn.began;
        }
        part
    }

    fn begin(&self, told: Revision) -> Turn {
        // A revision of the future is of another store, or of one that was restored.
        let is_known = told > Revision(0) && told <= self.revision && told >= self.gone.oldest();
        Turn { is_snapshot: !is_known, began: self.revision, last: None }
    }

    /// What is gone may be forgotten while somebody is told of it.
    fn goes_on(&self, turn: &Turn, told: Revision) -> bool {
        turn.began <= self.revision && (turn.is_snapshot || told >= self.gone.oldest())
    }

    fn puts(
        &self,
        environment: &EnvironmentId,
        after: Revision,
        last: Option<&ServiceName>,
    ) -> impl Iterator<Item = &ServiceDocument> {
        let tenancy = self.environments.get(environment);
        tenancy.into_iter().flat_map(move |tenancy| tenancy.services(after, last))
    }

    /// What is gone, by name. Who is told everything had nothing before.
    fn names_gone(
        &self,
        environment: &EnvironmentId,
        turn: &Turn,
        after: Revision,
    ) -> Vec<ServiceName> {
        if turn.is_snapshot {
            return Vec::new();
        }
        let tenancy = self.environments.get(environment);
        let is_back = |id: &DocumentId| tenancy.is_some_and(|tenancy| tenancy.has(id));
        let gone = self.gone.within(environment, after).filter(|id| !is_back(id));
        let names = gone.filter_map(|id| match id {
            DocumentId::Service(_, name) => Some(name),
            _ => None,
        });
        names.filter(|name| turn.last.as_ref().is_none_or(|last| name > last)).collect()
    }
}
