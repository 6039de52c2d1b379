//! Writes an MP4 with one video track, its index before its frames, so that a player can begin before it has all of it.
//!
//! Invariant: nothing depends on the clock: all times in the file are zero, so equal frames give equal files.

/// One encoded frame.
#[derive(Debug)]
pub(super) struct Sample {
    /// Whether playing can begin here.
    pub(super) key: bool,
    /// Its units, each behind its length in four bytes.
    pub(super) bytes: Vec<u8>,
}

/// What the file is made of.
pub(super) struct Video<'a> {
    pub(super) width: u16,
    pub(super) height: u16,
    /// Frames a second; also the file's time scale.
    pub(super) rate: u32,
    pub(super) sps: &'a [u8],
    pub(super) pps: &'a [u8],
    pub(super) samples: &'a [Sample],
}

/// The unity matrix of a track or movie header.
const UPRIGHT: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

impl Video<'_> {
    /// The whole file.
    pub(super) fn file(&self) -> Vec<u8> {
        let mut file = atom(b"ftyp", |body| {
            body.extend_from_slice(b"isom");
            words(body, &[0x200]);
            body.extend_from_slice(b"isomiso2avc1mp41");
        });
        // The index holds the frames' place, which lies behind it: its length does not depend on what it says.
        let index = self.movie(0).len();
        let first = file.len() + index + 8;
        file.extend(self.movie(first as u32));
        file.extend(atom(b"mdat", |body| self.samples.iter().for_each(|sample| body.extend_from_slice(&sample.bytes))));
        file
    }

    fn movie(&self, first: u32) -> Vec<u8> {
        let length = self.samples.len() as u32;
        atom(b"moov", |body| {
            body.extend(atom(b"mvhd", |body| {
                words(body, &[0, 0, 0, self.rate, length, 0x1_0000, 0x0100_0000, 0, 0]);
                words(body, &UPRIGHT);
                words(body, &[0, 0, 0, 0, 0, 0, 2]);
            }));
            body.extend(atom(b"trak", |body| {
                body.extend(atom(b"tkhd", |body| {
                    // Enabled, in the movie, in the preview.
                    words(body, &[7, 0, 0, 1, 0, length, 0, 0, 0, 0]);
                    words(body, &UPRIGHT);
                    words(body, &[u32::from(self.width) << 16, u32::from(self.height) << 16]);
                }));
                body.extend(self.media(first));
            }));
        })
    }

    fn media(&self, first: u32) -> Vec<u8> {
        atom(b"mdia", |body| {
            // The language is "und".
            body.extend(atom(b"mdhd", |body| {
                words(body, &[0, 0, 0, self.rate, self.samples.len() as u32, 0x55C4_0000]);
            }));
            body.extend(atom(b"hdlr", |body| {
                words(body, &[0, 0]);
                body.extend_from_slice(b"vide");
                words(body, &[0, 0, 0]);
                body.extend_from_slice(b"sketch\0");
            }));
            body.extend(atom(b"minf", |body| {
                body.extend(atom(b"vmhd", |body| words(body, &[1, 0, 0])));
                body.extend(atom(b"dinf", |body| {
                    body.extend(atom(b"dref", |body| {
                        words(body, &[0, 1]);
                        // The frames are in this file.
                        body.extend(atom(b"url ", |body| words(body, &[1])));
                    }));
                }));
                body.extend(self.samples(first));
            }));
        })
    }

    fn samples(&self, first: u32) -> Vec<u8> {
        let count = self.samples.len() as u32;
        atom(b"stbl", |body| {
            body.extend(atom(b"stsd", |body| {
                words(body, &[0, 1]);
                body.extend(self.entry());
            }));
            body.extend(atom(b"stts", |body| words(body, &[0, 1, count, 1])));
            let keys: Vec<u32> = (1..).zip(self.samples).filter(|(_, sample)| sample.key).map(|(n, _)| n).collect();
            body.extend(atom(b"stss", |body| {
                words(body, &[0, keys.len() as u32]);
                words(body, &keys);
            }));
            body.extend(atom(b"stsc", |body| words(body, &[0, 1, 1, count, 1])));
            body.extend(atom(b"stsz", |body| {
                words(body, &[0, 0, count]);
                self.samples.iter().for_each(|sample| words(body, &[sample.bytes.len() as u32]));
            }));
            body.extend(atom(b"stco", |body| words(body, &[0, 1, first])));
        })
    }

    fn entry(&self) -> Vec<u8> {
        atom(b"avc1", |body| {
            words(body, &[0, 1, 0, 0, 0, 0]);
            body.extend_from_slice(&self.width.to_be_bytes());
            body.extend_from_slice(&self.height.to_be_bytes());
            // 72 dots an inch, one frame a sample.
            words(body, &[0x48_0000, 0x48_0000, 0]);
            body.extend_from_slice(&1_u16.to_be_bytes());
            body.extend_from_slice(&[0; 32]);
            // 24 bits of colour, no palette.
            words(body, &[0x18_FFFF]);
            body.extend(atom(b"avcC", |body| {
                // Version 1, profile, compatibility, level, lengths of four bytes, one set of each kind.
                body.extend_from_slice(&[1, self.sps[1], self.sps[2], self.sps[3], 0xFF, 0xE1]);
                body.extend_from_slice(&(self.sps.len() as u16).to_be_bytes());
                body.extend_from_slice(self.sps);
                body.push(1);
                body.extend_from_slice(&(self.pps.len() as u16).to_be_bytes());
                body.extend_from_slice(self.pps);
            }));
            // BT.709, as the frames are.
            body.extend(atom(b"colr", |body| body.extend_from_slice(b"nclx\0\x01\0\x01\0\x01\0")));
        })
    }
}

fn atom(name: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut whole = vec![0; 4];
    whole.extend_from_slice(name);
    fill(&mut whole);
    let length = whole.len() as u32;
    whole[..4].copy_from_slice(&length.to_be_bytes());
    whole
}

fn words(body: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| body.extend_from_slice(&word.to_be_bytes()));
}
