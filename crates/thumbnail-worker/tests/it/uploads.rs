//! Uploads: a picture becomes an asset with a thumbnail; what is not one is refused as early as it can be and leaves nothing.

use proto::assets::v1::UploadMetadata;
use proto::assets::v1::thumbnail::State;
use proto::assets::v1::upload_asset_request::Part;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::cluster::{Cluster, PUBLIC};
use crate::paint::{fixture, png, quarters, see, turned_jpeg, vast_png, webp};

/// A refusal's code, reason and wrong field.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<Response<T>, Status>, code: Code, reason: &str, field: &str) {
    let status = answer.expect_err("it must be refused");
    let details = status.get_error_details();
    assert_eq!(
        (status.code(), details.error_info().map(|info| info.reason.as_str())),
        (code, Some(reason)),
        "{status:?}"
    );
    let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    assert_eq!(fields.first().map_or("", |violation| violation.field.as_str()), field, "{status:?}");
}

fn said(size_bytes: i64) -> UploadMetadata {
    UploadMetadata { file_name: "a.png".into(), size_bytes }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_becomes_an_asset_with_a_thumbnail() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let files = [
        ("image/jpeg", "jpg", turned_jpeg(6, true), (480, 640), [2, 0, 3, 1]),
        ("image/png", "png", png(300, 200, &quarters(300, 200)), (300, 200), [0, 1, 2, 3]),
        ("image/webp", "webp", webp(300, 200, &quarters(300, 200), true), (300, 200), [0, 1, 2, 3]),
    ];
    for (mime, extension, file, size, turned) in files {
        let asset = account.upload(&file).await.unwrap().into_inner();
        let sha256: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(asset.name, format!("assets/{sha256}"));
        assert_eq!(asset.url, format!("{PUBLIC}/assets/{sha256}.{extension}"));
        assert_eq!((asset.mime_type.as_str(), asset.size_bytes), (mime, i64::try_from(file.len()).unwrap()));
        assert_eq!((asset.width, asset.height), size);
        assert!(asset.create_time.is_some());
        assert_eq!(cluster.fetch(&asset.url).await, file);
        let thumbnail = cluster.settled(&account, &asset.name).await;
        assert_eq!(thumbnail.state(), State::Ready, "{thumbnail:?}");
        let seen = see(&cluster.fetch(&thumbnail.url).await);
        assert_eq!((seen.width, seen.height), (256, 256));
        assert_eq!(seen.quarters(), turned.map(Some));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_the_same_asset() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let first = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    cluster.settled(&account, &first.name).await;
    let before = cluster.traces().await;
    let again = account.upload_as(said(0), &fixture("baseline.jpg")).await.unwrap().into_inner();
    assert_eq!((&again.name, again.create_time), (&first.name, first.create_time));
    assert_eq!(again.thumbnail.unwrap().state(), State::Ready);
    assert_eq!(cluster.traces().await, before);

    // Another account has it only once it uploads it itself.
    let other = cluster.account().await;
    refused(other.get(&first.name).await, Code::NotFound, "ASSET_NOT_FOUND", "");
    refused(other.render(&first.name, (0, 0, 0), false).await, Code::NotFound, "ASSET_NOT_FOUND", "");
    assert_eq!(other.upload(&fixture("baseline.jpg")).await.unwrap().into_inner().name, first.name);
    assert!(other.get(&first.name).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_leaves_nothing() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let invalid = Code::InvalidArgument;
    let whole = png(300, 200, &quarters(300, 200));
    let schema = "INPUT_SCHEMA_VIOLATION";

    refused(account.upload(&whole[..whole.len() / 2]).await, invalid, "IMAGE_TRUNCATED", "chunk");
    refused(account.upload(&vast_png(40_000, 40_000)).await, invalid, "IMAGE_LIMIT_EXCEEDED", "chunk");
    refused(account.upload(b"just a text that calls itself .jpg").await, invalid, "IMAGE_FORMAT_UNSUPPORTED", "chunk");
    refused(account.upload(b"").await, invalid, "IMAGE_FORMAT_UNSUPPORTED", "chunk");
    refused(account.upload(&fixture("fade-baseline.mp4")).await, invalid, "IMAGE_FORMAT_UNSUPPORTED", "chunk");
    let mut damaged = fixture("palette.png");
    let at = damaged.windows(4).position(|name| name == b"IDAT").unwrap() + 8;
    damaged[at..at + 20].fill(0xAA);
    refused(account.upload(&damaged).await, invalid, "IMAGE_DAMAGED", "chunk");
    let mut heavy = fixture("baseline.jpg");
    heavy.resize((20 << 20) + 1, 0);
    refused(account.upload(&heavy).await, invalid, "INPUT_TOO_LARGE", "chunk");

    refused(account.upload_as(said(20 << 21), b"").await, invalid, "INPUT_TOO_LARGE", "chunk");
    refused(account.upload_as(said(-1), &whole).await, invalid, schema, "metadata.size_bytes");
    refused(account.upload_as(said(10), &whole).await, invalid, schema, "metadata.size_bytes");
    refused(account.upload_as(said(1_000_000), &whole).await, invalid, schema, "metadata.size_bytes");
    let long = UploadMetadata { file_name: "x".repeat(256), size_bytes: 0 };
    refused(account.upload_as(long, &whole).await, invalid, schema, "metadata.file_name");
    refused(account.upload_parts(vec![Part::Chunk(whole.clone().into())]).await, invalid, schema, "part");
    refused(account.upload_parts(vec![]).await, invalid, schema, "part");
    let twice = vec![Part::Metadata(said(0)), Part::Metadata(said(0))];
    refused(account.upload_parts(twice).await, invalid, schema, "part");

    for name in ["", "assets/", "assets/AB", "projects/1", &format!("assets/{}", "A".repeat(64))] {
        let answer = account.get(name).await;
        let message = answer.as_ref().unwrap_err().message().to_owned();
        assert!(message.contains("64 lower-case hexadecimal digits") && !message.contains("UUID"), "{message}");
        refused(answer, invalid, schema, "name");
    }
    let none = format!("assets/{}", "0".repeat(64));
    refused(account.get(&none).await, Code::NotFound, "ASSET_NOT_FOUND", "");
    assert_eq!(cluster.traces().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_would_fill_the_memory_are_sent_away() {
    let cluster = Cluster::with(|config| config.memory_budget = 1 << 20).await;
    let account = cluster.account().await;
    // An upload of unknown size reserves all of so small a budget: as long as it is open, another finds no room.
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let open = tokio::spawn({
        let account = account.clone();
        async move { account.upload_slowly(messages).await }
    });
    send.send(Part::Metadata(said(0))).await.unwrap();
    let whole = png(30, 20, &quarters(30, 20));
    let crowded = testkit::eventually("a refusal", std::time::Duration::from_secs(5), async || {
        account.upload(&whole).await.err().filter(|status| status.code() == Code::ResourceExhausted)
    });
    let status = crowded.await.unwrap();
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    drop(send);
    assert!(open.await.unwrap().is_err(), "nothing came");
    // With its size stated an upload takes no more than that, beside the thumbnails that are being made.
    account.upload_as(said(i64::try_from(whole.len()).unwrap()), &whole).await.unwrap();
}
