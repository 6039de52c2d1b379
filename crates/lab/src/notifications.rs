//! What the customers' receiver was notified of, beside how the generations ended.
//!
//! Invariants that it checks: every webhook is signed; of one generation none comes before an earlier one was taken, or had been
//! refused for good three times; none of an older version comes after a newer; and every end was notified.

use std::collections::HashMap;

use proto::generations::v1::Generation;
use provider_double::Received;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    /// How many webhooks came.
    pub(crate) webhooks: usize,
    /// How many were not taken.
    pub(crate) refused: usize,
    /// How many came once more although they had been taken: their sender died before it could say so.
    pub(crate) doubles: usize,
    /// How many were given up, since they were refused for good and a newer one came.
    pub(crate) overtaken: usize,
    /// Everything that is wrong, in words.
    pub(crate) wrong: Vec<String>,
}

/// The last that came of a generation.
#[derive(Clone, Default)]
struct Last {
    version: i64,
    state: String,
    taken: bool,
    /// How often it was refused for good.
    refusals: u32,
}

/// So many refusals for good, and a newer event is not kept back any more.
const REFUSALS_FOR_GOOD: u32 = 3;

/// Compares. `secrets` and `ended` are by customer.
pub(crate) fn check(received: &[Received], secrets: &[String], ended: &[Vec<Generation>]) -> Notifications {
    let mut found = Notifications { webhooks: received.len(), ..Notifications::default() };
    let mut lasts: HashMap<(usize, String), Last> = HashMap::new();
    for one in received {
        if !secrets.get(one.customer).is_some_and(|secret| one.is_signed(secret)) {
            found.wrong.push(format!("webhook {} is not signed as it should be", one.id));
            continue;
        }
        found.refused += usize::from(!one.is_accepted());
        let event = one.event();
        let text = |name: &str| event["data"][name].as_str().unwrap_or_default().to_owned();
        let (name, version) = (text("name"), text("version").parse().unwrap_or_default());
        let last = lasts.entry((one.customer, name.clone())).or_default();
        if version < last.version {
            found.wrong.push(format!("{name}: version {version} came after {}", last.version));
            continue;
        }
        if version == last.version && last.taken {
            found.doubles += 1;
            continue;
        }
        if version > last.version && last.version > 0 && !last.taken {
            if last.refusals < REFUSALS_FOR_GOOD {
                found.wrong.push(format!("{name}: version {version} came before {} was taken", last.version));
            }
            found.overtaken += usize::from(last.refusals >= REFUSALS_FOR_GOOD);
        }
        let before = if version == last.version { last.refusals } else { 0 };
        let refusals = before + u32::from(one.is_refused_for_good());
        *last = Last { version, state: text("state"), taken: one.is_accepted(), refusals };
    }
    for (customer, generations) in ended.iter().enumerate() {
        for generation in generations {
            let last = lasts.remove(&(customer, generation.name.clone())).unwrap_or_default();
            if !last.taken || last.state != generation.state().as_str_name() {
                let state = generation.state();
                found.wrong.push(format!("{} is {state:?}; the last webhook said {:?}", generation.name, last.state));
            }
        }
    }
    for (_, name) in lasts.into_keys() {
        found.wrong.push(format!("a webhook tells of {name}, which was not ordered"));
    }
    found
}
