//! Crash points: named places at which a debug build can be made to abort, so that a test kills a process between any two
//! effects.
//!
//! The crate that has the places declares them with [`crash_points!`](crate::crash_points) and passes each with [`point`].
//! Invariant: a process takes only names that it declared. In a build without debug assertions a point is nothing; in
//! others it costs one load unless the process was armed at its start.

use crate::settings::{self, Source};

/// The setting that names the point at which this process aborts.
pub const SETTING: &str = "RUSHES_CRASH_AT";

/// Declares crash points: a constant for each, and `ALL` with their names in this order.
///
/// ```
/// chassis::crash_points! {
///     /// The order is committed, nobody knows of it.
///     ORDER_COMMITTED = "shop.order",
///     /// The bill was sent.
///     BILL_SENT = "shop.bill",
/// }
/// assert_eq!(ALL, [ORDER_COMMITTED, BILL_SENT]);
/// chassis::crash::point(ORDER_COMMITTED);
/// ```
#[macro_export]
macro_rules! crash_points {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        $($(#[doc = $doc])+ pub(crate) const $name: &str = $text;)+
        /// Every crash point of this process.
        #[allow(unreachable_pub, reason = "a test declares its own")]
        pub const ALL: &[&str] = &[$($name),+];
    };
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: OnceLock<(String, AtomicU32)> = OnceLock::new();

    pub(super) fn arm(point: &str, pass: u32) {
        let _ = ARMED.set((point.to_owned(), AtomicU32::new(pass)));
    }

    pub(super) fn reached(point: &str) -> bool {
        let Some((armed, passes)) = ARMED.get() else { return false };
        armed == point && passes.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Makes the process abort at the one of its `points` that `RUSHES_CRASH_AT` names, as `shop.order`, or at its n-th pass, as
/// `shop.order#3`. Called once, at the start.
///
/// # Errors
/// When the setting names none of them; the error lists all. Without debug assertions there are none.
pub fn arm(source: &Source, points: &[&'static str]) -> Result<(), settings::Error> {
    let should = should(if cfg!(debug_assertions) { points } else { &[] });
    let Some(at) = source.optional::<String>(SETTING, &should)? else { return Ok(()) };
    let (name, pass) = at.split_once('#').unwrap_or((&at, "1"));
    match pass.parse() {
        Ok(pass @ 1..) if cfg!(debug_assertions) && points.contains(&name) => {
            #[cfg(debug_assertions)]
            armed::arm(name, pass);
            #[cfg(not(debug_assertions))]
            let _: u32 = pass;
            Ok(())
        }
        _ => Err(settings::Error::wrong(SETTING, &should)),
    }
}

/// What the setting should be. The names come last, after a colon and separated by commas, for tools to read.
fn should(points: &[&'static str]) -> String {
    match points {
        [] => "unset: this process has no crash points".to_owned(),
        _ => format!("a crash point, or one with its pass such as {}#3: {}", points[0], points.join(", ")),
    }
}

/// A place at which the process can be made to abort.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    if armed::reached(name) {
        eprintln!("aborting at {name}, as {SETTING} says");
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(test)]
mod tests {
    use super::*;

    crash_points! {
        /// The first.
        FIRST = "test.first",
        /// The second.
        SECOND = "test.second",
    }

    fn set(at: &str) -> Result<(), settings::Error> {
        arm(&Source::of(&[(SETTING, at)]), ALL)
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_all_that_are() {
        for wrong in ["test.third", "test.first#0", "test.first#x", "test"] {
            let error = set(wrong).unwrap_err().to_string();
            let (_, listed) = error.rsplit_once(": ").unwrap();
            assert_eq!(listed.split(", ").collect::<Vec<_>>(), ALL, "{wrong}");
        }
        assert!(arm(&Source::of(&[(SETTING, FIRST)]), &[]).is_err());
    }

    #[test]
    fn an_armed_point_is_passed_until_its_turn_and_others_always() {
        assert_eq!(arm(&Source::of(&[]), ALL), Ok(()));
        // Nobody passes it that often.
        assert_eq!(set("test.second#1000"), Ok(()));
        point(FIRST);
        point(SECOND);
    }
}
