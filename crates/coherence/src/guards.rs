//! The guards: each condition of the protocol that refuses something, by name, so that a simulator can take one out at a
//! time and see that some history then breaks a promise.
//!
//! Invariant: this crate has no guard that can be taken out. [`Enforced`] is a constant; a type that says anything else is its
//! owner's, and reaches only the rules that were instantiated with it.

use std::fmt::Debug;

/// Makes the list of guards from one table: a name, and the file that asks it.
macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident in $place:literal,)+) => {
        /// A guard, and the history that it stops.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Guard { $($(#[$doc])* $name,)+ }

        impl Guard {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The file that asks it.
            #[must_use]
            pub fn place(self) -> &'static str {
                match self { $(Self::$name => $place,)+ }
            }
        }
    };
}

guards! {
    /// An L1 entry ends at its time, whatever proves it.
    L1End in "coherence/entry.rs",
    /// An L1 entry below its watermark or the caller's token is not served.
    L1Requirement in "coherence/entry.rs",
    /// A proof beyond its age proves nothing in L1.
    L1Age in "coherence/entry.rs",
    /// A proof from before a barrier proves nothing in L1.
    L1Barrier in "coherence/entry.rs",
    /// A load that took too long puts nothing into L1.
    L1FillDeadline in "coherence/entry.rs",
    /// A load that an event or a write overtook is not put into L1.
    L1FillWatermark in "coherence/entry.rs",
    /// An older version does not replace a newer one in L1.
    L1FillOrder in "coherence/entry.rs",
    /// After a step back of PostgreSQL's clock, proofs from before it are refused.
    ClockBarrier in "coherence/clock.rs",
    /// A proof from the future is refused.
    ClockFuture in "coherence/clock.rs",
    /// A message from the future closes the window.
    ClockContradicted in "cache/inner.rs",
    /// A proof is taken for as much older as a step that goes unnoticed.
    ClockMargin in "coherence/clock.rs",
    /// The estimate of PostgreSQL's clock counts from when the query was sent, not from when the answer came.
    ClockUpper in "coherence/clock.rs",
    /// An event or an own write raises the watermark.
    WatermarkRaise in "coherence/watermarks.rs",
    /// An answer given raises the watermark.
    WatermarkAnswer in "coherence/watermarks.rs",
    /// "Does not exist", once answered, is a barrier.
    AbsenceBarrier in "coherence/watermarks.rs",
    /// An own write of unknown version puts up a barrier.
    WriteBarrier in "coherence/watermarks.rs",
    /// A load that hangs is not joined.
    JoinAge in "coherence/in_flight.rs",
    /// A load from before a barrier is not joined.
    JoinBarrier in "coherence/in_flight.rs",
    /// A reader takes the answer of a load that it joined only if it is good enough for that reader.
    JoinAccepts in "coherence/in_flight.rs",
    /// L1 does not outlive what Redis had left.
    L1OutlivesL2 in "coherence/lifetime.rs",
    /// A proof beyond its age proves nothing in Redis.
    L2Age in "coherence/read.rs",
    /// What Redis has below the watermark, a barrier or the caller's token is not served.
    L2Requirement in "coherence/read.rs",
    /// A validated body has exactly the version that PostgreSQL answers.
    ValidatedVersion in "coherence/read.rs",
    /// A validated body ends at its own time.
    ValidatedEnd in "coherence/read.rs",
    /// A validated body is given to Redis for what is left of its life.
    ValidatedRest in "coherence/lifetime.rs",
    /// A load below what is known is answered but not kept.
    LoadedKeep in "coherence/read.rs",
    /// A holder that was paused past its lease does not fill.
    FillDeadline in "coherence/read.rs",
    /// A leader that was superseded stops.
    RelaySuperseded in "coherence/relay.rs",
    /// A leader whose clock went back stops.
    RelayClockBack in "coherence/relay.rs",
    /// A Redis of another run gets a new name space.
    RelayReopen in "coherence/relay.rs",
    /// A pass that left changes behind claims no time.
    RelayPartial in "coherence/relay.rs",
    /// Redis is proven only after every change was applied.
    RelayProve in "coherence/relay.rs",
    /// A name space that lacks a change is never proven again.
    RelayDirty in "coherence/relay.rs",
    /// A new term restarts the window.
    WindowEpoch in "coherence/window.rs",
    /// A skipped number restarts the window.
    WindowGap in "coherence/window.rs",
    /// What was loaded before the window began is not covered.
    WindowFirst in "coherence/window.rs",
    /// The relay names the name space that it applies to: without it nothing is applied while the proof is gone, and the
    /// proof that follows vouches for what was not applied.
    ApplyNamesSpace in "cache/redis/apply.lua",
    /// An applier never creates.
    ApplyNeverCreates in "cache/redis/apply.lua",
    /// An applier takes a lease away.
    ApplyVoidsLease in "cache/redis/apply.lua",
    /// A fill needs the live lease.
    FillLease in "cache/redis/fill.lua",
    /// A lease ends by Redis's clock.
    FillLeaseEnds in "cache/redis/fill.lua",
    /// A fill never goes below what is there.
    FillVersion in "cache/redis/fill.lua",
    /// Proof and entry are read in one step.
    GetOneStep in "cache/redis/get.lua",
    /// The time of a pass is taken before its snapshot.
    DrainTimeFirst in "cache/relay/store.rs",
    /// A compaction is conditional on the epoch.
    CompactGuarded in "cache/relay/store.rs",
    /// Changes are applied to Redis and published before they are compacted.
    CompactLast in "cache/relay.rs",
    /// After a compaction in doubt the leader ends its term.
    CompactInDoubt in "cache/relay.rs",
    /// A proof is sent on the connection whose server was named.
    SessionRun in "cache/redis/link.rs",
    /// Changes reach the watermarks and L1 before the window moves.
    ReceiveOrder in "cache/inner.rs",
    /// A writer raises its own process's watermark before it replies.
    WroteFirst in "cache/cache.rs",
    /// What another process's answer said, which was passed on, raises the watermark.
    PassedOn in "gateway/forward/answers.rs",
    /// Another process is asked for no less than was answered here.
    AskedElsewhere in "gateway/forward/answers.rs",
    /// What was written through this process binds its readers.
    WrittenThrough in "gateway/forward/answers.rs",
}

/// Which guards a build of the rules enforces: a type parameter of every rule, so that a guard that can be taken out is another
/// type, which no service names.
pub trait Guards: Copy + Debug + Default + Eq + Send + Sync + 'static {
    /// Whether the condition behind this guard is checked.
    fn enforced(guard: Guard) -> bool;
}

/// All guards: what ships, and the default of every rule's type parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced;

impl Guards for Enforced {
    // A constant where it is asked, so that a rule compiles to its condition alone.
    #[inline(always)]
    fn enforced(_: Guard) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_enforces_every_guard_and_each_has_a_name_of_its_own() {
        assert!(Guard::ALL.iter().all(|guard| Enforced::enforced(*guard)));
        let mut names: Vec<_> = Guard::ALL.iter().map(|guard| guard.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Guard::ALL.len());
    }
}
