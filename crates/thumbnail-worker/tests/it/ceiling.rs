//! The ceiling of memory: the service as a process, with all of its decoders, while several accounts send the heaviest files that it takes.
//! Memory is what the kernel counts, not what is estimated.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proto::assets::v1::asset_service_client::AssetServiceClient;
use testkit::Doors;
use tonic::{Code, Status};

use crate::cluster::{Account, Cluster, PROGRAM, PUBLIC};
use crate::film::Film;
use crate::paint::webp;

/// The default, in bytes.
const CEILING: u64 = 640 << 20;

/// How long one thing may take beside all others.
const LONG: Duration = Duration::from_secs(60);

/// A process that is killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service of its own process, on the data of `cluster`.
async fn start(cluster: &Cluster) -> (Process, Doors) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (port, internal) = (free(), free());
    let process = Command::new(PROGRAM)
        .env_clear()
        .env("RUSHES_LISTEN", port.to_string())
        .env("RUSHES_INTERNAL_LISTEN", internal.to_string())
        .env("RUSHES_INTERNAL_KEYS", testkit::INTERNAL_KEYS)
        .env("RUSHES_DATABASE_URL", &cluster.config.database.url)
        .env("RUSHES_BLOBS_URL", &cluster.config.blobs.url)
        .env("RUSHES_PUBLIC_URL", PUBLIC)
        .env("RUSHES_ASSET_URLS", "public")
        // Six heavy files at once are more than a small machine has cores for, and PostgreSQL is not away for that.
        .env("RUSHES_DATABASE_UNRESPONSIVE_AFTER", "5s")
        .env("RUSHES_FFMPEG", "off")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = Process(process.unwrap());
    let listens = async || tokio::net::TcpStream::connect(port).await.ok();
    testkit::eventually("it listens", Duration::from_secs(20), listens).await.unwrap();
    (process, Doors::of("thumbnail-worker", port, internal))
}

/// A line of a process's status, in bytes.
fn status(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()).collect()
}

/// Calls until what is called is not away.
async fn again<T, F>(call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Status>>,
{
    let until = Instant::now() + LONG;
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(status)
                if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) && Instant::now() < until =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) => panic!("{status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_with_all_of_its_decoders_stays_below_its_ceiling() {
    let cluster = Cluster::with(|config| config.runner.slots = 0).await;
    let (process, doors) = start(&cluster).await;
    let pid = process.0.id();
    let client = AssetServiceClient::new(doors);
    // 2,400 pixels a side, without loss: 9 bytes a pixel, and the copy for its flags. Each is another file.
    let pictures = (0..4_u32).map(|n| {
        let rgb: Vec<u8> = (0..2_360 * 2_360_u32).flat_map(|at| [(at >> 9) as u8, (at >> 13) as u8, n as u8]).collect();
        webp(2_360, 2_360, &rgb, true)
    });
    let pictures: Vec<Vec<u8>> = pictures.collect();
    let film = Film::new(1_280, 720).shoot(12, |n, x, y| [(n * 9) as u8, x as u8, y as u8]).file();
    let output = cluster.blobs.put(film.into(), "mp4").await.unwrap();
    let output = domain::name::asset_name(&output.sha256());

    let is_done = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let is_done = Arc::clone(&is_done);
        move || {
            let (mut highest, mut peaks) = (0, BTreeMap::new());
            while !is_done.load(Ordering::Relaxed) {
                let all: Vec<u32> = children(pid).into_iter().chain([pid]).collect();
                highest = highest.max(all.iter().filter_map(|pid| status(*pid, "VmRSS:")).sum::<u64>());
                peaks.extend(all.iter().filter_map(|pid| Some((*pid, status(*pid, "VmHWM:")?))));
                std::thread::sleep(Duration::from_millis(2));
            }
            (highest, peaks)
        }
    });
    let mut work = Vec::new();
    for picture in &pictures {
        let account = Account::of(&cluster.account().await, client.clone());
        let picture = picture.clone();
        work.push(tokio::spawn(async move {
            // So much at once leaves a small machine no time for PostgreSQL: what is refused for that is sent again.
            let asset = again(|| account.upload(&picture)).await.into_inner();
            for side in [1_024, 1_000] {
                again(|| account.render(&asset.name, (side, side, 0), false)).await;
            }
        }));
    }
    let account = Account::of(&cluster.account().await, client.clone());
    let registered = again(|| account.register(&output, "mp4")).await.into_inner();
    assert!(registered.asset.unwrap().poster.is_some(), "{}", registered.poster_missing_reason);
    for work in work {
        work.await.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    let (highest, peaks) = watching.join().unwrap();
    let own = peaks[&pid];
    let mib = |bytes: u64| bytes >> 20;
    let decoders: Vec<u64> = peaks.iter().filter(|(of, _)| **of != pid).map(|(_, peak)| mib(*peak)).collect();
    eprintln!("together {} MiB; service {} MiB, decoders {decoders:?} MiB at their peaks", mib(highest), mib(own));
    assert!(decoders.iter().any(|peak| *peak > 50), "they were heavy: {decoders:?}");
    assert!(highest <= CEILING, "{} MiB", mib(highest));
}
