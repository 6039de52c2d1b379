//! `docs/statements.md` says how many round trips to PostgreSQL each method costs, and this measures every method of the descriptor
//! set on a whole cluster: a method that is not measured, or that costs something else than the page says, fails; and so does one that
//! shows a stranger who calls the same something of the account.
//!
//! `RUSHES_WRITE_PAGES=1 cargo rushes test -p rushes-dev --test it statements` writes the page anew. The numbers are what the services
//! count; that their count is the wire's is held by the tests of `chassis` with testkit's counter.

mod caller;
mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use testkit::Spans;

use crate::cluster::{Cluster, Options};

/// What a method costs: called for the first time, and again with the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    first: u64,
    again: u64,
}

/// By `package.Service/Method`.
type Costs = BTreeMap<String, Cost>;

const HEAD: &str = "\
# Statements

How many round trips to PostgreSQL each method costs: statements, and `begin` and `commit` where there is a transaction. *First* is the
first call, for which nothing is cached; *again* is the same request once more: a read that is warm, a write that finds itself done
(the same `request_id`), is refused, or is made anew. Not counted: preparing a statement, once for each connection; and what a process
does for many calls at once, such as writing the reports of progress of a tenth of a second.

A test measures every method of the protos and holds this page to it.
";

/// What a row is about where it is not plain.
const NOTES: [(&str, &str); 14] = [
    ("AssetService/DeleteAsset", "of a picture with two thumbnails, whose bytes nobody else has"),
    ("AssetService/RegisterOutput", "with its poster"),
    ("AssetService/RenderThumbnail", "now, in another size than the upload's own"),
    ("GenerationService/BatchStartGenerations", "of two"),
    ("GenerationService/CancelGeneration", "of a generation that waits in the queue"),
    ("GenerationService/ResolveGeneration", "as failed"),
    ("WebhookService/RedeliverDelivery", "of one that waits for its next attempt"),
    ("WorkService/ClaimWork", "one claim that finds one piece of work"),
    ("WorkService/CompleteWork", "again: the lease has ended"),
    ("WorkService/FailWork", "the last attempt; again: the lease has ended"),
    ("WorkService/HintWork", "again: the same event"),
    ("WorkService/ReleaseWork", "again: the lease has ended"),
    ("WorkService/ReportProgress", "written with those of others"),
    ("WorkService/SuspendWork", "again: the lease has ended"),
];

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/statements.md")
}

/// The page's table, with every method in the order of its path.
fn write(costs: &Costs) -> String {
    let mut text = HEAD.to_owned();
    let mut before = "";
    for (path, Cost { first, again }) in costs {
        let (service, name) = path.split_once('/').unwrap_or_default();
        if service != before {
            let _ = write!(text, "\n## {service}\n\n| method | first | again | |\n|---|---:|---:|---|\n");
            before = service;
        }
        let note = NOTES.iter().find(|(of, _)| path.ends_with(&format!(".{of}"))).map_or("", |(_, note)| note);
        let _ = writeln!(text, "| `{name}` | {first} | {again} | {note} |");
    }
    text
}

/// What a page says.
fn read(text: &str) -> Costs {
    let (mut costs, mut service) = (Costs::new(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            service = name;
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if let [_, name, first, again, ..] = cells[..]
            && let (Ok(first), Ok(again)) = (first.parse(), again.parse())
        {
            costs.insert(format!("{service}/{}", name.trim_matches('`')), Cost { first, again });
        }
    }
    costs
}

#[test]
fn a_page_is_read_as_it_was_written() {
    let costs = Costs::from([
        ("a.v1.A/Get".to_owned(), Cost { first: 1, again: 0 }),
        ("rushes.work.v1.WorkService/FailWork".to_owned(), Cost { first: 6, again: 3 }),
    ]);
    assert_eq!(read(&write(&costs)), costs);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_costs_what_the_page_says() -> Result<()> {
    let spans = Spans::collect().await?;
    let folder = std::env::temp_dir().join(format!("rushes-statements-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder)?;
    // The cluster's worker has no credential for it, so that the script is the only worker.
    let models = serde_json::json!({"models": [{
        "id": script::MODEL.trim_start_matches("models/"), "provider": "replicate", "model": "acme/video",
        "price_micros": 100_000, "max_attempts": 1, "start_deadline": "10m", "total_deadline": "10m",
    }]});
    std::fs::write(folder.join("models.json"), models.to_string())?;
    let more = vec![
        ("RUSHES_MODELS", folder.join("models.json").display().to_string()),
        ("RUSHES_WEBHOOK_REACH", "anywhere".to_owned()),
    ];
    let cluster = Cluster::start(Options { otlp: Some(spans.endpoint()), more, ..Options::default() }).await?;
    let wanted = read(&std::fs::read_to_string(page()).unwrap_or_default());
    let (costs, shown) = script::measure(&cluster, &spans, &wanted).await?;
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    // What the gateway answers itself needs no database.
    let methods = proto::METHODS.iter().filter(|method| method.upstream != "gateway");
    let methods: Vec<_> = methods.map(|method| method.path.trim_start_matches('/').to_owned()).collect();
    assert!(methods.len() > 60, "{}", methods.len());
    let unmeasured: Vec<_> = methods.iter().filter(|method| !costs.contains_key(*method)).collect();
    assert!(unmeasured.is_empty(), "call these in statements/script.rs: {unmeasured:#?}");
    let text = write(&costs);
    if std::env::var_os("RUSHES_WRITE_PAGES").is_some() {
        std::fs::write(page(), text)?;
    } else {
        let differences: Vec<_> = costs
            .iter()
            .filter(|(method, cost)| wanted.get(*method) != Some(cost))
            .map(|(method, cost)| format!("{method}: {cost:?}, and the page has {:?}", wanted.get(method)))
            .collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        assert_eq!(std::fs::read_to_string(page())?, text, "write the page anew");
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
