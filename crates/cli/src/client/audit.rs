//! `rushes audit`: who did what to accounts, keys, credits and queues, for operators.

use anyhow::Result;
use proto::audit::v1::audit_service_client::AuditServiceClient;
use proto::audit::v1::{AuditEntry, ListAuditEntriesRequest};

use crate::client::session::Session;
use crate::failure::Exit;
use crate::{json, out};

/// How many entries are asked for at once.
const PAGE: usize = 100;

/// Show the audit log, newest first.
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// Only what was done to this account: accounts/….
    #[arg(long, default_value = "")]
    account: String,
    /// Only this act, such as key.revoke.
    #[arg(long, default_value = "")]
    act: String,
    /// How many entries to show at most.
    #[arg(long, default_value_t = 20)]
    max: usize,
}

impl Audit {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let mut client = AuditServiceClient::new(session.gateway()?);
        let (mut left, mut page_token) = (self.max, String::new());
        while left > 0 {
            let request = ListAuditEntriesRequest {
                account: self.account.clone(),
                act: self.act.clone(),
                page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
                page_token,
            };
            let answer = client.list_audit_entries(session.request(request)?).await;
            let answer = answer.map_err(|status| session.failed(&status))?.into_inner();
            for entry in &answer.entries {
                match session.json() {
                    true => json::print_line("rushes.audit.v1.AuditEntry", entry)?,
                    false => out::print(line(entry)?)?,
                }
            }
            left = left.saturating_sub(answer.entries.len());
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(Exit::Done)
    }
}

/// An entry as people read it: when and what, by whom, and to what, with what was set.
fn line(entry: &AuditEntry) -> Result<String> {
    let time = entry.create_time.map(|time| time.to_string()).unwrap_or_default();
    let detail = match &entry.detail {
        Some(detail) if !detail.fields.is_empty() => format!("\n    {}", json::text("google.protobuf.Struct", detail)?),
        _ => String::new(),
    };
    let AuditEntry { act, actor, subject, trace_id, .. } = entry;
    let trace = if trace_id.is_empty() { String::new() } else { format!("  trace {trace_id}") };
    Ok(format!("{time}  {act:<20} {subject}\n    by {actor}{trace}{detail}\n"))
}
