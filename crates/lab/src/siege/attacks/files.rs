//! Uploads: how they come, and what is in them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use proto::assets::v1::asset_service_client::AssetServiceClient;
use proto::assets::v1::{RenderThumbnailRequest, ThumbnailSpec};
use tonic::Request;

use super::super::attacker::{Attacker, many, upload_parts};
use super::super::client::authorize;
use super::pictures;

/// How many upload at once.
const UPLOADERS: usize = 16;
const CHUNK: usize = 64 << 10;

/// Uploads what `each` makes, again and again.
async fn uploading(attacker: Arc<Attacker>, until: Instant, each: fn() -> Vec<u8>) {
    let Ok(channel) = attacker.channel() else { return };
    many(&attacker, UPLOADERS, until, move |attacker, _| {
        let channel = channel.clone();
        async move {
            let file = Bytes::from(each());
            let size = i64::try_from(file.len()).unwrap_or(i64::MAX);
            let chunks = (0..file.len()).step_by(CHUNK).map(|at| file.slice(at..(at + CHUNK).min(file.len())));
            attacker.upload(&channel, size, chunks.collect()).await;
        }
    })
    .await;
}

pub(super) async fn idle_uploads(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channel) = attacker.channel() else { return };
    many(&attacker, 40, until, move |attacker, _| {
        let channel = channel.clone();
        async move {
            use futures::StreamExt as _;
            let parts = upload_parts(20 << 20, [Bytes::from_static(b"\x89PNG\r\n\x1a\n")]);
            let parts = futures::stream::iter(parts).chain(futures::stream::pending());
            let mut request = Request::new(parts);
            request.set_timeout(Duration::from_secs(60));
            authorize(&mut request, &attacker.key);
            match AssetServiceClient::new(channel).upload_asset(request).await {
                Ok(_) => attacker.hear("OK"),
                Err(status) => attacker.hear_status(&status),
            }
        }
    })
    .await;
}

pub(super) async fn header_bytewise(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channel) = attacker.channel() else { return };
    many(&attacker, 4, until, move |attacker, _| {
        let channel = channel.clone();
        async move {
            // A segment that is not there, a long one to skip, and then a byte at a time.
            let mut chunks = vec![Bytes::from_static(&[0xff, 0xd8, 0xff, 0xe0, 0, 2])];
            chunks.extend((0..32).map(|_| Bytes::from(vec![0; 256 << 10])));
            chunks.extend((0..20_000).map(|_| Bytes::from_static(&[0])));
            attacker.upload(&channel, 0, chunks).await;
        }
    })
    .await;
}

pub(super) async fn uploads(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || provider_double::picture(&fastrand::u64(..).to_string(), 1_000)).await;
}

pub(super) async fn lying_sizes(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channel) = attacker.channel() else { return };
    many(&attacker, UPLOADERS, until, move |attacker, number| {
        let channel = channel.clone();
        async move {
            let file = Bytes::from(provider_double::picture("lying", 100));
            let size = if number.is_multiple_of(2) { 1 } else { 200 << 20 };
            attacker.upload(&channel, size, vec![file]).await;
        }
    })
    .await;
}

pub(super) async fn jpeg_scans(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || pictures::jpeg(1_000)).await;
}

pub(super) async fn jpeg_work(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || pictures::jpeg(100)).await;
}

pub(super) async fn png_bomb(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || pictures::png(pictures::LARGEST, 0)).await;
}

pub(super) async fn png_chunks(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || pictures::png(16, 100_000)).await;
}

pub(super) async fn webp_sizes(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, pictures::webp).await;
}

/// A box of MP4.
fn mp4_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    [&size.to_be_bytes()[..], kind, body].concat()
}

fn ftyp() -> Vec<u8> {
    mp4_box(b"ftyp", b"isom\0\0\x02\0isomiso2avc1mp41")
}

pub(super) async fn mp4_tables(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || {
        let tables = [*b"stsz", *b"stco", *b"stts", *b"stsc", *b"ctts", *b"stss", *b"co64"];
        let claim = [&[0; 4][..], &[0xff; 4], &[0xff; 4], &fastrand::u64(..).to_be_bytes()].concat();
        let stbl = tables.iter().flat_map(|kind| mp4_box(kind, &claim)).collect::<Vec<_>>();
        let minf = mp4_box(b"minf", &mp4_box(b"stbl", &stbl));
        let trak = mp4_box(b"trak", &mp4_box(b"mdia", &minf));
        [ftyp(), mp4_box(b"moov", &trak)].concat()
    })
    .await;
}

pub(super) async fn mp4_depth(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || {
        let mut inner = fastrand::u64(..).to_be_bytes().to_vec();
        for _ in 0..3_000 {
            inner = mp4_box(if fastrand::bool() { b"moov" } else { b"trak" }, &inner);
        }
        [ftyp(), inner].concat()
    })
    .await;
}

pub(super) async fn webm_depth(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || {
        let header = [&[0x1a, 0x45, 0xdf, 0xa3, 0x87, 0x42, 0x82, 0x84][..], b"webm"].concat();
        // Segments, clusters and tags, all of an unknown size, one in another.
        let elements = [[0x18, 0x53, 0x80, 0x67, 0xff], [0x1f, 0x43, 0xb6, 0x75, 0xff], [0x12, 0x54, 0xc3, 0x67, 0xff]];
        let deep = (0..20_000).flat_map(|_| elements[fastrand::usize(0..elements.len())]).collect::<Vec<_>>();
        [header, deep].concat()
    })
    .await;
}

pub(super) async fn wav_sizes(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || {
        let sizes = [0_u32, 1, 0x7fff_ffff, 0xffff_ffff, fastrand::u32(..)];
        let size = || sizes[fastrand::usize(0..sizes.len())].to_le_bytes();
        let format = [1_u16.to_le_bytes(), u16::MAX.to_le_bytes()].concat();
        let rest = (0..2_000).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
        [b"RIFF", &size()[..], b"WAVEfmt ", &size(), &format, &size(), &size(), &rest, b"data", &size(), &rest].concat()
    })
    .await;
}

pub(super) async fn mp3_noise(attacker: Arc<Attacker>, until: Instant) {
    uploading(attacker, until, || {
        let frames = (0..50_000).flat_map(|_| [0xff, 0xfb, fastrand::u8(..), fastrand::u8(..)]);
        [b"ID3\x04\0\0".to_vec(), vec![0x7f, 0x7f, 0x7f, 0x7f], frames.collect()].concat()
    })
    .await;
}

pub(super) async fn thumbnail_specs(attacker: Arc<Attacker>, until: Instant) {
    let Ok(channel) = attacker.channel() else { return };
    many(&attacker, UPLOADERS, until, move |attacker, _| {
        let channel = channel.clone();
        async move {
            let (width, height, quality) = (fastrand::i32(16..2_000), fastrand::i32(16..2_000), fastrand::i32(1..100));
            let spec = Some(ThumbnailSpec { width, height, quality });
            let request = RenderThumbnailRequest { asset: attacker.asset.clone(), spec, later: false };
            let path = "/rushes.assets.v1.AssetService/RenderThumbnail";
            // What it was told is noted.
            let _ = attacker.call(&channel, path, request.encode_to_vec().into()).await;
        }
    })
    .await;
}
