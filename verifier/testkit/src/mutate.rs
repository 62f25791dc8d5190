//! Changes to bytes, drawn from a seed. They know nothing of what the bytes mean, except through a list of
//! words worth trying; so they serve for tokens, key sets and any other document.

use std::ops::Range;

/// Numbers from a seed (splitmix64). For choosing what to break, never for keys.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Less than `count`, which is not zero.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.roll() >> 33).unwrap() % count
    }

    pub fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[7]
    }

    pub fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.below(of.len())]
    }

    /// A piece of something that long, mostly a short one.
    fn piece(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length + 1);
        let limit = if self.below(4) == 0 { length } else { 8 };
        start..length.min(start + self.below(limit + 1))
    }
}

/// One to three changes. `other` lends pieces; `words` are put in here and there.
pub fn bytes(dice: &mut Dice, data: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    for _ in 0..=dice.below(3) {
        change(dice, data, other, words);
    }
}

fn change(dice: &mut Dice, data: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    let at = dice.below(data.len() + 1);
    match dice.below(11) {
        0 | 1 if at < data.len() => data[at] ^= 1 << dice.below(8),
        2 if at < data.len() => data[at] = dice.byte(),
        3 if at < data.len() => data[at] = data[at].wrapping_add(1),
        4 => data.insert(at, dice.byte()),
        5 => drop(data.drain(dice.piece(data.len()))),
        6 => {
            let copy = data[dice.piece(data.len())].to_vec();
            data.splice(at..at, copy);
        }
        7 => data.truncate(at),
        8 => {
            let range = dice.piece(data.len());
            let lent = &other[dice.piece(other.len())];
            data.splice(range, lent.iter().copied());
        }
        9 => {
            let one = dice.piece(data.len());
            data[one].reverse();
        }
        _ => {
            let word = dice.pick(words);
            let end = data.len().min(at + if dice.below(2) == 0 { 0 } else { word.len() });
            data.splice(at..end, word.iter().copied());
        }
    }
}
