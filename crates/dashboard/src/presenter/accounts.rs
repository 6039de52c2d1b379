//! Presenters of accounts, their keys, and the audit log.

use std::collections::BTreeMap;

use domain::id::AccountId;
use domain::network::Network;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use proto::accounts::v1 as api;
use proto::audit::v1 as audit;
use proto::limits::v1 as limits;
use serde_json::Value as Json;

use super::timestamp;
use crate::model::{Account, ApiKey, AuditEntry, KeyWithAccount, Limits, Rate};

pub(crate) fn account_to_proto(account: Account) -> api::Account {
    let (suspend_time, suspend_note) = account.suspension.map(|of| (timestamp(of.since), of.note)).unzip();
    api::Account {
        name: account.id.name(),
        display_name: account.profile.display_name,
        email: account.profile.email,
        create_time: Some(timestamp(account.create_time)),
        suspend_time,
        suspend_note: suspend_note.unwrap_or_default(),
        limits: account.limits.map(limits_to_proto),
        erase_time: account.erasure.map(|of| timestamp(of.since)),
        erase_end_time: account.erasure.and_then(|of| of.end).map(timestamp),
    }
}

pub(crate) fn api_key_to_proto(key: ApiKey) -> api::ApiKey {
    api::ApiKey {
        name: key.name.to_string(),
        account: key.name.account.name(),
        scopes: key.scopes,
        expire_time: key.expire_time.map(timestamp),
        revoke_time: key.revoke_time.map(timestamp),
        version: key.version,
        prefix: key.prefix,
        allowed_networks: key.networks.iter().map(Network::to_string).collect(),
        ..api::ApiKey::default()
    }
}

pub(crate) fn key_with_account_to_proto(found: KeyWithAccount) -> api::ApiKey {
    api::ApiKey {
        account_suspend_time: found.suspend_time.map(timestamp),
        account_limits: found.limits.map(limits_to_proto),
        account_version: found.account_version,
        ..api_key_to_proto(found.key)
    }
}

fn limits_to_proto(own: Limits) -> limits::Limits {
    let rate = |Rate { per_second, burst }| limits::Rate { per_second, burst };
    limits::Limits {
        people: own.people.map(rate),
        polls: own.polls.map(rate),
        background: own.background.map(rate),
        endpoint_tests: own.endpoint_tests.map(rate),
        calls: own.calls,
        uploads: own.uploads,
        watches: own.watches,
        storage_bytes: own.storage_bytes,
        assets: own.assets,
    }
}

pub(crate) fn audit_entry_to_proto(entry: AuditEntry) -> audit::AuditEntry {
    audit::AuditEntry {
        name: format!("auditEntries/{}", entry.id),
        create_time: Some(timestamp(entry.create_time)),
        actor: entry.actor,
        act: entry.act,
        account: entry.account.map(AccountId::name).unwrap_or_default(),
        subject: entry.subject,
        detail: Some(fields_to_proto(entry.detail)),
        trace_id: entry.trace_id,
    }
}

fn fields_to_proto(fields: impl IntoIterator<Item = (String, Json)>) -> Struct {
    let fields: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (name, value_to_proto(value))).collect();
    Struct { fields }
}

/// A value as protobuf has it. Its numbers are floating: an amount of credits loses its last digits beyond nine billions.
fn value_to_proto(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(value_to_proto).collect() }),
        Json::Object(fields) => Kind::StructValue(fields_to_proto(fields)),
    };
    Value { kind: Some(kind) }
}
