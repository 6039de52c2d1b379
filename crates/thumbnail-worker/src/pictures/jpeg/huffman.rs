//! JPEG's Huffman codes: a reader of bits, and tables that step over a block's coefficients.
//!
//! Invariant: a table is taken only when its codes are a prefix code; reading past the end is noticed at the latest once per block.

/// Why coded data cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There are no more bits.
    Ended,
    /// No code of the table begins like this, or a block has more than 64 coefficients.
    Code,
}

/// The lookahead, in bits: what one lookup in a table is made with. Longer codes are rare and are read one by one.
const LOOKAHEAD: u32 = 12;

/// Reads bits from bytes, the highest first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What was read ahead, its next bit at the top; zeros follow.
    ahead: u64,
    /// How many bits of `ahead` are there; below zero once more was taken than there was.
    left: i32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, ahead: 0, left: 0 }
    }

    /// Makes at least 32 bits available, as long as there are so many.
    #[inline]
    fn refill(&mut self) {
        if self.left >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<4>)
            && self.left >= 0
        {
            self.ahead |= u64::from(u32::from_be_bytes(*next)) << (32 - self.left);
            self.at += 4;
            self.left += 32;
            return;
        }
        self.refill_slowly();
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while (0..=56).contains(&self.left) && self.at < self.bytes.len() {
            self.ahead |= u64::from(self.bytes[self.at]) << (56 - self.left);
            self.at += 1;
            self.left += 8;
        }
    }

    /// The next `count` bits, which stay where they are.
    #[inline]
    fn lookahead(&self, count: u32) -> usize {
        (self.ahead >> (64 - count)) as usize
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.ahead <<= count;
        self.left -= count as i32;
    }
}

/// One code table, for means (DC) and for the coefficients that are stepped over (AC).
pub(super) struct Table {
    /// For each lookahead: what its first code says, and how far all codes that lie in it whole lead.
    steps: Box<[Step; 1 << LOOKAHEAD]>,
    /// One more than the last code of each length, at the top of 16 bits, and where its symbols end.
    ends: [(u32, usize); 17],
    symbols: Vec<u8>,
}

/// An entry for one lookahead, in one word so that one load brings all of it.
#[derive(Clone, Copy, Default)]
struct Step(u32);

impl Step {
    /// The entry of a lookahead whose first code has this length and symbol.
    fn first(length: u32, symbol: u8) -> Self {
        Self(length | u32::from(symbol) << 4)
    }

    /// The first code's length; 0: it is longer than a lookahead.
    #[inline]
    fn length(self) -> u32 {
        self.0 & 15
    }

    /// The first code's symbol.
    #[inline]
    fn symbol(self) -> u8 {
        (self.0 >> 4) as u8
    }

    /// Bits of all codes, with what belongs to them, that lie in the lookahead whole; 0: not even one does.
    #[inline]
    fn bits(self) -> u32 {
        self.0 >> 12 & 15
    }

    /// Coefficients that these stand for.
    #[inline]
    fn count(self) -> u32 {
        self.0 >> 16 & 63
    }

    /// Whether the last of these ends the block.
    #[inline]
    fn last(self) -> bool {
        self.0 >> 22 & 1 == 1
    }

    /// Adds how many codes, each with the bits that belong to it, lie in `lookahead` whole.
    fn follow(self, lookahead: usize, alone: &[Self]) -> Self {
        let (mut bits, mut count, mut last) = (0, 0, false);
        while bits < LOOKAHEAD && !last {
            let next = alone[lookahead << bits & ((1 << LOOKAHEAD) - 1)];
            let (run, size) = (u32::from(next.symbol() >> 4), u32::from(next.symbol() & 15));
            let whole = next.length() + size;
            let is_reserved = size == 0 && !matches!(run, 0 | 15);
            // A code is in the lookahead only if all of its bits are: the zeros that were shifted in are not.
            if next.length() == 0 || bits + whole > LOOKAHEAD || is_reserved {
                break;
            }
            let more = if next.symbol() == 0 { 0 } else { run + 1 };
            if count + more > 63 {
                break;
            }
            bits += whole;
            count += more;
            last = next.symbol() == 0;
        }
        Self(self.0 | bits << 12 | count << 16 | u32::from(last) << 22)
    }
}

impl Table {
    /// The table of a DHT segment: how many codes there are of each length, and their symbols in order.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let (mut code, mut index) = (0_u32, 0_usize);
        let mut ends = [(0, 0); 17];
        let mut steps = vec![Step::default(); 1 << LOOKAHEAD];
        for (length, count) in (1..=16_u32).zip(counts) {
            for _ in 0..*count {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOKAHEAD {
                    let first = (code << (LOOKAHEAD - length)) as usize;
                    let step = Step::first(length, *symbols.get(index)?);
                    steps[first..first + (1 << (LOOKAHEAD - length))].fill(step);
                }
                code += 1;
                index += 1;
            }
            ends[length as usize] = (code << (16 - length), index);
            code <<= 1;
        }
        let alone = steps.clone();
        for (lookahead, step) in steps.iter_mut().enumerate() {
            *step = step.follow(lookahead, &alone);
        }
        let steps = steps.into_boxed_slice().try_into().ok()?;
        Some(Self { steps, ends, symbols: symbols.to_vec() })
    }

    /// Reads one code that is longer than a lookahead.
    #[cold]
    fn long(&self, bits: &mut Bits<'_>) -> Result<u8, Broken> {
        let next = bits.lookahead(16) as u32;
        for length in LOOKAHEAD + 1..=16 {
            let (end, index) = self.ends[length as usize];
            if next < end {
                let before = ((end - 1 - next) >> (16 - length)) as usize;
                let symbol = index.checked_sub(1 + before).and_then(|at| self.symbols.get(at)).ok_or(Broken::Code)?;
                bits.skip(length);
                return Ok(*symbol);
            }
        }
        Err(Broken::Code)
    }

    /// Reads how much a mean differs from the one before.
    #[inline]
    pub(super) fn difference(&self, bits: &mut Bits<'_>) -> Result<i32, Broken> {
        bits.refill();
        let step = self.steps[bits.lookahead(LOOKAHEAD)];
        let size = if step.length() > 0 {
            bits.skip(step.length());
            u32::from(step.symbol())
        } else {
            u32::from(self.long(bits)?)
        };
        match size {
            0 => Ok(0),
            1..=15 => {
                let value = bits.lookahead(size) as i32;
                bits.skip(size);
                // Values with a zero in front are negative.
                Ok(if value >> (size - 1) == 0 { value - (1 << size) + 1 } else { value })
            }
            _ => Err(Broken::Code),
        }
    }

    /// Steps over the other 63 coefficients of a block.
    #[inline]
    pub(super) fn skip_block(&self, bits: &mut Bits<'_>) -> Result<(), Broken> {
        let mut at = 1_u32;
        while at < 64 {
            bits.refill();
            let step = self.steps[bits.lookahead(LOOKAHEAD)];
            let after = at + step.count();
            // Codes that follow the block's 64th coefficient are the next block's.
            if step.bits() > 0 && after < 64 {
                bits.skip(step.bits());
                if step.last() {
                    break;
                }
                at = after;
                continue;
            }
            let symbol = if step.length() > 0 {
                bits.skip(step.length());
                step.symbol()
            } else {
                self.long(bits)?
            };
            bits.skip(u32::from(symbol & 15));
            match symbol {
                0x00 => break,
                0xF0 => at += 16,
                0x10..=0xE0 if symbol & 15 == 0 => return Err(Broken::Code),
                _ => at += u32::from(symbol >> 4) + 1,
            }
            if at > 64 {
                return Err(Broken::Code);
            }
        }
        if bits.left < 0 { Err(Broken::Ended) } else { Ok(()) }
    }
}
