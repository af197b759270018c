//! Who reads what of the audit.

use std::{collections::BTreeSet, convert::Infallible, future::pending};

use data_encoding::BASE64URL_NOPAD;
use weft_audit::{Actor as Who, Cursor, Found, Name, Object, ProcessId, Query};
use weft_keys::{Owner, Purpose};
use weft_model::{
    Decoded, OrganisationId, RecordError,
    access::{self, Action},
    record::{Environment, Membership, Token},
};

use super::{App, AppError, Caller, EnvironmentReference};
use crate::audit::{self, Checked, Party, Reader, Shipping};

/// Of what records are asked for.
#[derive(Debug, Clone)]
pub enum AuditScope {
    /// Everything.
    Installation,
    /// An organisation, by name or id.
    Organisation(String),
    /// An environment.
    Environment(EnvironmentReference),
}

/// A record, as somebody sees it.
#[derive(Debug)]
pub struct Seen {
    /// The record.
    pub found: Found,
    /// Whether the reader may see from where it was done.
    pub tells_source: bool,
}

/// A part of the records.
#[derive(Debug)]
pub struct AuditPage {
    /// The earliest first.
    pub found: Vec<Seen>,
    /// For the next part; `None` after the last.
    pub next: Option<String>,
    /// Whether the logs of some processes were not read.
    pub is_partial: bool,
    /// Of which it is known that they were not.
    pub missing: Vec<ProcessId>,
    /// Whether the reader may see what says something of others: places in logs, addresses of the platform.
    pub reads_all: bool,
}

impl App {
    /// Records that the caller may see, of `scope`; the object that is asked for is a part of it.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn audit_records(
        &self,
        caller: &Caller,
        scope: &AuditScope,
        asked: Query,
        after: Option<&str>,
        len_max: usize,
    ) -> Result<AuditPage, AppError> {
        let reads_all = caller.may(Action::ReadAllAudit, access::Object::Installation).is_ok();
        let audited = self.audited(caller, scope, reads_all).await?;
        let (of, whole) = audited.unzip();
        let within = match (&whole, asked.object) {
            (Some(whole), Some(part)) => Some(
                format!("{whole}/{part}")
                    .parse()
                    .map_err(|problem| AppError::invalid("object", problem))?,
            ),
            (whole, part) => part.or_else(|| whole.clone()),
        };
        // A cursor tells how much others do, and is taken from nobody but who was given it.
        let context = whole.as_ref().map(ToString::to_string).unwrap_or_default();
        let after = match after {
            Some(after) => Some(self.open_cursor(&context, after).await?),
            None => None,
        };
        let of = of.filter(|_| !reads_all);
        let party = of.clone().map_or(Party::Operators, Party::Organisation);
        let asked = Query { object: within, ..asked };
        let part = self.reader.page(&party, asked, after, len_max).await?;
        let (page, is_partial, missing) = (part.page, part.is_partial, part.missing);
        let next = match &page.next {
            Some(next) => Some(self.seal_cursor(&context, next).await?),
            None => None,
        };
        let sources = of.map(|of| self.own_actors(&of, &page.found)).transpose()?;
        let seen = page.found.into_iter().map(|found| {
            let tells_source = sources.as_ref().is_none_or(|own| own.contains(&found.event.who));
            Seen { found, tells_source }
        });
        Ok(AuditPage { found: seen.collect(), next, is_partial, missing, reads_all })
    }

    /// Who of these is of the organisation: its people, and tokens of its environments. Where an operator is, or a
    /// stranger who has tried its names, is not the organisation's to know.
    fn own_actors(
        &self,
        organisation: &OrganisationId,
        found: &[Found],
    ) -> Result<BTreeSet<Who>, AppError> {
        let actors: BTreeSet<&Who> = found.iter().map(|found| &found.event.who).collect();
        let has_tokens = actors.iter().any(|who| matches!(who, Who::Token(_)));
        let own = self.view.read(|state| {
            let mut own = BTreeSet::new();
            for who in actors {
                let Who::User(id) = who else { continue };
                if state.get::<Membership>(&format!("{id}/{organisation}"))?.is_some() {
                    own.insert(who.clone());
                }
            }
            let environments = if has_tokens { usize::MAX } else { 0 };
            let environments: Vec<Decoded<Environment>> =
                state.owned(organisation, None, |_| true, environments)?;
            for environment in environments {
                for token in state.all_of::<Token>(&environment.record.id)? {
                    own.insert(Who::Token(Name::asked(token.record.id.as_str())));
                }
            }
            Ok::<_, RecordError>(own)
        });
        Ok(own?)
    }

    /// Whether all logs are what was written; what is in the blob store, too, if that is asked for.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn verify_audit(
        &self,
        caller: &Caller,
        reads_blobs: bool,
    ) -> Result<Vec<Checked>, AppError> {
        caller.may(Action::ReadAllAudit, access::Object::Installation)?;
        self.reader.verify(reads_blobs).await
    }

    /// Ships the audit of this process to the blob store, as long as it is polled; at rest where there is none.
    pub async fn ship_audit(&self) -> Infallible {
        match &self.shipping {
            Some(shipping) => shipping.run().await,
            None => pending().await,
        }
    }

    /// What ships the audit of this process, where there is a blob store.
    #[must_use]
    pub fn shipping(&self) -> Option<&Shipping> {
        self.shipping.as_deref()
    }

    /// What reads the audit.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whose the scope is and what it is in records, if the caller may read those; `None` for all.
    async fn audited(
        &self,
        caller: &Caller,
        scope: &AuditScope,
        reads_all: bool,
    ) -> Result<Option<(OrganisationId, Object)>, AppError> {
        let or = |own, others| if reads_all { others } else { own };
        match scope {
            AuditScope::Installation => {
                caller.may(Action::ReadAllAudit, access::Object::Installation)?;
                Ok(None)
            }
            AuditScope::Organisation(text) => {
                let action = or(Action::ReadOrganisationAudit, Action::SeeOrganisation);
                let found = self.organisation(caller, action, text).await?;
                let object = audit::organisation(&found.record.id);
                Ok(Some((found.record.id, object)))
            }
            AuditScope::Environment(reference) => {
                let action = or(Action::ReadEnvironmentAudit, Action::SeeEnvironment);
                let found = self.environment(caller, action, reference).await?.record;
                let object = audit::environment(&found.id, &found.organisation);
                Ok(Some((found.organisation, object)))
            }
        }
    }

    async fn seal_cursor(&self, context: &str, cursor: &Cursor) -> Result<String, AppError> {
        let (context, text) = (cursor_context(context), cursor.to_string());
        let sealed =
            self.keyring.seal(&Owner::Installation, Purpose::Audit, &context, text.as_bytes());
        Ok(BASE64URL_NOPAD.encode(&sealed.await.map_err(AppError::internal)?))
    }

    async fn open_cursor(&self, context: &str, text: &str) -> Result<Cursor, AppError> {
        let invalid =
            || AppError::invalid("page.after", "expected what the part before named as `next`");
        let sealed = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| invalid())?;
        let context = cursor_context(context);
        let opened =
            self.keyring.open_sealed(&Owner::Installation, Purpose::Audit, &context, &sealed);
        let opened = opened.await.map_err(|_| invalid())?;
        let text = std::str::from_utf8(&opened).map_err(|_| invalid())?;
        text.parse().map_err(|_| invalid())
    }
}

fn cursor_context(scope: &str) -> [&[u8]; 2] {
    [b"cursor", scope.as_bytes()]
}
