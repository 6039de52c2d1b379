//! All attacks, each with what it sends. Each is one case of a kind; its neighbours are attacks of their own.

mod calls;
mod connections;
mod files;
mod pictures;
mod plain;
mod streams;

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;

use super::attacker::Attacker;

/// One attack.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// Who sends what.
    pub(super) what: &'static str,
    pub(super) run: fn(Arc<Attacker>, Instant) -> BoxFuture<'static, ()>,
}

macro_rules! attacks {
    ($($name:literal: $what:literal => $run:path;)*) => {
        &[$(Attack { name: $name, what: $what, run: |attacker, until| Box::pin($run(attacker, until)) }),*]
    };
}

/// In the order of trust: who has only an address, who knows HTTP, who knows the API, who has a key.
pub(super) const ATTACKS: &[Attack] = attacks! {
    "idle-connections": "anybody: 600 connections that send nothing" => connections::idle;
    "half-a-preface": "anybody: 600 connections with half of HTTP/2's preface" => connections::half_preface;
    "preface-alone": "anybody: 600 connections with preface and settings, then nothing" => connections::silent;
    "connect-and-close": "anybody: connections opened and closed as fast as they can be" => connections::churn;
    "slow-headers": "anybody: 400 requests of HTTP/1.1 whose headers come byte by byte" => connections::slow_headers;
    "random-bytes": "anybody: random bytes in place of a protocol" => connections::random_bytes;
    "ping-flood": "anybody: PING frames as fast as they can be written" => connections::pings;
    "settings-flood": "anybody: SETTINGS frames as fast as they can be written" => connections::settings;
    "window-flood": "anybody: WINDOW_UPDATE frames of one byte" => connections::windows;
    "priority-flood": "anybody: PRIORITY frames of a thousand streams" => connections::priorities;
    "empty-data-flood": "anybody: empty DATA frames on an open stream" => connections::empty_data;
    "rapid-reset": "anybody: streams opened and reset at once" => connections::rapid_reset;
    "continuation-flood": "anybody: CONTINUATION frames without an end" => connections::continuations;
    "header-list": "anybody: a list of headers of 200 KB" => connections::header_list;
    "header-fields": "anybody: requests with 1,000 header fields" => connections::header_fields;
    "no-window": "anybody: reads of reflection with a window of zero" => connections::no_window;
    "health-without-body": "anybody: 1,024 health checks that never send their body, over six connections" => streams::health;
    "health-byte-by-byte": "anybody: health checks whose body comes a byte a second" => streams::health_slowly;
    "reflection-streams": "anybody: 500 reflection streams with most of a long message" => streams::reflection;
    "unknown-calls-without-body": "anybody: calls of no method that never send their body" => streams::unknown;
    "calls-without-body": "a key: 1,024 calls that never send their body, over six connections" => streams::with_key;
    "preflights": "anybody: preflight requests of CORS" => plain::preflights;
    "missing-assets": "anybody: requests for assets that do not exist" => plain::missing_assets;
    "slow-asset-readers": "anybody: 400 readers of an asset that read nothing" => plain::slow_readers;
    "asset-ranges": "anybody: ranges of an asset, 1,000 in one header" => plain::ranges;
    "forged-links": "anybody: signed links with a wrong signature" => plain::forged_links;
    "silent-hooks": "anybody: 200 webhooks of a megabyte that stop before their last bytes" => plain::silent_hooks;
    "long-hooks": "anybody: webhooks of 3 MB with a wrong signature" => plain::long_hooks;
    "slow-hooks": "anybody: 200 webhooks whose body comes a byte at a time" => plain::slow_hooks;
    "chunked-hooks": "anybody: webhooks in chunks without an end" => plain::chunked_hooks;
    "grpc-web-garbage": "anybody: frames of gRPC-Web that are none" => plain::grpc_web;
    "unknown-methods": "anybody: calls of a thousand methods that do not exist, with a strange staleness" => calls::unknown_methods;
    "unknown-keys": "anybody: 120 callers with well-formed keys that nobody made" => calls::unknown_keys;
    "malformed-keys": "anybody: 64 callers with keys that cannot be" => calls::malformed_keys;
    "forged-traces": "anybody: calls that force a trace to be kept" => calls::forged_traces;
    "long-metadata": "a key: metadata of 8 KB with each call" => calls::long_metadata;
    "forged-tokens": "a key: a session token from the future with each read" => calls::forged_tokens;
    "forged-pages": "a key: page tokens of any bytes" => calls::forged_pages;
    "dashboards": "a key: 64 callers of its dashboard" => calls::dashboards;
    "polls": "a key: 64 callers of generations that do not exist" => calls::polls;
    "long-lists": "a key: reads of as many names as a message takes" => calls::long_lists;
    "cancelled-calls": "a key: calls that are given up at once" => calls::cancelled;
    "many-violations": "a key: 32,000 empty names in one call" => calls::many_violations;
    "violating-settings": "a key: an order with 2,000 pictures that do not exist" => calls::violating_media;
    "deep-parameters": "a key: parameters of an order as deep as a decoder goes, and 5,000 groups that never end" => calls::deep_parameters;
    "long-bombs": "a key: 1,900,000 names in 4 KB of gzip" => calls::bomb_names;
    "bombs-everywhere": "a key: 16 MB of zeros in gzip to every method" => calls::bombs_everywhere;
    "garbage-everywhere": "a key: random bytes to every method" => calls::garbage_everywhere;
    "writes": "a key: projects and scenes as fast as they are taken" => calls::writes;
    "one-row-writes": "a key: 64 writers of one project" => calls::one_row;
    "orders": "a key: generations as fast as they are taken" => calls::orders;
    "batches": "a key: sixteen generations in each call, as fast as they are taken" => calls::batches;
    "hook-tests": "a key: tests of a webhook's endpoint" => calls::hook_tests;
    "watches-without-reader": "a key: 1,024 watches that nobody reads" => streams::watches;
    "watch-churn": "a key: watches that are opened and left at once" => calls::watch_churn;
    "idle-uploads": "a key: 40 uploads that send a chunk and wait" => files::idle_uploads;
    "header-byte-by-byte": "a key: a picture whose header comes in 20,000 chunks" => files::header_bytewise;
    "uploads": "a key: 32 uploads at once, again and again" => files::uploads;
    "lying-sizes": "a key: uploads that send less or more than they said" => files::lying_sizes;
    "jpeg-scans": "a key: a JPEG of 10 KB with a thousand scans" => files::jpeg_scans;
    "jpeg-work": "a key: a JPEG of 50 megapixels with as many scans as are taken" => files::jpeg_work;
    "png-bomb": "a key: a PNG of 50 megapixels, as many as are taken, in 150 KB" => files::png_bomb;
    "png-chunks": "a key: a PNG of 100,000 chunks" => files::png_chunks;
    "webp-sizes": "a key: WebP headers of pictures that are not there" => files::webp_sizes;
    "mp4-tables": "a key: MP4s whose tables claim four billion entries" => files::mp4_tables;
    "mp4-depth": "a key: MP4s of boxes in boxes in boxes" => files::mp4_depth;
    "webm-depth": "a key: WebMs of elements of unknown size" => files::webm_depth;
    "wav-sizes": "a key: WAVs whose sizes lie" => files::wav_sizes;
    "mp3-noise": "a key: MP3s whose frames are noise" => files::mp3_noise;
    "thumbnail-specs": "a key: another thumbnail of one picture with each call" => files::thumbnail_specs;
};
