//! The read-your-writes token: which versions a caller has written, so that any replica shows it at least those.
//!
//! Invariant: a token names at most [`MAX_MARKS`] keys, by a 64-bit hash; two keys of one hash only make a read stricter,
//! never weaker. A token is advice from its holder about its holder: forging one can only send the forger's own reads
//! to PostgreSQL.

/// The maximum of keys that one token names; the oldest is dropped first.
pub const MAX_MARKS: usize = 8;

/// The first byte of an encoded token: the version of the encoding.
const FORM: u8 = 1;

/// The versions that its holder must be shown, or later ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    marks: Vec<(u64, i64)>,
}

impl Token {
    /// A token for one write.
    #[must_use]
    pub fn of(key: &str, version: i64) -> Self {
        Self { marks: vec![(hash(key), version)] }
    }

    /// Adds a write.
    pub fn mark(&mut self, key: &str, version: i64) {
        self.put(hash(key), version);
    }

    /// Adds all that another token requires.
    pub fn absorb(&mut self, other: &Self) {
        for (key, version) in &other.marks {
            self.put(*key, *version);
        }
    }

    /// The least version that the holder must be shown of `key`, if it wrote it.
    #[must_use]
    pub fn version(&self, key: &str) -> Option<i64> {
        let key = hash(key);
        self.marks.iter().find(|(marked, _)| *marked == key).map(|(_, version)| *version)
    }

    /// What it requires: the hash of each key, and its least version.
    pub fn marks(&self) -> impl Iterator<Item = (u64, i64)> {
        self.marks.iter().copied()
    }

    /// Whether it requires nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Its bytes, at most 129.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.marks.len() * 16);
        out.push(FORM);
        for (key, version) in &self.marks {
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&version.to_be_bytes());
        }
        out
    }

    /// Decodes what [`Token::encode`] wrote; nothing if it is anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, marks) = bytes.split_first()?;
        if *form != FORM || marks.len() % 16 != 0 || marks.len() > MAX_MARKS * 16 {
            return None;
        }
        let mut token = Self::default();
        for mark in marks.chunks_exact(16) {
            let (key, version) = mark.split_at(8);
            token.put(u64::from_be_bytes(key.try_into().ok()?), i64::from_be_bytes(version.try_into().ok()?));
        }
        Some(token)
    }

    fn put(&mut self, key: u64, version: i64) {
        if let Some(at) = self.marks.iter().position(|(marked, _)| *marked == key) {
            let (_, had) = self.marks.remove(at);
            self.marks.push((key, had.max(version)));
            return;
        }
        if self.marks.len() == MAX_MARKS {
            self.marks.remove(0);
        }
        self.marks.push((key, version));
    }
}

/// The hash by which tokens name a key. FNV-1a: the same in every process and every build, since tokens cross both.
#[must_use]
pub fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_the_highest_version_of_each_key() {
        let mut token = Token::of("a", 5);
        token.mark("a", 3);
        token.mark("b", 1);
        assert_eq!((token.version("a"), token.version("b"), token.version("c")), (Some(5), Some(1), None));
        assert_eq!(Token::decode(&token.encode()), Some(token));
    }

    #[test]
    fn a_full_token_drops_the_oldest_write_first() {
        let mut token = Token::default();
        for i in 0..9 {
            token.mark(&format!("k{i}"), i);
        }
        assert_eq!((token.version("k0"), token.version("k1"), token.version("k8")), (None, Some(1), Some(8)));
        assert!(token.encode().len() <= 129);
    }

    #[test]
    fn a_token_absorbs_another() {
        let mut token = Token::of("a", 5);
        token.absorb(&Token::of("a", 9));
        token.absorb(&Token::of("b", 2));
        assert_eq!((token.version("a"), token.version("b")), (Some(9), Some(2)));
    }

    #[test]
    fn bytes_that_are_no_token_are_refused() {
        for bytes in [&[][..], &[2], &[1, 0], &[1; 18], &[1; 1 + 16 * 9]] {
            assert_eq!(Token::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_hash_is_the_same_everywhere() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
