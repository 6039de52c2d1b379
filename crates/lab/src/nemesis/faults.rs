//! What the provider does wrong in a run of nemesis: everything that the double can, so seldom that most orders complete, and
//! outages of seconds, beside deadlines of two minutes, where real ones last minutes beside a day.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use provider_double::{Faults, Outage, OutageKind, Protocol};

use crate::provider::Provider;

/// How often what goes wrong. Refusals of the account and of the model come with outages alone, as they do in life: each closes
/// a provider or a model for a while.
pub(super) fn faults() -> Faults {
    Faults {
        outage: 0.01,
        lasting: 0.05,
        cut_before: 0.02,
        cut_after: 0.34,
        error_after: 0.02,
        late: 0.05,
        throttled: 0.05,
        refused_401: 0.0,
        refused_402: 0.0,
        refused_403: 0.0,
        refused_404: 0.0,
        refused_503: 0.01,
        // Every model is, of the fields that it has: `settings.strict`.
        strict: 0.0,
        failed: 0.04,
        endless: 0.01,
        forgotten: 0.01,
        stubborn: 0.3,
        unknown_word: 0.05,
        charge_failed: 0.3,
        r#unsafe: 0.005,
        unsafe_list: 0.005,
        unsafe_object: 0.005,
        unsafe_moderated: 0.005,
        unsafe_bare: 0.005,
        unavailable: 0.05,
        poll_404: 0.03,
        poll_404_later: 0.03,
        poll_401: 0.01,
        poll_410: 0.01,
        poll_503: 0.03,
        poll_empty: 0.02,
        poll_html: 0.02,
        poll_long: 0.02,
        output_object: 0.003,
        output_list: 0.003,
        output_data: 0.003,
        output_bare: 0.003,
        output_none: 0.003,
        file_webm: 0.03,
        file_mov: 0.03,
        file_gif: 0.003,
        file_webp: 0.003,
        file_html: 0.003,
        file_empty: 0.003,
        file_huge: 0.003,
        file_truncated: 0.003,
        file_short: 0.02,
        file_cut: 0.02,
        file_moved: 0.03,
        file_moved_inward: 0.003,
        file_403: 0.02,
        file_404: 0.01,
        file_408: 0.01,
        file_429: 0.01,
        file_500: 0.02,
        file_slow: 0.005,
        file_unreachable: 0.003,
        file_unnamed: 0.003,
        file_untrusted: 0.003,
        hook_lost: 0.05,
        hook_twice: 0.1,
        hook_late: 0.1,
        hook_forged: 0.05,
        hook_reordered: 0.2,
        hook_other_id: 0.05,
        hook_no_id: 0.05,
        hook_long: 0.05,
    }
}

/// Has the provider away for some seconds, again and again, until `done`; gives how often, by kind.
pub(super) async fn outages(provider: &Provider, seed: u64, done: &AtomicBool) -> BTreeMap<String, u64> {
    let mut rng = Rng::with_seed(seed.wrapping_add(2));
    let mut begun = BTreeMap::new();
    loop {
        let outage = draw(&mut rng);
        let next = Instant::now() + Duration::from_millis(rng.u64(4_000..15_000));
        while Instant::now() < next {
            if done.load(Ordering::Relaxed) {
                return begun;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if provider.begin_outage(&outage).await {
            *begun.entry(format!("{:?}", outage.kind).to_lowercase()).or_default() += 1;
        }
        // One at a time: while connections are refused no other can be asked for.
        tokio::time::sleep(Duration::from_millis(outage.for_ms)).await;
    }
}

fn draw(rng: &mut Rng) -> Outage {
    let kinds =
        [OutageKind::Errors, OutageKind::Refused, OutageKind::Locked, OutageKind::Revoked, OutageKind::Throttled];
    let protocols =
        [None, Some(Protocol::Replicate), Some(Protocol::Fal), Some(Protocol::OpenRouter), Some(Protocol::Cog)];
    Outage {
        kind: kinds[rng.usize(0..kinds.len())],
        after_ms: 0,
        for_ms: rng.u64(1_000..6_000),
        protocol: protocols[rng.usize(0..protocols.len())],
        token: None,
    }
}
