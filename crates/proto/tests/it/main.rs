//! How large answers can be. Each list in the answer of a public method is counted and each text in it measured, so that no answer is more
//! than a client takes by default; or a test of the method's own shows that it is cut by bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// What a client of gRPC takes by default.
const MAX_ANSWER: u64 = 4 << 20;
/// The most bytes of a character.
const CHARACTER: u64 = 4;
/// A name, an etag, a token, a number as text, a word of 60 characters: what is no text of a user is no longer.
const NAME: u64 = 240;
/// An address of a file.
const ADDRESS: u64 = 500;
/// Before each field: its number, and the length of what follows.
const TAG: u64 = 6;

/// Methods whose answers are cut by bytes, and the tests that show it. The last is of one model, whose schema the catalogue bounds.
const BY_BYTES: [(&str, &str); 9] = [
    (
        "GenerationService/BatchGetGenerations",
        "generation-status::reads::a_batch_that_is_more_than_a_client_takes_is_refused_and_says_what_fits",
    ),
    (
        "GenerationService/ListGenerations",
        "generation-status::reads::a_page_of_long_inputs_is_shorter_and_leaves_none_out",
    ),
    (
        "GenerationService/WatchGenerations",
        "generation-status::watches::a_large_snapshot_comes_in_parts_between_which_a_watch_can_be_resumed",
    ),
    (
        "DashboardService/GetDashboard",
        "dashboard::src/presenter::a_dashboard_of_long_projects_is_shorter_and_leaves_none_out",
    ),
    (
        "DashboardService/WatchDashboard",
        "dashboard::src/presenter::a_dashboard_of_long_projects_is_shorter_and_leaves_none_out",
    ),
    ("ModelService/ListModels", "generation-status::models::a_page_of_long_schemas_is_shorter_and_leaves_none_out"),
    ("WebhookService/ListDeliveries", "generation-status::src/webhooks::a_page_of_long_answers_is_shorter"),
    ("ProjectService/ReorderScenes", "dashboard::labels::labels_are_shown_by_every_read"),
    ("ModelService/GetModel", "catalogue::faults::a_schema_that_is_too_long_for_an_answer"),
];

/// The most that a list has.
const COUNTS: [(&str, u64); 29] = [
    ("limits.GetLimitsResponse.rates", 32),
    ("limits.GetLimitsResponse.places", 32),
    ("projects.ListProjectsResponse.projects", 100),
    ("projects.ListScenesResponse.scenes", 100),
    ("projects.Project.labels", 32),
    ("projects.Scene.labels", 32),
    ("queues.GetQueueStatsResponse.queues", 1_000),
    ("queues.GetQueueStatsResponse.accounts", 100),
    ("queues.ListDeadLettersResponse.dead_letters", 100),
    ("queues.BulkRequeueDeadLettersResponse.results", 100),
    ("queues.BulkResolveGenerationsResponse.results", 100),
    ("assets.ListAssetsResponse.assets", 100),
    ("audit.ListAuditEntriesResponse.entries", 100),
    ("generations.Generation.outputs", 16),
    ("generations.Generation.labels", 32),
    ("generations.Output.Moderation.categories", 16),
    ("generations.Charge.lines", 16),
    ("generations.BatchStartGenerationsResponse.generations", 16),
    ("generations.ListGenerationEventsResponse.events", 100),
    ("webhooks.Endpoint.event_types", 16),
    ("webhooks.Delivery.attempts", 10),
    ("webhooks.ListEndpointsResponse.endpoints", 20),
    ("credits.GetUsageResponse.rows", 1_000),
    ("credits.ListEndUsersResponse.end_users", 100),
    ("credits.ListCreditEntriesResponse.entries", 100),
    ("credits.CreditEntry.lines", 16),
    ("accounts.ApiKey.scopes", 4),
    ("accounts.ApiKey.allowed_networks", 32),
    ("accounts.GetOwnAccountResponse.api_keys", 100),
];

/// The most bytes of a text, or of all that a message is, where they are not those of a name.
const BYTES: [(&str, u64); 24] = [
    ("projects.Project.title", 200 * CHARACTER),
    ("projects.Project.description", 2_000 * CHARACTER),
    ("projects.Scene.title", 200 * CHARACTER),
    ("projects.Scene.script", 2_000 * CHARACTER),
    ("projects.Project.LabelsEntry", 63 + 200 * CHARACTER + 2 * TAG),
    ("projects.Scene.LabelsEntry", 63 + 200 * CHARACTER + 2 * TAG),
    ("generations.Generation.LabelsEntry", 63 + 200 * CHARACTER + 2 * TAG),
    ("queues.Pause.note", 500 * CHARACTER),
    ("queues.DeadLetter.detail", 1_000 * CHARACTER),
    ("google.rpc.Status", 1_000 * CHARACTER + 1_024),
    ("audit.AuditEntry.detail", 8 << 10),
    // No larger than the request that it came with, and the defaults.
    ("generations.Input", (64 << 10) + 4_096),
    ("generations.Generation.end_user", 200 * CHARACTER),
    ("generations.Output.Moderation.categories", 60 * CHARACTER),
    ("generations.GenerationEvent.cause", 1_000 * CHARACTER),
    ("webhooks.Endpoint.url", 2_000 * CHARACTER),
    ("webhooks.Endpoint.description", 200 * CHARACTER),
    ("webhooks.Attempt.response_excerpt", 1_024),
    ("credits.Usage.end_user", 200 * CHARACTER),
    ("credits.EndUser.end_user", 200 * CHARACTER),
    ("credits.CreditEntry.reason", 500 * CHARACTER),
    ("accounts.Account.display_name", 200 * CHARACTER),
    ("accounts.Account.email", 320 * CHARACTER),
    ("accounts.Account.suspend_note", 500 * CHARACTER),
];

/// Messages by their full names, and what of the tables was needed.
struct Sizes {
    messages: BTreeMap<String, DescriptorProto>,
    needed: BTreeSet<&'static str>,
    missing: BTreeSet<String>,
}

impl Sizes {
    fn read(set: &FileDescriptorSet) -> Self {
        let mut sizes = Self { messages: BTreeMap::new(), needed: BTreeSet::new(), missing: BTreeSet::new() };
        for file in &set.file {
            for message in &file.message_type {
                sizes.add(&format!(".{}", file.package()), message);
            }
        }
        sizes
    }

    fn add(&mut self, parent: &str, message: &DescriptorProto) {
        let name = format!("{parent}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    fn find(&mut self, table: &'static [(&'static str, u64)], name: &str) -> Option<u64> {
        let (key, value) = table.iter().find(|(key, _)| *key == name)?;
        self.needed.insert(key);
        Some(*value)
    }

    /// The most bytes of a message.
    fn message(&mut self, full: &str) -> u64 {
        let name = short(full);
        if let Some(bytes) = self.find(&BYTES, &name) {
            return bytes;
        }
        match name.as_str() {
            "google.protobuf.Timestamp" | "google.protobuf.Duration" => return 18,
            _ => {}
        }
        let message = self.messages[full].clone();
        let fields = message.field.iter().map(|field| self.field(&name, field));
        fields.sum()
    }

    fn field(&mut self, message: &str, field: &FieldDescriptorProto) -> u64 {
        let name = format!("{message}.{}", field.name());
        let one = match (field.r#type(), self.find(&BYTES, &name)) {
            (_, Some(bytes)) => bytes,
            (Type::Message, None) => self.message(field.type_name()),
            (Type::String, None) if field.name().ends_with("url") => ADDRESS,
            (Type::String | Type::Bytes, None) => NAME,
            _ => 10,
        };
        let count = if field.label() == Label::Repeated {
            self.find(&COUNTS, &name).unwrap_or_else(|| {
                self.missing.insert(name);
                1
            })
        } else {
            1
        };
        count * (one + TAG)
    }
}

/// `.rushes.projects.v1.Project` is `projects.Project`.
fn short(full: &str) -> String {
    full.trim_start_matches('.').trim_start_matches("rushes.").replacen(".v1.", ".", 1)
}

#[test]
fn no_answer_is_more_than_a_client_takes() {
    let set = FileDescriptorSet::decode(rushes_proto::DESCRIPTOR_SET).unwrap();
    let mut sizes = Sizes::read(&set);
    let mut by_bytes: BTreeSet<&str> = BY_BYTES.iter().map(|(method, _)| *method).collect();
    let mut too_large = Vec::new();
    for service in set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service))) {
        let (package, service) = service;
        for method in &service.method {
            let path = format!("/{package}.{}/{}", service.name(), method.name());
            let public = rushes_proto::method(&path).is_some_and(|method| method.scope.is_some());
            let name = format!("{}/{}", service.name(), method.name());
            if !public || by_bytes.remove(name.as_str()) {
                continue;
            }
            let bytes = sizes.message(method.output_type());
            if bytes > MAX_ANSWER {
                too_large.push(format!("{name}: {bytes} bytes"));
            }
        }
    }
    assert_eq!(sizes.missing, BTreeSet::new(), "say how many there may be");
    assert_eq!(too_large, [""; 0]);
    assert_eq!(by_bytes, BTreeSet::new(), "there is no such public method");
    let known = COUNTS.iter().chain(&BYTES).map(|(key, _)| *key).collect::<BTreeSet<_>>();
    assert_eq!(known.difference(&sizes.needed).collect::<Vec<_>>(), [&""; 0], "of no answer");
}

#[test]
fn every_test_of_an_answer_that_is_cut_by_bytes_exists() {
    for (method, test) in BY_BYTES {
        let mut parts = test.split("::");
        let (name, file, function) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let file = if file.starts_with("src/") { format!("{file}.rs") } else { format!("tests/it/{file}.rs") };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join(file);
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("fn {function}(")), "{method}: there is no {test}");
    }
}
