//! The private words and the field's word for each of them.

use super::names::Kind;

/// A private word.
pub(crate) struct Private {
    /// Its forms in lower case, separated by blanks; `_` inside a form joins words that follow each other.
    pub(crate) forms: &'static str,
    /// What the field says.
    pub(crate) instead: &'static str,
    pub(crate) reach: Reach,
}

/// Where a word is private; elsewhere it is a word like any other.
pub(crate) enum Reach {
    Everywhere,
    /// In every name but those of tests, which are sentences.
    NotInSentences,
    /// Only as the whole name of something of these kinds.
    AloneAs(&'static [Kind]),
    /// In every name but those of tests, in files whose path has one of these parts.
    NamesIn(&'static [&'static str]),
    /// In files whose path has one of these parts.
    In(&'static [&'static str]),
    /// In files whose path has none of these parts.
    NotIn(&'static [&'static str]),
    /// Everywhere, unless one of these words stands before it.
    UnlessAfter(&'static [&'static str]),
    /// Everywhere, unless one of these words stands behind it.
    UnlessBefore(&'static [&'static str]),
}

use Reach::{AloneAs, Everywhere, In, NamesIn, NotIn, NotInSentences, UnlessAfter, UnlessBefore};

/// Where test set-up is written.
const SET_UP: &[&str] = &["/tests/", "/examples/", "crates/dev/", "crates/lab/", "crates/sim/", "crates/testkit/"];

/// Where a generation's progress has a `stage`, as the public API calls it.
const PROGRESS: &[&str] = &[
    "proto/rushes/",
    "migrations/",
    "crates/dashboard/src/",
    "crates/generation-status/src/",
    "crates/generation-worker/src/",
];

/// Where an account's turns in a queue are counted, as fair queueing calls them.
const ACCOUNTS_TURNS: &[&str] = &["migrations/", "crates/jobs/"];

const fn private(forms: &'static str, instead: &'static str, reach: Reach) -> Private {
    Private { forms, instead, reach }
}

pub(crate) const WORDS: &[Private] = &[
    private("wall walls walled", "guard", Everywhere),
    private("stands", "enforced", NotInSentences),
    private("missed", "killed or survives, of a mutant", In(&["crates/sim/", "crates/coherence/"])),
    private("weather weathers", "fault profile", Everywhere),
    private("world worlds", "cluster; Simulation in the simulator", Everywhere),
    private("stage stages", "cluster", NotIn(PROGRESS)),
    private("stand", "cluster", NotInSentences),
    private("stack", "cluster", In(&["/tests/"])),
    private("actor actors side sides turn", "node", NamesIn(SET_UP)),
    private("turns", "keyed lock", NotIn(ACCOUNTS_TURNS)),
    private("flight flights", "in-flight load", UnlessAfter(&["in", "single"])),
    private("seat seats seated", "waiter", Everywhere),
    private("board boards boarded boarding", "join", Everywhere),
    private("depart departs departed departure land lands landed landing", "start, finish", Everywhere),
    private("floor floors floored", "watermark, min_version; baseline in the benchmark", Everywhere),
    private("fence fences fenced", "barrier", In(&["crates/cache/", "crates/coherence/", "crates/sim/"])),
    private("reign reigns", "term", Everywhere),
    private("deposed depose deposes", "superseded", Everywhere),
    private("sight sights", "read view", Everywhere),
    private("fold folds folded folding", "compact", Everywhere),
    private("shadow shadows", "shadow read", UnlessBefore(&["read", "reads"])),
    private("peek peeks peeked", "replica probe", Everywhere),
    private("tally tallies", "counters", Everywhere),
    private("tale tales", "trace", Everywhere),
    private("heir heirs", "successor", Everywhere),
    private("wish wishes", "options", Everywhere),
    private("told", "notified, published, reported", Everywhere),
    private("lane lanes", "pool", Everywhere),
    private("pulse pulses", "liveness probe", Everywhere),
    private("ear ears", "listener", Everywhere),
    private("silence silences", "unresponsive; a timeout", Everywhere),
    private("bell bells rang", "notifier, notify", Everywhere),
    private("ring rings", "notify; ring buffer", UnlessBefore(&["buffer", "buffers"])),
    private("hands", "slots", Everywhere),
    private("desk desks", "claim session", Everywhere),
    private("parcel parcels", "delivery", Everywhere),
    private("once", "idempotency key", AloneAs(&[Kind::File, Kind::Module, Kind::Type])),
    private("look looks looked looking", "poll", UnlessBefore(&["up", "ahead"])),
    private("glance glances", "poll", Everywhere),
    private("park parks parked", "unconfirmed", Everywhere),
    private("bury buries buried lay_to_rest laid_to_rest", "dead-letter", Everywhere),
    private("verdict verdicts", "retry decision; provider charge; audit finding", Everywhere),
    private("flaw flaws", "failure", Everywhere),
    private("standing standings", "queue status", Everywhere),
    private("hold holds", "block reason", In(&["crates/jobs/src/", "proto/rushes/queues/"])),
    private("sweep sweeps sweeper swept sweeping", "reaper; crash-point run; eviction", Everywhere),
    private("face faces", "presenter", Everywhere),
    private("dash dashes", "dashboard; CachedDashboards", Everywhere),
    private("patience patient", "timeout", Everywhere),
    private("most", "max", Everywhere),
    private("least", "min", Everywhere),
    private("holding", "memory budget", Everywhere),
    private("created listed updated", "parse_create, parse_list, parse_update", AloneAs(&[Kind::Function])),
    private("util utils helper helpers common misc", "what it does", AloneAs(&[Kind::File, Kind::Module])),
];

/// Words that a local variable or a parameter may have all the same: short-lived, they are read as plain English.
pub(crate) const PLAIN_IN_LOCALS: &[&str] =
    &["told", "looked", "folded", "landed", "swept", "stand", "turn", "side", "sides"];

/// Words that are private in a sentence as well: comments, documents, logs and messages have other senses for the rest.
pub(crate) const IN_PROSE: &[&str] = &[
    "wall", "walls", "weather", "flight", "flights", "seat", "seats", "boarding", "departs", "floor", "floors",
    "floored", "reign", "reigns", "deposed", "peek", "peeks", "peeked", "tally", "tale", "tales", "heir", "heirs",
    "wishes", "lane", "lanes", "pulse", "silence", "bell", "bells", "desk", "desks", "parcel", "parcels", "glance",
    "glances", "parked", "bury", "buries", "buried", "verdict", "verdicts", "flaw", "flaws", "sweep", "sweeps",
    "sweeper", "swept", "patience", "util", "utils",
];

/// Names that keep a private word.
pub(crate) struct Exception {
    /// A file, or with `*` at the end every file whose path begins so.
    pub(crate) file: &'static str,
    /// The name; `*` for every name.
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
}

pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception { file: "crates/house/tests/house/words*", name: "*", reason: "the rule has to write the words down" },
    Exception {
        file: "crates/dashboard/src/cache.rs",
        name: "dash",
        reason: "the first part of a dashboard's cache key, which the triggers of landed migrations write",
    },
    Exception {
        file: "crates/generation-status/src/cache.rs",
        name: "dash",
        reason: "the same key, which generation-status touches",
    },
    Exception {
        file: "crates/gateway/src/forward/answers.rs",
        name: "dash",
        reason: "the same key, under which a gateway keeps answers",
    },
    Exception {
        file: "crates/dev/tests/it/answers.rs",
        name: "dash",
        reason: "the same key, as a metric's label has it",
    },
    Exception {
        file: "crates/generation-status/tests/it/audit.rs",
        name: "actor",
        reason: "who acted, as the audit log's API and its column call it",
    },
    Exception {
        file: "crates/dashboard/tests/it/operators.rs",
        name: "actor",
        reason: "who acted, as the audit log's API and its column call it",
    },
    Exception { file: "crates/schema/src/grants.rs", name: "job_turns", reason: "a table of a landed migration" },
    Exception { file: "crates/schema/src/accounts.rs", name: "job_turns", reason: "a table of a landed migration" },
    Exception {
        file: "crates/generation-status/tests/it/erasures.rs",
        name: "job_turns",
        reason: "a table of a landed migration",
    },
    Exception { file: "crates/testkit/tests/it/grants.rs", name: "job_turns", reason: "a table of a landed migration" },
    Exception { file: "docs/changelog.md", name: "*", reason: "it tells what each setting was called before" },
    Exception {
        file: "crates/generation-worker/tests/it/sketch.rs",
        name: "progress_rises_through_stages_at_the_set_pace",
        reason: "the stages of a generation's progress, as the public API calls them",
    },
];
