//! `rushes trace`: the tree of a recent trace of the local stack.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use proto::generations::v1::GetGenerationRequest;
use spans::{Recorded, Span, Tree};

use crate::client::generations;
use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::{buffer, json, out};

/// How long spans may be on their way: each service sends twice a second.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// Prints a trace.
#[derive(Debug, clap::Args)]
pub struct Trace {
    /// A trace's id (32 hexadecimal digits), or generations/… for the trace that it was started in.
    of: String,
    /// Show every progress report on a line of its own.
    #[arg(long)]
    all: bool,
}

impl Trace {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let id = if self.of.len() == 32 && self.of.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.of.to_ascii_lowercase()
        } else {
            let request = GetGenerationRequest { name: self.of.clone(), min_version: 0 };
            let generation = generations::get(session, request, false).await?;
            generations::trace(&generation)
                .with_context(|| format!("{} was started without a trace", generation.name))?
                .to_owned()
        };
        let Some(stack) = session.stack() else {
            let error = Failure::new("traces are shown of a local stack, and none runs in this directory or one above");
            return Err(error.todo("look the trace up where your services send theirs").into());
        };
        if let Some(jaeger) = &stack.jaeger {
            if session.json() {
                json::print_value(&serde_json::json!({ "url": format!("{jaeger}/trace/{id}") }))?;
            } else {
                out::print(format_args!("{jaeger}/trace/{id}\n"))?;
            }
            return Ok(Exit::Done);
        }
        let Some(traces) = &stack.traces else {
            let error = Failure::new("this stack sends its spans to OTEL_EXPORTER_OTLP_ENDPOINT and keeps none");
            return Err(error.todo(format!("look for trace {id} there")).into());
        };
        let mut recorded = buffer::ask(traces, &id).await?;
        let asked = Instant::now();
        while recorded.spans.is_empty() && recorded.dropped == 0 && asked.elapsed() < TIMEOUT {
            tokio::time::sleep(Duration::from_millis(100)).await;
            recorded = buffer::ask(traces, &id).await?;
        }
        let Recorded { spans, dropped } = &recorded;
        if spans.is_empty() {
            let error = match dropped {
                0 => Failure::new(format!("no span of trace {id} is among the recent ones")),
                dropped => {
                    Failure::new(format!("the buffer had {dropped} spans of trace {id} and has dropped all of them"))
                }
            };
            return Err(error
                .todo("spans arrive within a second, make room for later ones, and are lost when `up` ends")
                .exit(Exit::NotFound)
                .into());
        }
        if session.json() {
            json::print_value(&recorded)?;
        } else {
            print(&id, recorded, self.all)?;
        }
        Ok(Exit::Done)
    }
}

fn print(id: &str, recorded: Recorded, all: bool) -> Result<()> {
    let Recorded { spans, dropped } = recorded;
    let services: std::collections::BTreeSet<_> = spans.iter().map(|span| span.service.clone()).collect();
    let services: Vec<_> = services.into_iter().collect();
    let (count, services) = (spans.len(), services.join(", "));
    let tree = Tree::of(spans);
    if let Some(gap) = gap(&tree, dropped) {
        out::warn(format_args!("this trace is not whole: {gap}"));
    }
    let tree = if all { tree } else { tree.grouping(is_progress_report) };
    out::print(format_args!("trace {id}: {count} spans of {services}\n{tree}"))?;
    if tree.is_grouped() {
        out::warn("each progress report on a line of its own: --all");
    }
    Ok(())
}

/// What is missing of a trace, and why.
fn gap(tree: &Tree, dropped: u64) -> Option<String> {
    if dropped > 0 {
        return Some(format!("{dropped} of its spans are gone from the buffer, where they made room for later ones"));
    }
    let below = tree.orphans().count();
    (below > 0).then(|| {
        format!(
            "what {below} of its spans are below is not here: it ended before this `up` began, has not ended yet, or was sent elsewhere"
        )
    })
}

/// Whether a span is one of the many calls by which a worker reports how far a video is.
fn is_progress_report(span: &Span) -> bool {
    span.name.ends_with("WorkService/ReportProgress")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>) -> Span {
        Span { id: id.to_owned(), parent: parent.map(str::to_owned), ..Span::default() }
    }

    /// A generation that was begun under an earlier `up`: its gateway's spans went with that.
    #[test]
    fn a_trace_whose_beginning_is_gone_says_so() {
        let whole = Tree::of(vec![span("1", None), span("2", Some("1"))]);
        assert_eq!(gap(&whole, 0), None);
        assert!(gap(&whole, 3).unwrap().starts_with("3 of its spans"));
        let half = Tree::of(vec![span("2", Some("1")), span("3", Some("2"))]);
        assert!(gap(&half, 0).unwrap().starts_with("what 1 of its spans are below is not here"));
    }
}
