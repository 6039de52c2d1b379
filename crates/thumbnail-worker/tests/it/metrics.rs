//! The table of metrics is what is recorded, and business events are counted.

use chassis::telemetry::{self, Telemetry};
use proto::assets::v1::thumbnail::State;
use thumbnail_worker::metrics::ALL;

use crate::cluster::Cluster;
use crate::paint::fixture;

/// The values of a series whose name and labels begin so, summed up.
fn sum(page: &str, series: &str) -> f64 {
    let values = page.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_metric_has_its_help_and_events_are_counted() {
    let _telemetry = Telemetry::start("thumbnail-worker", &telemetry::Settings::default());
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    assert_eq!(cluster.settled(&account, &asset.name).await.state(), State::Ready);
    let page = telemetry::page();

    for metric in ALL {
        let recorded = page.contains(&format!("# TYPE {} ", metric.name));
        let described = page.contains(&format!("# HELP {} {}", metric.name, metric.help()));
        assert_eq!(recorded, described, "{}", metric.name);
    }
    let ours = ["rushes_asset", "rushes_thumbnail", "rushes_decode", "rushes_memory", "rushes_scratch"];
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        let is_ours = ours.iter().any(|start| name.starts_with(start));
        assert!(!is_ours || ALL.iter().any(|metric| metric.name == name), "{name} is not in the table");
    }
    assert!(sum(&page, "rushes_assets_stored_total{mime_type=\"image/jpeg\"}") >= 1.0, "{page}");
    assert!(sum(&page, "rushes_thumbnails_ended_total{outcome=\"rendered\"}") >= 1.0, "{page}");
    assert!(sum(&page, "rushes_decode_pool_run_seconds_count") >= 2.0, "{page}");
}
