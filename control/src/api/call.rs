//! What every call goes through: who calls is found out, what is asked is handed on, what came of it is recorded.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataValue};
use tracing::{Instrument, info_span};
use weft_audit::{Event, Fact, Facts, Name, Object, Origin, Outcome, RequestId, Word};
use weft_control_api::SEEN_HEADER;
use weft_model::access::Actor;

use super::{Api, Peer, object::On, shown_key, status::status};
use crate::{
    app::{Caller, EnvironmentReference, Sight},
    audit::{self, MADE, Manner, Standing, who},
    error::AppError,
};

/// In the header of each answer: the call, as audit and logs name it.
const REQUEST_HEADER: &str = "weft-request-id";

/// What a call gives back.
pub(super) type Answer<T> = Result<Response<T>, Status>;

/// What is asked for by a message: which call it is, and on what, as the audit has it.
pub(super) trait Asked: Send + 'static {
    /// The answer.
    type Answer;
    /// `SERVICE.CALL`, in small letters.
    const NAME: Word;
    /// How it is recorded.
    const MANNER: Manner;

    /// On what.
    fn object(&self, on: &On<'_>) -> Object;

    /// The id of what was made, where the message could not name it.
    fn made(_: &Self::Answer) -> Option<&str> {
        None
    }

    /// What else it says that is worth keeping.
    fn asks(&self) -> Facts {
        Facts::none()
    }

    /// What else the answer says.
    fn tells(_: &Self::Answer) -> Facts {
        Facts::none()
    }
}

/// What is known of a call that was done.
fn answered<Q: Asked>(answer: &Q::Answer) -> Facts {
    let made = Q::made(answer).map(|made| Fact::Name(Name::asked(made)));
    made.into_iter().fold(Q::tells(answer), |facts, made| facts.with(MADE, made))
}

impl Api {
    /// Decides, with who calls and what is asked. Nobody gets so far who has not shown who it is, but with what admits
    /// people and hosts; and nothing is done or told that cannot be recorded.
    pub(super) async fn call<Q, F>(
        &self,
        request: Request<Q>,
        decide: impl FnOnce(Caller, Q) -> F + Send,
    ) -> Answer<Q::Answer>
    where
        Q: Asked,
        F: Future<Output = Result<Q::Answer, AppError>> + Send,
    {
        let (id, sight) = (RequestId::random(), Q::MANNER.sight());
        let span = info_span!("call", name = %Q::NAME, request = %id);
        let answer = self.recorded(id, request, sight.clone(), decide).instrument(span).await;
        let id = MetadataValue::try_from(id.to_string()).ok();
        match answer {
            Ok(answer) => {
                let mut response = Response::new(answer);
                id.and_then(|id| response.metadata_mut().insert(REQUEST_HEADER, id));
                if let Some(age) = sight.age() {
                    response.metadata_mut().insert(SEEN_HEADER, age.as_secs().into());
                }
                Ok(response)
            }
            Err(error) => {
                let mut status = status(error);
                id.and_then(|id| status.metadata_mut().insert(REQUEST_HEADER, id));
                Err(status)
            }
        }
    }

    async fn recorded<Q, F>(
        &self,
        id: RequestId,
        request: Request<Q>,
        sight: Sight,
        decide: impl FnOnce(Caller, Q) -> F + Send,
    ) -> Result<Q::Answer, AppError>
    where
        Q: Asked,
        F: Future<Output = Result<Q::Answer, AppError>> + Send,
    {
        let is_admission = Q::MANNER == Manner::Admission;
        let known = match self.actor(&request, &sight).await {
            Ok(Actor::Nobody) if !is_admission => Err(AppError::Unauthenticated),
            Err(AppError::Unauthenticated) if is_admission => Ok(Actor::Nobody),
            known => known,
        };
        let (from, key_hash) = (origin(&request), shown_key(&request));
        let asked = request.into_inner();
        let actor = known.as_ref().unwrap_or(&Actor::Nobody);
        let event = Event {
            who: who(actor),
            from,
            action: Q::NAME,
            object: asked.object(&On { app: &self.app, actor }),
            outcome: Outcome::Begun,
            request: id,
            facts: asked.asks(),
        };
        let standing = self.standing(actor, &event.object);
        let call = Arc::new(self.app.recorder().call(Q::MANNER, event, standing));
        let decided = async {
            let caller = Caller { actor: known?, key_hash, call: Arc::clone(&call), sight };
            match Q::MANNER {
                Manner::Change => caller.call.begin().await?,
                Manner::Sensitive => caller.call.hear()?,
                Manner::Admission | Manner::Plain | Manner::Seen => {}
            }
            decide(caller, asked).await
        };
        let decided = decided.await;
        let ended = call.end(decided.as_ref().map(answered::<Q>)).await;
        // A refusal is one, recorded or not.
        decided.and_then(|answer| ended.map(|()| answer))
    }

    /// What a caller is where it does something: of a person the organisation counts that it is about, of a token always
    /// the one that it is of. Nobody does anything on another organisation's account.
    fn standing(&self, actor: &Actor, object: &Object) -> Standing {
        match actor {
            Actor::User { organisations, operator, .. } => {
                let mut own = organisations.keys();
                let own = own.find(|own| object.is_within(&audit::organisation(own))).cloned();
                Standing { is_operator: *operator, own }
            }
            Actor::Token { environment, .. } => {
                let environment = environment.as_str().parse::<EnvironmentReference>().ok();
                let found = environment.and_then(|environment| self.app.locate(&environment));
                Standing { is_operator: false, own: found.map(|(organisation, _)| organisation) }
            }
            Actor::Nobody | Actor::Host(_) | Actor::Component(_) => Standing::default(),
        }
    }
}

/// From where.
fn origin<T>(request: &Request<T>) -> Origin {
    let peer = request.extensions().get::<Peer>();
    peer.map_or(Origin::Local, |peer| Origin::Address(peer.address))
}
