//! The connections of one pool: lent to one caller at a time, and kept for the next.
//!
//! sqlx's own pool asks something of each connection as it comes back, which is a second round trip for every statement, in a task of
//! its own. Here what came to its end is kept as it is, and costs nothing. What did not (its caller went away, or had an error) is first
//! brought to rest: a transaction that one caller left open would swallow what the next one writes.
//!
//! Invariants: a connection is lent only if it is at rest, outside of any transaction; its place is taken until it is back or closed; and
//! what is done for one account never has all places, so that another account's work waits for its own only.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use uuid::Uuid;

use super::{liveness::LivenessProbe, pool_settings::PoolSettings, session};
use crate::admission::{Share, Shares};

/// A connection that was idle this long is tried before it is used; a busier one is trusted.
const TRUSTED: Duration = Duration::from_secs(2);
/// How long that may take. What lies between may have forgotten an idle connection without a word to either end.
const TRIED_WITHIN: Duration = Duration::from_millis(250);
/// How old a connection may become: a session of PostgreSQL keeps what it has ever cached.
const MAX_AGE: Duration = Duration::from_mins(30);
/// How long to wait before a server that is not there, or not ready, is asked again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(300));
/// Ends whatever a connection was in the middle of. Where that was nothing there is a transaction to end all the same, since PostgreSQL
/// warns of one that is not there; of one that is there already it would warn too, and is told not to until the end of it. Where it
/// was a transaction that has failed, this fails too, and the connection goes.
const REST: &str = "set client_min_messages = error; begin; rollback";
/// How often idle connections are looked through, if no setting asks for more.
const TEND: Duration = Duration::from_secs(5);

/// The connections of one pool.
#[derive(Debug)]
pub(super) struct Connections {
    options: PgConnectOptions,
    set_up: Arc<str>,
    settings: PoolSettings,
    liveness: Arc<LivenessProbe>,
    places: Arc<Semaphore>,
    /// What each account has of them.
    shares: Shares<Uuid>,
    /// Those that nobody has, the one that was used last at the end.
    idle: Mutex<Vec<Idle>>,
    size: Arc<AtomicU32>,
    tended: AtomicBool,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    /// All were taken for as long as one waits.
    Full,
    /// None could be made.
    NotMade(sqlx::Error),
}

/// An open connection; it is closed when it is dropped.
#[derive(Debug)]
struct Open {
    connection: PgConnection,
    made: Instant,
    _counted: Counted,
}

/// One more that is open, for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Idle {
    open: Open,
    since: Instant,
}

impl Connections {
    /// None yet: they are made as they are needed, and those that are always kept in the background.
    pub(super) fn new(
        options: PgConnectOptions,
        set_up: Arc<str>,
        settings: PoolSettings,
        liveness: Arc<LivenessProbe>,
    ) -> Arc<Self> {
        let connections = Arc::new(Self {
            options,
            set_up,
            settings,
            liveness,
            places: Arc::new(Semaphore::new(settings.max as usize)),
            shares: Shares::default(),
            idle: Mutex::default(),
            size: Arc::default(),
            tended: AtomicBool::new(false),
        });
        connections.tend();
        connections
    }

    /// One of them, within the pool's time; for `account`, if it is for one, out of its share.
    pub(super) async fn acquire(self: &Arc<Self>, account: Option<Uuid>) -> Result<Loan, Refused> {
        self.tend();
        let until = Instant::now() + self.settings.acquire;
        let mut share = account.map(|account| self.shares.of(account, self.settings.max_of_account()));
        let place = async {
            // First its own queue, so that the queue for all has no more of one account than its share.
            if let Some(share) = &mut share {
                share.take().await;
            }
            Arc::clone(&self.places).acquire_owned().await
        };
        let place = match timeout_at(until, place).await {
            Ok(Ok(place)) => Place { _place: place, _share: share },
            Ok(Err(_)) => return Err(Refused::NotMade(sqlx::Error::PoolClosed)),
            Err(_) => return Err(Refused::Full),
        };
        while let Some(idle) = self.take() {
            if let Some(open) = self.trusted(idle).await {
                return Ok(self.lend(open, place));
            }
        }
        Ok(self.lend(self.make(until).await.map_err(Refused::NotMade)?, place))
    }

    /// A connection that is none of the pool's.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        session::set_up(&mut connection, &self.set_up).await?;
        Ok(connection)
    }

    /// How many are open, lent or idle.
    pub(super) fn size(&self) -> u32 {
        self.size.load(Ordering::Relaxed)
    }

    /// How many are idle.
    pub(super) fn idle(&self) -> usize {
        self.locked(|idle| idle.len())
    }

    /// How many there may be.
    pub(super) fn max(&self) -> u32 {
        self.settings.max
    }

    /// Whether they are closed for good.
    pub(super) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }

    /// Lends none any more, and closes each once it is back.
    pub(super) async fn close(&self) {
        self.places.close();
        for idle in self.locked(mem::take) {
            say_goodbye(idle.open).await;
        }
        while self.size() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The idle one that was used last, so that the others may become superfluous.
    fn take(&self) -> Option<Idle> {
        self.locked(Vec::pop)
    }

    fn locked<T>(&self, what: impl FnOnce(&mut Vec<Idle>) -> T) -> T {
        what(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was idle, unless it is better made anew.
    async fn trusted(&self, Idle { mut open, since }: Idle) -> Option<Open> {
        let age = open.made.elapsed();
        if age > MAX_AGE || !self.liveness.trusts(age) {
            return None;
        }
        if since.elapsed() <= TRUSTED {
            return Some(open);
        }
        let tried = timeout(TRIED_WITHIN, open.connection.ping()).await;
        matches!(tried, Ok(Ok(()))).then_some(open)
    }

    /// Makes one; a server that is just not there is asked again, since it may be starting.
    async fn make(&self, until: Instant) -> Result<Open, sqlx::Error> {
        let late = |_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        let mut wait = RETRY.0;
        loop {
            // Before it is connected, so that one that is made while a failover goes on counts as old.
            let made = Instant::now();
            match timeout_at(until, self.connect()).await.unwrap_or_else(late) {
                Ok(connection) => {
                    self.size.fetch_add(1, Ordering::Relaxed);
                    return Ok(Open { connection, made, _counted: Counted(Arc::clone(&self.size)) });
                }
                Err(error) if may_be_starting(&error) && made + wait < until => {}
                Err(error) => return Err(error),
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    fn lend(self: &Arc<Self>, open: Open, place: Place) -> Loan {
        Loan { lent: Some((open, place)), home: Arc::clone(self), at_rest: false }
    }

    fn keep(&self, open: Open) {
        // Else it is closed as it is dropped.
        if !self.is_closed() {
            self.locked(|idle| idle.push(Idle { open, since: Instant::now() }));
        }
    }

    /// Begins to look after the idle ones, for as long as there is a pool; without a runtime, when there is one.
    fn tend(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.tended.swap(true, Ordering::Relaxed) {
            return;
        }
        let (connections, every) = (Arc::downgrade(self), TEND.min(self.settings.idle));
        runtime.spawn(async move {
            while let Some(connections) = connections.upgrade().filter(|connections| !connections.is_closed()) {
                connections.close_superfluous().await;
                connections.make_missing().await;
                drop(connections);
                sleep(every).await;
            }
        });
    }

    /// Closes what nobody has used for a while, beyond those that are always kept.
    async fn close_superfluous(&self) {
        let superfluous = self.locked(|idle| {
            // Those that were used longest ago are at the beginning.
            let spare = idle.len().min((self.size().saturating_sub(self.settings.min)) as usize);
            let old = idle.iter().take(spare).take_while(|one| one.since.elapsed() > self.settings.idle).count();
            idle.drain(..old).collect::<Vec<_>>()
        });
        for idle in superfluous {
            say_goodbye(idle.open).await;
        }
    }

    /// Makes those that are always kept, if nobody waits for a place.
    async fn make_missing(&self) {
        while self.size() < self.settings.min {
            let Ok(_place) = Arc::clone(&self.places).try_acquire_owned() else { return };
            match self.make(Instant::now() + self.settings.acquire).await {
                Ok(open) => self.keep(open),
                // Whoever wants one will be told.
                Err(_) => return,
            }
        }
    }
}

/// Whether a server that could not be connected to may be about to start, or to have room.
fn may_be_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("53300" | "57P03")),
        _ => false,
    }
}

/// Ends a connection in order; it ends whether the server hears of it or not.
async fn say_goodbye(open: Open) {
    let _ = timeout(TRIED_WITHIN, open.connection.close()).await;
}

/// The place of a connection, and that of its account.
#[derive(Debug)]
struct Place {
    _place: OwnedSemaphorePermit,
    _share: Option<Share<Uuid>>,
}

/// A connection on loan.
#[derive(Debug)]
pub(super) struct Loan {
    /// Until it is given back.
    lent: Option<(Open, Place)>,
    home: Arc<Connections>,
    at_rest: bool,
}

impl Loan {
    /// The connection; there is one until it is given back.
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.lent.as_mut().map(|(open, _)| &mut open.connection).ok_or(sqlx::Error::PoolClosed)
    }

    /// Says that what was asked came to its end: the connection is lent again as it is. Without this it is brought to rest first.
    pub(super) fn at_rest(&mut self) {
        self.at_rest = true;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some((mut open, place)) = self.lent.take() else { return };
        // What was only begun to be rolled back is not at rest, whatever was said.
        if self.at_rest && !open.connection.should_flush() && !open.connection.is_in_transaction() {
            self.home.keep(open);
            return;
        }
        let home = Arc::clone(&self.home);
        // Without a runtime it is closed.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            // The place stays taken for as long: a server on which calls are given up is as busy as with calls that are waited for.
            let _place = place;
            let rest = timeout(home.settings.statement, rest(&mut open.connection));
            if matches!(home.liveness.during(rest).await, Ok(Ok(Ok(())))) {
                home.keep(open);
            }
        });
    }
}

/// Ends whatever a connection was in the middle of.
async fn rest(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    match connection.execute(REST).await {
        // Perhaps the error of what was under way, and not of this.
        Err(sqlx::Error::Database(_)) => connection.execute(REST).await.map(drop),
        rested => rested.map(drop),
    }
}
