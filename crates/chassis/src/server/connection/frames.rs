//! What one address may cost: its connections, the frames of HTTP/2 and the bytes of HTTP/1, beside what is sent in answer. A flood of
//! connections, of requests of HTTP/1, or of PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA or long header lists is read as
//! slowly as it deserves, and a client that is answered is never held up.
//!
//! Invariant: what the connections of one address may cost a second is bounded by the rate and by what they were sent, however many
//! they are and however soon each is replaced; more is paid back by waiting before the next read, so only that address feels it.
//! Bodies of HTTP/2 that anybody may send are paid for by who reads them, as if they had come over HTTP/1.
//! Nothing is closed for it. An answer gives back at most what its own connection has cost, and never the connection's beginning, so
//! that nobody saves up for a flood by downloading.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The first bytes of HTTP/2, and how many there are before the first frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The header of a frame: three bytes of length, its kind, its flags, four bytes of stream.
const HEADER: usize = 9;
/// How many bytes of an answer earn one unit: a request with its frames costs about what its smallest answer earns, and a PING
/// four times what its echo does.
const BYTES_FOR_ONE: usize = 16;
/// How many seconds' worth of units are kept.
const BURST: f64 = 2.0;
/// What a connection costs before its first byte: a task, its buffers, and all that its end takes. As many as one address may have
/// (256) cost less than is kept of the default rate, so that a back end may open all of its connections at once.
const CONNECTION: f64 = 12.0;
/// How many bytes of HTTP/1 cost one unit, beside one for each read. A body of HTTP/1 is a webhook or a call of gRPC-Web.
const PLAIN_BYTES_FOR_ONE: usize = 1024;

/// What one address may still cost; cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Allowance {
    units: Arc<Mutex<Units>>,
    /// Whether connections and HTTP/1 cost something: not those of a proxy, which are many clients'.
    of_one_client: bool,
}

#[derive(Debug)]
struct Units {
    /// How many may be had; below nothing, so many have to be waited for.
    left: f64,
    rate: f64,
    at: Instant,
}

impl Allowance {
    /// Allows the connections of one address `rate` units a second beside those that are earned.
    pub(in crate::server) fn of_address(rate: u32) -> Self {
        Self::new(rate, true)
    }

    /// The same for one connection of a proxy.
    pub(in crate::server) fn of_proxy(rate: u32) -> Self {
        Self::new(rate, false)
    }

    fn new(rate: u32, of_one_client: bool) -> Self {
        let rate = f64::from(rate);
        let units = Units { left: rate * BURST, rate, at: Instant::now() };
        Self { units: Arc::new(Mutex::new(units)), of_one_client }
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        // Each change of it is whole, so a panic elsewhere leaves it usable.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pays for a connection that begins. Connections alone never make their address wait for longer than the burst takes to
    /// come back: nothing slows down who connects, and all who share an address with it would wait for hours.
    pub(in crate::server) fn connected(&self) {
        if self.of_one_client {
            let mut units = self.units();
            units.left = (units.left - CONNECTION).max(units.left.min(-units.rate * BURST));
        }
    }

    fn earn(&self, units_earned: f64) {
        let mut units = self.units();
        units.left = (units.left + units_earned).min(units.rate * BURST);
    }

    fn pay(&self, cost: f64) {
        self.units().left -= cost;
    }

    /// Pays for bytes of a body as if they had come over HTTP/1.
    pub(super) fn pay_for_body(&self, bytes: usize) {
        if self.of_one_client && bytes > 0 {
            self.pay(cost_of_plain(bytes));
        }
    }

    /// How long nothing may be read, if so.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let mut units = self.units();
        let passed = now.saturating_duration_since(units.at).as_secs_f64();
        units.at = now;
        units.left = (units.left + passed * units.rate).min(units.rate * BURST);
        (units.left < 0.0).then(|| Duration::from_secs_f64(-units.left / units.rate))
    }
}

/// What comes over one connection.
#[derive(Debug)]
pub(super) struct Frames {
    position: Position,
    header: [u8; HEADER],
    /// What it has cost and no answer has given back.
    unearned: f64,
}

/// Where in the bytes of a connection the next one is.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// So far into the preface.
    Preface(usize),
    /// So far into the header of a frame.
    Header(usize),
    /// So far from the end of a frame.
    Body(usize),
    /// In something else than HTTP/2, which is HTTP/1 or nothing.
    Other,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { position: Position::Preface(0), header: [0; HEADER], unearned: 0.0 }
    }

    /// Pays for the frames that begin in `bytes`, which have come, or for these bytes of HTTP/1.
    pub(super) fn read(&mut self, bytes: &[u8], allowance: &Allowance) {
        let mut cost = self.cost_of(bytes) as f64;
        if allowance.of_one_client && matches!(self.position, Position::Other) && !bytes.is_empty() {
            cost += cost_of_plain(bytes.len());
        }
        if cost > 0.0 {
            self.unearned += cost;
            allowance.pay(cost);
        }
    }

    /// Earns for bytes that were sent.
    pub(super) fn sent(&mut self, bytes: usize, allowance: &Allowance) {
        let earned = (bytes as f64 / BYTES_FOR_ONE as f64).min(self.unearned);
        if earned > 0.0 {
            self.unearned -= earned;
            allowance.earn(earned);
        }
    }

    fn cost_of(&mut self, mut bytes: &[u8]) -> u64 {
        let mut sum = 0;
        while let Some(&byte) = bytes.first() {
            let taken = match self.position {
                Position::Other => return sum,
                Position::Preface(at) if PREFACE[at] != byte => {
                    self.position = Position::Other;
                    return sum;
                }
                Position::Preface(at) => {
                    self.position =
                        if at + 1 == PREFACE.len() { Position::Header(0) } else { Position::Preface(at + 1) };
                    1
                }
                Position::Header(at) => {
                    let taken = (HEADER - at).min(bytes.len());
                    self.header[at..at + taken].copy_from_slice(&bytes[..taken]);
                    self.position = Position::Header(at + taken);
                    if at + taken == HEADER {
                        let (cost, length) = self.begun();
                        sum += u64::from(cost);
                        self.position = if length == 0 { Position::Header(0) } else { Position::Body(length) };
                    }
                    taken
                }
                Position::Body(left) => {
                    let taken = left.min(bytes.len());
                    self.position = if left == taken { Position::Header(0) } else { Position::Body(left - taken) };
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        sum
    }

    /// The cost and the length of the frame whose header has come whole.
    fn begun(&self) -> (u32, usize) {
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        (cost(kind, flags, length), length)
    }
}

/// What one read of so many bytes of HTTP/1 costs, in units.
fn cost_of_plain(bytes: usize) -> f64 {
    1.0 + bytes as f64 / PLAIN_BYTES_FOR_ONE as f64
}

/// What a frame costs, in units.
fn cost(kind: u8, flags: u8, length: usize) -> u32 {
    const END_STREAM: u8 = 1;
    match kind {
        // DATA: what carries something pays for itself.
        0 if length >= 64 || flags & END_STREAM != 0 => 0,
        // HEADERS and CONTINUATION, by what there is to decode.
        1 | 9 => 1 + u32::try_from(length / 32).unwrap_or(u32::MAX),
        // SETTINGS and PING, which are answered.
        4 | 6 => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1_000;

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], body].concat()
    }

    /// What these bytes cost, given in pieces of `size`.
    fn sum(bytes: &[u8], size: usize) -> u64 {
        let mut frames = Frames::new();
        bytes.chunks(size).map(|piece| frames.cost_of(piece)).sum()
    }

    #[test]
    fn each_frame_costs_what_it_makes_others_do() {
        for (frame, cost) in [
            (frame(0, 0, b""), 1),
            (frame(0, 1, b""), 0),
            (frame(0, 0, &[0; 64]), 0),
            (frame(0, 0, b"x"), 1),
            (frame(1, 4, &[0; 320]), 11),
            (frame(2, 0, &[0; 5]), 1),
            (frame(4, 0, b""), 4),
            (frame(6, 0, &[0; 8]), 4),
            (frame(8, 0, &[0; 4]), 1),
            (frame(9, 0, &[0; 3_200]), 101),
        ] {
            let bytes = [PREFACE, &frame.repeat(3)].concat();
            for size in [1, 7, 24, bytes.len()] {
                assert_eq!(sum(&bytes, size), 3 * cost, "{frame:?} in pieces of {size}");
            }
        }
        let plain = b"PRINT / HTTP/1.1\r\n\r\n\0\0\0\x04\0\0\0\0\0".repeat(100);
        assert_eq!(sum(&plain, 3), 0, "it is not HTTP/2");
    }

    /// Does `piece` again and again as soon as `allowance` lets it, until it has been done `count` times; gives the seconds that it took.
    fn flood(allowance: &Allowance, now: &mut Instant, count: usize, mut piece: impl FnMut()) -> u64 {
        let (begun, mut done) = (*now, 0);
        while done < count {
            match allowance.wait(*now) {
                Some(wait) => *now += wait + Duration::from_millis(1),
                None => {
                    piece();
                    done += 1;
                }
            }
        }
        now.duration_since(begun).as_secs()
    }

    #[test]
    fn what_is_answered_is_not_held_up_and_a_flood_is() {
        let (allowance, mut frames, mut now) = (Allowance::of_address(RATE), Frames::new(), Instant::now());
        frames.read(PREFACE, &allowance);
        let request = [frame(1, 4, &[0; 60]), frame(0, 1, &[0; 30]), frame(8, 0, &[0; 4])].concat();
        for _ in 0..100_000 {
            frames.read(&request, &allowance);
            frames.sent(64, &allowance);
            assert_eq!(allowance.wait(now), None, "an answer of 64 bytes earns what its request costs");
        }
        let pings = frame(6, 0, &[0; 8]).repeat(1_000);
        let took = flood(&allowance, &mut now, 100, || {
            // Each over another connection of the same address, and each is echoed.
            let mut frames = Frames::new();
            frames.read(&[PREFACE, &pings].concat(), &allowance);
            frames.sent(17_000, &allowance);
        });
        assert!((280..300).contains(&took), "a hundred thousand PINGs took {took} s");
    }

    #[test]
    fn a_download_pays_for_no_flood() {
        let (allowance, mut frames, mut now) = (Allowance::of_address(RATE), Frames::new(), Instant::now());
        let pings = [PREFACE, &frame(6, 0, &[0; 8]).repeat(1_000)].concat();
        let took = flood(&allowance, &mut now, 100, || {
            frames.sent(10_000_000, &allowance);
            Frames::new().read(&pings, &allowance);
        });
        assert!((390..400).contains(&took), "a hundred thousand PINGs took {took} s");
    }

    #[test]
    fn connections_and_what_is_read_of_http1_cost_and_requests_that_are_answered_do_not() {
        let request = b"GET /assets/a HTTP/1.1\r\nhost: gateway\r\n\r\n";
        let (allowance, mut frames, mut now) = (Allowance::of_address(RATE), Frames::new(), Instant::now());
        allowance.connected();
        for _ in 0..100_000 {
            frames.read(request, &allowance);
            frames.sent(100, &allowance);
            assert_eq!(allowance.wait(now), None, "requests on one connection that are answered");
        }
        let took = flood(&allowance, &mut now, 10_000, || {
            let mut frames = Frames::new();
            allowance.connected();
            frames.read(request, &allowance);
            frames.sent(100, &allowance);
        });
        assert!((110..125).contains(&took), "ten thousand connections took {took} s");
        let body = [b' '; 64 << 10];
        let took = flood(&allowance, &mut now, 1_000, || frames.read(&body, &allowance));
        assert!((60..70).contains(&took), "64 MB of one request took {took} s");

        let proxy = Allowance::of_proxy(RATE);
        let took = flood(&proxy, &mut now, 100_000, || {
            let mut frames = Frames::new();
            proxy.connected();
            frames.read(&body, &proxy);
        });
        assert_eq!(took, 0, "a proxy's connections are many clients'");
    }

    #[test]
    fn all_connections_of_an_address_may_come_at_once_and_too_many_are_forgiven_soon() {
        let (allowance, now) = (Allowance::of_address(2_000), Instant::now());
        for _ in 0..256 {
            allowance.connected();
            Frames::new().read(&[PREFACE, &frame(4, 0, b"")[..HEADER - 6]].concat(), &allowance);
        }
        assert_eq!(allowance.wait(now), None, "256 connections");
        for _ in 0..100_000 {
            allowance.connected();
        }
        let wait = allowance.wait(now).unwrap();
        assert!((1.9..2.1).contains(&wait.as_secs_f64()), "{wait:?}");
    }
}
