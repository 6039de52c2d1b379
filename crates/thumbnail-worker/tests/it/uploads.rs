//! Uploads: a picture, a video or a sound becomes an asset, with a thumbnail where there is something to be seen; what is no such file
//! is refused as early as it can be and leaves nothing.

use proto::assets::v1::thumbnail::State;
use proto::assets::v1::upload_asset_request::Part;
use proto::assets::v1::{Asset, UploadMetadata};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::cluster::{Account, Cluster, PUBLIC};
use crate::film::{Film, SOUND, sound_file};
use crate::media::manifest_box;
use crate::paint::{fixture, png, quarters, see, turned_jpeg, vast_png, webp};

use crate::sounds::{Webm, coding, counted_mp3, mp3, wav, wav_of};

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
    refused(account.upload(b"just a text that calls itself .jpg").await, invalid, "MEDIA_FORMAT_UNSUPPORTED", "chunk");
    refused(account.upload(b"a text").await, invalid, "MEDIA_FORMAT_UNSUPPORTED", "chunk");
    refused(account.upload(b"").await, invalid, "IMAGE_FORMAT_UNSUPPORTED", "chunk");
    let mut damaged = fixture("palette.png");
    let at = damaged.windows(4).position(|name| name == b"IDAT").unwrap() + 8;
    damaged[at..at + 20].fill(0xAA);
    refused(account.upload(&damaged).await, invalid, "IMAGE_DAMAGED", "chunk");
    let mut heavy = fixture("baseline.jpg");
    heavy.resize((20 << 20) + 1, 0);
    refused(account.upload(&heavy).await, invalid, "INPUT_TOO_LARGE", "chunk");

    refused(account.upload_as(said((200 << 20) + 1), b"").await, invalid, "INPUT_TOO_LARGE", "chunk");
    // What may be a video's size is no picture's and no sound's: its first bytes are enough to refuse it.
    refused(account.upload_as(said(20 << 21), &whole[..40]).await, invalid, "INPUT_TOO_LARGE", "chunk");
    refused(account.upload_as(said(60 << 20), &wav(40)).await, invalid, "INPUT_TOO_LARGE", "chunk");
    refused(account.upload(&wav(51 << 20)).await, invalid, "INPUT_TOO_LARGE", "chunk");
    let film = fixture("fade-baseline.mp4");
    refused(account.upload(&film[..film.len() - 9]).await, invalid, "MEDIA_TRUNCATED", "chunk");
    refused(account.upload(&film[..40]).await, invalid, "MEDIA_TRUNCATED", "chunk");
    refused(account.upload_as(said(40), &film[..39]).await, invalid, schema, "metadata.size_bytes");
    refused(account.upload(&mp3(60)[..9_999]).await, invalid, "MEDIA_TRUNCATED", "chunk");
    let mut long = wav_of(&coding(1, 1, 1_000, 8), &[], 3_601_000, 3_601_000);
    refused(account.upload(&long).await, invalid, "MEDIA_LIMIT_EXCEEDED", "chunk");
    long[20] = 2;
    refused(account.upload(&long).await, invalid, "MEDIA_FORMAT_UNSUPPORTED", "chunk");
    long[20..24].fill(0);
    refused(account.upload(&long).await, invalid, "MEDIA_FORMAT_UNSUPPORTED", "chunk");
    let wide = Webm { size: (8_193, 360), ..Webm::plain() }.file();
    refused(account.upload(&wide).await, invalid, "MEDIA_LIMIT_EXCEEDED", "chunk");
    let mut contradictory = wav(96_000);
    contradictory[28] += 1;
    refused(account.upload(&contradictory).await, invalid, "MEDIA_DAMAGED", "chunk");
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

/// An upload of an account that is open and has sent `first`.
async fn open_upload(account: &Account, first: &[u8]) -> (Sender<Part>, JoinHandle<Status>) {
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let opened = account.clone();
    let open =
        tokio::spawn(
            async move { opened.upload_slowly(messages).await.map_or_else(|status| status, |_| Status::ok("")) },
        );
    send.send(Part::Metadata(said(0))).await.unwrap();
    for chunk in first.chunks(1 << 19) {
        send.send(Part::Chunk(chunk.to_vec().into())).await.unwrap();
    }
    (send, open)
}

/// An upload of `first` that stays open and has its room: while it comes, the trial of whether there is room left may have come first.
async fn open_with_room(
    account: &Account,
    first: &[u8],
    is_full: impl AsyncFn() -> Option<()>,
) -> (Sender<Part>, JoinHandle<Status>) {
    for _ in 0..20 {
        let (send, open) = open_upload(account, first).await;
        let full = testkit::eventually("there is no room", std::time::Duration::from_secs(2), &is_full).await;
        // What asks for room may have taken it from this one for a moment.
        if full.is_ok() && !open.is_finished() {
            return (send, open);
        }
        drop(send);
        open.await.unwrap();
    }
    panic!("there is always room");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_fills_its_room_takes_none_of_others() {
    let cluster = Cluster::with(|config| {
        config.uploads.limits.video_bytes = 1 << 20;
        config.uploads.limits.sound_bytes = 1 << 20;
        config.decode_pool.pictures.bytes = 1 << 20;
        config.uploads.scratch_budget = 4 << 20;
    })
    .await;
    let (greedy, other) = (cluster.account().await, cluster.account().await);
    let whole = png(30, 20, &quarters(30, 20));
    let mut max = whole.clone();
    max.resize(1_000_000, 0);
    let full = async || {
        let refusal = greedy.upload(&max).await;
        (refusal.err()?.get_error_details().error_info()?.reason == "OVERLOADED").then_some(())
    };
    let (send, open) = open_with_room(&greedy, &max, full).await;
    other.upload(&whole).await.unwrap();
    drop(send);
    assert_eq!(open.await.unwrap().code(), Code::Ok);
    greedy.upload(&whole).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_uploads_keep_no_paid_output_from_coming_home() {
    let cluster = Cluster::with(|config| {
        config.uploads.scratch_budget = 64 << 20;
        config.uploads.idle_timeout = std::time::Duration::from_millis(1_500);
    })
    .await;
    let account = cluster.account().await;
    let whole = png(30, 20, &quarters(30, 20));
    let mut open = Vec::new();
    for _ in 0..13 {
        open.push(open_upload(&account, &whole[..40]).await);
    }
    let output = cluster.blobs.put(fixture("fade-baseline.mp4").into(), "mp4").await.unwrap();
    let asset = domain::name::asset_name(&output.sha256());
    let registered = account.register(&asset, "mp4").await.unwrap().into_inner();
    assert!(registered.asset.unwrap().poster.is_some(), "{}", registered.poster_missing_reason);
    // Each is ended by the time-out, though its client would go on.
    for (send, upload) in open {
        assert_eq!(upload.await.unwrap().code(), Code::DeadlineExceeded);
        drop(send);
    }
    account.upload(&whole).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_a_thousand_scans_is_refused_at_once() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let file = crate::jpegs::empty_scans(7_000, false, 1_000, [0, 63, 0]);
    assert!(file.len() < 20_000, "{}", file.len());
    let started = std::time::Instant::now();
    refused(account.upload(&file).await, Code::InvalidArgument, "IMAGE_LIMIT_EXCEEDED", "chunk");
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(cluster.traces().await, (0, 0));
}

/// What an upload says of itself beside its size.
fn facts_of(asset: &Asset) -> (&str, (i32, i32), i64, bool, f64, bool) {
    let duration = asset.duration.unwrap_or_default();
    let millis = duration.seconds * 1_000 + i64::from(duration.nanos) / 1_000_000;
    (&asset.mime_type, (asset.width, asset.height), millis, asset.audio, asset.frame_rate, asset.c2pa)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_becomes_an_asset_with_a_poster() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let mut film = Film::new(320, 180).shoot(48, |n, x, y| [(n * 4 + 60) as u8, (x * 200 / 320) as u8, (y + 40) as u8]);
    film.sound = SOUND * 2;
    let mp4 = [film.file(), manifest_box(b"manifest\0")].concat();
    (film.brand, film.sound, film.matrix) = (*b"qt  ", 0, [0, 1, -1, 0]);
    let mov = film.file_with_index_last();
    for (file, ending, wanted, large) in [
        (mp4, "mp4", ("video/mp4", (320, 180), 2_000, true, 24.0, true), (320, 180)),
        (mov, "mov", ("video/quicktime", (180, 320), 2_000, false, 24.0, false), (180, 320)),
    ] {
        let asset = account.upload(&file).await.unwrap().into_inner();
        assert_eq!(facts_of(&asset), wanted);
        assert!(asset.url.ends_with(&format!(".{ending}")), "{}", asset.url);
        assert_eq!(cluster.fetch(&asset.url).await, file, "not a byte is changed");
        let thumbnail = cluster.settled(&account, &asset.name).await;
        assert_eq!(thumbnail.state(), State::Ready, "{thumbnail:?}");
        let found = account.get(&asset.name).await.unwrap().into_inner();
        assert_eq!(facts_of(&found), wanted);
        // As an output's: its pictures in its own shape come with its thumbnail.
        let poster = found.poster.unwrap();
        let picture = poster.large.unwrap();
        assert_eq!((picture.width, picture.height), large);
        let seen = see(&cluster.fetch(&picture.url).await);
        assert_eq!((seen.width as i32, seen.height as i32), large);
        assert!(poster.thumbhash.len() > 10);
        // The same bytes are the same asset, whose poster stays.
        let again = account.upload(&file).await.unwrap().into_inner();
        assert_eq!((again.name, again.poster.unwrap().thumbhash), (asset.name, poster.thumbhash));
    }
    // What is not decoded here has none, and says why.
    let webm = fixture("vp9.webm");
    let asset = account.upload(&webm).await.unwrap().into_inner();
    assert_eq!(facts_of(&asset), ("video/webm", (320, 180), 2_000, false, asset.frame_rate, false));
    assert!(asset.url.ends_with(".webm"));
    let thumbnail = cluster.settled(&account, &asset.name).await;
    assert!(thumbnail.failure_reason.contains("no ffmpeg"), "{thumbnail:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_whose_thumbnail_is_wanted_now_has_its_poster_at_once() {
    let cluster = Cluster::with(|config| config.runner.slots = 0).await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("rotated.mp4")).await.unwrap().into_inner();
    let thumbnail = account.render(&asset.name, (0, 0, 0), false).await.unwrap().into_inner();
    assert_eq!(thumbnail.state(), State::Ready, "{thumbnail:?}");
    assert!(account.get(&asset.name).await.unwrap().into_inner().poster.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_becomes_an_asset_without_pictures() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    for (file, ending, mime, millis) in [
        (wav(96_000), "wav", "audio/wav", 500),
        (counted_mp3(99, 99), "mp3", "audio/mpeg", 2_586),
        (sound_file(*b"M4A ", SOUND * 3), "m4a", "audio/mp4", 3_000),
        (sound_file(*b"isom", SOUND * 2), "m4a", "audio/mp4", 2_000),
    ] {
        let asset = account.upload(&file).await.unwrap().into_inner();
        assert_eq!(facts_of(&asset), (mime, (0, 0), millis, true, 0.0, false));
        assert!(asset.url.ends_with(&format!(".{ending}")), "{}", asset.url);
        assert_eq!(cluster.fetch(&asset.url).await, file);
        let thumbnail = asset.thumbnail.unwrap();
        let sentence = "it is a sound: there is nothing to be seen";
        assert_eq!((thumbnail.state(), thumbnail.failure_reason.as_str()), (State::Failed, sentence));
        // Nor has it any of another size, now or later.
        let now = account.render(&asset.name, (64, 64, 0), false).await.unwrap().into_inner();
        assert_eq!((now.state(), now.failure_reason.as_str()), (State::Failed, sentence));
        account.render(&asset.name, (128, 64, 0), true).await.unwrap();
    }
    let made = async || {
        let query = "select count(*) from jobs where state <> 'done'";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&cluster.pool).await.ok().filter(|left| *left == 0)
    };
    testkit::eventually("no job is left", std::time::Duration::from_secs(10), made).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn long_videos_do_not_lie_in_memory() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let mut film = Film::new(64, 48).shoot(12, |n, x, y| [(n * 9) as u8, x as u8, y as u8]);
    film.sound = 400_000;
    let file = film.file();
    assert!(file.len() > 9 << 20);
    let mut open = Vec::new();
    for _ in 0..3 {
        let (send, messages) = tokio::sync::mpsc::channel(1);
        let account = account.clone();
        let upload = tokio::spawn(async move { account.upload_slowly(messages).await });
        send.send(Part::Metadata(said(0))).await.unwrap();
        for chunk in file[..8 << 20].chunks(1 << 19) {
            if send.send(Part::Chunk(chunk.to_vec().into())).await.is_err() {
                panic!("{:?}", upload.await.unwrap());
            }
        }
        open.push((send, upload));
    }
    for (send, upload) in open {
        for chunk in file[8 << 20..].chunks(1 << 19) {
            send.send(Part::Chunk(chunk.to_vec().into())).await.unwrap();
        }
        drop(send);
        let asset = upload.await.unwrap().unwrap().into_inner();
        assert_eq!((asset.size_bytes, asset.audio), (i64::try_from(file.len()).unwrap(), true));
        assert_eq!(cluster.fetch(&asset.url).await, file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_would_fill_the_disk_are_sent_away() {
    let long = wav(300_000);
    // Room for one and a half.
    let room = long.len() as u64 * 3 / 2;
    let cluster = Cluster::with(|config| config.uploads.scratch_budget = room).await;
    let (account, other) = (cluster.account().await, cluster.account().await);
    let full = async || {
        let refusal = other.upload(&long).await.err()?;
        let details = refusal.get_error_details();
        let reason = &details.error_info()?.reason;
        (reason == "OVERLOADED" && details.retry_info()?.retry_delay.is_some()).then_some(())
    };
    let (send, open) = open_with_room(&account, &long, full).await;
    drop(send);
    assert_eq!(open.await.unwrap().code(), Code::Ok);
    other.upload(&long).await.unwrap();
}
