//! Keys, transactions and entries as etcd has them.

use bytes::Bytes;

use super::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    TxnRequest, TxnResponse, WatchCreateRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use crate::{
    entry::{Entry, Revision},
    error::{CommitError, StoreError},
    key::{Key, KeyRange},
    store::LeaseId,
    transaction::{Condition, Transaction, Write},
};

/// No lease has this number; 0 would be none.
const NO_SUCH_LEASE: i64 = -1;

pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

pub(super) fn lease(lease: LeaseId) -> i64 {
    i64::try_from(lease.0).ok().filter(|id| *id != 0).unwrap_or(NO_SUCH_LEASE)
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> Revision {
    from_number(header.map_or(0, |header| header.revision))
}

pub(super) fn from_number(number: i64) -> Revision {
    Revision(number.try_into().unwrap_or(0))
}

/// The names of our keys in etcd.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, StoreError> {
        match Key::new(prefix) {
            Ok(_) => Ok(Self { prefix: prefix.to_owned() }),
            Err(e) => Err(StoreError::Invalid(format!("the prefix in etcd {e}"))),
        }
    }

    fn name(&self, text: &str) -> Bytes {
        format!("{}{text}", self.prefix).into()
    }

    /// Our key of that name.
    pub(super) fn key(&self, name: &[u8]) -> Result<Key, StoreError> {
        let text = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix(&self.prefix));
        text.and_then(|text| Key::new(text).ok()).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            StoreError::Corrupt(format!("etcd has {name:?}, which no store writes"))
        })
    }

    pub(super) fn entry(&self, found: KeyValue) -> Result<Entry, StoreError> {
        Ok(Entry {
            key: self.key(&found.key)?,
            value: found.value,
            modified: from_number(found.mod_revision),
            created: from_number(found.create_revision),
            lease: u64::try_from(found.lease).ok().filter(|id| *id != 0).map(LeaseId),
        })
    }

    pub(super) fn get(&self, key: &Key) -> RangeRequest {
        RangeRequest { key: self.name(key.as_str()), ..RangeRequest::default() }
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&Key>, len_max: usize) -> RangeRequest {
        let (start, end) = match KeyRange::new(prefix, after) {
            Some(range) => (range.start(), range.end().to_owned()),
            // Nothing is before itself.
            None => (prefix.to_owned(), prefix.to_owned()),
        };
        RangeRequest {
            key: self.name(&start),
            range_end: self.name(&end),
            limit: i64::try_from(len_max).unwrap_or(i64::MAX),
            keys_only: false,
        }
    }

    /// A watch that also asks for the revision `after`, so that etcd says when even that is compacted: whoever
    /// has everything up to it misses nothing then.
    pub(super) fn watch(&self, prefix: &str, after: Revision) -> WatchCreateRequest {
        let range = self.list(prefix, None, 0);
        WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            // 0 would be now.
            start_revision: number(after).max(1),
            fragment: true,
        }
    }

    /// On failure it reads what the conditions are about, at the same moment.
    pub(super) fn transaction(&self, transaction: &Transaction) -> TxnRequest {
        let read = |condition: &Condition| {
            let range = RangeRequest { keys_only: true, ..self.get(condition.key()) };
            RequestOp { request: Some(Request::Range(range)) }
        };
        TxnRequest {
            compare: transaction.conditions.iter().map(|c| self.compare(c)).collect(),
            success: transaction.writes.iter().map(|write| self.write(write)).collect(),
            failure: transaction.conditions.iter().map(read).collect(),
        }
    }

    fn compare(&self, condition: &Condition) -> Compare {
        // What is absent has revision 0.
        let (result, target, union) = match condition {
            Condition::Absent(_) => {
                (CompareResult::Equal, CompareTarget::Create, TargetUnion::CreateRevision(0))
            }
            Condition::Present(_) => {
                (CompareResult::Greater, CompareTarget::Create, TargetUnion::CreateRevision(0))
            }
            Condition::At(_, revision) => {
                let revision = if revision.0 == 0 { -1 } else { number(*revision) };
                (CompareResult::Equal, CompareTarget::Mod, TargetUnion::ModRevision(revision))
            }
        };
        Compare {
            result: result.into(),
            target: target.into(),
            key: self.name(condition.key().as_str()),
            target_union: Some(union),
        }
    }

    fn write(&self, write: &Write) -> RequestOp {
        let key = self.name(write.key().as_str());
        let request = match write {
            Write::Put { value, lease: id, .. } => {
                Request::Put(PutRequest { key, value: value.clone(), lease: id.map_or(0, lease) })
            }
            Write::Delete(_) => Request::DeleteRange(DeleteRangeRequest { key }),
        };
        RequestOp { request: Some(request) }
    }

    /// The first condition that did not hold, from what the transaction read instead.
    pub(super) fn failed_condition(
        &self,
        transaction: &Transaction,
        answer: TxnResponse,
    ) -> Result<CommitError, StoreError> {
        for (condition, read) in transaction.conditions.iter().zip(answer.responses) {
            let Some(Response::Range(read)) = read.response else { continue };
            let found = read.kvs.into_iter().next().map(|found| self.entry(found)).transpose()?;
            if !condition.holds(found.as_ref()) {
                return Ok(CommitError::Conflict { key: condition.key().clone() });
            }
        }
        Err(StoreError::Corrupt("etcd says that a condition fails that holds".to_owned()))
    }
}
