//! Mutations of a corpus, always the same for the same seed.

/// A generator of numbers (xorshift64*): small, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// No input grows beyond this.
const LARGEST: usize = 16 << 10;

/// Words that parsers look for.
const WORDS: [&[u8]; 40] = [
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"/",
    b".",
    b"&",
    b"%",
    b"-",
    b"=",
    b"{",
    b"}",
    b"\"",
    b"\\",
    b"From ",
    b"From a@b Fri Nov  9 22:33:52 2001\n",
    b"\nFrom a@b Fri Nov  9 22:33:52 2001 +0530\n",
    b"Status: RO\n",
    b"X-UID: 4294967295\n",
    b"X-IMAPbase: 1 2 k\n",
    b"X-IMAP: 1 2\n",
    b"X-Keywords: k\n",
    b"X-UIDL: 012345678901234\n",
    b"Content-Length: 5\n",
    b"Content-Length: 18446744073709551616\n",
    b"0",
    b"4294967295",
    b"18446744073709551615",
    b"-1",
    b"INBOX",
    b"~",
    b"..",
    b"&AOk-",
    b"&-",
    b"%2F",
    b"\xff",
    b"\xc3\xa9",
];

/// Changes `data` a little, here and there; `other` is another input to take pieces of.
pub fn mutate(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        let length = 1 + random.below(16);
        let end = (at + length).min(data.len());
        match random.below(8) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = random.below(256) as u8,
            2 => drop(data.drain(at..end)),
            3 => {
                let piece = data[at..end].to_vec();
                data.splice(at..at, piece);
            }
            4 if !other.is_empty() => {
                let from = random.below(other.len());
                let to = (from + 1 + random.below(200)).min(other.len());
                data.splice(at..at, other[from..to].iter().copied());
            }
            5 => data.truncate(at),
            6 => {
                let byte = random.below(256) as u8;
                data.insert(at, byte);
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                data.splice(at..at, word.iter().copied());
            }
        }
    }
    data.truncate(LARGEST);
}
