//! What the frames of HTTP/2 cost, beside what is sent in answer: a flood of PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA or
//! long header lists is read as slowly as it deserves, and a client that is answered is never held up.
//!
//! Invariant: what the connections of one address may cost a second is bounded by the rate and by what they were sent, however many
//! they are and however soon each is replaced; more is paid back by waiting before the next read, so only that address feels it.
//! Nothing is closed for it, and HTTP/1 is not counted.

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

/// What the frames of one address may still cost; cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Allowance(Arc<Mutex<Units>>);

#[derive(Debug)]
struct Units {
    /// How many may be had; below nothing, so many have to be waited for.
    left: f64,
    rate: f64,
    at: Instant,
}

impl Allowance {
    /// Allows `rate` units a second beside those that are earned.
    pub(in crate::server) fn new(rate: u32) -> Self {
        let rate = f64::from(rate);
        Self(Arc::new(Mutex::new(Units { left: rate * BURST, rate, at: Instant::now() })))
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        // Each change of it is whole, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Earns for bytes that were sent.
    pub(super) fn sent(&self, bytes: usize) {
        let mut units = self.units();
        units.left = (units.left + bytes as f64 / BYTES_FOR_ONE as f64).min(units.rate * BURST);
    }

    fn pay(&self, cost: f64) {
        self.units().left -= cost;
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

/// The frames that come over one connection.
#[derive(Debug)]
pub(super) struct Frames {
    position: Position,
    header: [u8; HEADER],
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
    /// In something else than HTTP/2.
    Other,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { position: Position::Preface(0), header: [0; HEADER] }
    }

    /// Pays for the frames that begin in `bytes`, which have come.
    pub(super) fn read(&mut self, bytes: &[u8], allowance: &Allowance) {
        let cost = self.cost_of(bytes);
        if cost > 0 {
            allowance.pay(cost as f64);
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

    #[test]
    fn what_is_answered_is_not_held_up_and_a_flood_is() {
        let (allowance, mut frames, mut now) = (Allowance::new(RATE), Frames::new(), Instant::now());
        frames.read(PREFACE, &allowance);
        let request = [frame(1, 4, &[0; 60]), frame(0, 1, &[0; 30]), frame(8, 0, &[0; 4])].concat();
        for _ in 0..100_000 {
            frames.read(&request, &allowance);
            allowance.sent(64);
            assert_eq!(allowance.wait(now), None, "an answer of 64 bytes earns what its request costs");
        }
        let (pings, begun, mut read) = (frame(6, 0, &[0; 8]).repeat(1_000), now, 0);
        while read < 100_000 {
            match allowance.wait(now) {
                Some(wait) => now += wait + Duration::from_millis(1),
                None => {
                    // Each over another connection of the same address, and each is echoed.
                    let mut frames = Frames::new();
                    frames.read(&[PREFACE, &pings].concat(), &allowance);
                    allowance.sent(17_000);
                    read += 1_000;
                }
            }
        }
        let took = now.duration_since(begun).as_secs();
        assert!((280..300).contains(&took), "a hundred thousand PINGs took {took} s");
    }
}
