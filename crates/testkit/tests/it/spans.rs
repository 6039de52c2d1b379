//! Spans that a real OTLP client exports come out as they went in.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use testkit::{Kind, Spans, Tree};

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn batch(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Some(Resource { attributes: vec![text("service.name", service)], ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

#[tokio::test]
async fn exported_spans_make_one_tree() {
    let spans = Spans::collect().await.unwrap();
    let mut client = TraceServiceClient::connect(spans.endpoint()).await.unwrap();
    let trace_id = vec![0xab; 16];
    let root = Span {
        trace_id: trace_id.clone(),
        span_id: vec![1; 8],
        name: "GetDashboard".to_owned(),
        kind: 2,
        start_time_unix_nano: 10,
        end_time_unix_nano: 30,
        ..Span::default()
    };
    let child = Span {
        span_id: vec![2; 8],
        parent_span_id: vec![1; 8],
        name: "get_dashboard".to_owned(),
        kind: 3,
        attributes: vec![text("db.system.name", "postgresql")],
        status: Some(Status { message: "too slow".to_owned(), code: 2 }),
        ..root.clone()
    };
    client.export(batch("dashboard", vec![child])).await.unwrap();
    client.export(batch("gateway", vec![root])).await.unwrap();

    let trace = "ab".repeat(16);
    let found =
        spans.wait("both spans", Duration::from_secs(5), |all| (all.len() == 2).then(|| all.to_vec())).await.unwrap();
    assert_eq!(found, spans.trace(&trace));
    let tree = Tree::of(found);
    let root = tree.roots().next().unwrap();
    assert_eq!(
        (root.service.as_str(), root.kind, root.duration()),
        ("gateway", Kind::Server, Duration::from_nanos(20))
    );
    let child = tree.children(root).next().unwrap();
    assert_eq!(child.attribute("db.system.name"), Some("postgresql"));
    assert_eq!(child.error.as_deref(), Some("too slow"));
    assert_eq!(tree.orphans().count(), 0);

    let missing = spans.wait("a third", Duration::from_millis(20), |all| (all.len() == 3).then_some(())).await;
    assert!(missing.unwrap_err().to_string().contains("a third"));
}
