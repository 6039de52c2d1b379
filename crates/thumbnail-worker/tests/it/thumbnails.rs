//! RenderThumbnail now and later, and posters of registered videos.

use proto::assets::v1::thumbnail::State;
use thumbnail_worker::model::{ThumbnailKey, ThumbnailStatus};
use thumbnail_worker::store::{KIND, Store};
use tonic::Code;

use crate::cluster::Cluster;
use crate::film::{Film, sound_file};
use crate::media::manifest;
use crate::paint::{fixture, png, quarters, see, turned_jpeg, webp};
use crate::profiles::chunk;
use crate::sounds::{mp3, wav};
use crate::uploads::refused;

#[tokio::test(flavor = "multi_thread")]
async fn now_waits_for_the_thumbnail_and_makes_it_once() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    cluster.settled(&account, &asset.name).await;
    let first = account.render(&asset.name, (320, 180, 50), false).await.unwrap().into_inner();
    assert_eq!(first.state(), State::Ready);
    let seen = see(&cluster.fetch(&first.url).await);
    assert_eq!((seen.width, seen.height), (320, 180));
    let spec = first.spec.unwrap();
    assert_eq!((spec.width, spec.height, spec.quality), (320, 180, 50));
    let before = cluster.traces().await;
    let again = account.render(&asset.name, (320, 180, 50), false).await.unwrap().into_inner();
    assert_eq!(again, first);
    assert_eq!(cluster.traces().await, before);
    // Nothing asked for means the default.
    let default = account.render(&asset.name, (0, 0, 0), false).await.unwrap().into_inner();
    assert_eq!(default.url, account.get(&asset.name).await.unwrap().into_inner().thumbnail.unwrap().url);
}

#[tokio::test(flavor = "multi_thread")]
async fn later_is_durable_and_answers_at_once() {
    // Whether or not the job has begun, the next start finds it or its result.
    let mut cluster = Cluster::start().await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    cluster.settled(&account, &asset.name).await;
    let queued = account.render(&asset.name, (64, 64, 0), true).await.unwrap().into_inner();
    assert!(matches!(queued.state(), State::Processing | State::Ready));
    cluster.restart(|_| {}).await;
    let account = cluster.client_of(account.id);
    let ready = testkit::eventually("the thumbnail is there", std::time::Duration::from_secs(30), async || {
        let thumbnail = account.render(&asset.name, (64, 64, 0), true).await.unwrap().into_inner();
        (thumbnail.state() == State::Ready).then_some(thumbnail)
    });
    assert_eq!(see(&cluster.fetch(&ready.await.unwrap().url).await).width, 64);
    let jobs: i64 =
        sqlx::query_scalar("select count(*) from jobs where state <> 'done'").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(jobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_is_refused_with_its_field() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("palette.png")).await.unwrap().into_inner();
    for (spec, field) in [
        ((1_025, 0, 0), "spec.width"),
        ((-1, 0, 0), "spec.width"),
        ((0, i32::MAX, 0), "spec.height"),
        ((0, 0, 101), "spec.quality"),
        ((0, 0, -1), "spec.quality"),
    ] {
        refused(account.render(&asset.name, spec, false).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION", field);
    }
    refused(account.render("asset", (0, 0, 0), true).await, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION", "asset");
    // What is not made becomes the next larger: nobody makes millions of thumbnails of one asset.
    cluster.settled(&account, &asset.name).await;
    let before = cluster.traces().await;
    let mut made = std::collections::HashSet::new();
    for spec in [(300, 15, 90), (310, 9, 85), (320, 16, 95)] {
        let thumbnail = account.render(&asset.name, spec, false).await.unwrap().into_inner();
        let spec = thumbnail.spec.unwrap();
        assert_eq!((spec.width, spec.height, spec.quality), (320, 16, 95));
        made.insert(thumbnail.url);
    }
    assert_eq!(made.len(), 1);
    assert_eq!(cluster.traces().await.1, before.1 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_video_has_its_poster() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    for (file, size) in [("fade-high-bframes.mp4", (320, 180)), ("rotated.mp4", (180, 320))] {
        let bytes = fixture(file);
        let name = cluster.blobs.put(bytes.clone().into(), "mp4").await.unwrap();
        let asset = domain::name::asset_name(&name.sha256());
        let registered = account.register(&asset, "mp4").await.unwrap().into_inner();
        assert_eq!(registered.poster_missing_reason, "");
        assert_eq!(registered.duration_ms, 2_000);
        let video = registered.asset.unwrap();
        assert_eq!((video.width, video.height), size, "{file}");
        assert_eq!((video.mime_type.as_str(), video.size_bytes), ("video/mp4", i64::try_from(bytes.len()).unwrap()));
        let poster = video.thumbnail.unwrap();
        assert_eq!(poster.state(), State::Ready);
        let seen = see(&cluster.fetch(&poster.url).await);
        assert_eq!((seen.width, seen.height), (256, 256));
        assert!(seen.mean() > 20.0, "{file}: mean {}", seen.mean());
        // In its own shape too, and no larger than it is.
        let pictures = video.poster.unwrap();
        for (picture, longer) in [(pictures.large.unwrap(), 320), (pictures.small.unwrap(), 256)] {
            let (width, height) = (longer * size.0 / 320, longer * size.1 / 320);
            assert_eq!((picture.width, picture.height), (width, height), "{file}");
            let seen = see(&cluster.fetch(&picture.url).await);
            assert_eq!((seen.width as i32, seen.height as i32), (width, height), "{file}");
            assert!(picture.url.ends_with(&format!("{}.webp", picture.asset.trim_start_matches("assets/"))));
        }
        let (width, height) = (f64::from(size.0), f64::from(size.1));
        let aspect = f64::from(thumbhash::thumb_hash_to_approximate_aspect_ratio(&pictures.thumbhash).unwrap());
        assert!((aspect - width / height).abs() < 0.2, "{file}: {aspect}");
        assert_eq!(account.get(&asset).await.unwrap().into_inner().poster.unwrap().thumbhash, pictures.thumbhash);
        // Again gives the same, and other sizes can be had of it too.
        assert_eq!(account.register(&asset, "mp4").await.unwrap().into_inner().asset.unwrap().name, asset);
        let wide = account.render(&asset, (320, 180, 0), false).await.unwrap().into_inner();
        assert_eq!(see(&cluster.fetch(&wide.url).await).height, 180);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_was_registered_without_posters_gets_them() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let name = cluster.blobs.put(fixture("rotated.mp4").into(), "mp4").await.unwrap();
    let asset = domain::name::asset_name(&name.sha256());
    let first = account.register(&asset, "mp4").await.unwrap().into_inner().asset.unwrap();
    // As a version before this one left it.
    let query = "update assets set poster_large = null, poster_small = null, thumbhash = null where account_id = $1";
    sqlx::query(query).bind(account.id).execute(&cluster.pool).await.unwrap();
    assert_eq!(account.get(&asset).await.unwrap().into_inner().poster, None);
    let again = account.register(&asset, "mp4").await.unwrap().into_inner().asset.unwrap();
    assert_eq!(again, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_without_a_poster_is_registered_and_says_why() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    for (file, extension, reason) in [("vp9.webm", "webm", "no ffmpeg"), ("high10.mp4", "mp4", "no ffmpeg")] {
        let name = cluster.blobs.put(fixture(file).into(), extension).await.unwrap();
        let asset = domain::name::asset_name(&name.sha256());
        let registered = account.register(&asset, extension).await.unwrap().into_inner();
        assert!(registered.poster_missing_reason.contains(reason), "{registered:?}");
        let thumbnail = registered.asset.unwrap().thumbnail.unwrap();
        assert_eq!((thumbnail.state(), thumbnail.failure_reason), (State::Failed, registered.poster_missing_reason));
        assert_eq!(account.get(&asset).await.unwrap().into_inner().poster, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_of_any_kind_is_registered_as_what_it_is() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let mut film = Film::new(320, 180).shoot(24, |n, x, y| [(n * 8 + 50) as u8, (x / 2) as u8, y as u8]);
    film.brand = *b"qt  ";
    let mut without_frames = film.file();
    without_frames.truncate(without_frames.windows(4).rposition(|name| name == b"mdat").unwrap() + 9);
    let rgb = quarters(900, 300);
    let plain = png(900, 300, &rgb);
    let signed = [&plain[..33], &chunk(b"caBX", &manifest()), &plain[33..]].concat();
    let none = "it is a sound: there is nothing to be seen";
    for (bytes, stored, ending, mime, size, millis, audio, large) in [
        (film.file(), "mp4", "mov", "video/quicktime", (320, 180), 1_000, false, Some((320, 180))),
        (signed.clone(), "bin", "png", "image/png", (900, 300), 0, false, Some((512, 171))),
        (webp(900, 300, &rgb, false), "webp", "webp", "image/webp", (900, 300), 0, false, Some((512, 171))),
        (turned_jpeg(6, true), "jpg", "jpg", "image/jpeg", (480, 640), 0, false, Some((384, 512))),
        (mp3(100), "mp3", "mp3", "audio/mpeg", (0, 0), 2_612, true, None),
        (wav(9_600), "mp4", "wav", "audio/wav", (0, 0), 50, true, None),
        (sound_file(*b"isom", 50), "mp4", "m4a", "audio/mp4", (0, 0), 1_000, true, None),
        // One that cannot be read here was made all the same.
        (without_frames, "mov", "mov", "video/quicktime", (320, 180), 1_000, false, None),
    ] {
        let name = cluster.blobs.put(bytes.clone().into(), stored).await.unwrap();
        let asset = domain::name::asset_name(&name.sha256());
        let registered = account.register(&asset, stored).await.unwrap().into_inner();
        let output = registered.asset.unwrap();
        assert_eq!((output.mime_type.as_str(), (output.width, output.height), output.audio), (mime, size, audio));
        assert_eq!(registered.duration_ms, millis, "{mime}");
        assert_eq!(output.duration.is_some(), millis > 0, "{mime}");
        assert_eq!(output.c2pa, bytes == signed, "{mime}");
        assert!(output.url.ends_with(&format!("{}.{ending}", asset.trim_start_matches("assets/"))), "{}", output.url);
        assert_eq!(cluster.fetch(&output.url).await, bytes, "{mime}");
        let thumbnail = output.thumbnail.clone().unwrap();
        let Some(large) = large else {
            assert_eq!(thumbnail.state(), State::Failed, "{mime}");
            assert_eq!(thumbnail.failure_reason, registered.poster_missing_reason, "{mime}");
            assert!(!audio || thumbnail.failure_reason == none, "{mime}: {thumbnail:?}");
            continue;
        };
        assert_eq!(registered.poster_missing_reason, "", "{mime}");
        assert_eq!(thumbnail.state(), State::Ready, "{mime}: {thumbnail:?}");
        let square = see(&cluster.fetch(&thumbnail.url).await);
        assert_eq!((square.width, square.height), (256, 256), "{mime}");
        let picture = output.poster.clone().unwrap().large.unwrap();
        assert_eq!((picture.width, picture.height), large, "{mime}");
        let seen = see(&cluster.fetch(&picture.url).await);
        assert_eq!((seen.width as i32, seen.height as i32), large, "{mime}");
        if mime == "image/png" {
            assert_eq!(seen.quarters(), [0, 1, 2, 3].map(Some));
        }
        // Again gives the same.
        assert_eq!(account.register(&asset, stored).await.unwrap().into_inner().asset.unwrap(), output);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_too_heavy_to_be_shown_is_registered_and_says_why() {
    let cluster = Cluster::with(|config| {
        config.decode_pool.pictures.pixels = 10_000;
        config.decode_pool.pictures.bytes = 10;
    })
    .await;
    let account = cluster.account().await;
    let name = cluster.blobs.put(png(200, 100, &quarters(200, 100)).into(), "png").await.unwrap();
    let asset = domain::name::asset_name(&name.sha256());
    let registered = account.register(&asset, "png").await.unwrap().into_inner();
    let reason = "the picture is 200 x 100 pixels, at most 10000 pixels in all are taken";
    assert_eq!(registered.poster_missing_reason, reason);
    let output = registered.asset.unwrap();
    assert_eq!((output.width, output.height, output.poster), (200, 100, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_stored_output_is_not_registered() {
    let cluster = Cluster::with(|config| config.max_output_bytes = 40_000).await;
    let account = cluster.account().await;
    let invalid = Code::InvalidArgument;
    let absent = format!("assets/{}", "0".repeat(64));
    refused(account.register(&absent, "mp4").await, Code::FailedPrecondition, "UPLOAD_INCOMPLETE", "");
    for extension in ["", "MP4", "../x", "toolongone"] {
        refused(account.register(&absent, extension).await, invalid, "INPUT_SCHEMA_VIOLATION", "extension");
    }
    for (bytes, extension, reason) in [
        (b"a text".to_vec(), "mp4", "INPUT_SCHEMA_VIOLATION"),
        (fixture("fade-baseline.mp4"), "mp4", "INPUT_TOO_LARGE"),
    ] {
        let name = cluster.blobs.put(bytes.into(), extension).await.unwrap();
        let asset = domain::name::asset_name(&name.sha256());
        refused(account.register(&asset, extension).await, invalid, reason, "asset");
    }
    assert_eq!(cluster.traces().await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_at_once_is_sent_away_with_a_time() {
    let cluster = Cluster::with(|config| {
        config.decode_pool.processes = 1;
        config.decode_pool.waiting = 1;
        config.runner.slots = 1;
    })
    .await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    cluster.settled(&account, &asset.name).await;
    let sides = [320, 360, 512, 640, 768, 1_024];
    let calls: Vec<_> = (0..36)
        .map(|n| {
            let (account, asset) = (account.clone(), asset.name.clone());
            tokio::spawn(async move { account.render(&asset, (sides[n / 6], sides[n % 6], 0), false).await })
        })
        .collect();
    let (mut done, mut away) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(thumbnail) => {
                assert_eq!(thumbnail.into_inner().state(), State::Ready);
                done += 1;
            }
            refusal => {
                let status = refusal.as_ref().unwrap_err();
                assert!(status.metadata().contains_key("grpc-retry-pushback-ms"), "{status:?}");
                refused(refusal, Code::ResourceExhausted, "OVERLOADED", "");
                away += 1;
            }
        }
    }
    assert!(done >= 1 && away >= 1, "{done} done, {away} sent away");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_one_thumbnail_cost_one() {
    let cluster = Cluster::with(|config| {
        config.decode_pool.processes = 1;
        config.decode_pool.waiting = 1;
    })
    .await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    cluster.settled(&account, &asset.name).await;
    // With one place to wait, a second decoding of it would be refused.
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (account, asset) = (account.clone(), asset.name.clone());
            tokio::spawn(async move { account.render(&asset, (1_000, 1_000, 0), false).await.unwrap().into_inner() })
        })
        .collect();
    let mut urls = std::collections::BTreeSet::new();
    for call in calls {
        urls.insert(call.await.unwrap().url);
    }
    assert_eq!(urls.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_that_is_there_stays() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let asset = account.upload(&fixture("baseline.jpg")).await.unwrap().into_inner();
    let ready = cluster.settled(&account, &asset.name).await;
    let database = &cluster.config.database;
    let pool = chassis::postgres::Pool::connect_lazy("test", &database.url, &database.pool).unwrap();
    let store = Store::new(pool, jobs::Notifier::new(KIND, None));
    let sha256 = domain::name::asset(&asset.name).unwrap();
    let key = ThumbnailKey::default_of(domain::id::AccountId(account.id), sha256);
    for late in [ThumbnailStatus::Failed("too late".into()), ThumbnailStatus::Processing] {
        assert!(!store.settle(&key, &late).await.unwrap(), "{late:?}");
        assert_eq!(account.get(&asset.name).await.unwrap().into_inner().thumbnail.unwrap(), ready);
    }
}
