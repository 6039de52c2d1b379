//! What accounts have in storage: listed, deleted, limited, and what nobody has removed.

use std::time::{Duration, SystemTime};

use chassis::blobs::Name;
use proto::assets::v1::list_assets_request::Kind;
use proto::assets::v1::thumbnail::State;
use proto::assets::v1::{ListAssetsRequest, UploadMetadata};
use thumbnail_worker::model::Quota;
use thumbnail_worker::orphans::Mode;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::cluster::{Account, Cluster, HOUR};
use crate::paint::{fixture, png, quarters};
use crate::sounds::wav;
use crate::uploads::refused;

fn picture(side: u32) -> Vec<u8> {
    png(side, side, &quarters(side, side))
}

fn stating(size_bytes: usize) -> UploadMetadata {
    UploadMetadata { file_name: "a.png".into(), size_bytes: i64::try_from(size_bytes).unwrap() }
}

async fn names(account: &Account, request: ListAssetsRequest) -> (Vec<String>, String) {
    let listed = account.list(request).await.unwrap().into_inner();
    (listed.assets.into_iter().map(|asset| asset.name).collect(), listed.next_page_token)
}

impl Cluster {
    /// The objects in storage.
    async fn objects(&self) -> usize {
        self.traces().await.1
    }

    /// A generation of the account that is under way and has these assets as its input.
    async fn generation(&self, account: &Account, media: &[&str]) -> Uuid {
        self.try_generation(account, media).await.unwrap()
    }

    async fn try_generation(&self, account: &Account, media: &[&str]) -> Result<Uuid, sqlx::Error> {
        let media: Vec<_> = media.iter().map(|asset| format!(r#"{{"role":"REFERENCE","asset":"{asset}"}}"#)).collect();
        let id = Uuid::now_v7();
        sqlx::query(
            "with project as (
                 insert into projects (id, account_id, title) values ($1, $2, 'P')
             ), scene as (
                 insert into scenes (id, account_id, project_id, title, position) values ($1, $2, $1, 'S', 0)
             )
             insert into generations (id, account_id, project_id, scene_id, model, prompt, seed, held_micros, request_id,
                                      request_sha256, input)
             values ($1, $2, $1, $1, 'm', 'p', 1, 0, $1, '', jsonb_build_object('media', $3::jsonb))",
        )
        .bind(id)
        .bind(account.id)
        .bind(format!("[{}]", media.join(",")))
        .execute(&self.pool)
        .await?;
        Ok(id)
    }

    /// Ends it, with these assets as its output.
    async fn end(&self, generation: Uuid, outputs: &[&str]) {
        let outputs: Vec<_> = outputs.iter().map(|asset| format!(r#"{{"asset":"{asset}"}}"#)).collect();
        sqlx::query("update generations set state = 6, end_time = now(), outputs = $2::jsonb where id = $1")
            .bind(generation)
            .bind(format!("[{}]", outputs.join(",")))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn counted(&self, account: &Account) -> (i64, i64) {
        let query = "select bytes, objects from account_storage where account_id = $1";
        sqlx::query_as(query).bind(account.id).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_listed_from_new_to_old_by_kind_and_time() {
    let cluster = Cluster::start().await;
    let (account, other) = (cluster.account().await, cluster.account().await);
    let mut made = Vec::new();
    for file in [picture(20), wav(4_000), picture(21), fixture("fade-baseline.mp4")] {
        made.insert(0, account.upload(&file).await.unwrap().into_inner().name);
    }
    other.upload(&picture(22)).await.unwrap();

    let all = || ListAssetsRequest { page_size: 3, ..ListAssetsRequest::default() };
    let (first, token) = names(&account, all()).await;
    assert_eq!(first, made[..3]);
    let (second, end) = names(&account, ListAssetsRequest { page_token: token.clone(), ..all() }).await;
    assert_eq!((second.as_slice(), end.as_str()), (&made[3..], ""));
    let pictures = || ListAssetsRequest { kind: Kind::Picture.into(), page_size: 1, ..ListAssetsRequest::default() };
    let (first, next) = names(&account, pictures()).await;
    let (second, end) = names(&account, ListAssetsRequest { page_token: next, ..pictures() }).await;
    assert_eq!(([first, second].concat(), end.as_str()), (vec![made[1].clone(), made[3].clone()], ""));
    for (kind, name) in [(Kind::Video, &made[0]), (Kind::Sound, &made[2])] {
        let (listed, _) = names(&account, ListAssetsRequest { kind: kind.into(), ..all() }).await;
        assert_eq!(listed, std::slice::from_ref(name));
    }
    // A token is of its own listing and account.
    for (account, request) in [(&other, all()), (&account, pictures())] {
        let answer = account.list(ListAssetsRequest { page_token: token.clone(), ..request }).await;
        refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    }
    refused(
        account.list(ListAssetsRequest { kind: 9, ..all() }).await,
        Code::InvalidArgument,
        "INPUT_SCHEMA_VIOLATION",
        "kind",
    );

    // The two in the middle are of yesterday.
    sqlx::query("update assets set create_time = create_time - interval '1 day' where 'assets/' || encode(sha256, 'hex') = any ($1)")
        .bind(&made[1..3])
        .execute(&cluster.pool)
        .await
        .unwrap();
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let noon = prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap() - 43_200, nanos: 0 };
    let (young, _) = names(&account, ListAssetsRequest { create_time_from: Some(noon), ..all() }).await;
    assert_eq!(young, [made[0].clone(), made[3].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_asset_is_gone_with_its_thumbnails_and_can_come_again() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let before = cluster.objects().await;
    let asset = account.upload(&picture(300)).await.unwrap().into_inner();
    cluster.settled(&account, &asset.name).await;
    account.render(&asset.name, (64, 64, 0), false).await.unwrap();
    assert_eq!(cluster.objects().await, before + 3);
    account.delete(&asset.name, false).await.unwrap();
    refused(account.get(&asset.name).await, Code::NotFound, "ASSET_NOT_FOUND", "");
    assert_eq!(names(&account, ListAssetsRequest::default()).await.0, Vec::<String>::new());
    assert_eq!(cluster.traces().await, (0, before), "neither rows, nor jobs, nor bytes");
    assert_eq!(cluster.counted(&account).await, (0, 0));
    refused(account.delete(&asset.name, false).await, Code::NotFound, "ASSET_NOT_FOUND", "");
    account.delete(&asset.name, true).await.unwrap();

    account.upload(&picture(300)).await.unwrap();
    assert_eq!(cluster.settled(&account, &asset.name).await.state(), State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_stay_until_their_last_owner_deletes_them() {
    let cluster = Cluster::start().await;
    let (account, other) = (cluster.account().await, cluster.account().await);
    let asset = account.upload(&picture(80)).await.unwrap().into_inner();
    other.upload(&picture(80)).await.unwrap();
    for one in [&account, &other] {
        cluster.settled(one, &asset.name).await;
    }
    let stranger = cluster.account().await;
    refused(stranger.delete(&asset.name, false).await, Code::NotFound, "ASSET_NOT_FOUND", "");
    stranger.delete(&asset.name, true).await.unwrap();
    account.delete(&asset.name, false).await.unwrap();
    assert_eq!(cluster.fetch(&asset.url).await, picture(80));
    assert_eq!(other.get(&asset.name).await.unwrap().into_inner().thumbnail.unwrap().state(), State::Ready);
    other.delete(&asset.name, false).await.unwrap();
    let name: Name = asset.url.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(cluster.blobs.head(&name).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_is_not_deleted() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let input = account.upload(&picture(40)).await.unwrap().into_inner().name;
    let output = account.upload(&picture(41)).await.unwrap().into_inner().name;
    let generation = cluster.generation(&account, &[&input, &input]).await;
    let in_use = (Code::FailedPrecondition, "ASSET_IN_USE");
    refused(account.delete(&input, true).await, in_use.0, in_use.1, "");
    cluster.end(generation, &[&output]).await;
    account.delete(&input, false).await.unwrap();
    refused(account.delete(&output, false).await, in_use.0, in_use.1, "");
    assert!(account.get(&output).await.is_ok());

    // Another account's use of the same bytes is no business of this one's.
    let other = cluster.account().await;
    other.upload(&picture(41)).await.unwrap();
    other.delete(&output, false).await.unwrap();

    // What is gone cannot be used.
    let missing = format!("assets/{}", "0".repeat(64));
    let began = cluster.try_generation(&account, &[&missing]).await;
    let error = began.expect_err("a generation began with an asset that there is not");
    assert_eq!(error.as_database_error().unwrap().constraint(), Some("asset_uses_asset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_a_quota_of_bytes_and_of_assets() {
    let (small, large) = (picture(30), picture(200));
    let room = small.len() + large.len() - 1;
    let cluster = Cluster::with(|config| config.quota = Quota { bytes: room as u64, objects: 2 }).await;
    let account = cluster.account().await;
    let full = (Code::ResourceExhausted, "STORAGE_QUOTA_EXCEEDED");
    let before = cluster.objects().await;
    // Refused by its stated size, before a byte is sent.
    refused(account.upload_as(stating(room + 1), b"").await, full.0, full.1, "");
    let name = account.upload(&small).await.unwrap().into_inner().name;
    cluster.settled(&account, &name).await;
    // Refused as its bytes come: it states no size.
    refused(account.upload(&large).await, full.0, full.1, "");
    assert_eq!(cluster.objects().await, before + 2, "nothing of what was refused is stored");
    assert_eq!(cluster.counted(&account).await, (small.len() as i64, 1));
    // The same bytes once more take no more.
    account.upload(&small).await.unwrap();

    // Outputs are paid for, and counted.
    let output = cluster.blobs.put(large.clone().into(), "png").await.unwrap();
    let output = format!("assets/{}", output.to_string().trim_end_matches(".png"));
    account.register(&output, "png").await.unwrap();
    assert_eq!(cluster.counted(&account).await, ((small.len() + large.len()) as i64, 2));
    refused(account.upload(&picture(10)).await, full.0, full.1, "");
    // Another account has its own.
    cluster.account().await.upload(&small).await.unwrap();

    let set = "insert into storage_quotas (account_id, max_bytes, max_objects) values ($1, 10000000, null)";
    sqlx::query(set).bind(account.id).execute(&cluster.pool).await.unwrap();
    refused(account.upload(&picture(10)).await, full.0, full.1, "");
    let set = "update storage_quotas set max_objects = 3 where account_id = $1";
    sqlx::query(set).bind(account.id).execute(&cluster.pool).await.unwrap();
    let third = account.upload(&picture(10)).await.unwrap().into_inner().name;
    refused(account.upload(&picture(11)).await, full.0, full.1, "");
    account.delete(&third, false).await.unwrap();
    account.upload(&picture(11)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_once_do_not_take_the_same_room_twice() {
    let cluster = Cluster::with(|config| config.quota.objects = 3).await;
    let account = cluster.account().await;
    let uploads = (0..8).map(|n| {
        let account = account.clone();
        tokio::spawn(async move { account.upload(&picture(50 + n)).await.is_ok() })
    });
    let mut stored = 0;
    for upload in uploads.collect::<Vec<_>>() {
        stored += usize::from(upload.await.unwrap());
    }
    assert_eq!((stored, cluster.counted(&account).await.1), (3, 3));
}

/// Makes an object as old as `age`.
fn make_old(cluster: &Cluster, name: &Name, age: Duration) {
    let name = name.to_string();
    let path = cluster.folder.join(&name[..2]).join(&name);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_names_is_removed_once_it_is_old() {
    for mode in [Mode::Report, Mode::Remove] {
        let mut cluster = Cluster::start().await;
        let account = cluster.account().await;
        let asset = account.upload(&picture(60)).await.unwrap().into_inner();
        let thumbnail = cluster.settled(&account, &asset.name).await;
        let named: Vec<Name> =
            [&asset.url, &thumbnail.url].map(|url| url.rsplit('/').next().unwrap().parse().unwrap()).into();
        let mut planted = Vec::new();
        for n in 0..40_u8 {
            planted.push(cluster.blobs.put(vec![n; 100].into(), "bin").await.unwrap());
        }
        for name in named.iter().chain(&planted[1..]) {
            make_old(&cluster, name, 2 * HOUR);
        }
        let stranger = cluster.folder.join("00").join("notes.txt");
        std::fs::create_dir_all(stranger.parent().unwrap()).unwrap();
        std::fs::write(&stranger, "not ours").unwrap();
        cluster
            .restart(|config| {
                config.orphans.mode = mode;
                config.orphans.period = Duration::from_millis(256);
            })
            .await;
        cluster.scans(2).await;
        let left = async |name: &Name| cluster.blobs.head(name).await.unwrap().is_some();
        for name in &planted[1..] {
            assert_eq!(left(name).await, mode == Mode::Report, "{mode:?}");
        }
        assert!(left(&planted[0]).await, "it is young");
        for name in &named {
            assert!(left(name).await, "a row names it");
        }
        assert!(stranger.exists(), "it is no object of ours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_still_be_registered_is_kept() {
    let mut cluster = Cluster::start().await;
    let account = cluster.account().await;
    let generation = cluster.generation(&account, &[]).await;
    let output = cluster.blobs.put(picture(61).into(), "png").await.unwrap();
    make_old(&cluster, &output, 2 * HOUR);
    // The order began before that, and its output is being brought home.
    let query = "update generations set state = 4, start_time = now() - interval '3 hours' where id = $1";
    sqlx::query(query).bind(generation).execute(&cluster.pool).await.unwrap();
    cluster
        .restart(|config| {
            config.orphans.mode = Mode::Remove;
            config.orphans.period = Duration::from_millis(256);
        })
        .await;
    cluster.scans(2).await;
    assert!(cluster.blobs.head(&output).await.unwrap().is_some());
    cluster.end(generation, &[]).await;
    let removed = async || cluster.blobs.head(&output).await.unwrap().is_none().then_some(());
    testkit::eventually("it is removed", Duration::from_secs(30), removed).await.unwrap();
}

/// Whether a crowded machine had no time.
fn is_busy(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable | Code::ResourceExhausted)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_loses_its_bytes_whoever_deletes_and_removes_meanwhile() {
    // Nothing is too young to be removed here: only locks keep it.
    let cluster = Cluster::with(|config| {
        config.orphans.mode = Mode::Remove;
        config.orphans.min_age = Duration::ZERO;
        config.orphans.period = Duration::from_millis(256);
    })
    .await;
    let accounts = [cluster.account().await, cluster.account().await, cluster.account().await];
    let work = accounts.iter().enumerate().map(|(n, account)| {
        let account = account.clone();
        let blobs = cluster.blobs.clone();
        tokio::spawn(async move {
            for round in 0..25_u32 {
                let file = picture(70 + round % 2);
                let name = if n == 0 {
                    // As a worker does: it stores the bytes until they are registered.
                    loop {
                        let stored = blobs.put(file.clone().into(), "png").await.unwrap();
                        let name = format!("assets/{}", stored.to_string().trim_end_matches(".png"));
                        match account.register(&name, "png").await {
                            Ok(_) => break name,
                            Err(status)
                                if is_busy(&status)
                                    || [Code::FailedPrecondition, Code::NotFound].contains(&status.code()) => {}
                            Err(status) => panic!("{status:?}"),
                        }
                    }
                } else {
                    loop {
                        match account.upload(&file).await {
                            Ok(asset) => break asset.into_inner().name,
                            Err(status) if is_busy(&status) => {}
                            Err(status) => panic!("{status:?}"),
                        }
                    }
                };
                // What comes last stays.
                if round == 24 {
                    break;
                }
                loop {
                    match account.delete(&name, true).await {
                        Ok(_) => break,
                        Err(status) if is_busy(&status) => {}
                        Err(status) => panic!("{status:?}"),
                    }
                }
            }
        })
    });
    for one in work.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    cluster.scans(2).await;
    let query = "select blob from assets union select blob from thumbnails where blob is not null
                 union select poster_large from assets where poster_large is not null";
    let named: Vec<String> = sqlx::query_scalar(query).fetch_all(&cluster.pool).await.unwrap();
    assert!(named.len() >= 2, "{named:?}");
    for name in named {
        assert!(cluster.blobs.head(&name.parse().unwrap()).await.unwrap().is_some(), "{name} is named, and gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_assets_that_nothing_uses_are_deleted_where_that_is_asked_for() {
    let mut cluster = Cluster::start().await;
    let account = cluster.account().await;
    let mut names = Vec::new();
    for side in [31, 32, 33] {
        names.push(account.upload(&picture(side)).await.unwrap().into_inner().name);
        cluster.settled(&account, names.last().unwrap()).await;
    }
    let [unused, used, young] = &names[..] else { unreachable!() };
    cluster.generation(&account, &[used]).await;
    sqlx::query(
        "update assets set create_time = now() - interval '3 hours' where 'assets/' || encode(sha256, 'hex') <> $1",
    )
    .bind(young)
    .execute(&cluster.pool)
    .await
    .unwrap();
    // The used one is the oldest, and so is the first that could be deleted.
    sqlx::query(
        "update assets set create_time = now() - interval '4 hours' where 'assets/' || encode(sha256, 'hex') = $1",
    )
    .bind(used)
    .execute(&cluster.pool)
    .await
    .unwrap();
    cluster
        .restart(|config| {
            config.retention.unused_assets = Some(2 * HOUR);
            config.retention.interval = Duration::from_millis(50);
        })
        .await;
    let account = cluster.client_of(account.id);
    let gone = async || account.get(unused).await.is_err().then_some(());
    testkit::eventually("the unused one is deleted", Duration::from_secs(30), gone).await.unwrap();
    for kept in [used, young] {
        assert!(account.get(kept).await.is_ok(), "{kept}");
    }
}

#[tokio::test]
async fn jobs_that_ended_long_ago_are_deleted_where_that_is_asked_for() {
    let mut cluster = Cluster::start().await;
    let account = cluster.account().await;
    let mut planted = Vec::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (state, hours) in [("done", 3), ("failed", 3), ("dead", 3), ("done", 1)] {
        // All began long ago: what counts is the end.
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, now - 5 * 3_600, 0));
        let job = jobs::NewJob { id, ..jobs::NewJob::new(account.id, "thumbnail", id.to_string()) };
        let mut tx = cluster.pool.begin().await.unwrap();
        jobs::enqueue(&mut tx, &job).await.unwrap();
        let query = "update jobs set state = $2, finished_at = now() - make_interval(hours => $3) where id = $1";
        sqlx::query(query).bind(id).bind(state).bind(hours).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        planted.push((id, state, hours));
    }
    cluster
        .restart(|config| {
            config.retention.jobs = Some(2 * HOUR);
            config.retention.interval = Duration::from_millis(50);
        })
        .await;
    let kept = async |id: Uuid| {
        let query = "select exists (select from jobs where id = $1)";
        sqlx::query_scalar::<_, bool>(query).bind(id).fetch_one(&cluster.pool).await.unwrap()
    };
    for (id, state, hours) in planted {
        if state != "dead" && hours > 2 {
            let gone = async || (!kept(id).await).then_some(());
            testkit::eventually("an old one is deleted", Duration::from_secs(30), gone).await.unwrap();
        } else {
            assert!(kept(id).await, "{state}, which ended {hours} hours ago");
        }
    }
}

/// A JPEG with an EXIF block in which a camera wrote where it was.
fn positioned() -> Vec<u8> {
    let plain = fixture("baseline.jpg");
    let block = [&b"Exif\0\0MM\0*\0\0\0\x08"[..], &[0; 6], b"GPS 52.5170N 13.3889E"].concat();
    let length = u16::try_from(block.len() + 2).unwrap().to_be_bytes();
    [&plain[..2], &[0xFF, 0xE1], &length[..], &block, &plain[2..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_carries_nothing_of_what_a_camera_wrote() {
    let cluster = Cluster::start().await;
    let account = cluster.account().await;
    let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    let asset = account.upload(&positioned()).await.unwrap().into_inner();
    let original = cluster.fetch(&asset.url).await;
    assert!(has(&original, b"GPS 52.5170N"), "an original is its bytes");
    cluster.settled(&account, &asset.name).await;
    let url = account.render(&asset.name, (512, 512, 95), false).await.unwrap().into_inner().url;
    let registered = account.register(&asset.name, "jpg").await.unwrap().into_inner().asset.unwrap();
    let poster = registered.poster.unwrap();
    for url in [&url, &registered.thumbnail.unwrap().url, &poster.large.unwrap().url, &poster.small.unwrap().url] {
        let made = cluster.fetch(url).await;
        assert_eq!(&made[8..12], b"WEBP");
        for mark in [&b"GPS"[..], b"EXIF", b"Exif", b"XMP ", b"ICCP"] {
            assert!(!has(&made, mark), "{url} carries {}", String::from_utf8_lossy(mark));
        }
    }
}
